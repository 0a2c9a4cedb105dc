"""The part of a training page that changes: a small script beside it, which the open page loads again and again.

A page opened from ``file://`` may not read other files, but it may load scripts; so the data is one function call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from util.metrics.metric import shown_metrics
from util.metrics.protocols import PROTOCOLS

DATA_NAME = "data.js"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"
DIGITS = 5  # significant ones, more than a curve can show


@dataclass(frozen=True)
class Curves:
    """Numbers over epochs as P points.

    ``positions`` has shape [P] and counts epochs (2.5 is the middle of epoch 3). ``values`` maps a name to the
    mean over each point's reports, shape [P]; NaN where it was not reported or not finite.
    """

    positions: np.ndarray
    values: Mapping[str, np.ndarray]


def render_training_data(
    status: Mapping[str, Any],
    losses: Curves,
    metrics: Curves,
    moments: Iterable[str],
    protocol: str,
    words: Mapping[str, str],
) -> str:
    """Return the script.

    ``status`` is data for the page's head (see :class:`util.trackers.page.WebPage`), ``moments`` what
    :meth:`util.pages.training_manifest.Moment.to_json` returned, oldest first; ``protocol`` is that of
    the metrics, ``words`` are headings of the labels.
    """
    shown = shown_metrics(PROTOCOLS[protocol], metrics.values)
    about = {
        metric.key: {
            "heading": metric.heading(PROTOCOLS[protocol]),
            "unit": metric.unit,
            "higher": metric.higher_is_better,
            "digits": metric.digits,
        }
        for metric in shown
    }
    metrics = Curves(metrics.positions, {metric.key: metrics.values[metric.key] for metric in shown})
    parts = {
        "status": json.dumps(status),
        "losses": _curves(losses),
        "metrics": _curves(metrics),
        "about": json.dumps(about),
        "words": json.dumps(dict(words)),
        "moments": "[" + ",\n".join(moments) + "]",
    }
    body = ",\n".join(f'"{name}": {text}' for name, text in parts.items())
    return f"trainingData({{\n{body}\n}});\n"


def _curves(curves: Curves) -> str:
    values = ", ".join(f"{json.dumps(name)}: {_numbers(numbers)}" for name, numbers in curves.values.items())
    return f'{{"positions": {_numbers(curves.positions)}, "values": {{{values}}}}}'


def _numbers(values: np.ndarray) -> str:
    """A JSON list; what is not finite, which JSON cannot say, becomes null."""
    return "[" + ",".join(f"{value:.{DIGITS}g}" if math.isfinite(value) else "null" for value in values.tolist()) + "]"
