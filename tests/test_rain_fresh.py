"""Rain drawn afresh for each sample: the drawing against slow sums, and what comes out as a training pair."""

from __future__ import annotations

import numpy as np
import pytest

from data.rain import fresh
from data.rain.fresh import SHARES, Streak, log_uniform, rainy_pair, spread, streak_kernel


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photograph(size: int = 64, seed: int = 0) -> fresh.Pixels:
    """Smooth color with some texture."""
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.stack([0.2 + 0.4 * x, 0.3 + 0.3 * y, 0.5 - 0.2 * x], -1) + rng(seed).normal(0, 0.03, (size, size, 3))
    return fresh.to_pixels(image.astype(np.float32))


def only(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(fresh, "SHARES", {kind: 1.0})


def test_shares_are_a_distribution_over_all_kinds() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert set(SHARES) == {*fresh.KINDS, "clean"}


def test_spread_is_the_cyclic_sum_of_shifted_kernels() -> None:
    canvas = (12, 15)
    points = [rng(1).random(canvas, np.float32), rng(2).random(canvas, np.float32)]
    kernels = [rng(3).random((3, 5), np.float32), rng(4).random((5, 3), np.float32)]
    expected = np.zeros(canvas)
    for field, kernel in zip(points, kernels, strict=True):
        for row, column in np.ndindex(*kernel.shape):
            expected += kernel[row, column] * np.roll(field, (row, column), (0, 1))
    np.testing.assert_allclose(spread(points, kernels, (10, 11)), expected[:10, :11], rtol=1e-4)


@pytest.mark.parametrize("angle", [-40.0, 0.0, 25.0])
def test_a_streak_has_the_length_width_and_direction_asked_for(angle: float) -> None:
    kernel = streak_kernel(Streak(length=60, width=4, angle=float(np.deg2rad(angle)), soft=0.1), rng()).astype(float)
    y, x = np.mgrid[0 : kernel.shape[0], 0 : kernel.shape[1]]
    weight = kernel / kernel.sum()
    dy, dx = y - (weight * y).sum(), x - (weight * x).sum()
    along = dx * np.sin(np.deg2rad(angle)) + dy * np.cos(np.deg2rad(angle))
    across = dx * np.cos(np.deg2rad(angle)) - dy * np.sin(np.deg2rad(angle))
    assert np.sqrt(12 * (weight * along**2).sum()) == pytest.approx(60, rel=0.06)  # of an even bar
    assert 2.355 * np.sqrt((weight * across**2).sum()) == pytest.approx(4, rel=0.06)  # of a Gaussian
    assert kernel.max() == pytest.approx(1, abs=0.05)


def test_the_same_generator_gives_the_same_pair_and_another_one_another() -> None:
    clean = photograph()
    pairs = [rainy_pair(clean, rng(seed)) for seed in (7, 7, 8)]
    assert np.array_equal(pairs[0][0], pairs[1][0]) and np.array_equal(pairs[0][1], pairs[1][1])
    assert not np.array_equal(pairs[0][0], pairs[2][0])


@pytest.mark.parametrize("kind", [*fresh.KINDS])
def test_every_kind_changes_the_picture_and_in_many_ways(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, kind)
    losses = []
    for seed in range(24):
        rainy, clean, drawn = rainy_pair(photograph(seed=seed), rng(seed))
        assert (rainy.shape, rainy.dtype, drawn) == (clean.shape, np.uint8, kind)
        losses.append(np.square(rainy.astype(float) - clean).mean())
    assert np.mean(np.array(losses) > 1) > 0.5
    assert np.quantile(losses, 0.9) > 4 * np.quantile(losses, 0.1)


def test_clean_stays_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "clean")
    for seed in range(12):
        rainy, clean, _ = rainy_pair(photograph(), rng(seed))
        assert np.array_equal(rainy, clean)


def test_rain_adds_light_where_it_is_put_on_as_light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "ANY_CAMERA_SHARE", 0.0)
    only(monkeypatch, "night")
    for seed in range(12):
        rainy, clean, _ = rainy_pair(photograph(), rng(seed))
        assert (rainy.astype(int) >= clean).mean() > 0.99


def test_crops_keep_their_shape_even_where_a_streak_is_longer() -> None:
    for seed in range(20):
        rainy, clean, _ = rainy_pair(photograph(16), rng(seed))
        assert rainy.shape == clean.shape == (16, 16, 3)


def test_log_uniform_is_even_in_the_logarithm() -> None:
    drawn = np.log([log_uniform(rng(seed), 0.5, 4) for seed in range(2000)])
    assert drawn.min() >= np.log(0.5) and drawn.max() <= np.log(4)
    assert np.mean(drawn) == pytest.approx(np.log(np.sqrt(2)), abs=0.05)
