"""What a program says on the console."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from pathlib import PurePath

from util.errors import one_line

OURS = ("data", "models", "options", "util", "train", "test")
NAMES = (str, PurePath, BaseException)  # what may hold the name of a file, or a user's text


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
    ``only_errors`` is for a process beside another one that says the rest.
    """
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
