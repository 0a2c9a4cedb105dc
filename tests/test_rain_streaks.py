"""Streak patterns: how much, where, in what direction and at what scale it rains."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from skimage.feature import structure_tensor
from skimage.filters import gaussian

from data.rain.streaks import Curtain, FloatImage, Pattern, gust_field, render_pattern, streak_sprite

SIGMA_PER_FWHM = 1 / 2.354820045
CURTAIN = Curtain(density=60.0, length=24.0, width=2.4, angle=0.0, jitter=0.0, peak=0.05)


def pattern(curtain: Curtain, kind: str) -> Pattern:
    return Pattern(near=(curtain,)) if kind == "near" else Pattern(grain=(curtain,))


def summed(layer: FloatImage) -> np.ndarray:
    """Undoes the saturation: the sum of all streaks."""
    return -np.log1p(-layer.astype(np.float64))


@pytest.mark.parametrize("angle", [0.0, 25.0, -70.0])
def test_a_sprite_has_the_mass_and_place_of_its_profile(angle: float) -> None:
    sprite = streak_sprite(30.0, 1.2, np.deg2rad(angle), (0.3, -0.2)).astype(np.float64)
    # Tapered ends leave 1 - 1/4 of the length.
    assert sprite.sum() == pytest.approx(0.75 * 30.0 * 1.2 * np.sqrt(2 * np.pi), rel=0.01)
    rows, columns = np.mgrid[: sprite.shape[0], : sprite.shape[1]]
    assert (sprite * columns).sum() / sprite.sum() - sprite.shape[1] // 2 == pytest.approx(0.3, abs=0.02)
    assert (sprite * rows).sum() / sprite.sum() - sprite.shape[0] // 2 == pytest.approx(-0.2, abs=0.02)


def test_a_sprite_ends_inside_its_rectangle() -> None:
    sprite = streak_sprite(20.0, 2.0, np.deg2rad(40.0))
    border = np.concatenate([sprite[0], sprite[-1], sprite[:, 0], sprite[:, -1]])
    assert sprite.max() > 0.9 and border.max() < 0.02


def test_beads_dim_parts_of_a_streak_and_defocus_flattens_it() -> None:
    plain = streak_sprite(40.0, 2.0, 0.0)
    beaded = streak_sprite(40.0, 2.0, 0.0, bead=(0.8, 3.0, 0.0))
    assert (beaded <= plain + 1e-6).all() and beaded.sum() < 0.8 * plain.sum()
    middle = plain.shape[0] // 2
    soft = streak_sprite(40.0, 2.0, 0.0, defocus=True)[middle]
    center = soft.size // 2
    assert soft[center + 1] > plain[middle, center + 1], "flat in the middle"
    assert soft[center + 5] < plain[middle, center + 5], "and then a steeper edge"


@pytest.mark.parametrize("kind", ["near", "grain"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_coverage_follows_from_density_and_size_alone_at_any_scale(kind: str, scale: float) -> None:
    side = int(200 * scale)
    layers = [render_pattern(side, side, pattern(CURTAIN, kind), scale, np.random.default_rng(s)) for s in range(12)]
    mass = CURTAIN.peak * 0.75 * CURTAIN.length * CURTAIN.width * SIGMA_PER_FWHM * np.sqrt(2 * np.pi)
    assert summed(np.array(layers)).mean() == pytest.approx(CURTAIN.density / 10_000 * mass, rel=0.1)


@pytest.mark.parametrize("kind", ["near", "grain"])
@pytest.mark.parametrize("angle", [-30.0, 0.0, 20.0])
def test_streaks_lie_at_the_angle_asked_for(kind: str, angle: float) -> None:
    curtain = Curtain(density=20.0, length=30.0, width=2.0, angle=angle, jitter=0.0)
    smooth = gaussian(render_pattern(256, 256, pattern(curtain, kind), 1.0, np.random.default_rng(1)), 2.0)
    row_row, row_column, column_column = (part.sum() for part in structure_tensor(smooth, sigma=1.5, order="rc"))
    # The direction of least change, as dx per dy: the eigenvector of the smaller eigenvalue.
    _, vectors = np.linalg.eigh([[row_row, row_column], [row_column, column_column]])
    down, right = vectors[:, 0]
    assert np.rad2deg(np.arctan(right / down)) == pytest.approx(angle, abs=2.0)


@pytest.mark.parametrize("kind", ["near", "grain"])
def test_rain_at_the_border_is_as_dense_as_inside(kind: str) -> None:
    curtain = Curtain(density=60.0, length=40.0, width=2.0, angle=15.0, peak=0.2)
    layers = [render_pattern(64, 64, pattern(curtain, kind), 1.0, np.random.default_rng(s)) for s in range(60)]
    mean = np.mean(layers, axis=0)
    border = np.concatenate([mean[:4].ravel(), mean[-4:].ravel(), mean[:, :4].ravel(), mean[:, -4:].ravel()])
    assert border.mean() == pytest.approx(mean[16:-16, 16:-16].mean(), rel=0.12)


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (200, 11)])
def test_any_size_stays_in_range(shape: tuple[int, int]) -> None:
    both = Pattern(near=(CURTAIN,), grain=(CURTAIN,), gust=0.4)
    layer = render_pattern(*shape, both, 1.0, np.random.default_rng(3))
    assert layer.shape == shape and layer.dtype == np.float32
    assert layer.min() >= 0 and layer.max() < 1


def test_no_curtains_are_no_rain_and_the_same_generator_gives_the_same() -> None:
    assert not render_pattern(9, 9, Pattern(), 1.0, np.random.default_rng(0)).any()
    both = Pattern(near=(CURTAIN,), grain=(CURTAIN,), gust=0.4)
    first, second = (render_pattern(50, 60, both, 1.0, np.random.default_rng(7)) for _ in range(2))
    assert_array_equal(first, second)


def test_gusts_vary_smoothly_around_one() -> None:
    field = gust_field(120, 240, 0.3, np.random.default_rng(0)).astype(np.float64)
    assert field.min() > 0
    assert np.median(field) == pytest.approx(1.0, abs=0.2)
    assert 0.1 < field.std() < 0.5
    assert np.abs(np.diff(field, axis=0)).max() < 0.05
