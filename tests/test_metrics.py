"""Metrics agree with slow formulas, published values and scikit-image called directly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from util.metrics.ciede2000 import COLOR_BLOCK, color_difference
from util.metrics.planes import luma
from util.metrics.protocols import PROTOCOLS, Protocol, psnr, ssim

Y, RGB = PROTOCOLS["y"], PROTOCOLS["rgb"]
Lab = tuple[float, float, float]

# Sharma, Wu, Dalal 2005, table 1: pairs 1, 7, 17, 18, 25 and 34.
SHARMA = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (61.0, -5.0, 29.0), 22.8977),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


def pair(height: int = 24, width: int = 31, noise: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A random image and a noisy copy of it."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 256, (height, width, 3))
    output = np.clip(target + rng.integers(-noise, noise + 1, target.shape), 0, 255)
    return output.astype(np.uint8), target.astype(np.uint8)


def uniform(*rgb: int, size: int = 12) -> np.ndarray:
    return np.full((size, size, 3), rgb, dtype=np.uint8)


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13, window by window, on two [H, W] arrays in [0, 255]."""
    offsets = np.arange(-5, 6)
    bell = np.exp(-(offsets**2) / (2 * 1.5**2))
    weight = np.outer(bell, bell) / np.outer(bell, bell).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            x, y = a[top : top + 11, left : left + 11], b[top : top + 11, left : left + 11]
            mx, my = (weight * x).sum(), (weight * y).sum()
            vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
            cov = (weight * (x - mx) * (y - my)).sum()
            values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


def slow_lab(rgb: Sequence[int]) -> Lab:
    """IEC 61966-2-1 sRGB to CIELAB under D65, one color."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    matrix = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
    white = (0.95047, 1.0, 1.08883)
    xyz = (sum(m * c for m, c in zip(row, linear, strict=True)) / w for row, w in zip(matrix, white, strict=True))
    fx, fy, fz = (t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in xyz)
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def slow_ciede2000(one: Lab, two: Lab) -> float:
    """Sharma, Wu, Dalal 2005, eq. 2-22, one pair of Lab colors, angles in degrees."""
    (l1, a1, b1), (l2, a2, b2) = one, two
    mean_c7 = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * math.sqrt(mean_c7 / (mean_c7 + 25**7))
    c1, c2 = math.hypot(stretch * a1, b1), math.hypot(stretch * a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    chromatic = c1 * c2 > 0
    turn = (h2 - h1 + 180) % 360 - 180 if chromatic else 0.0
    hue = h1 + turn / 2 if chromatic else h1 + h2
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    d_hue = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))

    def cos(degrees: float) -> float:
        return math.cos(math.radians(degrees))

    t = 1 - 0.17 * cos(hue - 30) + 0.24 * cos(2 * hue) + 0.32 * cos(3 * hue + 6) - 0.2 * cos(4 * hue - 63)
    square = (lightness - 50) ** 2
    light = (l2 - l1) / (1 + 0.015 * square / math.sqrt(20 + square))
    color = (c2 - c1) / (1 + 0.045 * chroma)
    tone = d_hue / (1 + 0.015 * chroma * t)
    angle = 60 * math.exp(-((((hue % 360) - 275) / 25) ** 2))
    rotation = -2 * math.sqrt(chroma**7 / (chroma**7 + 25**7)) * math.sin(math.radians(angle))
    return math.sqrt(light**2 + color**2 + tone**2 + rotation * color * tone)


def test_luma_spans_16_to_235_and_is_not_rounded() -> None:
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [1, 2, 3]]], dtype=np.uint8)
    expected = [16.0, 235.0, 16 + 65.481, 16 + (65.481 + 2 * 128.553 + 3 * 24.966) / 255]
    assert luma(colors).dtype == np.float64
    assert luma(colors)[0] == pytest.approx(expected, abs=1e-12)


def test_psnr_by_hand() -> None:
    target, output = uniform(100, 100, 100), uniform(100, 100, 100)
    output[:6, :, 1] = 110  # half of one channel in three is off by ten
    assert psnr(output, target, RGB) == pytest.approx(10 * math.log10(255**2 / (100 / 6)))
    luma_error = 10 * 128.553 / 255
    assert psnr(output, target, Y) == pytest.approx(10 * math.log10(255**2 / (luma_error**2 / 2)))


def test_limited_range_psnr_is_1_322_db_above_full_range() -> None:
    output, target = pair()
    full_range = [image @ np.array([0.299, 0.587, 0.114]) for image in (target, output)]
    gain = psnr(output, target, Y) - peak_signal_noise_ratio(*full_range, data_range=255)
    assert gain == pytest.approx(20 * math.log10(255 / 219))
    assert gain == pytest.approx(1.322, abs=5e-4)


@pytest.mark.parametrize("protocol", [Y, RGB], ids=["y", "rgb"])
def test_ssim_is_the_slow_formula(protocol: Protocol) -> None:
    output, target = pair(14, 13)
    if protocol is Y:
        expected = slow_ssim(luma(output), luma(target))
    else:
        expected = float(np.mean([slow_ssim(output[..., c].astype(float), target[..., c]) for c in range(3)]))
    assert ssim(output, target, protocol) == pytest.approx(expected, abs=1e-12)


def test_ssim_is_scikit_images() -> None:
    output, target = pair()
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert ssim(output, target, RGB) == pytest.approx(structural_similarity(target, output, channel_axis=2, **settings))
    assert ssim(output, target, Y) == pytest.approx(structural_similarity(luma(target), luma(output), **settings))


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_identical_images(protocol: Protocol) -> None:
    image = pair()[1]
    assert psnr(image, image, protocol) == math.inf
    assert ssim(image, image, protocol) == pytest.approx(1, abs=1e-12)
    assert color_difference(image, image) == 0


@pytest.mark.parametrize(("one", "two", "published"), SHARMA)
def test_the_slow_color_difference_has_the_published_values(one: Lab, two: Lab, published: float) -> None:
    assert slow_ciede2000(one, two) == pytest.approx(published, abs=5e-5)
    assert slow_ciede2000(two, one) == pytest.approx(published, abs=5e-5)


def test_color_difference_is_the_mean_of_the_slow_formula() -> None:
    output, target = pair(5, 6, noise=120)
    pixels = zip(output.reshape(-1, 3).tolist(), target.reshape(-1, 3).tolist(), strict=True)
    expected = np.mean([slow_ciede2000(slow_lab(a), slow_lab(b)) for a, b in pixels])
    assert color_difference(output, target) == pytest.approx(expected, abs=2e-3)


def test_color_difference_of_more_than_a_block_is_scikit_images() -> None:
    output, target = pair(150, 130, noise=120)
    assert output[..., 0].size > COLOR_BLOCK
    expected = deltaE_ciede2000(rgb2lab(target), rgb2lab(output)).mean()
    assert color_difference(output, target) == pytest.approx(expected, rel=1e-12)


def test_black_is_100_away_from_white() -> None:
    assert color_difference(uniform(0, 0, 0), uniform(255, 255, 255)) == pytest.approx(100, abs=1e-3)


def test_color_difference_sees_what_luma_hides() -> None:
    blue, orange = uniform(70, 130, 230), uniform(180, 119, 0)
    assert psnr(blue, orange, Y) > 40
    assert psnr(blue, orange, RGB) < 10
    assert color_difference(blue, orange) > 40


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
def test_images_smaller_than_the_window_have_no_ssim(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"at least 11x11 pixels, got {size[1]}x{size[0]}"):
        ssim(*pair(*size), Y)


def test_the_smallest_image_with_an_ssim() -> None:
    output, target = pair(11, 11)
    assert ssim(output, target, Y) == pytest.approx(slow_ssim(luma(output), luma(target)), abs=1e-12)


def test_different_sizes_are_named() -> None:
    small, large = pair(20, 30)[0], pair(21, 30)[1]
    for compare in (color_difference, lambda a, b: psnr(a, b, Y), lambda a, b: ssim(a, b, RGB)):
        with pytest.raises(ValueError, match="output 30x20, target 30x21"):
            compare(small, large)


@pytest.mark.parametrize(
    "wrong", [np.zeros((12, 12, 3)), np.zeros((12, 12), np.uint8), np.zeros((12, 12, 4), np.uint8)]
)
def test_only_8_bit_rgb_is_compared(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        psnr(wrong, wrong, Y)
