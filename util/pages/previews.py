"""Pictures on a page: what browsers show as it is, and previews of the rest."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from util.errors import UserError
from util.files import real_path, write_atomically
from util.images import safe_child
from util.pictures import UnreadablePicture, picture_size, read_eight_bit
from util.pictures.refusals import formats, require_file

SHOWN_BY_BROWSERS = frozenset({"AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP"})  # Pillow's names
FAST = 1  # of PNG's compression levels
LARGE = 1_000_000  # pixels: beyond it a browser full of decoded pictures is slow, and a small copy looks the same
THUMBNAIL_SIDE = 800  # pixels: a column of a wide screen, or half of one with two pixels for each
THUMBNAIL_QUALITY = 90  # of JPEG, whose artefacts shall not be taken for the network's


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


def is_large(size: tuple[int, int]) -> bool:
    """Whether the overview is to show a thumbnail instead of an image of this size."""
    return size[0] * size[1] > LARGE


def write_thumbnail(folder: Path, file: Path, path: str) -> str:
    """Write a small JPEG of an image to ``folder/<path>`` and return ``path``.

    Raises:
        UserError: the image cannot be read or the thumbnail not written, or ``path`` leads out of the folder.
    """
    picture = read_eight_bit(file)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=2.0)
    encoded = io.BytesIO()
    picture.save(encoded, format="JPEG", quality=THUMBNAIL_QUALITY, subsampling=0)
    write_atomically(safe_child(folder, path), encoded.getvalue())
    return path


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
    write_atomically(safe_child(folder, preview), encoded.getvalue())
    return Shown(preview, relative_address(folder, file))


def relative_address(folder: Path, file: Path) -> str:
    """The path from a page's folder to a file, with ``/``.

    Raises:
        UserError: they lie on different drives, so that there is none.
    """
    try:
        return Path(os.path.relpath(real_path(file), real_path(folder))).as_posix()
    except ValueError as error:
        raise UserError(f"{file}: lies on another drive than the page in {folder}; put both on one.") from error


def _format(file: Path) -> str:
    """Pillow's name of the file's format, ``""`` if it knows none."""
    try:
        require_file(file)
        with Image.open(file, formats=formats()) as image:
            return image.format or ""
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
