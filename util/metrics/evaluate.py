"""From image files to numbers: every image with its target, scored under one protocol."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from tqdm import tqdm

from util.errors import UserError
from util.images import read_rgb
from util.metrics.metric import Metric, Scorer
from util.metrics.planes import size_of
from util.metrics.protocols import Protocol
from util.tables import MeanStd

logger = logging.getLogger(__name__)

MAX_WORKERS = 4  # each holds a score of float64 planes of one image; NumPy and SciPy release the interpreter lock
WORST = 5  # images that are named


@dataclass(frozen=True)
class Item:
    """One scene: its name in tables, its target if there is one, and the images to score by label."""

    name: str
    target: Path | None
    images: Mapping[str, Path]


@dataclass(frozen=True)
class Score:
    """The metrics by key of one image, and its size (``"480x320"``) where the protocol resized it."""

    values: Mapping[str, float]
    resized_from: str = ""


@dataclass(frozen=True)
class Summary(MeanStd):
    """Mean, sample standard deviation, median and the images with the worst values, the worst first."""

    median: float = math.nan
    worst: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The scores by label of all items, in the order given, under one protocol; ``facts`` are the scorer's."""

    protocol: Protocol
    metrics: tuple[Metric, ...]
    items: tuple[Item, ...]
    scores: tuple[Mapping[str, Score], ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """What was scored of each item."""
        return tuple(self.items[0].images)

    def values(self, label: str) -> list[Mapping[str, float]]:
        """The metrics by key of each item's image under ``label``."""
        return [scores[label].values for scores in self.scores]

    def summaries(self, label: str) -> dict[str, Summary]:
        """What the metrics of the images under ``label`` come to."""
        return {metric.key: self._summary(label, metric) for metric in self.metrics}

    def resized(self, label: str) -> dict[str, int]:
        """How many images under ``label`` the protocol brought to its size, by the size they had."""
        sizes = (scores[label].resized_from for scores in self.scores)
        return dict(sorted(Counter(size for size in sizes if size).items()))

    def _summary(self, label: str, metric: Metric) -> Summary:
        """The mean over images of each image's value; one image equal to its target makes a mean PSNR infinite."""
        values = {item.name: each[metric.key] for item, each in zip(self.items, self.values(label), strict=True)}
        spread, numbers = MeanStd.of(list(values.values())), list(values.values())
        order = sorted(values.items(), key=lambda item: item[1], reverse=not metric.higher_is_better)
        return Summary(spread.mean, spread.std, median(numbers), tuple(order[:WORST]))


def evaluate(items: Sequence[Item], scorer: Scorer, *, workers: int | None = None) -> Evaluation:
    """Score the images of every item from their files; shows a progress bar on a console.

    The numbers do not depend on ``workers``, the number of threads (by default as many as cores, at most four).

    Raises:
        UserError: no items; a file is missing or unreadable; an image differs in size from its target and the protocol
            does not resize; or it is smaller than SSIM's window.
    """
    if not items:
        raise UserError("evaluation: there is no image with a target; put targets of the same names into testB.")
    pool = ThreadPoolExecutor(workers or min(MAX_WORKERS, os.cpu_count() or 1))
    try:
        scored = pool.map(lambda item: _score_item(item, scorer), items)
        scores = tuple(tqdm(scored, total=len(items), desc="metrics", unit="image", leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error the rest is not needed
    for item, by_label in zip(items, scores, strict=True):
        for label, score in by_label.items():
            if any(map(math.isinf, score.values.values())):
                logger.warning("%s: %s equals its target, so its PSNR and the mean are infinite", label, item.name)
    return Evaluation(scorer.protocol, scorer.metrics, tuple(items), scores, scorer.facts)


def _score_item(item: Item, scorer: Scorer) -> dict[str, Score]:
    target = None if item.target is None else read_rgb(item.target)
    if target is not None and min(target.shape[:2]) < scorer.smallest:
        side = f"{scorer.smallest}x{scorer.smallest}"
        raise UserError(f"{item.target}: is {size_of(target)} pixels, but SSIM needs at least {side}; leave it out.")
    images = {label: read_rgb(path) for label, path in item.images.items()}
    reference = item.target if target is not None else next(iter(item.images.values()))
    expected = target if target is not None else next(iter(images.values()))
    for label, image in images.items():
        if image.shape != expected.shape and scorer.protocol.size is None:
            role = "its target" if target is not None else "the same scene in"
            raise UserError(
                f"{item.images[label]}: is {size_of(image)} pixels, but {role} {reference} is {size_of(expected)}; "
                "bring both to one size."
            )
    return {label: _score_image(item.images[label], image, target, scorer) for label, image in images.items()}


def _score_image(path: Path, image: np.ndarray, target: np.ndarray | None, scorer: Scorer) -> Score:
    fitted = scorer.protocol.fit(image)
    try:
        return Score(scorer(fitted, target), "" if fitted is image else size_of(image))
    except ValueError as error:
        raise UserError(f"{path}: {error}; leave it out.") from error
