"""Reading images beside their targets and scoring them: the one way from files to numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from util.errors import UserError
from util.evaluation.measures import Scorer
from util.images import read_rgb
from util.metrics import size_of

MAX_WORKERS = 4  # each holds a score of float64 planes of one image; NumPy and SciPy release the interpreter lock


@dataclass(frozen=True)
class Item:
    """One scene: its name in tables, its target if there is one, and the images to score by label."""

    name: str
    target: Path | None
    images: Mapping[str, Path]


@dataclass(frozen=True)
class Measured:
    """The metrics by key of one image, and its size (``"480x320"``) where the protocol resized it."""

    values: Mapping[str, float]
    resized_from: str = ""


Scored = Mapping[str, Measured]
"""One :class:`Measured` for each label of an item."""


def count_resized(measured: Sequence[Measured]) -> dict[str, int]:
    """How many images the protocol brought to its size, by the size they had."""
    return dict(sorted(Counter(each.resized_from for each in measured if each.resized_from).items()))


def measure(items: Sequence[Item], scorer: Scorer, *, workers: int | None = None) -> list[Scored]:
    """Score the images of every item, in order; shows a progress bar on a console.

    The numbers do not depend on ``workers``, the threads at work (by default as many as cores, at most four).

    Raises:
        UserError: a file is missing or unreadable; an image differs in size from its target and the protocol does
            not resize; or it is smaller than SSIM's window.
    """
    pool = ThreadPoolExecutor(workers or min(MAX_WORKERS, os.cpu_count() or 1))
    try:
        scored = pool.map(lambda item: _measure_item(item, scorer), items)
        return list(tqdm(scored, total=len(items), desc="metrics", unit="image", leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error nobody waits for the rest


def _measure_item(item: Item, scorer: Scorer) -> Scored:
    target = None if item.target is None else read_rgb(item.target)
    if target is not None and item.target is not None:
        _check_smallest(item.target, target, scorer)
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
    return {label: _measure_image(item.images[label], image, target, scorer) for label, image in images.items()}


def _measure_image(path: Path, image: np.ndarray, target: np.ndarray | None, scorer: Scorer) -> Measured:
    fitted = scorer.protocol.fit(image)
    try:
        return Measured(scorer(fitted, target), "" if fitted is image else size_of(image))
    except ValueError as error:
        raise UserError(f"{path}: {error}; leave it out.") from error


def _check_smallest(path: Path, image: np.ndarray, scorer: Scorer) -> None:
    side = scorer.smallest
    if min(image.shape[:2]) < side:
        raise UserError(f"{path}: is {size_of(image)} pixels, but SSIM needs at least {side}x{side}; leave it out.")
