"""The losses of a run in memory, thinned out for plots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.trackers.loss_files import FIXED_COLUMNS, read_losses
from util.trackers.tracker import Progress, epoch_position

LEARNING_RATE = "learning_rate"


@dataclass(frozen=True)
class Curves:
    """Losses over epochs as P points.

    ``positions`` has shape [P] and counts epochs (2.5 is the middle of epoch 3). ``values`` maps a name to the
    mean over each point's reports, shape [P]; NaN where the loss was not reported or not finite.
    """

    positions: np.ndarray
    values: Mapping[str, np.ndarray]


class _Series:
    """Sums and counts of one quantity, one pair a point."""

    def __init__(self, points: int) -> None:
        self.sums = [0.0] * points
        self.counts = [0] * points

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self.sums[-1] += value
            self.counts[-1] += 1

    def open_point(self) -> None:
        self.sums.append(0.0)
        self.counts.append(0)

    def halve(self) -> None:
        self.sums = [sum(self.sums[i : i + 2]) for i in range(0, len(self.sums), 2)]
        self.counts = [sum(self.counts[i : i + 2]) for i in range(0, len(self.counts), 2)]

    def means(self) -> np.ndarray:
        counts = np.array(self.counts, dtype=float)
        return np.where(counts > 0, np.array(self.sums) / np.maximum(counts, 1), np.nan)


class LossHistory:
    """Collects every report of scalars and the learning rate, in about ``points`` points at most.

    Each point is the mean over equally many consecutive reports; that number doubles whenever the room is used up, so
    memory and time stay bounded however long the training is. ``losses_csv`` names the file a resumed run replays its
    past from; it is read at the first report.
    """

    def __init__(self, points: int, losses_csv: Path | None = None) -> None:
        self._limit = max(2, points + points % 2)  # even, so that halving pairs all points
        self._losses_csv = losses_csv
        self._positions = _Series(0)
        self._values: dict[str, _Series] = {}
        self._reports_per_point = 1
        self._reports_in_last = 1

    def add(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Add one report."""
        if self._losses_csv is not None:
            self._replay(self._losses_csv, progress)
            self._losses_csv = None
        self._append(progress.position, {**values, LEARNING_RATE: progress.learning_rate})

    def curves(self) -> Curves:
        """Return everything reported so far."""
        return Curves(self._positions.means(), {name: series.means() for name, series in self._values.items()})

    def _replay(self, path: Path, progress: Progress) -> None:
        for row in read_losses(path):
            if row["total_images"] < progress.total_images:
                place = epoch_position(int(row["epoch"]), int(row["images_in_epoch"]), progress.images_per_epoch)
                losses = {name: value for name, value in row.items() if name not in FIXED_COLUMNS}
                self._append(place, {**losses, LEARNING_RATE: row[LEARNING_RATE]})

    def _append(self, position: float, values: Mapping[str, float]) -> None:
        if self._reports_in_last == self._reports_per_point:
            self._open_point()
        self._reports_in_last += 1
        self._positions.add(position)
        for name, value in values.items():
            if name not in self._values:
                self._values[name] = _Series(len(self._positions.sums))
            self._values[name].add(float(value))

    def _open_point(self) -> None:
        every = [self._positions, *self._values.values()]
        if len(self._positions.sums) >= self._limit:
            for series in every:
                series.halve()
            self._reports_per_point *= 2
        for series in every:
            series.open_point()
        self._reports_in_last = 0
