"""Why a file cannot be read, in words for whoever has to mend it."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from util.errors import UserError
from util.files import patiently
from util.pictures.metadata import Source
from util.pictures.png import without_large_texts

T = TypeVar("T")
TOO_MUCH_TEXT = "MAX_TEXT"  # in what Pillow says of texts and profiles of a PNG that are too large decompressed

MAGIC = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"BM": "BMP"}

READ = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "DIB", "JPEG2000", "AVIF")


class UnreadablePicture(UserError):
    """A file that is no image, a broken one, or one whose pixels have no defined reading."""

    def __init__(self, path: Path, reason: str, *further: int, in_file: bool = True) -> None:
        """``reason`` says in a few words what is wrong with the file, or without ``in_file`` with the drive."""
        super().__init__(path, reason, *further)
        self.path, self.reason, self.in_file = path, reason, in_file

    def __str__(self) -> str:
        """The sentence for the user."""
        return f"'{self.path}' cannot be read as an image ({self.reason}){self.advice('repair, convert or remove it')}."

    def advice(self, usual: str) -> str:
        """What to do: ``usual``, unless the reason says it, or lies in the drive and not in the file."""
        return f"; {usual}" if self.in_file and ";" not in self.reason else ""


class UndefinedPixels(ValueError):
    """A sound file whose values have no defined reading."""


class NoFile(ValueError):
    """A folder, a pipe or a device."""


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that are read, by Pillow's names, as far as this Pillow has them.

    Not all that Pillow knows: some of its readers start other programs, such as Ghostscript for PostScript, or are for
    files that nobody keeps photographs in.
    """
    Image.init()
    return tuple(name for name in READ if name in Image.OPEN)


def require_file(path: Path) -> None:
    """Refuse what is there but no file: opening a pipe that nobody writes to would wait for ever.

    Raises:
        NoFile: says so.
    """
    if path.exists() and not path.is_file():
        raise NoFile("it is a folder" if path.is_dir() else "it is a pipe or a device, not a file")


def guarded(path: Path, read: Callable[[Source], T]) -> T:
    """Return ``read(path)``; whatever it raises becomes an :class:`UnreadablePicture` that says why.

    If it is only texts or profiles of a PNG that are too large, ``read`` gets the content without them.
    """
    try:
        require_file(path)
        try:
            return patiently(lambda: read(path))
        except ValueError as error:
            if TOO_MUCH_TEXT not in str(error):
                raise
            return read(io.BytesIO(without_large_texts(path.read_bytes())))
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        in_file = not (isinstance(error, OSError) and error.errno)
        raise UnreadablePicture(path, _reason(path, error), in_file=in_file) from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "it has more pixels than Pillow accepts as safe; cut it into smaller images"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(4)
        if not start:
            return "the file is empty"
        kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
        if kind == "TIFF":
            return "the TIFF file is damaged or of an unsupported kind; save it as grey or RGB of 8 or 16 bit integers"
        if kind:
            return f"the {kind} file is damaged, or of a kind that Pillow does not read"
        return "its content is no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, (UndefinedPixels, NoFile)):
        return str(error)
    return f"it is damaged: {str(error).rstrip('.') or type(error).__name__}"
