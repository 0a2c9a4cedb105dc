"""Between integer pixels and the network's tensors, and between 16 and 8 bits: the one place that scales and rounds.

PyTorch is imported where it is used: evaluating files needs none, and its import takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

COLOR_CHANNELS = 3
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, of red, green and blue
STEP_16_TO_8_BIT = 257  # 65535 / 255


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Float32 tensor [C, H, W] in [-1, 1] of an [H, W, C] uint8 or uint16 array that uses its type's full range."""
    import torch

    planes = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    planes /= np.float32(half_range(pixels.dtype))  # by NumPy: PyTorch's threads would wait for each other longer
    planes -= np.float32(1)
    return torch.from_numpy(planes)


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
    if single.ndim != 3 or single.shape[0] not in (1, COLOR_CHANNELS):
        raise ValueError(f"expected one image [C, H, W] with 1 or 3 channels, got shape {tuple(image.shape)}")
    bounded = single.detach().cpu().float().clamp(-1, 1)
    rounded = bounded.nan_to_num_(nan=-1.0).add_(1).mul_(half_range(dtype)).round_()  # in place: it may be large
    return np.ascontiguousarray(rounded.numpy().transpose(1, 2, 0).astype(dtype))


def half_range(dtype: np.dtype | type) -> float:
    """What [-1, 1] + 1 is to be multiplied with to give the range of an unsigned integer type."""
    return float(np.iinfo(dtype).max) / 2


def luma(image: Tensor) -> Tensor:
    """BT.601 luma [..., 1, H, W] of an RGB tensor [..., 3, H, W] of any range."""
    weights = image.new_tensor(LUMA).view(COLOR_CHANNELS, 1, 1)
    return (image * weights).sum(dim=-3, keepdim=True)


def to_eight_bit(values: np.ndarray) -> np.ndarray:
    """The nearest uint8 levels of a uint16 array; a uint8 array as it is."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + STEP_16_TO_8_BIT // 2) // STEP_16_TO_8_BIT).astype(np.uint8)
