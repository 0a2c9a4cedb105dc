"""The RainCityscapes equation against a slow copy of it, depth, and what presets promise."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from data.rain.depth import FARTHEST, Road, draw_road, read_depth, road_depth
from data.rain.formation import PUBLISHED, WHITE, Fog, add_streaks, cover, form_image
from data.rain.presets import MEDIUM, PRESETS, draw_weather
from data.rain.synthesis import generator_for, rain_on
from util.errors import UserError


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.random((3, 4, 3), dtype=np.float32)
    return image, 0.5 * rng.random((3, 4), dtype=np.float32), rng.uniform(1, 120, (3, 4)).astype(np.float32)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_image_is_formed_as_published(name: str) -> None:
    alpha, beta, radius = {"light": (0.01, 0.005, 0.01), "medium": (0.02, 0.01, 0.005), "heavy": (0.03, 0.015, 0.002)}[
        name
    ]
    image, pattern, depth = scene()
    formed = form_image(image, pattern, depth, PUBLISHED[name], WHITE)
    for row, column, channel in np.ndindex(image.shape):
        d = float(depth[row, column])
        streak = float(pattern[row, column]) * exp(-alpha * max(2 * 2262 * radius, d))
        fog = 1 - exp(-beta * d)
        streak = min(streak, 1 - fog)
        expected = float(image[row, column, channel]) * (1 - streak - fog) + streak + 0.8 * fog
        assert formed[row, column, channel] == pytest.approx(expected, abs=1e-6)


def test_streak_and_fog_light_tint_their_own_part() -> None:
    image, pattern, depth = scene()
    blue_fog = Fog(0.0, 0.01, 0.001, light=(0.0, 0.0, 1.0))
    formed = form_image(image, np.zeros_like(pattern), depth, blue_fog, WHITE)
    fog = 1 - np.exp(-0.01 * depth.astype(np.float64))
    assert_allclose(formed[..., 0], image[..., 0] * (1 - fog), atol=1e-6)
    assert_allclose(formed[..., 2], image[..., 2] * (1 - fog) + fog, atol=1e-6)


def test_no_weight_is_negative_however_thick_rain_and_fog_are() -> None:
    image, _, depth = scene()
    black, white = np.zeros_like(image), np.ones_like(image)
    full = np.ones(depth.shape, np.float32)
    fog = Fog(alpha=0.0, beta=0.1, drop_radius=0.0, light=WHITE)
    assert form_image(white, full, depth, fog, WHITE).max() <= 1 + 1e-6
    assert_allclose(form_image(black, full, depth, fog, WHITE), 1.0, atol=1e-6)


def test_streaks_are_added_or_cover_as_their_equations_say() -> None:
    image, pattern, _ = scene(1)
    light = (1.0, 0.9, 0.8)
    assert_allclose(add_streaks(image, pattern, light), np.minimum(1, image + pattern[..., None] * light), atol=1e-6)
    veiled = 0.7 * image + 0.3 * np.array([0.5, 0.6, 0.7])
    expected = veiled * (1 - pattern[..., None]) + pattern[..., None] * light
    assert_allclose(cover(image, pattern, light, 0.3, (0.5, 0.6, 0.7)), expected, atol=1e-6)


def test_a_road_gets_nearer_towards_the_camera_and_is_farthest_where_it_vanishes() -> None:
    depth = road_depth(100, 160, Road(horizon=0.5, center=0.5, farthest=100.0))
    column = depth[:, 80]
    assert (np.diff(column[52:]) < 0).all()
    assert depth.min() > 1 and depth.max() < 100
    assert depth[50, 80] > 2 * depth[50, 2], "walls"
    assert depth[50, 80] > 5 * depth[99, 80], "road"
    # At the lower border the road is nearly alone: 1.4 m below a camera with a focal length of 1.1 times 160 pixels.
    assert depth[99, 80] == pytest.approx(1.4 * 1.1 * 160 / 49.5, rel=0.25)


def test_road_scenes_have_no_edges_that_fog_could_show() -> None:
    for seed in range(20):
        depth = road_depth(256, 256, draw_road(np.random.default_rng(seed)))
        fog = np.exp(-0.015 * depth)
        assert max(np.abs(np.diff(fog, axis=0)).max(), np.abs(np.diff(fog, axis=1)).max()) < 0.03


def test_depth_files_are_read_in_their_units(tmp_path: Path) -> None:
    steps = np.array([[256, 2560], [0, 65535]], np.uint16)
    Image.fromarray(steps).save(tmp_path / "kitti.png")
    assert_allclose(read_depth(tmp_path / "kitti.png"), np.array([[1, 10], [FARTHEST, 65535 / 256]]))
    assert_allclose(read_depth(tmp_path / "kitti.png", 0.01), np.array([[2.56, 25.6], [FARTHEST, FARTHEST]]), rtol=1e-6)
    Image.fromarray(np.array([[7, 200]], np.uint8)).save(tmp_path / "meters.png")
    assert_array_equal(read_depth(tmp_path / "meters.png"), [[7, 200]])
    np.save(tmp_path / "meters.npy", np.array([[2.5, np.inf], [np.nan, -1.0]]))
    assert_array_equal(read_depth(tmp_path / "meters.npy"), [[2.5, FARTHEST], [FARTHEST, FARTHEST]])


@pytest.mark.parametrize("kind", ["color", "junk", "missing", "volume", "pickle"])
def test_what_is_no_depth_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("depth.npy" if kind in ("volume", "pickle") else "depth.png")
    if kind == "color":
        Image.new("RGB", (3, 3)).save(path)
    elif kind == "junk":
        path.write_bytes(b"no image")
    elif kind == "volume":
        np.save(path, np.zeros((2, 2, 2)))
    elif kind == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"--depth: .*depth"):
        read_depth(path)


def test_the_probabilities_of_every_preset_sum_to_one() -> None:
    for parts in PRESETS.values():
        assert sum(weight for weight, _ in parts) == pytest.approx(1)


def test_mixed_draws_every_recipe_and_stays_in_its_ranges() -> None:
    drawn = [draw_weather("mixed", 0.8, np.random.default_rng(seed)) for seed in range(300)]
    assert {weather.recipe for weather in drawn} == {recipe.name for _, recipe in PRESETS["mixed"]}
    medium = [weather for weather in drawn if weather.recipe == "medium"]
    low, high = MEDIUM.near_length
    assert all(low <= weather.pattern.near[0].length <= high for weather in medium)
    assert {replace(w.fog, light=WHITE) for w in medium if w.fog} == {replace(PUBLISHED["medium"], light=WHITE)}
    assert max(len(w.pattern.near) for w in drawn if w.recipe == "crossed") == 5


def photo(seed: int = 0) -> np.ndarray:
    smooth = np.random.default_rng(seed).integers(0, 200, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((96, 80), Image.Resampling.BICUBIC))


def test_heavier_presets_leave_less_of_the_image() -> None:
    def error(preset: str) -> float:
        rainy = (rain_on(photo(k), generator_for(0, "a", k), preset).pixels.astype(float) - photo(k) for k in range(12))
        return float(np.mean([np.square(difference).mean() for difference in rainy]))

    assert 1.5 * error("light") < error("medium") < error("heavy") / 1.5


def test_without_fog_only_streaks_change_pixels_and_given_depth_counts() -> None:
    dry = rain_on(photo(), generator_for(0, "a", 0), "light", fog=False)
    assert dry.weather.fog is None and dry.weather.veil == 0
    unchanged = (dry.pixels == photo()).all(axis=2).mean()
    foggy = rain_on(photo(), generator_for(0, "a", 0), "light")
    assert unchanged > 0.1 > (foggy.pixels == photo()).all(axis=2).mean()
    near, far = (
        rain_on(photo(), generator_for(0, "a", 0), "heavy", depth=np.full((80, 96), meters, np.float32)).pixels
        for meters in (1.0, 250.0)
    )
    assert far.std() < 0.3 * near.std(), "fog hides what is far"


def test_rain_depends_on_seed_name_and_draw() -> None:
    def rainy(seed: int, name: str, draw: int) -> bytes:
        return rain_on(photo(), generator_for(seed, name, draw), "mixed").pixels.tobytes()

    assert rainy(0, "a", 0) == rainy(0, "a", 0)
    assert len({rainy(0, "a", 0), rainy(1, "a", 0), rainy(0, "b", 0), rainy(0, "a", 1)}) == 4


def test_with_a_scale_streaks_have_the_same_size_on_small_and_large_images() -> None:
    small, large = (
        rain_on(np.zeros((side, side, 3), np.uint8), generator_for(0, "a", 0), "demo", scale=0.5).pixels.mean()
        for side in (128, 256)
    )
    assert small == pytest.approx(large, rel=0.15)
