"""The numbers of a test: input and output of every image against its target, with the four usual metrics."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from util.errors import UserError
from util.evaluation.measures import MEASURES, USUAL, Scorer
from util.evaluation.measuring import Item, count_resized, measure
from util.evaluation.statistics import Summary, columns, summarise
from util.metrics import Protocol

logger = logging.getLogger(__name__)

BEFORE, AFTER = "input", "output"
INPUT_PREFIX = f"{BEFORE}_"


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
        before = {f"{INPUT_PREFIX}{name}": value for name, value in asdict(self.input).items()}
        return {**before, **asdict(self.output)}


@dataclass(frozen=True)
class Evaluation:
    """The results of all images, in the order given, under one protocol.

    ``resized`` counts the outputs that the protocol brought to its size, by the size they had.
    """

    protocol: Protocol
    results: tuple[Result, ...]
    resized: Mapping[str, int] = field(default_factory=dict)

    def mean(self) -> Result:
        """The mean over images of each per-image value; one image equal to its target makes a mean PSNR infinite."""
        return Result(
            name="mean",
            input=_mean([asdict(result.input) for result in self.results]),
            output=_mean([asdict(result.output) for result in self.results]),
        )

    def summaries(self) -> dict[str, Summary]:
        """Mean, deviation, median and worst images of every column."""
        by_column = columns([result.columns() for result in self.results], [result.name for result in self.results])
        return {
            key: summarise(values, higher_is_better=MEASURES[key.removeprefix(INPUT_PREFIX)].higher_is_better)
            for key, values in by_column.items()
        }


def evaluate(rows: Sequence[Row], protocol: Protocol) -> Evaluation:
    """Read the saved files of every row and score input and output against the target.

    Shows a progress bar on a console. The result does not depend on the number of threads.

    Raises:
        UserError: no rows; a file is missing or unreadable; an image differs in size from its target, or is
            smaller than SSIM's window.
    """
    if not rows:
        raise UserError("evaluation: there is no image with a target; put targets of the same names into testB.")
    items = [Item(row.name, row.target, {BEFORE: row.input, AFTER: row.output}) for row in rows]
    all_scored = measure(items, _usual(protocol))
    results = tuple(
        Result(row.name, Scores(**scored[BEFORE].values), Scores(**scored[AFTER].values))
        for row, scored in zip(rows, all_scored, strict=True)
    )
    for result in results:
        if math.isinf(result.input.psnr) or math.isinf(result.output.psnr):
            logger.warning("%s: equals its target, so its PSNR and the mean PSNR are infinite", result.name)
    return Evaluation(protocol, results, count_resized([scored[AFTER] for scored in all_scored]))


def score(image: np.ndarray, target: np.ndarray, protocol: Protocol) -> Scores:
    """Compare an [H, W, 3] uint8 image with its target; raises :class:`ValueError` as :mod:`util.metrics` does."""
    return Scores(**_usual(protocol)(image, target))


def _usual(protocol: Protocol) -> Scorer:
    return Scorer([MEASURES[key] for key in USUAL], protocol)


def _mean(rows: Sequence[Mapping[str, float]]) -> Scores:
    return Scores(**{key: fmean(row[key] for row in rows) for key in rows[0]})
