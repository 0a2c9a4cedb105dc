"""What a protocol compares: the planes that it makes of an 8-bit RGB image."""

from __future__ import annotations

import numpy as np

PEAK = 255.0
CHANNELS = 3

LUMA_OFFSET = 16.0
LUMA_WEIGHTS = (65.481, 128.553, 24.966)  # BT.601 times 219, the span of limited-range luma


def luma(rgb: np.ndarray) -> np.ndarray:
    """BT.601 limited-range luma of 8-bit RGB, Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded.

    As MATLAB's ``rgb2ycbcr`` of an image in double precision and BasicSR have it. Its PSNR is
    20 log10(255 / 219) = 1.322 dB above that of full-range luma, on every pair of images.

    Args:
        rgb: [H, W, 3] uint8.

    Returns:
        [H, W] float64 in [16, 235].
    """
    return LUMA_OFFSET + rgb @ np.array(LUMA_WEIGHTS) / PEAK


def luma_plane(rgb: np.ndarray) -> np.ndarray:
    """:func:`luma` as [H, W, 1]."""
    return luma(rgb)[..., np.newaxis]


def rounded_luma_plane(rgb: np.ndarray) -> np.ndarray:
    """:func:`luma` rounded to whole numbers, as MATLAB's ``rgb2ycbcr`` of an 8-bit image has it: [H, W, 1] float64."""
    return round_half_up(luma_plane(rgb))


def rgb_planes(rgb: np.ndarray) -> np.ndarray:
    """R, G and B in [0, 255]: [H, W, 3] float64."""
    return rgb.astype(np.float64)


def unit_rgb_planes(rgb: np.ndarray) -> np.ndarray:
    """R, G and B in [0, 1]: [H, W, 3] float64."""
    return rgb / PEAK


def round_half_up(values: np.ndarray) -> np.ndarray:
    """To the nearest whole number, halves upwards: MATLAB's rounding of what is not negative."""
    return np.floor(values + 0.5)


def size_of(image: np.ndarray) -> str:
    """The size of an [H, W, ...] array in words, width first: ``"480x320"``."""
    height, width = image.shape[:2]
    return f"{width}x{height}"


def check_pair(output: np.ndarray, target: np.ndarray) -> None:
    """Raises ValueError unless both are [H, W, 3] uint8 of one size."""
    for image in (output, target):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != CHANNELS:
            raise ValueError(f"expected [H, W, 3] uint8 images, got {image.dtype} of shape {image.shape}")
    if output.shape != target.shape:
        raise ValueError(f"the images differ in size: output {size_of(output)}, target {size_of(target)}")
