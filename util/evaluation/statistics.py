"""What many numbers of one metric come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

WORST = 5  # images that are named


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation, median and the images with the worst values, the worst first.

    The deviation is None of a single value, and where a value is infinite.
    """

    mean: float
    deviation: float | None
    median: float
    worst: tuple[tuple[str, float], ...]


def summarise(values: Mapping[str, float], *, higher_is_better: bool) -> Summary:
    """Summarise values by image name, of which there is at least one."""
    numbers = list(values.values())
    spread = stdev(numbers) if len(numbers) > 1 and all(map(math.isfinite, numbers)) else None
    order = sorted(values.items(), key=lambda item: item[1], reverse=not higher_is_better)
    return Summary(fmean(numbers), spread, median(numbers), tuple(order[:WORST]))


def finite(value: float | None) -> float | None:
    """``value``, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def as_json(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """Summaries by key of metric, as ``mean``, ``std``, ``median`` and ``worst`` of all metrics."""
    return {
        "mean": {key: finite(summary.mean) for key, summary in summaries.items()},
        "std": {key: finite(summary.deviation) for key, summary in summaries.items()},
        "median": {key: finite(summary.median) for key, summary in summaries.items()},
        "worst": {
            key: [{"name": name, "value": finite(value)} for name, value in summary.worst]
            for key, summary in summaries.items()
        },
    }


def columns(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Turn one mapping of metrics an image into one mapping of images a metric."""
    keys = rows[0].keys() if rows else ()
    return {key: {name: row[key] for name, row in zip(names, rows, strict=True)} for key in keys}
