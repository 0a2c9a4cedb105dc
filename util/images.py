"""Between tensors and image files: rounding, saving, reading as 8-bit RGB."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from util.files import write_atomically
from util.pictures import read_eight_bit
from util.pixels import COLOR_CHANNELS, from_tensor

if TYPE_CHECKING:
    from torch import Tensor


def to_uint8(image: Tensor) -> np.ndarray:
    """Turn one image tensor into the 8-bit RGB array that is shown and saved.

    Args:
        image: as for :func:`util.pixels.from_tensor`; one channel (gray) is repeated.

    Returns:
        [H, W, 3] uint8.

    Raises:
        ValueError: any other shape.
    """
    pixels = from_tensor(image)
    return np.repeat(pixels, COLOR_CHANNELS, axis=2) if pixels.shape[2] == 1 else pixels


def save_png(array: np.ndarray, path: Path) -> None:
    """Save an [H, W, 3] or [H, W] uint8 array as a PNG, atomically; missing parent folders are created.

    Raises:
        UserError: the file cannot be written there.
        ValueError: the array is not 8-bit.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"expected a uint8 array, got {array.dtype}")
    encoded = io.BytesIO()
    Image.fromarray(array).save(encoded, format="PNG")
    write_atomically(path, encoded.getvalue())


def read_rgb(path: Path) -> np.ndarray:
    """Read an image file as the [H, W, 3] uint8 RGB array that metrics compare.

    Upright; gray is repeated, 16 bits are rounded to 8, transparency is dropped: :mod:`util.pictures`.

    Raises:
        UnreadablePicture: no such file, not an image, damaged, or values without a known range.
    """
    return np.array(read_eight_bit(path, COLOR_CHANNELS))
