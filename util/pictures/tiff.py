"""TIFF files of 8 and 16 bits a channel (TIFF 6.0), of which Pillow writes only some."""

from __future__ import annotations

import io
import logging
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import TiffImagePlugin, TiffTags

logger = logging.getLogger(__name__)

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
PREDICTOR, EXTRA_SAMPLES, XMP, EXIF, ICC, GPS = 317, 338, 700, 34665, 34675, 34853
UNCOMPRESSED, DEFLATE = 1, 8
BLACK_IS_ZERO, RGB = 1, 2
HORIZONTAL_DIFFERENCES = 2
UNASSOCIATED_ALPHA = 2
INCH = 2
ORDER = b"II" if sys.byteorder == "little" else b"MM"


def encode_tiff(
    values: np.ndarray,
    *,
    compressed: bool = True,
    icc: bytes | None = None,
    xmp: bytes | None = None,
    tags: Mapping[int, Any] | None = None,
) -> bytes:
    """A TIFF file of a uint8 or uint16 array [H, W, C]: gray or RGB, each with or without (unassociated) alpha.

    Args:
        compressed: deflate with horizontal differences; else plain.
        tags: further tags and their values as Pillow reads them; directories (EXIF, GPS) as mappings. What
            cannot be written is left out with a warning.
    """
    height, width, channels = values.shape
    data = _deflated(values) if compressed else values.tobytes()
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=ORDER)
    for tag, value in (tags or {}).items():
        _add(directory, tag, value)
    directory[WIDTH], directory[HEIGHT] = width, height
    directory[BITS] = (8 * values.dtype.itemsize,) * channels
    directory[COMPRESSION] = DEFLATE if compressed else UNCOMPRESSED
    directory[PHOTOMETRIC] = RGB if channels > 2 else BLACK_IS_ZERO
    directory[SAMPLES] = channels
    directory[ROWS_PER_STRIP], directory[STRIP_BYTES] = height, len(data)
    directory.tagtype[STRIP_OFFSETS] = TiffTags.LONG
    directory[STRIP_OFFSETS] = 0  # Pillow adds where the directory ends
    if compressed:
        directory[PREDICTOR] = HORIZONTAL_DIFFERENCES
    if channels % 2 == 0:
        directory[EXTRA_SAMPLES] = UNASSOCIATED_ALPHA
    for tag, content in ((ICC, icc), (XMP, xmp)):
        if content:
            directory.tagtype[tag] = TiffTags.UNDEFINED if tag == ICC else TiffTags.BYTE
            directory[tag] = content
    file = io.BytesIO()
    directory.save(file)
    file.write(data)
    return file.getvalue()


def _deflated(values: np.ndarray) -> bytes:
    differences = np.empty_like(values)
    differences[:, 0] = values[:, 0]
    np.subtract(values[:, 1:], values[:, :-1], out=differences[:, 1:])  # values wrap around, as the predictor wants it
    return zlib.compress(differences.data)


def _add(directory: TiffImagePlugin.ImageFileDirectory_v2, tag: int, value: Any) -> None:
    """Add one tag, if a directory of it alone can be written."""
    trial = TiffImagePlugin.ImageFileDirectory_v2(prefix=ORDER)
    try:
        for target in (trial, directory):
            if isinstance(value, Mapping):
                target.tagtype[tag] = TiffTags.LONG
            if isinstance(value, str):  # Pillow reads text as Latin-1, whatever it is, but would write ASCII
                target.tagtype[tag] = TiffTags.ASCII
                value = value.encode("latin-1", errors="replace")
            target[tag] = value
            if target is trial:
                trial.tobytes()
    except Exception as error:  # whatever strange values of a foreign file lead Pillow to
        logger.warning("TIFF tag %d is left out (%s)", tag, error)
