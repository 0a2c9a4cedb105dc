"""What an archive may hold: checks of its list of files, before any of them is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from util.errors import UserError
from util.finding import is_junk

GIB = 1 << 30
DRIVE = re.compile(r"[A-Za-z]:")


class ListedArchive(Protocol):
    """The archive that is listed: its file, the sizes of the files found so far, and the error for dangerous ones."""

    path: Path
    sizes: dict[str, int]

    def refuse(self, found: str) -> UserError:
        """The error, with what was found."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; the defaults leave room for the largest published set (SPA-Data: 1.3 million files)."""

    members: int = 3_000_000
    member_bytes: int = GIB // 4
    total_bytes: int = 512 * GIB
    ratio: int = 200
    """Unpacked bytes per packed byte; photographs stay far below 10, archives made to fill a disk far above."""
    always_allowed: int = 8 << 20
    """Bytes that may be packed as densely as they like."""


class Tally:
    """Checks the names and sizes of an archive one by one, so that a bomb is refused before it is listed to its end."""

    def __init__(self, source: ListedArchive, limits: Limits) -> None:
        """``source`` is the archive that is listed."""
        self._source, self._limits = source, limits
        self._packed = source.path.stat().st_size
        self._count = self._total = 0

    def add(self, name: str, size: int, *, is_file: bool, packed: int | None = None) -> str | None:
        """The cleaned name, or None for what is no file of the data set.

        Raises:
            UserError: the name leads out of the archive or comes twice, or a limit is exceeded.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or DRIVE.match(name) or "\0" in name:
            raise self._source.refuse(f"its file name '{name}' leads out of it")
        self._count += 1
        self._total += size
        too_many = self._count > self._limits.members
        too_large = size > self._limits.member_bytes or self._total > self._limits.total_bytes
        too_dense = self._is_dense(self._total, self._packed) or (packed is not None and self._is_dense(size, packed))
        if too_many or too_large or too_dense:
            what = "more files" if too_many else "larger files" if too_large else "files packed more densely"
            raise self._source.refuse(f"it holds {what} than is safe to unpack (at '{name}')")
        if not is_file or any(map(is_junk, path.parts)):
            return None
        clean = path.as_posix()
        if clean in self._source.sizes:
            raise self._source.refuse(f"it holds '{clean}' twice")
        return clean

    def _is_dense(self, size: int, packed: int) -> bool:
        """Whether it is packed too well for images; a little of anything, such as black ones, may be."""
        return size > max(self._limits.always_allowed, packed * self._limits.ratio)
