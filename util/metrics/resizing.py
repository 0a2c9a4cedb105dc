"""MATLAB's ``imresize``, which the official evaluation of RainCityscapes applies to results of another size."""

from __future__ import annotations

import numpy as np

from util.metrics.planes import round_half_up

CUBIC_WIDTH = 4.0  # pixels that the cubic kernel spans
LEVELS = 255


def imresize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize 8-bit ``image`` [H, W, C] bicubically, as ``imresize(image, [height width])``.

    Keys' cubic kernel (a = -0.5), widened where the image shrinks; borders mirrored with their edge; one axis after
    the other, the one that shrinks more first, and 8-bit levels in between. An axis of the right size is left alone.
    """
    ratios = {0: height / image.shape[0], 1: width / image.shape[1]}
    for axis in sorted(ratios, key=lambda axis: ratios[axis]):
        length = (height, width)[axis]
        if image.shape[axis] != length:
            image = _resize_axis(image, axis, length)
    return image


def _resize_axis(image: np.ndarray, axis: int, length: int) -> np.ndarray:
    weights, indices = _contributions(image.shape[axis], length)
    lines = np.moveaxis(image, axis, 0)
    resized = np.zeros((length, *lines.shape[1:]))
    for weight, index in zip(weights.T, indices.T, strict=True):
        resized += weight[:, np.newaxis, np.newaxis] * lines[index]
    levels = round_half_up(np.clip(resized, 0, LEVELS)).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(levels, 0, axis))


def _contributions(length: int, new_length: int) -> tuple[np.ndarray, np.ndarray]:
    """For each new pixel the weights of old ones and their indices, both [new_length, taps]."""
    scale = new_length / length
    stretch = min(scale, 1.0)
    centers = (np.arange(new_length) + 0.5) / scale - 0.5
    taps = int(np.ceil(CUBIC_WIDTH / stretch)) + 2
    indices = np.floor(centers - CUBIC_WIDTH / stretch / 2).astype(int)[:, np.newaxis] + np.arange(taps)
    weights = _cubic(stretch * (centers[:, np.newaxis] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = indices % (2 * length)
    return weights, np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys 1981, eq. 15, with a = -1/2."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < CUBIC_WIDTH / 2, far, 0.0))
