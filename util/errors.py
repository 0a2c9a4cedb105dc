"""The one error type for mistakes a user can fix, and how entry points report it."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

logger = logging.getLogger(__name__)

EXIT_USER_ERROR = 2
EXIT_TIME_LIMIT = 75  # "try again later", as mail programs say it: batch systems can put the job into the queue again
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143
STOP_SIGNALS = tuple(each for each in signal.Signals if each.name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"))
"""What asks a training to save and end: Ctrl-C, batch systems, a closed terminal. Windows has the first two."""


class UserError(Exception):
    """A mistake the user can fix.

    The message is one sentence that names the flag or file, says what was found there and what to do.
    Entry points print it without a traceback and exit with code 2.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it ends the process at once, as Ctrl-C does."""


def one_line(text: str) -> str:
    """``text`` with escapes for what is not printable: no file name can break a line or a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


Main = Callable[[Sequence[str] | None], "int | None"]


def entry_point(main: Main) -> Callable[..., int]:
    """Turn ``main(argv=None)`` into a function that returns the process's exit code; None from ``main`` means 0.

    A :class:`UserError` becomes one line on standard error and exit code 2; Ctrl-C becomes exit code 130,
    SIGTERM 143, and a reader that closed our output 141, as if the signal had ended us. A file or folder that the
    system refuses, where no better sentence is known, is a user error as well (the traceback is logged as
    DEBUG). Every other exception is our own bug and keeps its traceback.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        with suppress(AttributeError):  # a replaced stdout
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        try:
            return main(argv) or 0
        except UserError as error:
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt as error:
            print("interrupted", file=sys.stderr)
            return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
        except BrokenPipeError:  # the reader of our output, such as head, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_BROKEN_PIPE
        except OSError as error:
            if not isinstance(error.filename, (str, os.PathLike)):
                raise
            logger.debug("refused by the system", exc_info=True)
            reason = (error.strerror or type(error).__name__).lower()
            print(f"error: '{one_line(os.fspath(error.filename))}': {reason}; check this path.", file=sys.stderr)
            return EXIT_USER_ERROR

    return run
