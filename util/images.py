"""Between tensors and image files: rounding, saving, reading as 8-bit RGB, names that stay in their folder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from util.errors import UserError
from util.files import write_atomically

COLOUR_CHANNELS = 3
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, of red, green and blue
STEP_16_TO_8_BIT = 257  # 65535 / 255
HIGH_DEPTH_MODES = ("I", "F")  # how PIL's names of modes with more than 8 bits a channel begin


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Float32 tensor [C, H, W] in [-1, 1] of an [H, W, C] uint8 or uint16 array that uses its type's full range."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    floats = torch.from_numpy(planes if planes.dtype == np.uint8 else planes.astype(np.float32)).to(torch.float32)
    return floats.div_(half_range(pixels.dtype)).sub_(1.0)


def from_tensor(image: Tensor, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """The [H, W, C] array of ``dtype`` (uint8 or uint16) nearest to one image tensor.

    Values are clamped and *rounded*: truncating would cost 0.15 dB of an 8-bit image at 40 dB.

    Args:
        image: [C, H, W] or [1, C, H, W], any floating type and device, in [-1, 1], one channel or three.
            Values outside are clamped, NaN becomes black.

    Raises:
        ValueError: any other shape.
    """
    single = image[0] if image.ndim == 4 and len(image) == 1 else image
    if single.ndim != 3 or single.shape[0] not in (1, COLOUR_CHANNELS):
        raise ValueError(f"expected one image [C, H, W] with 1 or 3 channels, got shape {tuple(image.shape)}")
    bounded = single.detach().to("cpu", torch.float32).clamp(-1, 1).nan_to_num(nan=-1.0)
    rounded = ((bounded + 1) * half_range(dtype)).round()
    return np.ascontiguousarray(rounded.numpy().transpose(1, 2, 0).astype(dtype))


def half_range(dtype: np.dtype | type) -> float:
    """What [-1, 1] + 1 is to be multiplied with to give the range of an unsigned integer type."""
    return float(np.iinfo(dtype).max) / 2


def luma(image: Tensor) -> Tensor:
    """BT.601 luma [..., 1, H, W] of an RGB tensor [..., 3, H, W] of any range."""
    weights = image.new_tensor(LUMA).view(COLOUR_CHANNELS, 1, 1)
    return (image * weights).sum(dim=-3, keepdim=True)


def to_eight_bit(values: np.ndarray) -> np.ndarray:
    """The nearest uint8 levels of a uint16 array; a uint8 array as it is."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + STEP_16_TO_8_BIT // 2) // STEP_16_TO_8_BIT).astype(np.uint8)


def to_uint8(image: Tensor) -> np.ndarray:
    """Turn one image tensor into the 8-bit RGB array that is shown and saved.

    Args:
        image: as for :func:`from_tensor`; one channel (grey) is repeated.

    Returns:
        [H, W, 3] uint8.

    Raises:
        ValueError: any other shape.
    """
    pixels = from_tensor(image)
    return np.repeat(pixels, COLOUR_CHANNELS, axis=2) if pixels.shape[2] == 1 else pixels


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
    """Read an 8-bit image file as an [H, W, 3] uint8 RGB array, upright; grey is repeated, transparency dropped.

    Raises:
        UserError: no such file, not an image, damaged, or more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(HIGH_DEPTH_MODES):
                raise UserError(f"{path}: has more than 8 bits a channel (mode {image.mode}); convert it to 8-bit RGB.")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file; check the path.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); replace or remove it.") from error


def safe_child(folder: Path, relative_name: str) -> Path:
    """Return ``folder / relative_name``, sure to lie inside the folder; quotes, spaces, #, % and Unicode are fine.

    Symbolic links are followed for the check. Nothing is created.

    Raises:
        UserError: the name is empty, absolute, or leads out of the folder.
    """
    refusal = f"{relative_name!r}: does not name a file inside {folder}; use a relative name without '..'."
    root = folder.resolve()
    try:
        child = (folder / relative_name).resolve()
    except ValueError as error:  # an embedded null byte
        raise UserError(refusal) from error
    if child == root or not child.is_relative_to(root):
        raise UserError(refusal)
    return folder / child.relative_to(root)
