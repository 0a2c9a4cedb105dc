"""The page a test run leaves: pictures side by side, metrics with their protocol, a before/after slider."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from dominate import tags
from PIL import Image

from util.files import write_text_atomically
from util.pages.html import add_scripts, column_heading, embedded_json, image_address, new_document
from util.pages.manifest import Column, Metric, ResultManifest, Row, Score, save_manifest

PAGE_NAME = "index.html"
STYLES = ("base.css", "result.css", "lightbox.css")
SCRIPTS = ("result.js", "lightbox.js")
MINUS = "\N{MINUS SIGN}"
DATA_ID = "page-data"


def write_result_page(folder: Path, manifest: ResultManifest) -> Path:
    """Write ``manifest.json`` and ``index.html`` into ``folder`` and return the page's path.

    The images that the manifest names are expected in ``folder``; only their sizes are read.
    """
    save_manifest(folder, manifest)
    path = folder / PAGE_NAME
    write_text_atomically(path, render_result_page(folder, manifest))
    return path


def render_result_page(folder: Path, manifest: ResultManifest) -> str:
    """Return the page as HTML. ``folder`` is where the images lie."""
    page = new_document(manifest.title, STYLES)
    page.body.add(_header(manifest))
    main = page.body.add(tags.main())
    if manifest.metrics:
        main.add(_summary(manifest))
    main.add(tags.div(_toolbar(manifest), _headings(manifest), cls="sticky"))
    results = main.add(tags.section(cls="results", aria_label="Images"))
    for index, row in enumerate(manifest.rows):
        results.add(_row(folder, manifest, index, row))
    main.add(tags.p("No image has this in its name.", cls="nothing", hidden=True))
    page.body.add(embedded_json(DATA_ID, _page_data(manifest)))
    add_scripts(page, SCRIPTS)
    page.body["style"] = f"--columns: {max(len(manifest.columns), 1)}"
    return str(page.render(pretty=False))


def format_number(value: float, digits: int, *, signed: bool = False) -> str:
    """Write a number with ``digits`` decimals, a true minus sign and ∞ for infinity."""
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    negative = value < 0 and text.strip("0.") != ""
    return (MINUS if negative else "+" if signed else "") + text


def _header(manifest: ResultManifest) -> tags.html_tag:
    header = tags.header(tags.h1(manifest.title))
    if manifest.subtitle:
        header.add(tags.p(manifest.subtitle, cls="subtitle"))
    if manifest.notes:
        header.add(tags.ul((tags.li(note) for note in manifest.notes), cls="notes"))
    return header


def _summary(manifest: ResultManifest) -> tags.html_tag:
    count = sum(1 for row in manifest.rows if row.metrics)
    caption = tags.caption(f"Mean over {count} {'image' if count == 1 else 'images'}")
    before, after = _heading(manifest, manifest.before), _heading(manifest, manifest.after)
    names = ("Metric", _capitalised(before), _capitalised(after), "Change", f"Spread of {after}")
    head = tags.thead(tags.tr(tags.th(name, scope="col") for name in names))
    protocols = list(dict.fromkeys(metric.protocol for metric in manifest.metrics))
    body = tags.tbody(
        _summary_line(manifest, metric, protocols.index(metric.protocol) + 1) for metric in manifest.metrics
    )
    table = tags.div(tags.table(caption, head, body), cls="scroll")
    notes = tags.ol((tags.li(protocol) for protocol in protocols), cls="protocols", aria_label="How it was measured")
    return tags.section(table, notes, cls="summary", aria_label="Summary")


def _heading(manifest: ResultManifest, label: str) -> str:
    """Words for a column; the label itself if there is no such column."""
    return next((column.heading for column in manifest.columns if column.label == label), label)


def _capitalised(words: str) -> str:
    return words[:1].upper() + words[1:]


def _summary_line(manifest: ResultManifest, metric: Metric, note: int) -> tags.html_tag:
    scores = [row.metrics[metric.key] for row in manifest.rows if metric.key in row.metrics]
    name = tags.th(_metric_name(metric), tags.sup(str(note), title=metric.protocol), scope="row")
    if not scores:
        return tags.tr(name, (tags.td("–") for _ in range(4)))
    inputs = [score.input for score in scores if score.input is not None]
    outputs = [score.output for score in scores]
    mean = Score(_mean(outputs), _mean(inputs) if len(inputs) == len(scores) else None)
    spread = "–"
    if len(outputs) > 1 and all(map(math.isfinite, outputs)):
        spread = f"± {format_number(statistics.stdev(outputs), metric.digits)}"
    return tags.tr(
        name,
        tags.td("–" if mean.input is None else format_number(mean.input, metric.digits)),
        tags.td(tags.strong(format_number(mean.output, metric.digits))),
        tags.td(_change(metric, mean) or "–"),
        tags.td(spread),
    )


def _mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _metric_name(metric: Metric) -> list[Any]:
    arrow = "↑" if metric.higher_is_better else "↓"
    better = "higher is better" if metric.higher_is_better else "lower is better"
    unit = [" ", tags.span(metric.unit, cls="unit")] if metric.unit else []
    return [metric.heading, *unit, " ", tags.span(arrow, cls="arrow", title=better)]


def _change(metric: Metric, score: Score) -> tags.html_tag | None:
    """Return output minus input, coloured by whether the output is better."""
    if score.change is None:
        return None
    text = format_number(score.change, metric.digits, signed=True)
    if text.strip("+0.") == "":
        return tags.span(text, cls="change same", title="unchanged")
    better = (score.change > 0) == metric.higher_is_better
    return tags.span(text, cls="change " + ("better" if better else "worse"), title="better" if better else "worse")


def _toolbar(manifest: ResultManifest) -> tags.html_tag:
    before, after = _heading(manifest, manifest.before), _heading(manifest, manifest.after)
    orders = [tags.option("name", value="name")]
    for metric in manifest.metrics:
        orders.append(tags.option(f"{metric.heading}, {after}", value=f"output:{metric.key}"))
        if any(metric.key in row.metrics and row.metrics[metric.key].input is not None for row in manifest.rows):
            orders.append(tags.option(f"{metric.heading}, {before}", value=f"input:{metric.key}"))
            orders.append(tags.option(f"{metric.heading}, change", value=f"change:{metric.key}"))
    search = tags.input_(type="search", id="filter", placeholder="Filter by name", aria_label="Filter by name")
    count = tags.span(f"{len(manifest.rows)} images", id="count", aria_live="polite")
    direction = tags.button(
        "↑", type="button", id="direction", title="Smallest first", aria_label="Turn the order round"
    )
    sort = tags.label("Sort by ", tags.select(orders, id="order"))
    return tags.div(search, tags.span(sort, direction, cls="sort"), count, cls="toolbar", role="search")


def _headings(manifest: ResultManifest) -> tags.html_tag:
    cells = (tags.div(column_heading(c.label, c.heading, paired=c.paired)) for c in manifest.columns)
    return tags.div(cells, cls="headings grid", aria_hidden="true")


def _row(folder: Path, manifest: ResultManifest, index: int, row: Row) -> tags.html_tag:
    title = tags.div(tags.h2(row.name), cls="title")
    scores = [_score(metric, row.metrics[metric.key]) for metric in manifest.metrics if metric.key in row.metrics]
    if scores:
        title.add(tags.ul(scores, cls="scores"))
    pictures = (_picture(folder, position, column, row) for position, column in enumerate(manifest.columns))
    return tags.article(title, tags.div(pictures, cls="grid"), cls="row", data_row=str(index))


def _score(metric: Metric, score: Score) -> tags.html_tag:
    item = tags.li(tags.span(metric.heading, cls="metric", title=metric.protocol), " ")
    if score.input is not None:
        item.add(tags.span(format_number(score.input, metric.digits), cls="input"), " → ")
    item.add(tags.strong(format_number(score.output, metric.digits)))
    if metric.unit:
        item.add(" ", tags.span(metric.unit, cls="unit"))
    if (change := _change(metric, score)) is not None:
        item.add(" ", change)
    return item


def _picture(folder: Path, position: int, column: Column, row: Row) -> tags.html_tag:
    figure = tags.figure(cls="" if column.paired else "unpaired")
    if column.label in row.images:
        path = row.images[column.label]
        image = tags.img(src=image_address(path), alt=f"{column.heading}: {row.name}", loading="lazy", decoding="async")
        if (size := _size(folder / path)) is not None:
            image["width"], image["height"] = map(str, size)
        figure.add(tags.button(image, type="button", cls="picture", data_column=str(position)))
    else:
        figure.add(tags.div("no image", cls="missing"))
    figure.add(tags.figcaption(column_heading(column.label, column.heading, paired=column.paired)))
    return figure


def _size(path: Path) -> tuple[int, int] | None:
    """Return width and height from the image's header, so that the page keeps its shape while images load."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def _page_data(manifest: ResultManifest) -> dict[str, Any]:
    """Return what the scripts need: columns, and the numbers to sort by (infinity as a string, as in the manifest)."""
    return {
        "columns": [{"label": c.label, "heading": c.heading, "paired": c.paired} for c in manifest.columns],
        "before": manifest.before,
        "after": manifest.after,
        "rows": [{"name": row.name, "scores": _sortable(row)} for row in manifest.rows],
    }


def _sortable(row: Row) -> dict[str, float | str]:
    numbers: dict[str, float | str] = {}
    for key, score in row.metrics.items():
        for kind, value in (("output", score.output), ("input", score.input), ("change", score.change)):
            if value is not None and not math.isnan(value):
                infinite = "Infinity" if value > 0 else "-Infinity"
                numbers[f"{kind}:{key}"] = value if math.isfinite(value) else infinite
    return numbers
