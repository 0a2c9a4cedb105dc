"""A table of numbers that grows with a training: read, resumed and appended to as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from util.files import cannot_write, write_text_atomically

FLOAT_DIGITS = 9  # as many as a float32 needs
TOTAL = "total_images"


def read_table(path: Path, required: Sequence[str] = (TOTAL,)) -> list[dict[str, float]]:
    """Read a CSV file of numbers as one dict a row; empty cells are left out.

    A row that is not complete (the last one after a crash), does not hold numbers or lacks a ``required`` column is
    skipped. A file that does not exist gives an empty list.
    """
    return _read(path, required)[1]


def _read(path: Path, required: Sequence[str]) -> tuple[list[str], list[dict[str, float]]]:
    """Header and complete rows of a file; both empty if there is none."""
    if not path.is_file():
        return [], []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        rows = []
        for cells in lines:
            if len(cells) != len(header):
                continue
            try:
                row = {column: float(cell) for column, cell in zip(header, cells, strict=True) if cell != ""}
            except ValueError:
                continue
            if all(column in row for column in required):
                rows.append(row)
    return header, rows


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
            self._rewrite([old for old in read_table(self._path, self._fixed) if old[TOTAL] != total])
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
        header, rows = _read(self._path, self._fixed)
        self._columns += [column for column in header if column not in self._columns]
        kept = [row for row in rows if row[TOTAL] <= resumed_at]
        self._last_total = kept[-1][TOTAL] if kept else None
        self._rewrite(kept)

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
