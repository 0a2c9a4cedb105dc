"""The Python versions that the pinned packages support. Python 3.7 and later can run this and say what is wrong."""

from __future__ import annotations

import sys

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 13)
EXIT_WRONG_PYTHON = 2


def wrong_python(version: tuple[int, int]) -> str | None:
    """Why Python ``version`` will not do, in one sentence; None if it will."""
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return None
    found, oldest, newest = ("{}.{}".format(*pair) for pair in (version, OLDEST_PYTHON, NEWEST_PYTHON))
    age = "old" if version < OLDEST_PYTHON else "new"
    return (
        f"Python {found} is too {age} for this project: use {oldest} to {newest}, "
        f"for example 'python{newest} {sys.argv[0]}'."
    )


def require_supported_python() -> None:
    """End the program with a clear sentence and exit code 2 if this is another Python; before any other import."""
    problem = wrong_python(sys.version_info[:2])
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(EXIT_WRONG_PYTHON)
