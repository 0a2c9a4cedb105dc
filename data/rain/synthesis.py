"""One rainy image out of one clean image: a pure function of the image, its depth, the preset and a generator."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.rain.depth import road_depth
from data.rain.formation import add_streaks, cover, form_image
from data.rain.presets import Weather, draw_weather
from data.rain.streaks import REFERENCE_SIDE, FloatImage, render_pattern

Pixels = NDArray[np.uint8]

# The same rain is drawn on images of any size, in proportion, but within these limits of enlargement.
SMALLEST_SCALE, LARGEST_SCALE = 0.4, 4.0
# Scene light: this percentile of the mean of the channels, looked up at every so many pixels.
LIGHT_PERCENTILE, LIGHT_STEP = 90.0, 8
LUMA = (0.299, 0.587, 0.114)


class RainyImage(NamedTuple):
    """``pixels``: uint8 [H, W, 3]; ``weather``: what rain it is."""

    pixels: Pixels
    weather: Weather


def generator_for(seed: int, name: str, draw: int) -> np.random.Generator:
    """The generator of one rainy image: depends on the seed, the clean image's name and the number of the draw."""
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogateescape")).digest()
    return np.random.default_rng([seed, draw, int.from_bytes(digest[:8], "little")])


def rain_on(
    clean: Pixels,
    rng: np.random.Generator,
    preset: str,
    *,
    depth: FloatImage | None = None,
    fog: bool = True,
    scale: float | None = None,
) -> RainyImage:
    """``clean``, uint8 [H, W, 3], in the rain of ``preset``.

    ``depth``: float32 [H, W] in meters, by default that of a road drawn for the image. Without ``fog`` there are
    streaks alone. ``scale``: pixels per pixel of the reference size, by default in proportion to the shorter side; give
    one for tiles that are parts of larger images.
    """
    height, width, _ = clean.shape
    if scale is None:
        scale = float(np.clip(min(height, width) / REFERENCE_SIDE, SMALLEST_SCALE, LARGEST_SCALE))
    weather = draw_weather(preset, scene_light(clean), rng, fog=fog)
    pattern = render_pattern(height, width, weather.pattern, weather.size * scale, rng)
    image = clean * np.float32(1 / 255)
    if weather.formation == "fog" and weather.fog is not None:
        meters = road_depth(height, width, weather.road) if depth is None else depth
        rainy = form_image(image, pattern, meters, weather.fog, weather.light)
    elif weather.formation == "add":
        rainy = add_streaks(image, pattern, weather.light)
    else:
        rainy = cover(image, pattern, weather.light, weather.veil, weather.light)
    rainy *= np.float32(255)
    rainy += np.float32(0.5)
    return RainyImage(rainy.astype(np.uint8), weather)


def scene_light(clean: Pixels) -> float:
    """Luma of the bright parts of an image [H, W, 3] uint8, in [0, 1]."""
    return float(np.percentile(clean[::LIGHT_STEP, ::LIGHT_STEP] @ np.array(LUMA), LIGHT_PERCENTILE)) / 255
