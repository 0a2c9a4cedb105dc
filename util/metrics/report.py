"""What an evaluation leaves: ``metrics.csv``, ``metrics.json`` and tables of the means."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from util.files import write_text_atomically
from util.metrics.evaluate import Evaluation, Summary
from util.metrics.metric import Metric, reading
from util.metrics.pairing import Pairing
from util.metrics.protocols import Protocol
from util.tables import Column, MeanStd, Row, Table, write_table

CSV_NAME, JSON_NAME, TABLE_NAME = "metrics.csv", "metrics.json", "table"
BEFORE, AFTER = "input", "output"
"""The labels of a test's images: what went in and what came out."""

LIBRARIES = ("numpy", "scipy", "scikit-image", "pillow")  # whose versions are recorded with the numbers
NULL_MEANING = "no finite number: an infinite PSNR (the image equals its target), or the deviation of one image"


def write_metrics(folder: Path, evaluation: Evaluation) -> None:
    """Write ``metrics.csv`` and ``metrics.json`` of a test, each atomically and in full double precision.

    Columns of the input are called ``input_…``. The CSV has one row per image and a last row ``mean``. The JSON adds
    the protocol, what the columns mean, the deviation, the median and the worst images of each, and the versions of
    the libraries. An infinite PSNR is ``inf`` in the CSV and ``null`` in the JSON, which knows no infinity.

    Raises:
        UserError: a file cannot be written.
    """
    names = [item.name for item in evaluation.items]
    values = [
        _columns(before, after)
        for before, after in zip(evaluation.values(BEFORE), evaluation.values(AFTER), strict=True)
    ]
    summaries = _columns(evaluation.summaries(BEFORE), evaluation.summaries(AFTER))
    rows = [[name, *each.values()] for name, each in zip(names, values, strict=True)]
    rows.append(["mean", *(summary.mean for summary in summaries.values())])
    meanings = {metric.key: metric.meaning for metric in evaluation.metrics}
    content = {
        **_head(evaluation),
        "columns": {**meanings, f"{BEFORE}_*": "The same of the input."},
        "resized": evaluation.resized(AFTER),
        **_as_json(summaries),
        "images": _images(names, values),
    }
    write_text_atomically(folder / CSV_NAME, _csv_text(["name", *summaries], rows))
    write_text_atomically(folder / JSON_NAME, _json_text(content))


def write_comparison(folder: Path, evaluation: Evaluation, pairing: Pairing) -> list[Path]:
    """Write ``metrics.csv``, ``metrics.json`` and ``table`` .html, .csv, .md and .tex into ``folder``.

    Raises:
        UserError: a file cannot be written.
    """
    heads = ["results", "name", *(metric.key for metric in evaluation.metrics), "ground_truth", "protocol"]
    rows = [
        [label, item.name, *values.values(), item.target or "", evaluation.protocol.name]
        for label in evaluation.labels
        for item, values in zip(evaluation.items, evaluation.values(label), strict=True)
    ]
    names = [item.name for item in evaluation.items]
    content = {
        **_head(evaluation),
        "metrics": {metric.key: metric.meaning for metric in evaluation.metrics},
        "learned": dict(evaluation.facts),
        "pairing": {
            "rule": pairing.rule,
            "folders": dict(pairing.folders),
            "images_per_ground_truth": pairing.images_per_target,
            "unused_ground_truth": pairing.unused_targets,
            "left_out": {label: list(left_out) for label, left_out in pairing.left_out.items()},
        },
        "results": [
            {
                "label": label,
                "folder": pairing.folders[label],
                "resized": evaluation.resized(label),
                **_as_json(evaluation.summaries(label)),
                "images": _images(names, evaluation.values(label)),
            }
            for label in evaluation.labels
        ],
    }
    write_text_atomically(folder / CSV_NAME, _csv_text(heads, rows))
    write_text_atomically(folder / JSON_NAME, _json_text(content))
    table = means_table(evaluation, left_out=pairing.left_out)
    return [folder / CSV_NAME, folder / JSON_NAME, *write_table(folder, TABLE_NAME, table)]


def means_table(
    evaluation: Evaluation,
    *,
    metrics: Sequence[Metric] | None = None,
    words: Mapping[str, str] | None = None,
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """The means, one row a label; ``metrics`` are all by default, ``words`` are headings of the labels.

    ``left_out`` lists by label the images that a folder lacks, because of which they do not count.
    """
    protocol, shown = evaluation.protocol, evaluation.metrics if metrics is None else metrics
    return Table(
        title="Evaluation",
        caption=" ".join(_sentences(evaluation, shown, left_out or {})),
        columns=metric_columns(shown, protocol),
        rows=tuple(Row((words or {}).get(label, label), _means(evaluation, label)) for label in evaluation.labels),
        facts={"protocol": protocol.name, "images": str(len(evaluation.items))},
    )


def metric_columns(metrics: Iterable[Metric], protocol: Protocol) -> tuple[Column, ...]:
    """Columns of a table of these metrics."""
    return tuple(
        Column(metric.key, metric.heading(protocol), metric.digits, metric.higher_is_better) for metric in metrics
    )


def _means(evaluation: Evaluation, label: str) -> dict[str, MeanStd]:
    return {key: MeanStd(summary.mean) for key, summary in evaluation.summaries(label).items()}


def _sentences(evaluation: Evaluation, metrics: Sequence[Metric], left_out: Mapping[str, Sequence[str]]) -> list[str]:
    protocol, count = evaluation.protocol, len(evaluation.items)
    sentences = [f"Mean over {count} image{'s' if count > 1 else ''}."]
    if any(metric.needs_target for metric in metrics):
        sentences.append(f"Protocol '{protocol.name}': {protocol.description}")
    sentences += [f"{metric.name}: {metric.definition}" for metric in metrics if metric.package]
    sentences += [f"{key}: {fact}." for key, fact in evaluation.facts.items()]
    sentences.append(reading(metrics, protocol))
    sentences += [f"LEFT OUT because missing in {label}: {len(names)}." for label, names in left_out.items()]
    for label in evaluation.labels:
        if resized := ", ".join(f"{number} of {size}" for size, number in evaluation.resized(label).items()):
            sentences.append(f"Resized by the protocol in {label}: {resized}.")
    return sentences


def _head(evaluation: Evaluation) -> dict[str, Any]:
    libraries = (*LIBRARIES, *(metric.package for metric in evaluation.metrics if metric.package))
    return {
        "protocol": evaluation.protocol.name,
        "description": evaluation.protocol.description,
        "null_means": NULL_MEANING,
        "versions": {"python": platform.python_version(), **{library: version(library) for library in libraries}},
        "count": len(evaluation.items),
    }


def _columns(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """By the name in ``metrics.csv``: first ``input_…``, then what belongs to the output."""
    return {**{f"{BEFORE}_{key}": value for key, value in before.items()}, **after}


def _as_json(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """``mean``, ``std``, ``median`` and ``worst`` of all metrics."""
    return {
        "mean": {key: _finite(summary.mean) for key, summary in summaries.items()},
        "std": {key: _finite(summary.std) for key, summary in summaries.items()},
        "median": {key: _finite(summary.median) for key, summary in summaries.items()},
        "worst": {
            key: [{"name": name, "value": _finite(value)} for name, value in summary.worst]
            for key, summary in summaries.items()
        },
    }


def _images(names: Sequence[str], values: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    return [
        {"name": name, **{key: _finite(value) for key, value in each.items()}}
        for name, each in zip(names, values, strict=True)
    ]


def _finite(value: float | None) -> float | None:
    """``value``, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def _csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def _json_text(content: Mapping[str, Any]) -> str:
    """Strict JSON, for people too."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
