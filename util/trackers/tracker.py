"""What every tracker offers, and the group that keeps a failing tracker from stopping the training."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
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

    def scalars(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Report named numbers, usually the losses."""

    def metrics(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Report a validation: metric key (``"psnr"``, ``"ciede2000"``) -> mean over the validation images."""

    def images(self, progress: Progress, images: Mapping[str, np.ndarray]) -> None:
        """Report pictures: technical label (``"fake_B"``) -> uint8 array of shape [H, W, C], C being 1 or 3."""

    def close(self) -> None:
        """Finish writing; nothing is reported afterwards."""


class TrackerGroup:
    """Passes every report on to several trackers.

    A tracker that raises is reported in one log line and switched off; the others and the training go on.
    """

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = list(trackers)

    def scalars(self, progress: Progress, values: Mapping[str, float]) -> None:
        """See :meth:`Tracker.scalars`."""
        self._each(lambda tracker: tracker.scalars(progress, values))

    def metrics(self, progress: Progress, values: Mapping[str, float]) -> None:
        """See :meth:`Tracker.metrics`."""
        self._each(lambda tracker: tracker.metrics(progress, values))

    def images(self, progress: Progress, images: Mapping[str, np.ndarray]) -> None:
        """See :meth:`Tracker.images`."""
        self._each(lambda tracker: tracker.images(progress, images))

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
                logger.warning("%s is switched off after an error (%s); training goes on.", name, reason)
                logger.debug("The error of %s in full:", name, exc_info=True)
                with contextlib.suppress(Exception):
                    tracker.close()
