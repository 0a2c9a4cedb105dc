"""Tables of results: how near saved images come to their targets, before and after a model."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import textwrap
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import numpy as np
from tqdm import tqdm

from util.errors import UserError
from util.files import write_text_atomically
from util.images import read_rgb
from util.metrics import PROTOCOLS, SSIM_WINDOW, Protocol, colour_difference, psnr, size_of, ssim

logger = logging.getLogger(__name__)

MAX_THREADS = 4  # each holds a score of float64 planes of one image; NumPy and SciPy release the interpreter lock
CAPTION_WIDTH = 100
HEADING_WIDTH = CELL_WIDTH = 12  # characters in the plain-text table; a longer heading makes its column wider
LIBRARIES = ("numpy", "scikit-image")  # whose versions are recorded beside the numbers

COLUMN_MEANINGS = {
    "psnr": "dB, under the protocol; higher is better",
    "ssim": "under the protocol; higher is better",
    "psnr_rgb": "dB, over the three RGB channels; higher is better",
    "ciede2000": "mean CIEDE2000 colour difference (sRGB, D65); lower is better",
    "input_*": "the same of the input",
}
NULL_MEANING = "infinite PSNR: an image equals its target"


@dataclass(frozen=True)
class Row:
    """One image to evaluate: its name in the tables and its three 8-bit files, all of one size."""

    name: str
    input: Path
    output: Path
    target: Path


@dataclass(frozen=True)
class Scores:
    """How near an image comes to its target.

    PSNR (dB) and SSIM follow the protocol; RGB PSNR (dB) and the colour difference always stand beside them,
    because luma alone hides wrong colours.
    """

    psnr: float
    ssim: float
    psnr_rgb: float
    ciede2000: float


@dataclass(frozen=True)
class Result:
    """The scores of one input and of the output made from it."""

    name: str
    input: Scores
    output: Scores

    def columns(self) -> dict[str, float]:
        """All numbers by their name in ``metrics.csv``: first ``input_…``, then those of the output."""
        before = {f"input_{name}": value for name, value in asdict(self.input).items()}
        return {**before, **asdict(self.output)}


@dataclass(frozen=True)
class Evaluation:
    """The results of all images, in the order given, under one protocol."""

    protocol: Protocol
    results: tuple[Result, ...]

    def mean(self) -> Result:
        """The mean over images of each per-image value; one image equal to its target makes a mean PSNR infinite."""
        return Result(
            name="mean",
            input=_mean([result.input for result in self.results]),
            output=_mean([result.output for result in self.results]),
        )


def evaluate(rows: Sequence[Row], protocol: Protocol) -> Evaluation:
    """Read the saved files of every row and score input and output against the target.

    Shows a progress bar on a console. The result does not depend on the number of threads.

    Raises:
        UserError: no rows; a file is missing or unreadable; an image differs in size from its target, or is
            smaller than SSIM's window.
    """
    if not rows:
        raise UserError("evaluation: there is no image with a target; put targets of the same names into testB.")
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        scored = pool.map(lambda row: _evaluate_row(row, protocol), rows)
        results = tuple(tqdm(scored, total=len(rows), desc="metrics", unit="image", leave=False, disable=None))
    for result in results:
        if math.isinf(result.input.psnr) or math.isinf(result.output.psnr):
            logger.warning("%s: equals its target, so its PSNR and the mean PSNR are infinite", result.name)
    return Evaluation(protocol, results)


def score(image: np.ndarray, target: np.ndarray, protocol: Protocol) -> Scores:
    """Compare an [H, W, 3] uint8 image with its target; raises :class:`ValueError` as :mod:`util.metrics` does."""
    return Scores(
        psnr=psnr(image, target, protocol),
        ssim=ssim(image, target, protocol),
        psnr_rgb=psnr(image, target, PROTOCOLS["rgb"]),
        ciede2000=colour_difference(image, target),
    )


def write_metrics(folder: Path, evaluation: Evaluation) -> None:
    """Write ``metrics.csv`` and ``metrics.json`` into a folder, each atomically and in full double precision.

    The CSV has one row per image and a last row ``mean``. The JSON adds the protocol, what the columns mean and
    the versions of the libraries. An infinite PSNR is ``inf`` in the CSV and ``null`` in the JSON, which knows no
    infinity.

    Raises:
        UserError: a file cannot be written.
    """
    write_text_atomically(folder / "metrics.csv", _as_csv(evaluation))
    write_text_atomically(folder / "metrics.json", _as_json(evaluation))


def summary_table(evaluation: Evaluation, input_heading: str = "rainy input", output_heading: str = "derained") -> str:
    """The means as a plain-text table for consoles, with the protocol in its caption; several lines.

    The headings name the two rows; beyond them the text is ASCII.
    """
    mean, label = evaluation.mean(), evaluation.protocol.name
    heads = (f"PSNR ({label})", f"SSIM ({label})", "PSNR (RGB)", "CIEDE2000")
    width = max(HEADING_WIDTH, len(input_heading) + 1, len(output_heading) + 1)
    lines = [_line("", heads, width)]
    for title, scores in ((input_heading, mean.input), (output_heading, mean.output)):
        numbers = (f"{scores.psnr:.2f}", f"{scores.ssim:.4f}", f"{scores.psnr_rgb:.2f}", f"{scores.ciede2000:.2f}")
        lines.append(_line(title, numbers, width))
    count = len(evaluation.results)
    caption = (
        f"Mean over {count} image{'s' if count > 1 else ''}. Protocol '{label}': {evaluation.protocol.description} "
        "PSNR in dB and SSIM: higher is better; CIEDE2000, a colour difference: lower is better."
    )
    return "\n".join([*lines, "", *textwrap.wrap(caption, CAPTION_WIDTH)])


def _mean(scores: Sequence[Scores]) -> Scores:
    return Scores(*(fmean(values) for values in zip(*map(astuple, scores), strict=True)))


def _evaluate_row(row: Row, protocol: Protocol) -> Result:
    target = read_rgb(row.target)
    if min(target.shape[:2]) < SSIM_WINDOW:
        raise UserError(
            f"{row.target}: is {size_of(target)} pixels, but SSIM needs at least {SSIM_WINDOW}x{SSIM_WINDOW}; "
            "leave it out."
        )
    before, after = (_score_file(path, row.target, target, protocol) for path in (row.input, row.output))
    return Result(row.name, before, after)


def _score_file(path: Path, target_path: Path, target: np.ndarray, protocol: Protocol) -> Scores:
    image = read_rgb(path)
    if image.shape != target.shape:
        raise UserError(
            f"{path}: is {size_of(image)} pixels, but its target {target_path} is {size_of(target)}; "
            "bring both to one size."
        )
    return score(image, target, protocol)


def _as_csv(evaluation: Evaluation) -> str:
    mean = evaluation.mean()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *mean.columns()])
    for result in (*evaluation.results, mean):
        writer.writerow([result.name, *result.columns().values()])
    return text.getvalue()


def _as_json(evaluation: Evaluation) -> str:
    content = {
        "protocol": evaluation.protocol.name,
        "description": evaluation.protocol.description,
        "columns": COLUMN_MEANINGS,
        "null_means": NULL_MEANING,
        "versions": {library: version(library) for library in LIBRARIES},
        "count": len(evaluation.results),
        "mean": _finite(evaluation.mean()),
        "images": [{"name": result.name, **_finite(result)} for result in evaluation.results],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(result: Result) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in result.columns().items()}


def _line(title: str, cells: Iterable[str], width: int) -> str:
    return f"{title:<{width}}" + "".join(f"{cell:>{CELL_WIDTH}}" for cell in cells)
