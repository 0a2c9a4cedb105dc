"""What an evaluation leaves: ``metrics.csv``, ``metrics.json`` and the table on the console."""

from __future__ import annotations

import csv
import io
import json
import platform
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from util.evaluation.measures import MEASURES, USUAL
from util.evaluation.scores import Evaluation, Result
from util.evaluation.statistics import as_json, finite
from util.files import write_text_atomically

CSV_NAME, JSON_NAME = "metrics.csv", "metrics.json"
CAPTION_WIDTH = 100
HEADING_WIDTH = CELL_WIDTH = 12  # characters in the plain-text table; a longer heading makes its column wider
LIBRARIES = ("numpy", "scipy", "scikit-image", "pillow")  # whose versions are recorded beside the numbers

COLUMN_MEANINGS = {**{key: MEASURES[key].meaning for key in USUAL}, "input_*": "the same of the input"}
NULL_MEANING = "infinite PSNR: an image equals its target"


def write_metrics(folder: Path, evaluation: Evaluation) -> None:
    """Write ``metrics.csv`` and ``metrics.json`` into a folder, each atomically and in full double precision.

    The CSV has one row per image and a last row ``mean``. The JSON adds the protocol, what the columns mean, the
    deviation, the median and the worst images of each, and the versions of the libraries. An infinite PSNR is
    ``inf`` in the CSV and ``null`` in the JSON, which knows no infinity.

    Raises:
        UserError: a file cannot be written.
    """
    mean = evaluation.mean()
    rows = [[result.name, *result.columns().values()] for result in (*evaluation.results, mean)]
    write_text_atomically(folder / CSV_NAME, csv_text(["name", *mean.columns()], rows))
    write_text_atomically(folder / JSON_NAME, json_text(_content(evaluation)))


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Lines of comma-separated values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def json_text(content: Mapping[str, Any]) -> str:
    """Strict JSON, for people too."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def versions(*more: str) -> dict[str, str]:
    """The versions of Python and of the libraries that make the numbers."""
    return {"python": platform.python_version(), **{library: version(library) for library in (*LIBRARIES, *more)}}


def summary_table(evaluation: Evaluation, input_heading: str = "rainy input", output_heading: str = "derained") -> str:
    """The means as a plain-text table for consoles, with the protocol in its caption; several lines.

    The headings name the two rows; beyond them the text is ASCII.
    """
    mean, label = evaluation.mean(), evaluation.protocol.name
    heads = (f"PSNR ({label})", f"SSIM ({label})", "PSNR (RGB)", "CIEDE2000")
    width = max(HEADING_WIDTH, len(input_heading) + 1, len(output_heading) + 1)
    widths = [max(CELL_WIDTH, len(head) + 1) for head in heads]
    lines = [_line("", heads, width, widths)]
    for title, scores in ((input_heading, mean.input), (output_heading, mean.output)):
        numbers = (f"{scores.psnr:.2f}", f"{scores.ssim:.4f}", f"{scores.psnr_rgb:.2f}", f"{scores.ciede2000:.2f}")
        lines.append(_line(title, numbers, width, widths))
    count = len(evaluation.results)
    caption = (
        f"Mean over {count} image{'s' if count > 1 else ''}. Protocol '{label}': {evaluation.protocol.description} "
        "PSNR in dB and SSIM: higher is better; CIEDE2000, a colour difference: lower is better."
    )
    return "\n".join([*lines, "", *textwrap.wrap(caption, CAPTION_WIDTH)])


def _content(evaluation: Evaluation) -> dict[str, Any]:
    summary = as_json(evaluation.summaries())
    return {
        "protocol": evaluation.protocol.name,
        "description": evaluation.protocol.description,
        "columns": COLUMN_MEANINGS,
        "null_means": NULL_MEANING,
        "versions": versions(),
        "count": len(evaluation.results),
        "resized": dict(evaluation.resized),
        **summary,
        "images": [{"name": result.name, **_finite(result)} for result in evaluation.results],
    }


def _finite(result: Result) -> dict[str, float | None]:
    return {name: finite(value) for name, value in result.columns().items()}


def _line(title: str, cells: Iterable[str], width: int, widths: Iterable[int]) -> str:
    return f"{title:<{width}}" + "".join(f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
