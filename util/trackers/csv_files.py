"""A run's numbers as files: ``loss_log.txt`` to read, ``losses.csv`` and ``metrics.csv`` to plot."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from util.files import cannot_write, write_text_atomically
from util.trackers.tracker import Report

logger = logging.getLogger(__name__)

LOG_NAME = "loss_log.txt"
CSV_NAME = "losses.csv"
PREVIOUS_CSV_NAME = "losses.previous.csv"
METRICS_NAME = "metrics.csv"
PREVIOUS_METRICS_NAME = "metrics.previous.csv"
TOTAL = "total_images"
FIXED_COLUMNS = ("epoch", "images_in_epoch", TOTAL, "learning_rate")
METRICS_COLUMNS = ("epoch", TOTAL)
FLOAT_DIGITS = 9  # as many as a float32 needs
DELIMITERS = (",", ";", "\t")

Row = dict[str, float]


@dataclass(frozen=True)
class _Content:
    """Columns and readable rows of a table, and how many are not; a last row cut off by a crash does not count."""

    columns: list[str]
    rows: list[Row]
    unreadable: int = 0


def read_losses(path: Path) -> list[Row]:
    """Read ``losses.csv``; see :func:`read_table`."""
    return read_table(path, FIXED_COLUMNS)


def read_metrics(path: Path) -> list[Row]:
    """Read ``metrics.csv`` of a run folder; see :func:`read_table`."""
    return read_table(path, METRICS_COLUMNS)


def read_table(path: Path, required: Sequence[str] = (TOTAL,)) -> list[Row]:
    """Read a CSV file of numbers as one dict a row; empty cells are left out.

    Spreadsheets' dialects are understood: UTF-8 with and without byte order mark, UTF-16; commas, semicolons and tabs;
    decimal commas where commas do not separate. A row that is not complete (the last one after a crash), does not hold
    numbers or lacks a ``required`` column is skipped. A file that does not exist gives an empty list.
    """
    return _read(path, required).rows


def _read(path: Path, required: Sequence[str]) -> _Content:
    if not path.is_file():
        return _Content([], [])
    lines = [line for line in _decoded(path.read_bytes()).splitlines() if line.strip()]
    if len(lines) < 2:
        return _Content([], [])
    headers = {each: [cell.strip() for cell in _cells_of(lines[0], each)] for each in DELIMITERS}
    delimiter = next((each for each, columns in headers.items() if set(required) <= set(columns)), None)
    if delimiter is None:
        return _Content([], [], unreadable=len(lines) - 1)
    columns = headers[delimiter]
    rows = [_row(columns, line, delimiter, required) for line in lines[1:]]
    return _Content(columns, [row for row in rows if row is not None], unreadable=rows[:-1].count(None))


def _decoded(data: bytes) -> str:
    """UTF-8 text; UTF-16 where a byte order mark or the zero bytes between ASCII characters say so."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data.startswith(b"\0") else "utf-16-le", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def _cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of one line, which an unbalanced quote of another line does not change."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _row(columns: Sequence[str], line: str, delimiter: str, required: Sequence[str]) -> Row | None:
    """The numbers of a line; None if it is not complete or holds others."""
    try:
        cells = _cells_of(line, delimiter)
        numbers = cells if delimiter == "," else [cell.replace(",", ".") for cell in cells]
        row = {column: float(cell) for column, cell in zip(columns, numbers, strict=True) if cell.strip()}
    except ValueError:
        return None
    return row if all(column in row for column in required) else None


class CsvTable:
    """A CSV file of which every row is on disk as soon as it is added.

    ``fixed`` names the columns every row has, among them ``total_images``; others appear with their first value.
    ``resumed_at`` is the total number of images at the checkpoint a run continues from, or None for a new run: a
    resumed run keeps the rows up to there, since what came later is trained again. A new run starts a new file and
    keeps one that it finds, if it holds any row, as ``previous``. The file is made with its first row, or at once
    if ``at_once``.

    Raises:
        UserError: the file cannot be read or written.
    """

    def __init__(
        self, path: Path, previous: Path, fixed: Sequence[str], resumed_at: int | None, *, at_once: bool = False
    ) -> None:
        self._path, self._fixed = path, tuple(fixed)
        self._columns = list(fixed)
        self._file: TextIO | None = None
        self._last_total: float | None = None
        try:
            if path.is_dir():
                raise IsADirectoryError(None, "a folder is in its place")
            self._prepare(previous, resumed_at)
            if at_once:
                self._open()
        except OSError as error:
            raise cannot_write(Path(error.filename2 or error.filename or path), error) from error

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row and write it to disk; it takes the place of a last row with as many images."""
        new_columns = [name for name in row if name not in self._columns]
        total = row[TOTAL]
        if new_columns or total == self._last_total:
            self.close()
            self._columns += new_columns
            self._rewrite([old for old in self._read() if old[TOTAL] != total])
        self._last_total = total
        file = self._open()
        file.write(_line(_cells(self._columns, row)))
        file.flush()

    def close(self) -> None:
        """Close the file; a further row opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> TextIO:
        if self._file is None:
            if not self._path.is_file():
                self._rewrite([])
            self._file = self._path.open("a", encoding="utf-8", newline="")
        return self._file

    def _prepare(self, previous: Path, resumed_at: int | None) -> None:
        if not self._path.is_file():
            return
        if resumed_at is None:
            if len(self._path.read_bytes().splitlines()) > 1:  # any row, complete or not
                self._path.replace(previous)
            else:
                self._path.unlink()
            return
        kept = [row for row in self._read() if row[TOTAL] <= resumed_at]
        self._last_total = kept[-1][TOTAL] if kept else None
        self._rewrite(kept)

    def _read(self) -> list[Row]:
        """The rows on disk, whose columns are added; a file of which rows would be lost is kept under another name."""
        content = _read(self._path, self._fixed)
        self._columns += [column for column in content.columns if column not in self._columns]
        if content.unreadable:
            kept = _free_name(self._path.with_suffix(".unreadable.csv"))
            self._path.replace(kept)
            logger.warning(
                "%s: %d of %d rows cannot be read, so the file is kept as %s",
                *(self._path, content.unreadable, content.unreadable + len(content.rows), kept.name),
            )
        return content.rows

    def _rewrite(self, rows: Iterable[Mapping[str, float]]) -> None:
        lines = [_line(self._columns), *(_line(_cells(self._columns, row)) for row in rows)]
        write_text_atomically(self._path, "".join(lines))


def _cells(columns: Iterable[str], row: Mapping[str, float]) -> list[str]:
    return [_cell(row[column]) if column in row else "" for column in columns]


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.{FLOAT_DIGITS}g}"


def _line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _free_name(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, … that does not exist."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not name.exists())


class CsvFiles:
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

    def scalars(self, report: Report, values: Mapping[str, float]) -> None:
        """Add a line to the log and a row to ``losses.csv``. ``values`` maps the name of a loss to its value."""
        self._write_log(self._log_line(report, values))
        row = {
            "epoch": report.epoch,
            "images_in_epoch": report.images_in_epoch,
            "total_images": report.total_images,
            "learning_rate": report.learning_rate,
        }
        self._losses.add({**values, **row})

    def metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """Add a line to the log and a row to ``metrics.csv``."""
        words = " ".join(f"{name}: {value:.4g}" for name, value in values.items())
        self._write_log(f"(epoch: {report.epoch}, images: {report.images_in_epoch}) validation: {words}")
        self._metrics.add({**values, "epoch": report.epoch, "total_images": report.total_images})

    def images(self, report: Report, images: Mapping[str, np.ndarray]) -> None:
        """Pictures are not kept here."""

    def close(self) -> None:
        """Close all files."""
        self._losses.close()
        self._metrics.close()
        self._log.close()

    def _log_line(self, report: Report, values: Mapping[str, float]) -> str:
        now = time.perf_counter()
        elapsed, self._last_time = now - self._last_time, now
        rate = f"{report.images_per_second:.2f} img/s, data wait: {report.data_wait:.0%}"
        head = f"(epoch: {report.epoch}, images: {report.images_in_epoch}, time: {elapsed:.1f} s, {rate})"
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
    """Close it; the disk may be full, but the error that closes it is reported already."""
    with contextlib.suppress(OSError):
        file.close()
