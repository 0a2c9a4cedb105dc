"""One command-line flag, as data. Declared in ``options/flags.py`` or by a model or dataset; parsed in ``options/``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Scope(Enum):
    """What an option is about. Decides where its value may come from and whether results depend on it."""

    CALL = "how the program was called this time: never saved, never taken over from a run"
    RUN = "which run, and the code it needs: saved, but never taken over from a run"
    MACHINE = "the machine: results do not depend on it"
    OUTPUT = "what a training shows and keeps: results do not depend on it"
    DATASET = "where the images are: testing takes it from the run"
    IMAGES = "which images of the dataset are used, and how they are read and measured"
    ARCHITECTURE = "what the networks are: testing takes it from the run"
    INFERENCE = "how the trained networks are applied to pictures: testing takes it from the run"
    SETTINGS = "anything else that results depend on"


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
    a switch that also accepts ``--flag false``). ``minimum`` and ``maximum`` are inclusive, ``above`` is exclusive.
    Repetitions of a flag whose default is a tuple add up; of any other flag the last one counts.
    """

    name: str
    default: Any
    help: str
    type: Callable[[str], Any] | None = None
    choices: tuple[Any, ...] | None = None
    scope: Scope = Scope.SETTINGS
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None

    @property
    def is_architecture(self) -> bool:
        """Whether a checkpoint's shape or meaning depends on it."""
        return self.scope is Scope.ARCHITECTURE

    @property
    def influences_results(self) -> bool:
        """Whether two runs that differ in this option alone may have different results."""
        return self.scope not in (Scope.CALL, Scope.RUN, Scope.MACHINE, Scope.OUTPUT)

    @property
    def is_switch(self) -> bool:
        """Whether ``--flag`` alone means true."""
        return isinstance(self.default, bool)

    @property
    def is_repeatable(self) -> bool:
        """Whether the flag may be given several times, and all its values count."""
        return isinstance(self.default, tuple)

    def converter(self) -> Callable[[str], Any]:
        """The function that turns the command line's text into a value."""
        if self.type is not None:
            return self.type
        if self.is_switch:
            return parse_bool
        return str if self.default is None else type(self.default)
