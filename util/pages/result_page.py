"""The page a test leaves, and the page that compares several: pictures, numbers and ways to look at them.

Python writes the frame and the table of means; scripts fill in the rows from the manifest, which is embedded.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dominate import tags

from util import tables
from util.files import safe_child, write_atomically, write_text_atomically
from util.pages.html import add_scripts, embedded_json, image_address, new_document
from util.pages.manifest import Column, MetricColumn, ResultManifest, Row, as_json, save_manifest
from util.pictures import UnreadablePicture, picture_size, read_eight_bit
from util.tables import MeanStd

PAGE_NAME = "index.html"
STYLES = ("base.css", "result.css", "viewer.css")
SCRIPTS = ("theme.js", "result.js", "viewer.js", "help.js")
DATA_ID = "page-data"
THUMBNAILS = "thumbnails"
LARGE = 1_000_000  # pixels: beyond it a browser full of decoded pictures is slow, and a small copy looks the same
THUMBNAIL_SIDE = 800  # pixels: a column of a wide screen, or half of one with two pixels for each
THUMBNAIL_QUALITY = 90  # of JPEG, whose artifacts must not be taken for the network's
MAX_THREADS = 4
MINUS = "\N{MINUS SIGN}"


def write_result_page(folder: Path, manifest: ResultManifest) -> Path:
    """Write ``manifest.json`` and ``index.html`` into ``folder`` and return the page's path.

    The images that the manifest names are expected in their places. Sizes it lacks are read from them, and of those
    above a million pixels small copies are written into ``folder/thumbnails`` for the overview.

    Raises:
        UserError: something cannot be written.
    """
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        rows = tuple(pool.map(functools.partial(_completed, folder), manifest.rows))
    manifest = dataclasses.replace(manifest, rows=rows)
    save_manifest(folder, manifest)
    path = folder / PAGE_NAME
    write_text_atomically(path, render_result_page(manifest))
    return path


def render_result_page(manifest: ResultManifest) -> str:
    """Return the page as HTML. Images without a size in the manifest get their place when they are loaded."""
    page = new_document(manifest.title, STYLES)
    page.body.add(_header(manifest))
    main = page.body.add(tags.main())
    if manifest.metrics and scored_columns(manifest):
        main.add(summary_section(manifest))
    main.add(tags.div(_toolbar(manifest), tags.div(cls="headings columns", aria_hidden="true"), cls="sticky"))
    main.add(tags.section(cls="results", aria_label="Images"))
    main.add(tags.p("No image is like this.", cls="nothing", hidden=True))
    main.add(tags.noscript("The pictures need JavaScript; they are files in this folder, see manifest.json."))
    page.body.add(embedded_json(DATA_ID, _page_data(manifest)))
    add_scripts(page, SCRIPTS)
    return str(page.render(pretty=False))


def _completed(folder: Path, row: Row) -> Row:
    """The row with the sizes of its images, for a page that keeps its shape while they load, and with thumbnails."""
    read = {label: _size(folder / path) for label, path in row.images.items() if label not in row.sizes}
    sizes = {**row.sizes, **{label: size for label, size in read.items() if size is not None}}
    thumbnails = {
        label: _write_thumbnail(folder, folder / row.images[label], f"{THUMBNAILS}/{label}/{row.name}.jpg")
        for label, (width, height) in sizes.items()
        if width * height > LARGE and label in row.images and label not in row.thumbnails
    }
    return dataclasses.replace(row, sizes=sizes, thumbnails={**row.thumbnails, **thumbnails})


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as browsers show it, from its header alone; None if it is no readable image."""
    try:
        return picture_size(path)
    except UnreadablePicture:
        return None


def _write_thumbnail(folder: Path, file: Path, path: str) -> str:
    """Write a small JPEG of an image to ``folder/<path>`` and return ``path``."""
    picture = read_eight_bit(file)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=2.0)
    encoded = io.BytesIO()
    picture.save(encoded, format="JPEG", quality=THUMBNAIL_QUALITY, subsampling=0)
    write_atomically(safe_child(folder, path), encoded.getvalue())
    return path


def _header(manifest: ResultManifest) -> tags.html_tag:
    header = tags.header(tags.h1(manifest.title), cls="top")
    header.add(tags.div(_button("theme", "◐", "Colors: follow the system"), _help_button(), cls="corner"))
    if manifest.subtitle:
        header.add(tags.p(manifest.subtitle, cls="subtitle"))
    if manifest.notes:
        header.add(tags.ul((tags.li(note) for note in manifest.notes), cls="notes"))
    return header


def _button(name: str, text: str, title: str) -> tags.html_tag:
    return tags.button(text, type="button", id=name, title=title, aria_label=title)


def _help_button() -> tags.html_tag:
    return _button("help", "?", "Keys and how to use this page (?)")


def _toolbar(manifest: ResultManifest) -> tags.html_tag:
    search = tags.input_(type="search", id="filter", placeholder="Filter by name", aria_label="Filter by name")
    order = tags.select(tags.option("name", value="name"), _measures(manifest), id="order")
    turns = tags.span(
        tags.button("A → Z", type="button", id="first", aria_pressed="true"),
        tags.button("Z → A", type="button", id="last", aria_pressed="false"),
        cls="segmented",
        role="group",
        aria_label="Order",
    )
    toolbar = tags.div(
        search, tags.span(tags.label("Sort by ", order), turns, cls="sort"), cls="toolbar", role="search"
    )
    if manifest.metrics and scored_columns(manifest):
        toolbar.add(_threshold(manifest))
    toolbar.add(tags.span(id="count", role="status"))
    return toolbar


def _threshold(manifest: ResultManifest) -> tags.html_tag:
    """Controls to show only rows with a number above or below a bound."""
    measure = tags.select(tags.option("all numbers", value=""), _measures(manifest), id="measure")
    relation = tags.select(tags.option("≤", value="most"), tags.option("≥", value="least"), id="relation")
    relation["aria-label"] = "at most or at least"
    bound = tags.input_(type="number", id="bound", step="any", aria_label="Bound", placeholder="number")
    return tags.span(
        tags.label("Only ", measure), tags.span(relation, bound, id="limits", hidden=True), cls="threshold"
    )


def _measures(manifest: ResultManifest) -> list[tags.html_tag]:
    """Everything to sort and filter by. A value names what is measured: kind, number of column, number of metric."""
    measured = scored_columns(manifest)
    outputs = [column for column in measured if column.label != manifest.before]
    changes = outputs if len(measured) > len(outputs) else []
    groups = []
    for number, metric in enumerate(manifest.metrics):
        named = [*outputs, *(column for column in measured if column not in outputs)]
        options = [_measure(manifest, metric.heading, column.heading, "value", column, number) for column in named]
        for column in changes:
            words = "change" if len(outputs) == 1 else f"change in {column.heading}"
            options.append(_measure(manifest, metric.heading, words, "change", column, number))
        if len(outputs) > 1:
            options.append(_measure(manifest, metric.heading, "how far apart", "range", outputs[0], number))
        groups.append(tags.optgroup(options, label=metric.heading))
    return groups


def _measure(
    manifest: ResultManifest, heading: str, words: str, kind: str, column: Column, metric: int
) -> tags.html_tag:
    return tags.option(f"{heading}: {words}", value=f"{kind}:{manifest.columns.index(column)}:{metric}")


def _page_data(manifest: ResultManifest) -> dict[str, Any]:
    """The manifest as the scripts get it: with quoted addresses in place of paths."""
    data = as_json(manifest)
    for row in data["rows"]:
        for kind in ("images", "originals", "thumbnails"):
            row[kind] = {label: image_address(path) for label, path in row[kind].items()}
    return data


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
        columns=tuple(tables.Column(metric.key, metric.heading, metric.digits) for metric in manifest.metrics),
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
