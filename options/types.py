"""Converters from a flag's text to its value, beyond ``int``, ``float``, ``str`` and :func:`util.option.parse_bool`."""

from __future__ import annotations

import argparse
import re

from util.suggest import did_you_mean
from util.trackers.tracker import OPTIONAL_TRACKERS

ALL_WORDS = frozenset({"inf", "all", "none"})
HIGHEST_PORT = 65535


def count_or_all(text: str) -> int | None:
    """A whole number, or ``None`` (no limit) for ``inf``, ``all`` and ``none``."""
    if text.strip().lower() in ALL_WORDS:
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a whole number nor 'inf' (all)") from None


def device_ids(text: str) -> str:
    """``auto``, ``-1`` (the CPU) or GPU numbers such as ``0`` and ``0,1``; returned as text without blanks."""
    compact = "".join(text.lower().split())
    if compact in {"auto", "-1"} or re.fullmatch(r"\d+(,\d+)*", compact):
        return compact
    raise argparse.ArgumentTypeError(f"'{text}' is neither 'auto' nor '-1' (CPU) nor GPU numbers like '0' or '0,1'")


def label(text: str) -> str:
    """A word that may become part of a file or folder name: letters, digits, ``_`` and ``-``."""
    if re.fullmatch(r"[\w-]+", text):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' may hold only letters, digits, '_' and '-'")


def name_list(text: str) -> tuple[str, ...]:
    """Names separated by commas; blanks around them and empty ones are dropped."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def tracker_names(text: str) -> tuple[str, ...]:
    """Names of :data:`util.trackers.tracker.OPTIONAL_TRACKERS`, separated by commas."""
    names = name_list(text.lower())
    for name in names:
        if name not in OPTIONAL_TRACKERS:
            known = " and ".join(OPTIONAL_TRACKERS)
            hint = did_you_mean(name, OPTIONAL_TRACKERS)
            raise argparse.ArgumentTypeError(f"'{name}' is no such tracker{hint}; there are {known}")
    return names


def decay_rate(text: str) -> float:
    """A number in [0, 1), as Adam's betas are."""
    value = float(text)
    if 0.0 <= value < 1.0:
        return value
    raise argparse.ArgumentTypeError(f"'{text}' is outside [0, 1)")


def port_number(text: str) -> int:
    """A TCP port, 1 to 65535."""
    value = int(text)
    if 1 <= value <= HIGHEST_PORT:
        return value
    raise argparse.ArgumentTypeError(f"'{text}' is not a port between 1 and {HIGHEST_PORT}")


def duration(text: str) -> float:
    """Hours from ``H:MM`` or from a number of them, more than none."""
    match = re.fullmatch(r"(\d+):([0-5]\d)", text.strip())
    try:
        hours = int(match[1]) + int(match[2]) / 60 if match else float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no time; give hours such as 11.5, or hours and minutes as 11:30")
    return hours
