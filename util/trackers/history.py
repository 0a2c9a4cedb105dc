"""The numbers of a run in memory, thinned out for plots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from util.pages.training_page import Curves
from util.trackers.csv_files import CSV_NAME, FIXED_COLUMNS, METRICS_COLUMNS, METRICS_NAME, read_losses, read_metrics
from util.trackers.tracker import Report, epoch_position

LEARNING_RATE = "learning_rate"


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


class Thinned:
    """Curves of about ``points`` points at most, however many reports are added.

    Each point is the mean over equally many consecutive reports; that number doubles whenever the room is used up, so
    memory and time stay bounded however long the training is.
    """

    def __init__(self, points: int) -> None:
        self._limit = max(2, points + points % 2)  # even, so that halving pairs all points
        self._positions = _Series(0)
        self._values: dict[str, _Series] = {}
        self._reports_per_point = 1
        self._reports_in_last = 1

    def add(self, position: float, values: Mapping[str, float]) -> None:
        """Add one report, made after ``position`` epochs."""
        if self._reports_in_last == self._reports_per_point:
            self._open_point()
        self._reports_in_last += 1
        self._positions.add(position)
        for name, value in values.items():
            if name not in self._values:
                self._values[name] = _Series(len(self._positions.sums))
            self._values[name].add(float(value))

    def curves(self) -> Curves:
        """Return everything added so far."""
        return Curves(self._positions.means(), {name: series.means() for name, series in self._values.items()})

    def _open_point(self) -> None:
        every = [self._positions, *self._values.values()]
        if len(self._positions.sums) >= self._limit:
            for series in every:
                series.halve()
            self._reports_per_point *= 2
        for series in every:
            series.open_point()
        self._reports_in_last = 0


class RunHistory:
    """Losses, with the learning rate among them, and validation metrics of a run, each in ``points`` points at most.

    ``past`` is the folder of a resumed run, whose CSV files are replayed at the first report; None for a new run.
    """

    def __init__(self, points: int, past: Path | None = None) -> None:
        self._past = past
        self._losses, self._metrics = Thinned(points), Thinned(points)

    def add_losses(self, report: Report, values: Mapping[str, float]) -> None:
        """Add one report of losses."""
        self._replay(report, losses_before=report.total_images, metrics_before=report.total_images + 1)
        self._losses.add(report.position, {**values, LEARNING_RATE: report.learning_rate})

    def add_metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """Add one validation."""
        self._replay(report, losses_before=report.total_images + 1, metrics_before=report.total_images)
        self._metrics.add(report.position, values)

    def losses(self) -> Curves:
        """The losses reported so far, and the learning rate."""
        return self._losses.curves()

    def metrics(self) -> Curves:
        """The validations reported so far."""
        return self._metrics.curves()

    def _replay(self, report: Report, *, losses_before: int, metrics_before: int) -> None:
        """Read the rows of the past whose ``total_images`` lie below; the report being made is none of them."""
        past, self._past = self._past, None
        if past is None:
            return
        for row in read_losses(past / CSV_NAME):
            if row["total_images"] < losses_before:
                place = epoch_position(int(row["epoch"]), int(row["images_in_epoch"]), report.images_per_epoch)
                self._losses.add(place, {**_own(row, FIXED_COLUMNS), LEARNING_RATE: row[LEARNING_RATE]})
        for row in read_metrics(past / METRICS_NAME):
            if row["total_images"] < metrics_before:
                self._metrics.add(_place_of_metrics(row, report), _own(row, METRICS_COLUMNS))


def _own(row: Mapping[str, float], fixed: tuple[str, ...]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in fixed}


def _place_of_metrics(row: Mapping[str, float], report: Report) -> float:
    """Epochs done at a row of ``metrics.csv``, counted back from where the run is now, within the row's epoch."""
    earlier = report.total_images - row["total_images"]
    place = report.position - earlier / max(report.images_per_epoch, 1)
    return min(max(place, row["epoch"] - 1), row["epoch"])
