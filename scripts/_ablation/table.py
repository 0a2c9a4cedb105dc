"""The table of a grid: measured numbers next to the paper's, and a caption that says what they are worth."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts._ablation.grids import PAPER_DATA, Grid, GridRow
from scripts._ablation.runs import WITHOUT_INFLUENCE, Places, Run, grouped
from util.metrics.metric import DEFAULT_METRICS, METRICS, shown_metrics
from util.metrics.protocols import PROTOCOLS
from util.metrics.report import metric_columns
from util.tables import Column, MeanStd, Row, Table

KEYS = tuple(metric.key for metric in DEFAULT_METRICS)
PAPER = ("psnr", "ssim")
Results = Mapping[str, Mapping[str, Any]]
"""Contents of ``metrics.json`` by the run's name, with the ``source`` they come from."""


def make_table(
    grid: Grid, runs: Sequence[Run], results: Results, failures: Mapping[str, str], extra: Sequence[str], folder: Path
) -> Table:
    """The table, with whatever results there are; ``folder`` is where it will lie, for its links.

    ``failures`` says by the run's name why there are none; ``extra`` are the flags given for the whole grid.
    """
    places = runs[0].places
    rows = [_row(row, [run for run in runs if run.row == row], results, failures, folder) for row in grid.rows]
    facts = _facts(runs, results, extra)
    return Table(
        title=grid.title,
        caption=_caption(places, facts, any(row.paper for row in grid.rows), _input_differs(results)),
        columns=_columns(places.protocol),
        rows=(*_input_row(results), *rows),
        facts=facts,
    )


def _columns(protocol: str) -> tuple[Column, ...]:
    paper = (Column(f"paper_{key}", f"paper's {METRICS[key].name}", METRICS[key].digits) for key in PAPER)
    return (*metric_columns(shown_metrics(PROTOCOLS[protocol]), PROTOCOLS[protocol]), *paper)


def _row(row: GridRow, runs: Sequence[Run], results: Results, failures: Mapping[str, str], folder: Path) -> Row:
    means = [results[run.name]["mean"] for run in runs if run.name in results]
    numbers = {key: MeanStd.of([_number(mean[key]) for mean in means]) for key in KEYS if means}
    if row.paper is not None:
        numbers |= {f"paper_{key}": MeanStd(value) for key, value in zip(PAPER, row.paper, strict=True)}
    missing = [f"seed {run.seed}: {failures.get(run.name, 'not run yet')}" for run in runs if run.name not in results]
    links = {f"seed {run.seed}": _page(run, results, folder) for run in runs if run.name in results}
    return Row(row.label, numbers, "; ".join(missing), links)


def _page(run: Run, results: Results, folder: Path) -> str:
    page = run.places.results / results[run.name]["source"] / "test_latest" / "index.html"
    try:
        return Path(os.path.relpath(page, folder)).as_posix()
    except ValueError:  # another drive
        return page.resolve().as_uri()


def _input_row(results: Results) -> list[Row]:
    first = next(iter(results.values()), None)
    if first is None:
        return []
    return [Row("rainy input", {key: MeanStd(_number(first["mean"][f"input_{key}"])) for key in KEYS})]


def _input_differs(results: Results) -> bool:
    """Whether the runs were tested on different images."""
    return (
        len({(each["count"], each["mean"]["input_psnr"], each["mean"]["input_ssim"]) for each in results.values()}) > 1
    )


def _number(value: float | None) -> float:
    return math.inf if value is None else value  # as metrics.json writes an infinite PSNR


def _facts(runs: Sequence[Run], results: Results, extra: Sequence[str]) -> dict[str, str]:
    """What the numbers depend on, in words."""
    count = next((each["count"] for each in results.values()), None)
    data = Path(runs[0].settings["dataroot"]).name
    return {
        "data": data if count is None else f"{data}, {count} test images",
        "protocol": runs[0].places.protocol,
        "budget": "; ".join(_by_rows(runs, _budget)),
        "seeds": ", ".join(dict.fromkeys(str(run.seed) for run in runs)),
        "flags": " ".join(
            word for name, words in grouped(extra).items() if name not in WITHOUT_INFLUENCE for word in words
        ),
    }


def _by_rows(runs: Sequence[Run], describe: Any) -> list[str]:
    """One description if it is the same for all rows, else each with the rows that it is for."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        keys = rows.setdefault(describe(run), [])
        if run.row.key not in keys:
            keys.append(run.row.key)
    return [text if len(rows) == 1 else f"{', '.join(keys)}: {text}" for text, keys in rows.items()]


def _budget(run: Run) -> str:
    opt = run.opt
    parts = [f"{opt.n_epochs} + {opt.n_epochs_decay} epochs", f"crop {opt.crop_size}", f"batch {opt.batch_size}"]
    parts += [f"{opt.netG}, ngf {opt.ngf}", opt.precision]
    if getattr(opt, "lambda_intra", 0) > 0:
        encoder = opt.semantic_encoder
        parts.append(f"encoder {encoder}" + (f" {opt.clip_model}" if encoder == "clip" else ""))
    return ", ".join(parts)


def _caption(places: Places, facts: Mapping[str, str], paper_known: bool, mixed: bool) -> str:
    seeds = facts["seeds"]
    spread = f"mean ± standard deviation over seeds {seeds}" if "," in seeds else f"seed {seeds}"
    sentences = [
        f"Data: {facts['data']}; {spread}.",
        f"Protocol '{places.protocol}': {PROTOCOLS[places.protocol].description}",
        f"Budget: {facts['budget']}.",
    ]
    if facts["flags"]:
        sentences.append(f"Flags for all rows: {facts['flags']}.")
    if paper_known:
        sentences.append(
            f"The paper's numbers are for {PAPER_DATA}; CCLGAN was trained there for 400 epochs on crops of 256."
        )
    else:
        sentences.append("The paper's numbers for these rows are not known here.")
    if mixed:
        sentences.append("The rows were tested on different images and cannot be compared.")
    return " ".join(sentences)
