"""A run's numbers as files: ``loss_log.txt`` to read, ``losses.csv`` and ``metrics.csv`` to plot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import numpy as np

from util.files import cannot_write
from util.trackers.csv_table import CsvTable, read_table
from util.trackers.tracker import Progress

LOG_NAME = "loss_log.txt"
CSV_NAME = "losses.csv"
PREVIOUS_CSV_NAME = "losses.previous.csv"
FIXED_COLUMNS = ("epoch", "images_in_epoch", "total_images", "learning_rate")
METRICS_NAME = "metrics.csv"
PREVIOUS_METRICS_NAME = "metrics.previous.csv"
METRICS_COLUMNS = ("epoch", "total_images")


def read_losses(path: Path) -> list[dict[str, float]]:
    """Read ``losses.csv``; see :func:`util.trackers.csv_table.read_table`."""
    return read_table(path, FIXED_COLUMNS)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read ``metrics.csv`` of a run folder; see :func:`util.trackers.csv_table.read_table`."""
    return read_table(path, METRICS_COLUMNS)


class LossFiles:
    """Tracker that writes every report to files in ``folder``.

    Losses go to ``loss_log.txt`` and ``losses.csv``, validation metrics to the log and, from the first on, to
    ``metrics.csv``. ``resumed_at`` is the total number of images at the checkpoint a run continues from, or None for
    a new run. A resumed run appends; CSV rows later than ``resumed_at`` (trained after the last save, so trained
    again now) are dropped, and a validation that is repeated takes the place of the earlier one. A new run starts new
    tables and keeps those that it finds, if they hold any row, as ``losses.previous.csv`` and
    ``metrics.previous.csv``.

    Raises:
        UserError: a file cannot be read or written; no file is open or new then.
    """

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        began = "started" if resumed_at is None else f"resumed at image {resumed_at}"
        with contextlib.ExitStack() as undo:
            try:
                self._log = _open_log(folder / LOG_NAME, undo)
                metrics, previous_metrics = folder / METRICS_NAME, folder / PREVIOUS_METRICS_NAME
                self._metrics = CsvTable(metrics, previous_metrics, METRICS_COLUMNS, resumed_at)
                losses, previous_losses = folder / CSV_NAME, folder / PREVIOUS_CSV_NAME
                self._losses = CsvTable(losses, previous_losses, FIXED_COLUMNS, resumed_at, at_once=True)
                undo.callback(_close, self._losses)
                when = time.strftime("%Y-%m-%d %H:%M:%S")
                self._write_log(f"================ training {began} ({when}) ================")
            except OSError as error:
                raise cannot_write(Path(error.filename or folder), error) from error
            undo.pop_all()
        self._last_time = time.perf_counter()

    def scalars(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Add a line to the log and a row to ``losses.csv``. ``values`` maps the name of a loss to its value."""
        self._write_log(self._log_line(progress, values))
        row = {
            "epoch": progress.epoch,
            "images_in_epoch": progress.images_in_epoch,
            "total_images": progress.total_images,
            "learning_rate": progress.learning_rate,
        }
        self._losses.add({**values, **row})

    def metrics(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Add a line to the log and a row to ``metrics.csv``."""
        words = " ".join(f"{name}: {value:.4g}" for name, value in values.items())
        self._write_log(f"(epoch: {progress.epoch}, images: {progress.images_in_epoch}) validation: {words}")
        self._metrics.add({**values, "epoch": progress.epoch, "total_images": progress.total_images})

    def images(self, progress: Progress, images: Mapping[str, np.ndarray]) -> None:
        """Pictures are not kept here."""

    def close(self) -> None:
        """Close all files."""
        self._losses.close()
        self._metrics.close()
        self._log.close()

    def _log_line(self, progress: Progress, values: Mapping[str, float]) -> str:
        now = time.perf_counter()
        elapsed, self._last_time = now - self._last_time, now
        rate = f"{progress.images_per_second:.2f} img/s, data wait: {progress.data_wait:.0%}"
        head = f"(epoch: {progress.epoch}, images: {progress.images_in_epoch}, time: {elapsed:.1f} s, {rate})"
        return " ".join([head, *(f"{name}: {value:.4g}" for name, value in values.items())])

    def _write_log(self, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()


def _open_log(path: Path, undo: contextlib.ExitStack) -> TextIO:
    """Open the log to append to it; ``undo`` closes it, and removes it if it was not there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    log = path.open("a", encoding="utf-8")
    if is_new:
        undo.callback(path.unlink, missing_ok=True)
    undo.callback(_close, log)
    return log


def _close(file: TextIO | CsvTable) -> None:
    """Close it, though its last words may find no room: why it is closed has been told."""
    with contextlib.suppress(OSError):
        file.close()
