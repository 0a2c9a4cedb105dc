"""The web page of a running training, in ``web/`` of its checkpoint folder."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from util.files import cannot_write, write_text_atomically
from util.images import save_png
from util.pages.labels import LABEL_WORDS
from util.pages.training_manifest import Moment, Picture, load_moments, save_moments
from util.pages.training_page import PAGE_NAME, render_moment, render_training_page
from util.trackers.history import RunHistory
from util.trackers.tracker import Progress

logger = logging.getLogger(__name__)

WEB_FOLDER = "web"
PREVIOUS_WEB_FOLDER = "web.previous"
IMAGE_FOLDER = "images"
POINTS = 400


class WebPage:
    """Tracker that keeps ``folder/web/index.html``: loss curves and intermediate pictures, newest first.

    Each picture is written once, as a PNG file of its own; every update only adds its moment's part to the page.
    ``resumed_at`` is the total number of images at the checkpoint a run continues from, or None for a new run: a
    resumed run keeps the moments up to there and draws its curves on from ``folder/losses.csv``. A new run starts a
    new page and keeps one that it finds, with its pictures, in ``folder/web.previous``.
    ``words`` maps technical labels to headings in words.

    Raises:
        UserError: an earlier page cannot be put aside.
    """

    def __init__(
        self, folder: Path, title: str, resumed_at: int | None, words: Mapping[str, str] = LABEL_WORDS
    ) -> None:
        self._web = folder / WEB_FOLDER
        self._title, self._words = title, words
        self._history = RunHistory(POINTS, None if resumed_at is None else folder)
        self._moments: dict[int, Moment] = {}
        self._parts: dict[int, str] = {}
        self._status: tuple[str, ...] = ()
        if resumed_at is None:
            _put_aside(self._web, folder / PREVIOUS_WEB_FOLDER)
            return
        for moment in self._earlier_moments():
            if moment.total_images <= resumed_at:
                self._add(moment)

    @property
    def page(self) -> Path:
        """The page's path; it exists from the first pictures on."""
        return self._web / PAGE_NAME

    def scalars(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Collect losses for the curves; they are drawn when the next pictures come, or at the end."""
        self._history.add_losses(progress, values)
        self._status = _status(progress)

    def metrics(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Collect metrics for the curves."""
        self._history.add_metrics(progress, values)

    def images(self, progress: Progress, images: Mapping[str, np.ndarray]) -> None:
        """Save pictures (uint8 [H, W], [H, W, 1] or [H, W, 3]) and write the page anew."""
        pictures = {label: self._save(progress, label, image) for label, image in images.items()}
        self._add(Moment(progress.epoch, progress.images_in_epoch, progress.total_images, pictures))
        self._status = _status(progress)
        self._write()

    def close(self) -> None:
        """Write the page with the last curves."""
        if self._status:
            self._write()

    def _add(self, moment: Moment) -> None:
        self._moments[moment.total_images] = moment
        self._parts[moment.total_images] = render_moment(moment, self._words)

    def _save(self, progress: Progress, label: str, image: np.ndarray) -> Picture:
        safe_label = re.sub(r"[^A-Za-z0-9_-]", "_", label)
        name = f"epoch{progress.epoch:03d}_{progress.total_images:08d}_{safe_label}.png"
        save_png(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image, self._web / IMAGE_FOLDER / name)
        return Picture(f"{IMAGE_FOLDER}/{name}", width=image.shape[1], height=image.shape[0])

    def _write(self) -> None:
        newest_first = sorted(self._moments, reverse=True)
        save_moments(self._web, [self._moments[total] for total in reversed(newest_first)])
        curves = self._history.losses()
        parts = (self._parts[total] for total in newest_first)
        html = render_training_page(self._title, self._status, parts, curves.positions, curves.values)
        write_text_atomically(self.page, html)

    def _earlier_moments(self) -> list[Moment]:
        try:
            return load_moments(self._web)
        except ValueError as error:
            logger.warning("%s; the page starts anew.", error)
            return []


def _put_aside(web: Path, previous: Path) -> None:
    """Rename the folder ``web``, if it is there, to ``previous``, in place of an older one."""
    if not web.exists():
        return
    try:
        if previous.is_dir():
            shutil.rmtree(previous)
        web.replace(previous)
    except OSError as error:
        raise cannot_write(previous, error) from error


def _status(progress: Progress) -> tuple[str, ...]:
    return (
        f"epoch {progress.epoch} of {progress.total_epochs}",
        f"{progress.images_in_epoch:,} of {progress.images_per_epoch:,} images",
        f"learning rate {progress.learning_rate:.3g}",
        f"{progress.images_per_second:.3g} images/s",
        f"data wait {progress.data_wait:.0%}",
    )
