"""What every command shares: a parser that explains mistakes in one sentence, and messages on the console."""

from __future__ import annotations

import argparse
import copy
import errno
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NoReturn

from util.errors import UserError, one_line

_END_OF_FLAGS = "--"
_GONE = (errno.EPIPE, errno.EIO)  # a closed reader, such as head, and a closed terminal
OURS = ("data", "models", "options", "util", "train", "test")
NAMES = (str, PurePath, BaseException)  # what may hold the name of a file, or a user's text
_NOTHING_GIVEN = re.compile(rf"(-[^=]*)={_END_OF_FLAGS}")


class CommandLine(argparse.ArgumentParser):
    """An argument parser that raises :class:`UserError` where argparse prints its usage and ends the process.

    Descriptions keep their lines, and flags may not be shortened, so that a new flag breaks no command.
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


class _Console(io.FileIO):
    """A console that is silent, instead of an error, once nothing is left to write to."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return len(data)


def outlive_console() -> None:
    """Let this process do its work to the end although its terminal, or the reader of its output, goes away."""
    if os.name == "nt":  # where a terminal is another kind of file
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            raw = _Console(stream.fileno(), "w", closefd=False)
            text = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, text)


class _Sentence(logging.Formatter):
    """Messages as they are; warnings and errors are named as such. What stands for ``%s`` stays on its line."""

    def format(self, record: logging.LogRecord) -> str:
        arguments = record.args
        if isinstance(arguments, tuple):
            record = copy.copy(record)  # other handlers see it too
            record.args = tuple(one_line(str(part)) if isinstance(part, NAMES) else part for part in arguments)
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def set_up_logging(*, verbose: bool = False, only_errors: bool = False) -> None:
    """Log to standard error: our own messages from INFO (DEBUG if ``verbose``), other packages' from WARNING.

    Pillow's remarks about broken files are left out, because we say in one sentence what is wrong with a file.
    ``only_errors`` is for a process next to another one that reports the rest. A console that goes away ends nothing:
    see :func:`outlive_console`.
    """
    outlive_console()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Sentence("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR if only_errors else logging.WARNING)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if only_errors:
        warnings.simplefilter("ignore")
    level = logging.ERROR if only_errors else logging.DEBUG if verbose else logging.INFO
    for package in OURS:
        logging.getLogger(package).setLevel(level)
