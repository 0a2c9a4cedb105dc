"""The protocols of MATLAB scripts and official evaluations, each quirk against a slow formula of its own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from util.metrics import ssim as ssim_module
from util.metrics.ciede2000 import ciede2000
from util.metrics.planes import rounded_luma_plane
from util.metrics.protocols import PROTOCOLS, psnr, ssim
from util.metrics.resizing import imresize
from util.metrics.ssim import box_mean


def pair(height: int, width: int, noise: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A noisy copy of a smooth image, and the image."""
    rng = np.random.default_rng(height * width)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    target = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    output = np.clip(target + rng.integers(-noise, noise + 1, target.shape), 0, 255)
    return output.astype(np.uint8), target.astype(np.uint8)


def matlab_luma(rgb: np.ndarray) -> np.ndarray:
    """Limited-range BT.601 luma of each pixel, one by one."""
    return np.array([[16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255 for r, g, b in row] for row in rgb.tolist()])


def rounded(values: np.ndarray) -> np.ndarray:
    """Halves go up, as in MATLAB, not to the even neighbor."""
    return np.array([[math.floor(value + 0.5) for value in row] for row in values.tolist()], dtype=float)


def decibels(one: np.ndarray, two: np.ndarray, peak: float = 255) -> float:
    return 10 * math.log10(peak**2 / np.mean((one - two) ** 2))


def over_windows(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted sum over every window that fits, term by term."""
    height, width = (size - side + 1 for size, side in zip(plane.shape, weights.shape, strict=True))
    total = np.zeros((height, width))
    for (top, left), weight in np.ndenumerate(weights):
        total += weight * plane[top : top + height, left : left + width]
    return total


def gaussian_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang's formula, windows that fit only."""
    x, y = np.mgrid[-5:6, -5:6]
    window = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(plane: np.ndarray) -> np.ndarray:
        return over_windows(plane, window)

    ma, mb, c1, c2 = mean(a), mean(b), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    return float(np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))))


def slow_box(plane: np.ndarray, factor: int) -> np.ndarray:
    """Every factor-th pixel of the box filter with a mirrored border, pixel by pixel."""
    height, width = plane.shape
    before = (factor + 1) // 2 - 1  # MATLAB's center of a filter is floor((f + 1) / 2), counted from one

    def mirrored(index: int, length: int) -> int:
        return -1 - index if index < 0 else 2 * length - 1 - index if index >= length else index

    def mean(top: int, left: int) -> float:
        rows = [mirrored(top - before + i, height) for i in range(factor)]
        columns = [mirrored(left - before + i, width) for i in range(factor)]
        return sum(plane[row, column] for row in rows for column in columns) / factor**2

    return np.array([[mean(top, left) for left in range(0, width, factor)] for top in range(0, height, factor)])


def slow_resize(row: list[int], length: int) -> list[int]:
    """MATLAB's imresize of one row: Keys' kernel, wider where it shrinks, mirrored border, 8-bit result."""
    scale = length / len(row)
    stretch = min(scale, 1)

    def kernel(x: float) -> float:
        x = abs(x * stretch)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0

    mirrored = row[::-1] + row + row[::-1]
    result = []
    for index in range(length):
        center = (index + 0.5) / scale - 0.5
        weights = [kernel(center - (place - len(row))) for place in range(len(mirrored))]
        value = sum(w * v for w, v in zip(weights, mirrored, strict=True)) / sum(weights)
        result.append(math.floor(min(max(value, 0), 255) + 0.5))
    return result


def test_y_mprnet_rounds_luma() -> None:
    output, target = pair(20, 17)
    one, two = (rounded(matlab_luma(image)) for image in (output, target))
    assert psnr(output, target, PROTOCOLS["y-mprnet"]) == pytest.approx(decibels(one, two), abs=1e-9)
    assert ssim(output, target, PROTOCOLS["y-mprnet"]) == pytest.approx(gaussian_ssim(one, two), abs=1e-9)
    assert psnr(output, target, PROTOCOLS["y"]) != pytest.approx(decibels(one, two), abs=1e-4)


def test_rounded_luma_takes_halves_up() -> None:
    levels = np.arange(256, dtype=np.uint8)
    grays = np.stack([levels] * 3, axis=-1)[np.newaxis]
    assert np.array_equal(rounded_luma_plane(grays)[..., 0], rounded(matlab_luma(grays)))


def test_rounding_costs_much_where_images_are_alike() -> None:
    output, target = pair(64, 64, noise=1)
    loss = psnr(output, target, PROTOCOLS["y"]) - psnr(output, target, PROTOCOLS["y-mprnet"])
    assert 0.1 < loss < 3


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_the_box_filter_is_matlabs(factor: int) -> None:
    plane = np.random.default_rng(0).normal(size=(13, 18))
    assert box_mean(plane, factor)[::factor, ::factor] == pytest.approx(slow_box(plane, factor), abs=1e-12)


@pytest.mark.parametrize(("size", "factor"), [((383, 400), 1), ((384, 390), 2), ((512, 512), 2), ((640, 700), 3)])
def test_y_prenet_shrinks_large_images_before_ssim(size: tuple[int, int], factor: int) -> None:
    output, target = pair(*size)
    planes = [16 + image @ np.array([65.481, 128.553, 24.966]) / 255 for image in (output, target)]
    expected = gaussian_ssim(*(slow_box(plane, factor) if factor > 1 else plane for plane in planes))
    assert ssim(output, target, PROTOCOLS["y-matlab"]) == pytest.approx(expected, abs=1e-9)
    assert psnr(output, target, PROTOCOLS["y-matlab"]) == psnr(output, target, PROTOCOLS["y"])


@pytest.mark.parametrize("width", [128, 126])
def test_raincityscapes_lays_the_channels_side_by_side(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(ssim_module, "SHRUNK_SIDE", 16)
    protocol = replace(PROTOCOLS["raincityscapes"], size=(width, 64))
    output, target = pair(64, width)
    wide = [
        np.concatenate([slow_full(image[..., c]) for c in range(3)], axis=1)[::4, ::4] for image in (output, target)
    ]
    assert wide[0].shape == (16, math.ceil(3 * width / 4))
    assert ssim(output, target, protocol) == pytest.approx(gaussian_ssim(*wide), abs=1e-9)
    assert psnr(output, target, protocol) == pytest.approx(decibels(output.astype(float), target.astype(float)))


def slow_full(plane: np.ndarray) -> np.ndarray:
    """The box filter of 4 x 4 pixels at every pixel."""
    padded = np.pad(plane.astype(float), ((1, 2), (1, 2)), mode="symmetric")
    return over_windows(padded, np.full((4, 4), 1 / 16))


def test_raincityscapes_brings_images_to_its_size() -> None:
    protocol = replace(PROTOCOLS["raincityscapes"], size=(40, 24))
    output, target = pair(12, 20)[0], pair(24, 40)[1]
    assert PROTOCOLS["raincityscapes"].size == (2048, 1024)
    assert psnr(output, target, protocol) == pytest.approx(decibels(imresize(output, 24, 40) / 1.0, target / 1.0))
    assert protocol.fit(target) is not None and np.array_equal(protocol.fit(target), target)


@pytest.mark.parametrize(("height", "width"), [(9, 31), (30, 14), (5, 7), (9, 14), (23, 40)])
def test_resizing_is_matlabs(height: int, width: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    expected = image
    for axis in sorted((0, 1), key=lambda axis: (height, width)[axis] / image.shape[axis]):
        if expected.shape[axis] != (height, width)[axis]:
            lines = [slow_resize(line, (height, width)[axis]) for line in
                     np.moveaxis(expected, axis, -1).reshape(-1, expected.shape[axis]).tolist()]  # fmt: skip
            rest = np.moveaxis(expected, axis, -1).shape[:-1]
            expected = np.moveaxis(np.array(lines).reshape(*rest, -1), -1, axis)
    assert np.array_equal(imresize(image, height, width), expected)


def test_resizing_agrees_with_pillow_away_from_the_border() -> None:
    image = pair(40, 60)[1]
    ours = imresize(image, 40, 120).astype(int)
    pillows = np.asarray(Image.fromarray(image).resize((120, 40), Image.Resampling.BICUBIC)).astype(int)
    assert abs(ours - pillows)[:, 6:-6].max() <= 1


def test_spa_has_the_old_defaults_of_scikit_image() -> None:
    output, target = pair(12, 11)
    planes = [image.astype(float) / 255 for image in (output, target)]
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    values = []
    for channel in range(3):
        for top in range(6):
            for left in range(5):
                x, y = (plane[top : top + 7, left : left + 7, channel].ravel() for plane in planes)
                (vx, cov), (_, vy) = np.cov(x, y)
                luminance = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
                values.append(luminance * (2 * cov + c2) / (vx + vy + c2))
    assert ssim(output, target, PROTOCOLS["spa"]) == pytest.approx(np.mean(values), abs=1e-9)
    assert psnr(output, target, PROTOCOLS["spa"]) == pytest.approx(decibels(planes[0], planes[1], peak=1))


def test_spa_reads_higher_than_the_right_range_would() -> None:
    output, target = pair(30, 30)
    right = structural_similarity(target / 255, output / 255, channel_axis=2, data_range=1)
    assert ssim(output, target, PROTOCOLS["spa"]) > right + 0.01


def test_spa_needs_seven_pixels_a_side() -> None:
    assert ssim(*pair(7, 7), PROTOCOLS["spa"]) < 1
    with pytest.raises(ValueError, match="7x7 pixels, got 9x6"):
        ssim(*pair(6, 9), PROTOCOLS["spa"])


@pytest.mark.parametrize("size", [(700, 301), (301, 700)])
def test_images_of_several_strips_have_scikit_images_values(size: tuple[int, int]) -> None:
    output, target = pair(*size)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    whole = structural_similarity(target, output, channel_axis=2, **settings)
    assert ssim(output, target, PROTOCOLS["rgb"]) == pytest.approx(whole, abs=1e-12)
    old = structural_similarity(target / 255, output / 255, channel_axis=2, data_range=2)
    assert ssim(output, target, PROTOCOLS["spa"]) == pytest.approx(old, abs=1e-12)
    assert psnr(output, target, PROTOCOLS["rgb"]) == pytest.approx(peak_signal_noise_ratio(target, output), abs=1e-9)


def test_color_differences_are_scikit_images() -> None:
    rng = np.random.default_rng(3)
    one, two = rng.integers(0, 256, (2, 4000, 3)).astype(np.uint8)
    one[::4] = one[::4, :1]  # grays
    two[::3] = one[::3]
    two[1::5] = 255 - one[1::5]  # opposite hues
    expected = deltaE_ciede2000(rgb2lab(one), rgb2lab(two))
    assert ciede2000(rgb2lab(one), rgb2lab(two)) == pytest.approx(expected, abs=1e-8)


def test_colors_without_chroma_take_the_others_hue() -> None:
    gray, red = np.array([[50.0, 0.0, 0.0]]), np.array([[50.0, -1.0, 2.0]])
    assert ciede2000(gray, red) == pytest.approx([2.3669], abs=5e-5)  # Sharma, Wu, Dalal 2005, pair 7
    assert ciede2000(gray, gray) == pytest.approx([0.0])
