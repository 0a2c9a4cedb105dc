"""Structural similarity in the three forms that the protocols have, each on planes [H, W, K] of float64.

Large planes are worked on in strips of rows, which stay in the cache and bound the memory; SSIM is a mean over
windows, so strips that overlap by the window's border give the mean of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from util.metrics.planes import PEAK

SSIM_SIGMA = 1.5
SSIM_WINDOW = 11  # pixels: scikit-image cuts its Gaussian at 3.5 sigma, here 5 pixels on each side
UNIFORM_WINDOW = 7  # pixels: scikit-image's default
SIGNED_RANGE = 2.0  # what scikit-image once took for the range of any floating-point image: -1 to 1
SHRUNK_SIDE = 256  # ssim.m brings the shorter side near this number of pixels

STRIP_PIXELS = 1 << 17  # of a strip, without its borders

Similarity = Callable[[np.ndarray, np.ndarray], float]


def gaussian_ssim(target: np.ndarray, output: np.ndarray) -> float:
    """Wang et al. 2004: 11x11 Gaussian window, sigma 1.5, population covariance, range 255, whole windows only.

    The mean over the planes of the mean over the windows.
    """
    from skimage.metrics import structural_similarity  # takes a second to import

    def of_strip(top: int, bottom: int) -> float:
        return structural_similarity(
            target[top:bottom],
            output[top:bottom],
            channel_axis=-1,
            data_range=PEAK,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
        )

    return _mean_over_strips(of_strip, target.shape, SSIM_WINDOW)


def uniform_ssim_of_signed_range(target: np.ndarray, output: np.ndarray) -> float:
    """scikit-image's default of 2019: 7x7 uniform window, sample covariance, and a range of 2 for planes in [0, 1].

    The constants are four times what the range of the planes asks for, so that it reads high.
    """
    from skimage.metrics import structural_similarity

    def of_strip(top: int, bottom: int) -> float:
        return structural_similarity(
            target[top:bottom],
            output[top:bottom],
            channel_axis=-1,
            data_range=SIGNED_RANGE,
            win_size=UNIFORM_WINDOW,
        )

    return _mean_over_strips(of_strip, target.shape, UNIFORM_WINDOW)


def shrinking_ssim(target: np.ndarray, output: np.ndarray) -> float:
    """:func:`gaussian_ssim` as the MATLAB file ``ssim.m`` computes it: of images shrunk to about 256 pixels.

    Both are averaged over f x f pixels and every f-th is kept, f being the shorter side divided by 256, rounded,
    at least 1. Several planes are then laid side by side, and windows reach over the seams: the file takes the
    size of a three-dimensional array for that of a matrix.
    """
    factor = max(1, int(min(target.shape[0], target.shape[1] * target.shape[2]) / SHRUNK_SIDE + 0.5))
    return gaussian_ssim(_folded(target, factor), _folded(output, factor))


def _folded(planes: np.ndarray, factor: int) -> np.ndarray:
    """[H, W, K] -> [ceil(H / factor), ceil(K W / factor), 1]: every factor-th element of the planes side by side."""
    kept, width = [], planes.shape[1]
    for index in range(planes.shape[2]):
        first = -index * width % factor  # the count of every f-th column continues from plane to plane
        kept.append(box_mean(planes[..., index], factor)[::factor, first::factor])
    return np.concatenate(kept, axis=1)[..., np.newaxis]


def box_mean(plane: np.ndarray, factor: int) -> np.ndarray:
    """The mean over the factor x factor pixels around each, [H, W] -> [H, W], the border mirrored with its edge.

    As MATLAB's ``imfilter(…, 'symmetric', 'same')``: of an even number of pixels one more lies behind than before.
    """
    if factor == 1:
        return plane
    before = (factor + 1) // 2 - 1
    padded = np.pad(plane, [(before, factor - 1 - before)] * 2, mode="symmetric")
    height, width = plane.shape
    columns = np.zeros((len(padded), width))
    for shift in range(factor):
        columns += padded[:, shift : shift + width]
    total = np.zeros((height, width))
    for shift in range(factor):
        total += columns[shift : shift + height]
    return total / factor**2


def _mean_over_strips(of_strip: Callable[[int, int], float], shape: tuple[int, ...], window: int) -> float:
    border = window // 2
    total = sum(
        float(of_strip(top - border, bottom + border)) * (bottom - top)
        for top, bottom in _strips(border, shape[0] - border, rows=max(window, STRIP_PIXELS // shape[1]))
    )
    return total / (shape[0] - 2 * border)


def _strips(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    for top in range(start, stop, rows):
        yield top, min(top + rows, stop)
