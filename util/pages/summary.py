"""The table at the top of a result page: means over the images, with the protocol they follow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dominate import tags

from util.pages.manifest import Column, Metric, ResultManifest, Row

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Mean:
    """The mean of one metric over ``count`` images of one column, and its sample standard deviation.

    ``spread`` is None for a single image and where a value is infinite.
    """

    value: float
    spread: float | None
    count: int


def format_number(value: float, digits: int, *, signed: bool = False) -> str:
    """Write a number with ``digits`` decimals, a true minus sign and ∞ for infinity."""
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    negative = value < 0 and text.strip("0.") != ""
    return (MINUS if negative else "+" if signed else "") + text


def scored_columns(manifest: ResultManifest) -> tuple[Column, ...]:
    """The columns that have numbers in any row, in the page's order."""
    scored = {label for row in manifest.rows for label, values in row.scores.items() if values}
    return tuple(column for column in manifest.columns if column.label in scored)


def counted_rows(manifest: ResultManifest) -> tuple[Row, ...]:
    """The rows that count in the means."""
    return tuple(row for row in manifest.rows if row.scores and not row.excluded)


def mean_over(rows: Sequence[Row], label: str, key: str) -> Mean | None:
    """The mean of a column's metric over the rows that have it; None if none has."""
    values = [row.scores[label][key] for row in rows if key in row.scores.get(label, {})]
    if not values:
        return None
    finite = all(map(math.isfinite, values))
    spread = statistics.stdev(values) if len(values) > 1 and finite else None
    return Mean(statistics.fmean(values), spread, len(values))


def summary_section(manifest: ResultManifest) -> tags.html_tag:
    """The table of means, one line per measured column, and below it how they were measured."""
    rows, columns = counted_rows(manifest), scored_columns(manifest)
    protocols = list(dict.fromkeys(metric.protocol for metric in manifest.metrics))
    heads = (_metric_head(metric, protocols.index(metric.protocol) + 1) for metric in manifest.metrics)
    body = tags.tbody(
        tags.tr(
            tags.th(column.heading, " ", tags.code(column.label), scope="row"),
            (_cell(manifest, rows, column, metric) for metric in manifest.metrics),
        )
        for column in columns
    )
    table = tags.table(tags.caption(_caption(manifest, len(rows))), tags.thead(tags.tr(tags.td(), heads)), body)
    notes = tags.ol((tags.li(protocol) for protocol in protocols), cls="protocols", aria_label="How it was measured")
    # focusable, so that the keyboard can scroll it on a narrow screen
    return tags.section(
        tags.div(table, cls="scroll", tabindex="0", role="region", aria_label="Means"),
        notes,
        cls="summary",
        aria_label="Summary",
    )


def _caption(manifest: ResultManifest, count: int) -> str:
    caption = f"Mean ± standard deviation over {count} {'image' if count == 1 else 'images'}"
    left_out = sum(1 for row in manifest.rows if row.excluded)
    return f"{caption}; {left_out} marked left out" if left_out else caption


def _metric_head(metric: Metric, note: int) -> tags.html_tag:
    arrow = "↑" if metric.higher_is_better else "↓"
    better = "higher is better" if metric.higher_is_better else "lower is better"
    unit: list[Any] = [" ", tags.span(metric.unit, cls="unit")] if metric.unit else []
    parts = [metric.heading, *unit, " ", tags.span(arrow, cls="arrow", title=better)]
    return tags.th(*parts, tags.sup(str(note), title=metric.protocol), scope="col")


def _cell(manifest: ResultManifest, rows: Sequence[Row], column: Column, metric: Metric) -> tags.html_tag:
    mean = mean_over(rows, column.label, metric.key)
    if mean is None:
        return tags.td("–")
    output = column.label != manifest.before
    best = output and _is_best(manifest, rows, metric, mean.value)
    number = (tags.strong if output else tags.span)(
        format_number(mean.value, metric.digits), cls="value best" if best else "value"
    )
    cell = tags.td(number)
    if mean.spread is not None:
        cell.add(" ", tags.span(f"± {format_number(mean.spread, metric.digits)}", cls="spread"))
    before = mean_over(rows, manifest.before, metric.key)
    if output and before is not None and before.count == mean.count:
        cell.add(" ", change_chip(metric, mean.value - before.value))
    if mean.count < len(rows):
        cell.add(" ", tags.span(f"{mean.count} images", cls="badge", title="Not every image has this number"))
    return cell


def _is_best(manifest: ResultManifest, rows: Sequence[Row], metric: Metric, value: float) -> bool:
    """Whether no other output column has a better mean; there must be another one."""
    labels = [column.label for column in scored_columns(manifest) if column.label != manifest.before]
    means = [mean.value for label in labels if (mean := mean_over(rows, label, metric.key)) is not None]
    return len(means) > 1 and value == (max if metric.higher_is_better else min)(means)


def change_chip(metric: Metric, change: float) -> tags.html_tag:
    """A difference to the input, coloured by whether it is for the better."""
    if math.isnan(change):
        return tags.span("–", cls="change same", title="both infinite")
    text = format_number(change, metric.digits, signed=True)
    if text.strip("+0.") == "":
        return tags.span(text, cls="change same", title="unchanged")
    verdict = "better" if (change > 0) == metric.higher_is_better else "worse"
    return tags.span(text, cls=f"change {verdict}", title=f"{verdict} than before")


def means_as_text(manifest: ResultManifest) -> str:
    """The table of means for consoles, with the protocols below it; several lines."""
    rows, columns = counted_rows(manifest), scored_columns(manifest)
    width = max(len(column.heading) for column in columns) + 2
    heads = [f"{metric.heading} {metric.unit}".strip() for metric in manifest.metrics]
    lines = [" " * width + "  ".join(heads)]
    for column in columns:
        means = [mean_over(rows, column.label, metric.key) for metric in manifest.metrics]
        cells = (
            ("-" if mean is None else f"{mean.value:.{metric.digits}f}").rjust(len(head))
            for mean, metric, head in zip(means, manifest.metrics, heads, strict=True)
        )
        lines.append(f"{column.heading:<{width}}" + "  ".join(cells))
    count = f"Mean over {len(rows)} {'image' if len(rows) == 1 else 'images'}."
    return "\n".join([*lines, "", count, *dict.fromkeys(metric.protocol for metric in manifest.metrics)])
