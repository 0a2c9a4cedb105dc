"""One command-line flag, as data. Declared once here, in a model or in a dataset; parsed in ``options/``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def parse_bool(text: str) -> bool:
    """``true/false``, ``yes/no``, ``1/0`` in any case; raises :class:`argparse.ArgumentTypeError` otherwise."""
    lowered = text.strip().lower()
    if lowered in {"true", "t", "yes", "y", "1"}:
        return True
    if lowered in {"false", "f", "no", "n", "0"}:
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")


@dataclass(frozen=True)
class Option:
    """One flag ``--name``.

    ``type`` converts the text; it is taken from the default where it is not given (a boolean default makes
    a switch that also accepts ``--flag false``). ``architecture`` marks what a checkpoint's shape or its
    meaning depends on: testing and resuming take such values from the run. ``minimum`` and
    ``maximum`` are inclusive, ``above`` is exclusive.
    """

    name: str
    default: Any
    help: str
    type: Callable[[str], Any] | None = None
    choices: tuple[Any, ...] | None = None
    architecture: bool = False
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None

    @property
    def is_switch(self) -> bool:
        """Whether ``--flag`` alone means true."""
        return isinstance(self.default, bool)

    def converter(self) -> Callable[[str], Any]:
        """The function that turns the command line's text into a value."""
        if self.type is not None:
            return self.type
        if self.is_switch:
            return parse_bool
        return str if self.default is None else type(self.default)
