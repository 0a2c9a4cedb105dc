"""Reading the images of a dataset: upright, 8 bit, gray or RGB, and plain words about what cannot be read."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from PIL import Image

from util.errors import UserError
from util.pictures import MODES, Size, UnreadablePicture, picture_size, read_eight_bit

__all__ = [
    "MODES",
    "Checked",
    "ImageFile",
    "Size",
    "UnreadableImage",
    "check_readable",
    "image_size",
    "read_first",
    "read_image",
]

logger = logging.getLogger(__name__)

# From so many files on, a look at them says how many they are; then how far it is, after so many seconds again.
MANY, PAUSE = 5000, 4.0
AT_ONCE = 256

T = TypeVar("T")


class UnreadableImage(UnreadablePicture):
    """An image of a folder that cannot be read. ``others`` counts further such files not named here."""

    def __init__(self, path: Path, reason: str, others: int = 0, *, in_file: bool = True) -> None:
        """``reason`` says in a few words what is wrong with the file, or without ``in_file`` with the drive."""
        super().__init__(path, reason, others, in_file=in_file)
        self.others = others

    def __str__(self) -> str:
        """The sentence for the user."""
        others = f", and so it is with {self.others} more" if self.others else ""
        advice = self.advice("repair or remove what is broken")
        ways_out = f"{advice}, or pass" if advice else "; pass"
        return f"'{self.path}' cannot be read as an image ({self.reason}){others}{ways_out} --skip_bad to leave it out."


@dataclass(frozen=True)
class ImageFile:
    """A file of a dataset, or one half of it.

    ``name`` is the path relative to the folder that was searched, with forward slashes. ``part`` tells
    apart the two images of a side-by-side file.
    """

    path: Path
    name: str
    part: Literal["whole", "left", "right"] = "whole"

    def size(self, file_size: Size) -> Size:
        """Size of this image in a file of ``file_size``."""
        width, height = file_size
        return (width, height) if self.part == "whole" else (width // 2, height)

    def cut(self, image: Image.Image) -> Image.Image:
        """This image out of the file's content."""
        if self.part == "whole":
            return image
        width, height = self.size(image.size)
        left = 0 if self.part == "left" else image.width - width
        return image.crop((left, 0, left + width, height))


def read_image(path: Path, channels: int = 3) -> Image.Image:
    """Decode one image file completely, at 8 bit, by the rules of :mod:`util.pictures` for every kind of file.

    Alpha is dropped and the colors below it are kept, as CycleGAN does, because alpha in photographs is
    opaque or a mask.

    Returns:
        An image of mode ``L`` (one channel) or ``RGB`` (three).

    Raises:
        UnreadableImage: missing, empty, truncated, no image, more pixels than Pillow accepts, or values
            without a known range (floating point, 32-bit integers).
    """
    try:
        return read_eight_bit(path, channels)
    except UnreadablePicture as error:
        raise UnreadableImage(path, error.reason, in_file=error.in_file) from error


def image_size(path: Path) -> Size:
    """Upright size of an image, from its header alone.

    Raises:
        UnreadableImage: the file cannot be opened as an image.
    """
    try:
        return picture_size(path)
    except UnreadablePicture as error:
        raise UnreadableImage(path, error.reason, in_file=error.in_file) from error


class Checked(NamedTuple):
    """What is left after a look at every file."""

    units: list[tuple[ImageFile, ...]]
    sizes: dict[Path, Size]
    skipped: list[UnreadableImage]


def check_readable(units: Sequence[tuple[ImageFile, ...]], *, skip_bad: bool, decode: bool = False) -> Checked:
    """Open every file of ``units`` in parallel: the header only, or with ``decode`` every pixel.

    A unit is what stands or falls together: one image, or a pair. Files that cannot be read are an error;
    with ``skip_bad`` their units are left out and each file is named in a logged warning.

    Raises:
        UnreadableImage: without ``skip_bad``, names the first unreadable file and counts the others.
        UserError: with ``skip_bad``, if nothing is left.
    """
    found = _inspect({file.path for unit in units for file in unit}, decode)
    sizes = {path: result for path, result in found.items() if not isinstance(result, UnreadableImage)}
    bad = [result for result in found.values() if isinstance(result, UnreadableImage)]
    if bad and not skip_bad:
        raise UnreadableImage(bad[0].path, bad[0].reason, len(bad) - 1, in_file=bad[0].in_file)
    for error in bad:
        logger.warning("--skip_bad leaves out '%s' (%s)", error.path, error.reason)
    kept = [unit for unit in units if all(file.path in sizes for file in unit)]
    if bad and not kept:
        raise UserError(f"--skip_bad: nothing is left, for example '{bad[0].path}' cannot be read ({bad[0].reason}).")
    return Checked(kept, sizes, bad)


def _inspect(paths: Iterable[Path], decode: bool) -> dict[Path, Size | UnreadableImage]:
    """Upright size of each file, or what is wrong with it, in sorted order."""

    def look(path: Path) -> Size | UnreadableImage:
        try:
            return read_image(path).size if decode else image_size(path)
        except UnreadableImage as error:
            return error

    ordered = sorted(paths, key=str)
    found: dict[Path, Size | UnreadableImage] = {}
    if len(ordered) > MANY:
        logger.info("looking at %s files", f"{len(ordered):,}")
    due = time.monotonic() + PAUSE
    # Decoding is bound by the cores and its images by memory; headers wait for the disk, so more threads help.
    with ThreadPoolExecutor(max_workers=os.cpu_count() if decode else None) as pool:
        for start in range(0, len(ordered), AT_ONCE):
            some = ordered[start : start + AT_ONCE]
            found.update(zip(some, pool.map(look, some), strict=True))
            if time.monotonic() > due and len(found) < len(ordered):
                logger.info("looked at %s of %s files", f"{len(found):,}", f"{len(ordered):,}")
                due = time.monotonic() + PAUSE
    return found


def read_first(count: int, index: int, read: Callable[[int], T], *, skip_bad: bool) -> tuple[T, list[str]]:
    """Return ``read(index)``; with ``skip_bad`` the next of ``count`` that can be read, in cyclic order.

    Which one it is depends on the files alone, so every worker and every run takes the same.

    Returns:
        The result and one sentence for every file that was passed over.

    Raises:
        UnreadableImage: ``read`` raised it and ``skip_bad`` is off.
        UserError: none of them can be read.
    """
    passed_over: list[str] = []
    for step in range(count):
        try:
            return read((index + step) % count), passed_over
        except UnreadableImage as error:
            if not skip_bad:
                raise
            passed_over.append(f"--skip_bad passes over '{error.path}' ({error.reason})")
    raise UserError(f"--skip_bad: none of the {count} images can be read any more; look at the dataset folder.")
