"""The web page of a running training, in ``web/`` of its checkpoint folder."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from util.files import write_text_atomically
from util.images import save_png
from util.pages.labels import LABEL_WORDS
from util.pages.training_page import (
    DATA_NAME,
    FINISHED,
    PAGE_NAME,
    RUNNING,
    STOPPED,
    Moment,
    Picture,
    RunFacts,
    load_moments,
    render_training_data,
    render_training_page,
    save_moments,
)
from util.trackers.history import RunHistory
from util.trackers.tracker import Report, put_aside

logger = logging.getLogger(__name__)

WEB_FOLDER = "web"
PREVIOUS_WEB_FOLDER = "web.previous"
IMAGE_FOLDER = "images"
POINTS = 2000
LEAST_SECONDS = 5.0  # between two updates
LARGEST_SHARE = 0.005  # of the time that goes into updates between pictures


class WebPage:
    """Tracker that keeps ``folder/web/index.html``: pictures over time, curves, options and environment.

    Each picture is written once, as a PNG file of its own. An update writes the small script that the page loads
    its data from: with pictures at once, otherwise only as often as it costs next to nothing. ``resumed_at`` is the
    total number of images at the checkpoint a run continues from, or None for a new run: a resumed run keeps the
    moments up to there and draws its curves on from the CSV files in ``folder``. A new run starts a new page and keeps
    one that it finds, with its pictures, in ``folder/web.previous``. ``words`` maps technical labels to headings in
    words.

    Raises:
        UserError: an earlier page cannot be put aside.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        resumed_at: int | None,
        words: Mapping[str, str] = LABEL_WORDS,
        facts: RunFacts | None = None,
    ) -> None:
        self._web = folder / WEB_FOLDER
        self._title, self._words, self._facts = title, words, facts or RunFacts()
        self._start, self._started, self._resumed_at = secrets.token_hex(8), time.time(), resumed_at
        self._history = RunHistory(POINTS, None if resumed_at is None else folder)
        self._moments: dict[int, str] = {}
        self._labels: set[str] = set()
        self._report: Report | None = None
        self._due = 0.0
        self._is_written = False
        if resumed_at is None:
            put_aside(self._web, folder / PREVIOUS_WEB_FOLDER)
            return
        for moment in self._earlier_moments():
            if moment.total_images <= resumed_at:
                self._add(moment)

    @property
    def page(self) -> Path:
        """The page's path; it exists from the first report on."""
        return self._web / PAGE_NAME

    def scalars(self, report: Report, values: Mapping[str, float]) -> None:
        """Collect losses for the curves."""
        self._history.add_losses(report, values)
        self._update(report)

    def metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """Collect metrics for the curves."""
        self._history.add_metrics(report, values)
        self._update(report)

    def images(self, report: Report, images: Mapping[str, np.ndarray]) -> None:
        """Save pictures (uint8 [H, W], [H, W, 1] or [H, W, 3]) and update the page."""
        pictures = {label: self._save(report, label, image) for label, image in images.items()}
        self._add(Moment(report.epoch, report.images_in_epoch, report.total_images, pictures))
        save_moments(self._web, self._in_order())
        self._due = 0.0
        self._update(report)

    def close(self) -> None:
        """Write the last curves, and whether the training is finished."""
        if self._report is not None:
            self._write(self._report, FINISHED if self._report.is_end else STOPPED)

    def _update(self, report: Report) -> None:
        self._report = report
        began = time.monotonic()
        if began >= self._due:
            self._write(report, RUNNING)
            now = time.monotonic()
            self._due = now + max(LEAST_SECONDS, (now - began) / LARGEST_SHARE)

    def _write(self, report: Report, state: str) -> None:
        data = render_training_data(
            self._status(report, state),
            self._history.losses(),
            self._history.metrics(),
            self._in_order(),
            self._facts.protocol,
            {label: self._words[label] for label in sorted(self._labels) if label in self._words},
        )
        write_text_atomically(self._web / DATA_NAME, data)
        if not self._is_written:
            write_text_atomically(self.page, render_training_page(self._title, self._facts, self._start))
            self._is_written = True

    def _status(self, report: Report, state: str) -> dict[str, Any]:
        return {
            "start": self._start,
            "state": state,
            "started": round(self._started),
            "updated": round(time.time()),
            "resumed_at": self._resumed_at,
            "epoch": report.epoch,
            "total_epochs": report.total_epochs,
            "images_in_epoch": report.images_in_epoch,
            "images_per_epoch": report.images_per_epoch,
            "total_images": report.total_images,
            "learning_rate": report.learning_rate,
            "images_per_second": report.images_per_second,
            "data_wait": report.data_wait,
        }

    def _in_order(self) -> list[str]:
        return [self._moments[total] for total in sorted(self._moments)]

    def _add(self, moment: Moment) -> None:
        self._moments[moment.total_images] = moment.to_json()
        self._labels.update(moment.pictures)

    def _save(self, report: Report, label: str, image: np.ndarray) -> Picture:
        safe_label = re.sub(r"[^A-Za-z0-9_-]", "_", label)
        name = f"epoch{report.epoch:03d}_{report.total_images:08d}_{safe_label}.png"
        save_png(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image, self._web / IMAGE_FOLDER / name)
        return Picture(f"{IMAGE_FOLDER}/{name}", width=image.shape[1], height=image.shape[0])

    def _earlier_moments(self) -> list[Moment]:
        try:
            return load_moments(self._web)
        except ValueError as error:
            logger.warning("%s; the page starts over.", error)
            return []
