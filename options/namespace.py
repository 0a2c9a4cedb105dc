"""The parsed options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any


class Options(argparse.Namespace):
    """Attributes are the flags' names, and ``vars(opt)`` holds nothing but the options.

    ``given`` names the options that were set explicitly, on the command line or in ``--config``;
    ``command`` is the command line, for the records.
    """

    __slots__ = ("command", "given")
    command: str
    given: frozenset[str]

    def __init__(self, values: Mapping[str, Any], given: Iterable[str] = (), command: str = "") -> None:
        super().__init__(**values)
        self.given = frozenset(given)
        self.command = command
