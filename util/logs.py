"""What a program says on the console."""

from __future__ import annotations

import logging
import sys


class _Sentence(logging.Formatter):
    """Messages as they are; warnings and errors are named as such."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def set_up_logging(*, verbose: bool = False) -> None:
    """Log to standard error: our own messages from INFO (DEBUG if ``verbose``), other packages' from WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Sentence("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in ("data", "models", "options", "util", "train", "test"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)
