"""Losses as files: ``loss_log.txt`` to read, ``losses.csv`` to plot."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from util.files import cannot_write, write_text_atomically
from util.trackers.tracker import Progress

LOG_NAME = "loss_log.txt"
CSV_NAME = "losses.csv"
PREVIOUS_CSV_NAME = "losses.previous.csv"
FIXED_COLUMNS = ("epoch", "images_in_epoch", "total_images", "learning_rate")
FLOAT_DIGITS = 9  # as many as a float32 needs


def read_losses(path: Path) -> list[dict[str, float]]:
    """Read ``losses.csv`` as one dict a row; empty cells are left out.

    A row that is not complete (the last one after a crash) or does not hold numbers is skipped.
    A file that does not exist gives an empty list.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return _parse(csv.reader(file))[1]


def _parse(lines: Iterable[list[str]]) -> tuple[list[str], list[dict[str, float]]]:
    """Split parsed CSV lines into the header and the rows that are complete."""
    lines = iter(lines)
    header = next(lines, [])
    rows = []
    for cells in lines:
        if len(cells) != len(header):
            continue
        try:
            row = {column: float(cell) for column, cell in zip(header, cells, strict=True) if cell != ""}
        except ValueError:
            continue
        if all(column in row for column in FIXED_COLUMNS):
            rows.append(row)
    return header, rows


def _holds_rows(path: Path) -> bool:
    """Whether there is anything below the header, complete or not."""
    return path.is_file() and len(path.read_bytes().splitlines()) > 1


class LossFiles:
    """Tracker that writes every report of scalars to ``folder/loss_log.txt`` and ``folder/losses.csv``.

    ``resumed_at`` is the total number of images at the checkpoint a run continues from, or None for a new run.
    A resumed run appends; CSV rows later than ``resumed_at`` (trained after the last save, so trained again now)
    are dropped. A new run starts a new CSV and keeps one that it finds, if it holds any row, as
    ``losses.previous.csv``.

    Raises:
        UserError: a file cannot be read or written; no file is open or new then.
    """

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        self._csv_path = folder / CSV_NAME
        self._columns = list(FIXED_COLUMNS)
        began = "started" if resumed_at is None else f"resumed at image {resumed_at}"
        with contextlib.ExitStack() as undo:
            try:
                self._log = _open_log(folder / LOG_NAME, undo)
                self._prepare_csv(folder, resumed_at)
                self._csv = undo.enter_context(self._open_csv())
                when = time.strftime("%Y-%m-%d %H:%M:%S")
                self._write_log(f"================ training {began} ({when}) ================")
            except OSError as error:
                raise cannot_write(Path(error.filename2 or error.filename or folder), error) from error
            undo.pop_all()
        self._last_time = time.perf_counter()

    def scalars(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Add one line to each file. ``values`` maps the name of a loss to its value."""
        self._write_log(self._log_line(progress, values))
        new_columns = [name for name in values if name not in self._columns]
        if new_columns:
            self._add_columns(new_columns)
        row = {
            "epoch": progress.epoch,
            "images_in_epoch": progress.images_in_epoch,
            "total_images": progress.total_images,
            "learning_rate": progress.learning_rate,
        }
        self._csv.write(_csv_line(_cells(self._columns, {**values, **row})))
        self._csv.flush()

    def metrics(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Validation metrics are not kept here yet."""

    def images(self, progress: Progress, images: Mapping[str, np.ndarray]) -> None:
        """Pictures are not kept here."""

    def close(self) -> None:
        """Close both files."""
        self._csv.close()
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

    def _open_csv(self) -> TextIO:
        return self._csv_path.open("a", encoding="utf-8", newline="")

    def _prepare_csv(self, folder: Path, resumed_at: int | None) -> None:
        if resumed_at is not None:
            self._keep_until(resumed_at)
        elif _holds_rows(self._csv_path):
            self._csv_path.replace(folder / PREVIOUS_CSV_NAME)
        if resumed_at is None or not self._csv_path.is_file():
            self._rewrite([])

    def _keep_until(self, total_images: int) -> None:
        if not self._csv_path.is_file():
            return
        with self._csv_path.open(encoding="utf-8", errors="replace", newline="") as file:
            header, rows = _parse(csv.reader(file))
        self._columns += [column for column in header if column not in self._columns]
        self._rewrite([row for row in rows if row["total_images"] <= total_images])

    def _add_columns(self, names: Sequence[str]) -> None:
        """Rewrite the CSV with further columns; the rows so far have empty cells there."""
        self._csv.close()
        self._columns += names
        self._rewrite(read_losses(self._csv_path))
        self._csv = self._open_csv()

    def _rewrite(self, rows: Iterable[Mapping[str, float]]) -> None:
        lines = [_csv_line(self._columns), *(_csv_line(_cells(self._columns, row)) for row in rows)]
        write_text_atomically(self._csv_path, "".join(lines))


def _open_log(path: Path, undo: contextlib.ExitStack) -> TextIO:
    """Open the log to append to it; ``undo`` closes it, and removes it if it was not there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    log = path.open("a", encoding="utf-8")
    if is_new:
        undo.callback(path.unlink, missing_ok=True)
    return undo.enter_context(log)


def _cells(columns: Iterable[str], row: Mapping[str, float]) -> list[str]:
    return [_cell(row[column]) if column in row else "" for column in columns]


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.{FLOAT_DIGITS}g}"


def _csv_line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
