"""From a picture to a file of its format."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from util.errors import UserError
from util.files import write_atomically
from util.pictures import png, tiff
from util.pictures.metadata import EXIF_PREFIX, LOSSY_WEBP_QUALITY
from util.pictures.picture import Picture

JPEG_QUALITY = 95  # of pictures that were no JPEG before
MOST_EXIF_IN_JPEG = 65533 - len(EXIF_PREFIX)


def write_picture(picture: Picture, path: Path) -> None:
    """Write ``picture`` in its format, bit depth and color space, with its alpha and metadata, atomically.

    Use ``picture.suffix`` for the name: the format does not follow from ``path``.

    Raises:
        UserError: the file cannot be written there, or the format cannot hold a picture of this size.
    """
    try:
        data = encode(picture)
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be written as {picture.format} ({error}); choose another format.") from error
    write_atomically(path, data)


def encode(picture: Picture) -> bytes:
    """The content of the file that :func:`write_picture` writes."""
    values = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    if picture.format == "PNG":
        return _png(picture, values)
    metadata = picture.metadata
    if picture.format == "TIFF":
        tags = dict(metadata.tags)
        if metadata.dpi and not tags:
            across, down = metadata.dpi
            tags = {tiff.X_RESOLUTION: across, tiff.Y_RESOLUTION: down, tiff.RESOLUTION_UNIT: tiff.INCH}
        return tiff.encode_tiff(values, icc=metadata.icc, xmp=metadata.xmp, tags=tags, **metadata.encoding)
    return _pillow(values, picture.format, _options(picture))


def _png(picture: Picture, values: np.ndarray) -> bytes:
    metadata = picture.metadata
    chunks = [png.chunk(kind, data) for kind, data in metadata.chunks]
    if metadata.icc:
        chunks.insert(0, png.icc_chunk(metadata.icc))
    if metadata.exif:
        chunks.append(png.chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append(png.xmp_chunk(metadata.xmp))
    plain = png.encode_16_bit(values) if values.dtype == np.uint16 else _pillow(values, "PNG", {})
    return png.with_chunks(plain, chunks)


def _options(picture: Picture) -> dict[str, Any]:
    """Options of Pillow's encoder for formats that Pillow writes whole."""
    metadata = picture.metadata
    options: dict[str, Any] = {}
    if picture.format in ("JPEG", "WEBP"):
        options["exif"] = EXIF_PREFIX + metadata.exif if metadata.exif else b""
        options["icc_profile"] = metadata.icc
        options["xmp"] = metadata.xmp or b""
    if picture.format in ("JPEG", "BMP") and metadata.dpi:
        options["dpi"] = metadata.dpi
    if picture.format == "JPEG":
        options |= {"quality": JPEG_QUALITY} if "qtables" not in metadata.encoding else {}
        if len(options["exif"]) > MOST_EXIF_IN_JPEG:
            del options["exif"]
    if picture.format == "WEBP":  # exact: colors below transparent places stay
        options |= {"quality": LOSSY_WEBP_QUALITY, "alpha_quality": 100, "exact": True}
    return options | dict(metadata.encoding)


def _pillow(values: np.ndarray, name: str, options: dict[str, Any]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))
    file = io.BytesIO()
    image.save(file, format=name, **options)
    return file.getvalue()
