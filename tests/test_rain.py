"""Synthetic rain: what the formation equation promises, measured on the images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skimage.feature import structure_tensor
from skimage.filters import gaussian

from data.rain import (
    FloatImage,
    Rain,
    RainSettings,
    Streaks,
    add_rain,
    compose_rain,
    draw_rain,
    draw_streaks,
    render_streaks,
)

NO_VEIL = RainSettings(veil=(0.0, 0.0))


def photo(seed: int = 0, height: int = 90, width: int = 120) -> FloatImage:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def rain(**changes: Any) -> Rain:
    return replace(draw_rain(RainSettings(), np.random.default_rng(0)), **changes)


def one_streak(x: float, y: float, length: float, sigma: float, angle: float, peak: float) -> Streaks:
    return Streaks(*(np.array([value]) for value in (x, y, length, sigma, angle, peak)))


def test_same_generator_state_gives_the_same_rain() -> None:
    first, second = (add_rain(photo(), np.random.default_rng(7)) for _ in range(2))
    assert_array_equal(first, second)


def test_another_seed_gives_other_rain() -> None:
    assert not np.array_equal(add_rain(photo(), np.random.default_rng(7)), add_rain(photo(), np.random.default_rng(8)))


def test_the_photograph_itself_is_left_alone() -> None:
    image = photo()
    add_rain(image, np.random.default_rng(0))
    assert_array_equal(image, photo())


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (200, 11)])
def test_any_size_stays_in_range(shape: tuple[int, int]) -> None:
    rainy = add_rain(photo(1, *shape), np.random.default_rng(3))
    assert rainy.shape == (*shape, 3)
    assert rainy.dtype == np.float32
    assert rainy.min() >= 0 and rainy.max() <= 1


def test_without_veil_pixels_change_only_along_streaks_and_never_darken() -> None:
    settings = replace(NO_VEIL, density=(3.0, 3.0))
    image = photo(2)
    rng = np.random.default_rng(5)
    drawn = draw_rain(settings, rng)
    layer = render_streaks(90, 120, draw_streaks(90, 120, drawn, rng))
    rainy = add_rain(image, np.random.default_rng(5), settings)
    assert (layer == 0).any() and (layer > 0).any()
    assert_array_equal(rainy[layer == 0], image[layer == 0])
    assert (rainy >= image - 1e-6).all()


def test_composition_follows_the_equation() -> None:
    drawn = rain(veil=0.2, veil_light=0.5)
    image = np.full((1, 1, 3), 0.4, dtype=np.float32)
    veiled = 0.8 * 0.4 + 0.2 * 0.5
    expected = [veiled + 0.25 * light * (1 - veiled) for light in drawn.streak_light]
    assert_allclose(compose_rain(image, np.array([[0.25]], dtype=np.float32), drawn)[0, 0], expected, rtol=1e-6)


def test_denser_rain_covers_more_in_proportion() -> None:
    def coverage(density: float) -> float:
        layer = render_streaks(256, 256, draw_streaks(256, 256, rain(density=density), np.random.default_rng(0)))
        return float(-np.log1p(-layer.astype(np.float64)).mean())  # undoes the saturation: the sum of the streaks

    assert coverage(80.0) / coverage(20.0) == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("angle", [-30.0, 0.0, 20.0])
def test_streaks_lie_at_the_angle_asked_for(angle: float) -> None:
    drawn = rain(angle=angle, angle_jitter=0.0, density=20.0)
    layer = render_streaks(256, 256, draw_streaks(256, 256, drawn, np.random.default_rng(1)))
    smooth = gaussian(layer, 2.0)  # Sobel differences are biased on lines of about one pixel
    row_row, row_column, column_column = (part.sum() for part in structure_tensor(smooth, sigma=1.5, order="rc"))
    # The direction of least change, as dx per dy: the eigenvector of the smaller eigenvalue.
    _, vectors = np.linalg.eigh([[row_row, row_column], [row_column, column_column]])
    down, right = vectors[:, 0]
    assert np.rad2deg(np.arctan(right / down)) == pytest.approx(angle, abs=1.5)


def test_a_streak_has_the_mass_and_place_of_its_profile() -> None:
    length, sigma, peak = 30.0, 1.2, 0.01
    layer = render_streaks(80, 100, one_streak(50.25, 40.5, length, sigma, np.deg2rad(25.0), peak))
    total = -np.log1p(-layer.astype(np.float64))
    # Tapered ends leave 1 - 1/4 of the length; the Gaussian is cut off beyond about two sigma on either side.
    assert total.sum() == pytest.approx(peak * 0.75 * length * sigma * np.sqrt(2 * np.pi), rel=0.06)
    rows, columns = np.mgrid[:80, :100]
    assert (total * columns).sum() / total.sum() == pytest.approx(50.25, abs=0.05)
    assert (total * rows).sum() / total.sum() == pytest.approx(40.5, abs=0.05)


def test_a_streak_outside_the_image_leaves_nothing() -> None:
    assert not render_streaks(20, 20, one_streak(-50.0, 10.0, 20.0, 1.0, 0.0, 1.0)).any()


def test_rain_at_the_border_is_as_dense_as_inside() -> None:
    layers = [
        render_streaks(64, 64, draw_streaks(64, 64, rain(density=60.0), np.random.default_rng(seed)))
        for seed in range(60)
    ]
    mean = np.mean(layers, axis=0)
    border = np.concatenate([mean[:4].ravel(), mean[-4:].ravel(), mean[:, :4].ravel(), mean[:, -4:].ravel()])
    assert border.mean() == pytest.approx(mean[16:-16, 16:-16].mean(), rel=0.12)


def test_no_streaks_are_no_rain() -> None:
    settings = replace(NO_VEIL, density=(0.0, 0.0))
    assert_array_equal(add_rain(photo(), np.random.default_rng(0), settings), photo())


@pytest.mark.parametrize(
    "changes",
    [{"density": (3.0, 2.0)}, {"veil": (-0.1, 0.1)}, {"length": (0.0, 5.0)}, {"max_distance": 0.5}],
)
def test_impossible_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(RainSettings(), **changes)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.float32), np.zeros((4, 4, 1), np.float32)])
def test_other_images_are_refused(image: FloatImage) -> None:
    with pytest.raises(ValueError, match="float32"):
        add_rain(image, np.random.default_rng(0))
