"""Decode once: the prepared images of a run in one block of memory that all workers share.

Worker processes map the same file, so an image that one of them has decoded is there for all, and from the second
epoch on reading an image costs a copy of the pixels that are cropped out of it. On Linux the file has no name and
goes with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from util.errors import UserError
from util.memory import free_memory

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]
"""Height, width and channels."""

_READY = 1
_SHARE_OF_MEMORY = 0.5
_PREFIX = "decoded-"


class ImageCache:
    """Room for images of known shapes, filled by the process that decodes one first.

    Every process that has a copy (forked or unpickled) sees the same images. Two workers that put the same image
    write the same bytes, so nothing is locked.
    """

    def __init__(self, shapes: Sequence[Shape], *, budget: int, folder: Path | None = None) -> None:
        """Make room for as many of the images as ``budget`` bytes hold, the first ones first.

        Args:
            shapes: of the prepared images, in the order of their numbers.
            budget: bytes; images beyond it are never kept.
            folder: where the file lies; None keeps it in memory (on Linux; elsewhere in the folder for temporary
                files, which the system keeps in memory as long as there is room).

        Raises:
            UserError: the folder cannot be written or has no room.
        """
        self.shapes = tuple(shapes)
        sizes = np.array([int(np.prod(shape)) for shape in self.shapes], dtype=np.int64)
        ends = len(self.shapes) + np.cumsum(sizes)  # one byte per image tells whether it is there
        self.kept = int(np.searchsorted(ends, budget, side="right"))
        self._offsets = ends - sizes
        self.size = int(ends[self.kept - 1]) if self.kept else 0
        self._path, self._file = "", -1
        if self.kept:
            self._open(folder)
        self._bytes: Pixels | None = None

    def _open(self, folder: Path | None) -> None:
        """Make the file, of ``size`` zeros that take no room before they are written."""
        try:
            if folder is None and hasattr(os, "memfd_create"):
                self._file = os.memfd_create(_PREFIX)
            else:
                place = folder or Path(tempfile.gettempdir())
                place.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(place).free < self.size:
                    raise UserError(
                        f"--cache_dir {place}: the decoded images need {self.size / 1e9:.1f} GB, which are not free; "
                        "choose another folder, a smaller --cache_gb, or --cache none."
                    )
                self._file, self._path = tempfile.mkstemp(prefix=_PREFIX, dir=place)
            os.truncate(self._file, self.size)
        except OSError as error:
            raise UserError(
                f"--cache_dir {folder or 'in memory'}: the cache of decoded images cannot be made ({error.strerror}); "
                "choose another folder, or --cache none."
            ) from error
        if os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - the file is found through its owner, and needs no name
            if self._path:
                Path(self._path).unlink()
            self._path = f"/proc/{os.getpid()}/fd/{self._file}"
            weakref.finalize(self, os.close, self._file)
        else:
            weakref.finalize(self, _remove, self._file, self._path)

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process maps the file itself."""
        return {**self.__dict__, "_bytes": None, "_file": -1}

    def _mapped(self) -> Pixels:
        if self._bytes is None:
            with open(self._path, "r+b") as file:  # noqa: PTH123 - may be a descriptor's name under /proc
                self._bytes = np.frombuffer(mmap.mmap(file.fileno(), self.size), dtype=np.uint8)
        return self._bytes

    def get(self, number: int) -> Pixels | None:
        """Image ``number`` [H, W, C], not to be written to; None if it has not been put yet or there is no room."""
        if number >= self.kept or self._mapped()[number] != _READY:
            return None
        return self._slot(number)

    def put(self, number: int, pixels: Pixels) -> None:
        """Keep image ``number`` if there is room for it and it has the announced shape.

        Another shape means that the file was replaced meanwhile: then it is decoded every time.
        """
        if number < self.kept and pixels.shape == self.shapes[number]:
            self._slot(number)[...] = pixels
            self._mapped()[number] = _READY

    def _slot(self, number: int) -> Pixels:
        start = int(self._offsets[number])
        shape = self.shapes[number]
        return self._mapped()[start : start + int(np.prod(shape))].reshape(shape)


class CacheRoom:
    """The memory that the caches of a run share: first come, first served."""

    def __init__(self, budget: int, folder: Path | None = None) -> None:
        """``budget`` in bytes; ``folder`` as for :class:`ImageCache`."""
        self.left, self._folder = budget, folder

    def take(self, shapes: Sequence[Shape]) -> ImageCache:
        """A cache for images of these shapes, as many of them as there is room for.

        Raises:
            UserError: the folder cannot be written or has no room.
        """
        cache = ImageCache(shapes, budget=self.left, folder=self._folder)
        self.left -= cache.size
        if cache.kept < len(cache.shapes):
            logger.info(
                "the cache has room for %d of %d images; the others are decoded every time (--cache_gb)",
                *(cache.kept, len(cache.shapes)),
            )
        return cache


def default_budget() -> int:
    """Half of the memory that is free now, in bytes; 2 GiB where the system does not report it."""
    free = free_memory()
    return int(_SHARE_OF_MEMORY * (4 * 1024**3 if free is None else free))


def _remove(file: int, path: str) -> None:
    os.close(file)
    with contextlib.suppress(OSError):
        Path(path).unlink()
