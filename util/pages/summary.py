"""The table at the top of a result page: means over the images, with the protocol they follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dominate import tags

from util import tables
from util.pages.manifest import Column, MetricColumn, ResultManifest, Row
from util.tables import MeanStd

MINUS = "\N{MINUS SIGN}"


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


def _values(rows: Sequence[Row], column: Column | str, metric: MetricColumn) -> list[float]:
    """What a column has for a metric, in the rows that have it."""
    label = column if isinstance(column, str) else column.label
    return [row.scores[label][metric.key] for row in rows if metric.key in row.scores.get(label, {})]


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


def _metric_head(metric: MetricColumn, note: int) -> tags.html_tag:
    arrow = "↑" if metric.higher_is_better else "↓"
    better = "higher is better" if metric.higher_is_better else "lower is better"
    unit: list[Any] = [" ", tags.span(metric.unit, cls="unit")] if metric.unit else []
    parts = [metric.heading, *unit, " ", tags.span(arrow, cls="arrow", title=better)]
    return tags.th(*parts, tags.sup(str(note), title=metric.protocol), scope="col")


def _cell(manifest: ResultManifest, rows: Sequence[Row], column: Column, metric: MetricColumn) -> tags.html_tag:
    values = _values(rows, column, metric)
    if not values:
        return tags.td("–")
    output = column.label != manifest.before
    spread = MeanStd.of(values)
    best = output and _is_best(manifest, rows, metric, spread.mean)
    number = (tags.strong if output else tags.span)(
        format_number(spread.mean, metric.digits), cls="value best" if best else "value"
    )
    cell = tags.td(number)
    if spread.std is not None:
        cell.add(" ", tags.span(f"± {format_number(spread.std, metric.digits)}", cls="spread"))
    before = _values(rows, manifest.before, metric)
    if output and len(before) == len(values):
        cell.add(" ", change_chip(metric, spread.mean - MeanStd.of(before).mean))
    if len(values) < len(rows):
        cell.add(" ", tags.span(f"{len(values)} images", cls="badge", title="Not every image has this number"))
    return cell


def _is_best(manifest: ResultManifest, rows: Sequence[Row], metric: MetricColumn, value: float) -> bool:
    """Whether no other output column has a better mean; there must be another one."""
    outputs = [column for column in scored_columns(manifest) if column.label != manifest.before]
    means = [MeanStd.of(values).mean for column in outputs if (values := _values(rows, column, metric))]
    return len(means) > 1 and value == (max if metric.higher_is_better else min)(means)


def change_chip(metric: MetricColumn, change: float) -> tags.html_tag:
    """A difference to the input, colored by whether it is for the better."""
    if math.isnan(change):
        return tags.span("–", cls="change same", title="both infinite")
    text = format_number(change, metric.digits, signed=True)
    if text.strip("+0.") == "":
        return tags.span(text, cls="change same", title="unchanged")
    verdict = "better" if (change > 0) == metric.higher_is_better else "worse"
    return tags.span(text, cls=f"change {verdict}", title=f"{verdict} than before")


def means_table(manifest: ResultManifest) -> tables.Table:
    """The means as a table for consoles, with the protocols in its caption."""
    rows = counted_rows(manifest)
    count = f"Mean over {len(rows)} {'image' if len(rows) == 1 else 'images'}."
    return tables.Table(
        title=manifest.title,
        caption=" ".join([count, *dict.fromkeys(metric.protocol for metric in manifest.metrics)]),
        columns=tuple(
            tables.Column(metric.key, f"{metric.heading} {metric.unit}".strip(), metric.digits)
            for metric in manifest.metrics
        ),
        rows=tuple(
            tables.Row(
                column.heading,
                {
                    metric.key: MeanStd(MeanStd.of(values).mean)
                    for metric in manifest.metrics
                    if (values := _values(rows, column, metric))
                },
            )
            for column in scored_columns(manifest)
        ),
    )
