"""Lists, tables and suggestions as plain text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

NAMES = 6


def first_names(names: Iterable[str], most: int = NAMES, *, quote: str = "'") -> str:
    """The first names, quoted, and how many more there are: ``'a', 'b' and 3 more``."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(f"{quote}{name}{quote}" for name in every[:most]) + more


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[list[str]]:
    """The cells of a table padded to the widths of their columns, the first ``left`` ones to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the candidate nearest to ``word``, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    nearest = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[nearest[0]]}'?)" if nearest else ""
