"""From the name of an image to the name that it shares with its ground truth."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from util.errors import UserError


@dataclass(frozen=True)
class NameRule:
    """``key`` maps a relative name without extension to what pairs; ``description`` says how.

    ``plain`` rules leave names as they are, so that pairs are one to one.
    """

    description: str
    key: Callable[[str], str]
    plain: bool = False


def same_names() -> NameRule:
    """Equal relative paths without extension."""
    return NameRule("equal relative paths without extension", lambda name: name, plain=True)


def without_suffixes(suffixes: Sequence[str]) -> NameRule:
    """Names from whose end one of ``suffixes`` is taken off, where ``*`` stands for anything within the file's name.

    Raises:
        UserError: an empty suffix, or one that begins with ``*``.
    """
    if not all(suffix.strip("*") and not suffix.startswith("*") for suffix in suffixes):
        raise UserError("--strip_suffix: is empty or begins with *, which leaves nothing; give the end of the names.")
    endings = [re.compile("[^/]*".join(map(re.escape, suffix.split("*"))) + "$") for suffix in suffixes]

    def key(name: str) -> str:
        for ending in endings:
            found = ending.search(name)
            if found and found.start() > name.rfind("/") + 1:
                return name[: found.start()]
        return name

    return NameRule(f"relative paths without extension and without {' or '.join(map(repr, suffixes))} at the end", key)


def by_pattern(pattern: str) -> NameRule:
    """What the first group that takes part in the match of ``pattern`` holds, or the whole match without groups.

    The pattern is searched for in relative names without extension, on all sides; names without a match are errors.

    Raises:
        UserError: not a regular expression.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--pattern {pattern}: is no regular expression ({error}); mend it.") from error

    def key(name: str) -> str:
        found = expression.search(name)
        if found is None:
            raise UserError(f"--pattern {pattern}: does not match the name '{name}'; widen it.")
        return next((group for group in found.groups() if group is not None), found.group())

    return NameRule(f"what the pattern {pattern!r} finds in relative paths without extension", key)


RAINCITYSCAPES_SUFFIXES = ("_rain_alpha_*", "_leftImg8bit")
"""``<scene>_rain_alpha_…_pattern_<n>`` and ``<scene>_leftImg8bit``: 36 rainy versions of each clean scene."""
