"""The parsed options, and one value: from the command line or from a file, converted and checked in the same way."""

from __future__ import annotations

import argparse
import datetime
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from util.errors import UserError
from util.option import Option, parse_bool
from util.text import did_you_mean
from util.trackers.tracker import OPTIONAL_TRACKERS

EXPECTED: Mapping[Any, str] = {int: "a whole number", float: "a number"}
LARGEST = 2**31 - 1
"""Of whole numbers: so that no product of a few of them, such as a size in memory, leaves 64 bits unnoticed."""

PLAIN_TYPES = (str, int, float, datetime.date)
ALL_WORDS = frozenset({"inf", "all", "none"})
HIGHEST_PORT = 65535


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


def convert(option: Option, raw: Any, source: str) -> Any:
    """Turn ``raw`` into the option's value.

    Args:
        raw: the command line's text, or what a YAML file holds.
        source: where ``raw`` stands, as error messages name it: ``"--lr"`` or ``"'lr' in my.yaml"``.

    Raises:
        UserError: not of the option's type, none of its choices, out of range, NaN or infinite.
    """
    if raw is None:
        return _null(option, source)
    text = _as_text(option, raw, source)
    try:
        value = option.converter()(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{source}: {error}.") from None
    except (ValueError, TypeError):
        expected = EXPECTED.get(option.converter(), "a valid value")
        raise UserError(f"{source}: '{text}' is not {expected}.") from None
    _check_range(option, value, source)
    return value if option.choices is None else _spelled(value, option.choices, source)


def shown(value: Any) -> str:
    """The value as a user would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(shown(item) for item in value)
    return str(value)


def _null(option: Option, source: str) -> None:
    """Accept a file's ``null`` where None is a value of the option."""
    if option.default is None:
        return
    try:
        accepted = option.type is not None and option.type("none") is None
    except (argparse.ArgumentTypeError, ValueError, TypeError):
        accepted = False
    if not accepted:
        raise UserError(f"{source}: has no value; write one after the colon or remove the line.")


def _as_text(option: Option, raw: Any, source: str) -> str:
    """What a YAML file holds, as one would type it on the command line."""
    if isinstance(raw, bool):
        return _bool_as_text(option, raw, source)
    if isinstance(raw, PLAIN_TYPES):
        return str(raw)
    is_list = isinstance(raw, (list, tuple)) and option.converter() is not str
    if is_list and all(isinstance(item, PLAIN_TYPES) for item in raw):
        return ",".join(shown(item) for item in raw)
    kind = "mapping" if isinstance(raw, dict) else "list" if isinstance(raw, (list, tuple)) else type(raw).__name__
    raise UserError(f"{source}: holds a {kind} where one plain value is needed.")


def _bool_as_text(option: Option, raw: bool, source: str) -> str:
    """YAML reads a bare ``no`` as false; give it back to options that have the choice ``no``."""
    if option.is_switch or option.type is parse_bool:
        return shown(raw)
    words = ("yes", "true", "on") if raw else ("no", "false", "off")
    for choice in option.choices or ():
        if str(choice).lower() in words:
            return str(choice)
    raise UserError(f"{source}: is read as {shown(raw)}, but this option is no switch; put text in quotes.")


def _check_range(option: Option, value: Any, source: str) -> None:
    for number in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if not math.isfinite(number):
            raise UserError(f"{source}: {number} is not a finite number.")
        if option.minimum is not None and number < option.minimum:
            raise UserError(f"{source}: {number} is too small; it must be at least {option.minimum:g}.")
        maximum = LARGEST if option.maximum is None and isinstance(number, int) else option.maximum
        if maximum is not None and number > maximum:
            raise UserError(f"{source}: {number} is too large; it must be at most {maximum}.")
        if option.above is not None and number <= option.above:
            raise UserError(f"{source}: {number} is too small; it must be above {option.above:g}.")


def _spelled(value: Any, choices: tuple[Any, ...], source: str) -> Any:
    """The choice that ``value`` names, in its declared spelling; the case of letters does not matter."""
    if all(isinstance(choice, str) for choice in choices):
        by_lower = {choice.lower(): choice for choice in choices}
        if str(value).lower() in by_lower:
            return by_lower[str(value).lower()]
    elif value in choices:
        return value
    hint = did_you_mean(str(value), map(str, choices))
    raise UserError(f"{source}: '{value}' is not a choice{hint}; choose from {', '.join(map(str, choices))}.")


# Types of values beyond int, float, str and util.option.parse_bool


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


def block_counts(text: str) -> str:
    """How many blocks each stage of a U-shaped network has: down, middle, up, as in ``1,1,2,8,1,1,1``."""
    counts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[1-9]\d?", count) for count in counts) or len(counts) not in range(3, 18, 2):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no list of block counts: stages down, the middle, equally many stages up, as in 1,1,2,8,1,1,1"
        )
    return ",".join(counts)


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
