"""What a tracker is, and the trackers of a run, of which a failing one does not stop the training."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from util.files import cannot_write

logger = logging.getLogger(__name__)

TENSORBOARD, WANDB = "tensorboard", "wandb"
OPTIONAL_TRACKERS = (TENSORBOARD, WANDB)
"""What ``--trackers`` may name."""


@dataclass(frozen=True)
class Report:
    """Where a training run stands when something is reported.

    ``epoch`` counts from 1. ``images_in_epoch`` and ``total_images`` count images already trained on.
    ``images_per_second`` is measured; ``data_wait`` is the share (0 to 1) of the time spent waiting for data.
    """

    epoch: int
    total_epochs: int
    images_in_epoch: int
    images_per_epoch: int
    total_images: int
    learning_rate: float
    images_per_second: float
    data_wait: float

    @property
    def position(self) -> float:
        """Epochs done so far as a real number: 2.5 is the middle of epoch 3."""
        return epoch_position(self.epoch, self.images_in_epoch, self.images_per_epoch)

    @property
    def is_end(self) -> bool:
        """Whether nothing is left to train."""
        return self.epoch >= self.total_epochs and self.images_in_epoch >= self.images_per_epoch


def epoch_position(epoch: int, images_in_epoch: int, images_per_epoch: int) -> float:
    """Epochs done as a real number, from the current ``epoch`` (from 1) and the images trained on within it."""
    return epoch - 1 + images_in_epoch / max(images_per_epoch, 1)


class Tracker(Protocol):
    """Receives numbers and pictures of a running training."""

    def scalars(self, report: Report, values: Mapping[str, float]) -> None:
        """Report named numbers, usually the losses."""

    def metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """Report a validation: metric key (``"psnr"``, ``"ciede2000"``) -> mean over the validation images."""

    def images(self, report: Report, images: Mapping[str, np.ndarray]) -> None:
        """Report pictures: technical label (``"fake_B"``) -> uint8 array of shape [H, W, C], C being 1 or 3."""

    def close(self) -> None:
        """Finish writing; nothing is reported afterwards."""


class Trackers:
    """The trackers of a run, as one; of none, in a process whose main process reports.

    All get losses and metrics. ``live`` ones get pictures at every ``--display_freq``, the others at every
    ``--update_html_freq``. A tracker that raises is reported in one log line and switched off; the others and the
    training continue.
    """

    def __init__(self, *trackers: Tracker, live: Iterable[Tracker] = ()) -> None:
        self._live = list(live)
        self._trackers = [*trackers, *self._live]

    def scalars(self, report: Report, values: Mapping[str, float]) -> None:
        """See :meth:`Tracker.scalars`."""
        self._each(lambda tracker: tracker.scalars(report, values))

    def metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """See :meth:`Tracker.metrics`."""
        self._each(lambda tracker: tracker.metrics(report, values))

    def images(self, report: Report, images: Mapping[str, np.ndarray], *, live: bool, keep: bool) -> None:
        """See :meth:`Tracker.images`; for the ``live`` trackers, for those that ``keep`` pictures, or for both."""

        def call(tracker: Tracker) -> None:
            if live if tracker in self._live else keep:
                tracker.images(report, images)

        self._each(call)

    def close(self) -> None:
        """Close all trackers that are still in use; a second call does nothing."""
        self._each(lambda tracker: tracker.close())
        self._trackers.clear()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in tuple(self._trackers):
            try:
                call(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                name = type(tracker).__name__
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                logger.warning("%s is switched off after an error (%s); training continues.", name, reason)
                logger.debug("The error of %s in full:", name, exc_info=True)
                with contextlib.suppress(Exception):
                    tracker.close()


def put_aside(path: Path, previous: Path) -> None:
    """Rename ``path``, if it exists, to ``previous``, in place of an older one: an earlier run's files are kept.

    Raises:
        UserError: it cannot be renamed, or the older one not be removed.
    """
    if not path.exists():
        return
    try:
        if previous.is_dir():
            shutil.rmtree(previous)
        path.replace(previous)
    except OSError as error:
        raise cannot_write(previous, error) from error
