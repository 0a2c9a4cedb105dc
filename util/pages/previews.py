"""Pictures on a page: what browsers show as it is, and previews of the rest."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from util.errors import UserError
from util.files import write_atomically
from util.pictures import UnreadablePicture, picture_size, read_eight_bit

SHOWN_BY_BROWSERS = frozenset({"AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP"})  # Pillow's names
FAST = 1  # of PNG's compression levels


@dataclass(frozen=True)
class Shown:
    """How a file comes onto a page: ``path`` for ``Row.images``, ``original`` for ``Row.originals`` (None if the
    file itself is shown); both relative to the page's folder, with ``/``."""

    path: str
    original: str | None = None


def size_on_page(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as browsers show it, from its header alone; None if it is no readable image."""
    try:
        return picture_size(path)
    except UnreadablePicture:
        return None


def show_in_page(folder: Path, file: Path, preview: str) -> Shown:
    """Say how the page in ``folder`` can show ``file``, which may lie anywhere on the same drive.

    What browsers show is named where it is. Of anything else (TIFF, PNM, ...) an 8-bit PNG is written to
    ``folder/<preview>``, a relative path with ``/`` that ends in ``.png``. A manifest with paths out of its folder
    needs ``reaches_out=True``.

    Raises:
        UserError: the file is no readable image, lies on another drive than the page, or the preview cannot be written.
    """
    if _format(file) in SHOWN_BY_BROWSERS:
        return Shown(relative_address(folder, file))
    encoded = io.BytesIO()
    read_eight_bit(file).save(encoded, format="PNG", compress_level=FAST)
    write_atomically(folder / preview, encoded.getvalue())
    return Shown(preview, relative_address(folder, file))


def relative_address(folder: Path, file: Path) -> str:
    """The path from a page's folder to a file, with ``/``.

    Raises:
        UserError: they lie on different drives, so that there is none.
    """
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError as error:
        raise UserError(f"{file}: lies on another drive than the page in {folder}; put both on one.") from error


def _format(file: Path) -> str:
    """Pillow's name of the file's format, ``""`` if it knows none."""
    try:
        with Image.open(file) as image:
            return image.format or ""
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
