"""The parser of every command: what it does not understand is told in one sentence, as every other mistake is."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from util.errors import UserError

_END_OF_FLAGS = "--"
_NOTHING_GIVEN = re.compile(rf"(-[^=]*)={_END_OF_FLAGS}")


class CommandLine(argparse.ArgumentParser):
    """An argument parser that raises :class:`UserError` where argparse prints its usage and ends the process.

    Descriptions keep their lines, and flags may not be shortened, so that a new flag breaks nobody's command.
    """

    def __init__(self, **settings: Any) -> None:
        layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**{**layout, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but ``--flag=--``, of which some Pythons lose the value, is refused by all."""
        arguments = list(sys.argv[1:] if args is None else args)
        _refuse_lost_values(arguments)
        return super().parse_known_args(arguments, namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; --help explains the flags.")


def _refuse_lost_values(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if argument == _END_OF_FLAGS:
            return
        if match := _NOTHING_GIVEN.fullmatch(argument):
            raise UserError(f"{match[1]}: '{_END_OF_FLAGS}' cannot be its value; give another one.")
