"""Several folders of results side by side: their numbers, and the files and the table that say them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from util.evaluation.files import CSV_NAME, JSON_NAME, csv_text, json_text, versions
from util.evaluation.measures import Measure, Scorer
from util.evaluation.measuring import Scored, count_resized, measure
from util.evaluation.pairing import Pairing
from util.evaluation.statistics import Summary, as_json, columns, finite, summarise
from util.files import write_text_atomically
from util.metrics import Protocol
from util.tables import Column, Number, Row, Table, write_table

TABLE_NAME = "table"
NULL_MEANING = "no finite number: an infinite PSNR (the image equals its target), or the deviation of one image"


@dataclass(frozen=True)
class Comparison:
    """Every image of every folder, scored under one protocol; ``facts`` are the scorer's."""

    protocol: Protocol
    measures: tuple[Measure, ...]
    pairing: Pairing
    scored: tuple[Scored, ...]
    facts: Mapping[str, str]

    def values(self, label: str) -> list[Mapping[str, float]]:
        """The metrics by key of each image of one folder."""
        return [scored[label].values for scored in self.scored]

    def summaries(self, label: str) -> dict[str, Summary]:
        """What the metrics of one folder come to."""
        by_key = columns(self.values(label), [item.name for item in self.pairing.items])
        better = {measure.key: measure.higher_is_better for measure in self.measures}
        return {key: summarise(values, higher_is_better=better[key]) for key, values in by_key.items()}

    def resized(self, label: str) -> dict[str, int]:
        """How many images of one folder the protocol brought to its size, by the size they had."""
        return count_resized([scored[label] for scored in self.scored])


def compare(pairing: Pairing, scorer: Scorer, *, workers: int | None = None) -> Comparison:
    """Score all images; raises UserError as :func:`util.evaluation.measuring.measure` does."""
    scored = measure(pairing.items, scorer, workers=workers)
    return Comparison(scorer.protocol, scorer.measures, pairing, tuple(scored), scorer.facts)


def write_comparison(folder: Path, comparison: Comparison) -> list[Path]:
    """Write ``metrics.csv``, ``metrics.json`` and ``table`` .html, .csv, .md and .tex into ``folder``.

    Raises:
        UserError: a file cannot be written.
    """
    heads = ["results", "name", *(measure.key for measure in comparison.measures), "ground_truth", "protocol"]
    rows = [
        [label, item.name, *scored[label].values.values(), item.target or "", comparison.protocol.name]
        for label in comparison.pairing.labels
        for item, scored in zip(comparison.pairing.items, comparison.scored, strict=True)
    ]
    write_text_atomically(folder / CSV_NAME, csv_text(heads, rows))
    write_text_atomically(folder / JSON_NAME, json_text(_content(comparison)))
    return [folder / CSV_NAME, folder / JSON_NAME, *write_table(folder, TABLE_NAME, table_of(comparison))]


def table_of(comparison: Comparison, title: str = "Evaluation") -> Table:
    """The means, one row a folder in the order of the pairing."""
    pairing, protocol = comparison.pairing, comparison.protocol
    rows = [
        Row(label, {key: Number(summary.mean) for key, summary in comparison.summaries(label).items()})
        for label in pairing.labels
    ]
    return Table(
        title=title,
        caption=" ".join(_sentences(comparison)),
        columns=tuple(Column(each.key, each.title(protocol), each.digits) for each in comparison.measures),
        rows=tuple(rows),
        facts={"protocol": protocol.name, "images": str(len(pairing.items))},
    )


def _sentences(comparison: Comparison) -> list[str]:
    pairing, protocol = comparison.pairing, comparison.protocol
    count = len(pairing.items)
    sentences = [f"Mean over {count} image{'s' if count > 1 else ''}."]
    if any(measure.needs_target for measure in comparison.measures):
        sentences.append(f"Protocol '{protocol.name}': {protocol.description}")
    sentences += [f"{measure.heading}: {measure.meaning}." for measure in comparison.measures if measure.extra]
    sentences += [f"{key}: {fact}." for key, fact in comparison.facts.items()]
    for label, names in pairing.left_out.items():
        sentences.append(f"LEFT OUT for want in {label}: {len(names)}.")
    for label in pairing.labels:
        resized = ", ".join(f"{number} of {size}" for size, number in comparison.resized(label).items())
        if resized:
            sentences.append(f"Resized by the protocol in {label}: {resized}.")
    return sentences


def _content(comparison: Comparison) -> dict[str, Any]:
    pairing, protocol = comparison.pairing, comparison.protocol
    return {
        "protocol": protocol.name,
        "description": protocol.description,
        "metrics": {measure.key: measure.meaning for measure in comparison.measures},
        "null_means": NULL_MEANING,
        "versions": versions(*dict.fromkeys(measure.extra for measure in comparison.measures if measure.extra)),
        "learned": dict(comparison.facts),
        "count": len(pairing.items),
        "pairing": {
            "rule": pairing.rule,
            "folders": dict(pairing.folders),
            "images_per_ground_truth": pairing.images_per_target,
            "unused_ground_truth": pairing.unused_targets,
            "left_out": {label: list(names) for label, names in pairing.left_out.items()},
        },
        "results": [_result(comparison, label) for label in pairing.labels],
    }


def _result(comparison: Comparison, label: str) -> dict[str, Any]:
    pairing = comparison.pairing
    return {
        "label": label,
        "folder": pairing.folders[label],
        "resized": comparison.resized(label),
        **as_json(comparison.summaries(label)),
        "images": [
            {"name": item.name, **{key: finite(value) for key, value in values.items()}}
            for item, values in zip(pairing.items, comparison.values(label), strict=True)
        ],
    }


def equal_to_target(comparison: Comparison) -> list[str]:
    """The images, as ``label: name``, whose PSNR is infinite, so that the mean is too."""
    return [
        f"{label}: {item.name}"
        for label in comparison.pairing.labels
        for item, values in zip(comparison.pairing.items, comparison.values(label), strict=True)
        if any(math.isinf(value) for value in values.values())
    ]
