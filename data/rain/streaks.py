"""Synthetic rain on a clean photograph.

Formation, with the clean image B, the streak layer S and all values in [0, 1]::

    J = (1 - v) B + v V             veil: distant drops scatter light of brightness V into the line of sight
    O = J + S E (1 - J)             streaks: light of colour E is added and saturates towards white
    S = 1 - exp(-sum_i s_i)         coverage by overlapping streaks

A single streak s_i is the path of one drop during the exposure: a segment with a Gaussian profile across, tapered
ends, and its own length, width, direction and brightness. A drop at relative distance z >= 1 is seen 1/z as long and
1/z as wide, so near drops draw few broad streaks and far drops many fine ones. Streaks never darken a pixel.

Everything is a pure function of its arguments; the same state of the generator gives the same rain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
Range = tuple[float, float]

# A drop far away is still drawn at least this wide (standard deviation in pixels): the optics blur it.
MIN_STREAK_SIGMA = 0.45
# Positions across a streak where its Gaussian profile is sampled, in standard deviations, equally spaced.
PROFILE_POSITIONS = np.linspace(-1.8, 1.8, 5)
# Part of a streak's length, at each end, over which it fades in and out.
TAPER = 0.25
# There is more room for drops far away than near: the density of distances falls by (1 - nearness) ** power.
DISTANCE_POWER = 1.0
# Density is counted per this many pixels.
DENSITY_AREA = 10_000.0


@dataclass(frozen=True)
class RainSettings:
    """From which ranges ``(low, high)`` the rain of one image is drawn, uniformly. Lengths are in pixels.

    ``density``: streaks per 10,000 pixels. ``length``, ``width``: of the nearest streaks; width is the full width at
    half maximum. ``angle``: degrees from vertical, positive when drops fall towards the right. ``angle_jitter``:
    standard deviation of single streaks around the image's angle, in degrees. ``brightness``: peak of the nearest
    streaks in S before saturation. ``brightness_variation``: relative standard deviation from streak to streak.
    ``max_distance``: relative distance of the farthest drops (1: all alike). ``veil``: v in the equation.
    ``veil_light``: V. ``streak_light``: E, as RGB.
    """

    density: Range = (50.0, 100.0)
    length: Range = (60.0, 120.0)
    width: Range = (2.4, 3.6)
    angle: Range = (-25.0, 25.0)
    angle_jitter: Range = (0.5, 2.0)
    brightness: Range = (0.5, 0.9)
    brightness_variation: float = 0.35
    max_distance: float = 4.0
    veil: Range = (0.05, 0.15)
    veil_light: float = 0.75
    streak_light: tuple[float, float, float] = (0.93, 0.95, 0.97)

    def __post_init__(self) -> None:
        for name in ("density", "length", "width", "angle", "angle_jitter", "brightness", "veil"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the range ({low}, {high}) is upside down")
            if low < 0 and name != "angle":
                raise ValueError(f"{name} must not be negative, but its range starts at {low}")
        if self.length[0] <= 0 or self.width[0] <= 0:
            raise ValueError("length and width must be positive")
        if self.max_distance < 1:
            raise ValueError(f"max_distance is relative to the nearest drops, so at least 1, not {self.max_distance}")


@dataclass(frozen=True)
class Rain:
    """The rain of one image: one value out of every range of :class:`RainSettings`, in the same units."""

    density: float
    length: float
    width: float
    angle: float
    angle_jitter: float
    brightness: float
    brightness_variation: float
    max_distance: float
    veil: float
    veil_light: float
    streak_light: tuple[float, float, float]


@dataclass(frozen=True)
class Streaks:
    """Geometry and brightness of ``n`` streaks, each field of shape [n]; pixels, radians from vertical, peak of s_i."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    length: NDArray[np.float64]
    sigma: NDArray[np.float64]
    angle: NDArray[np.float64]
    peak: NDArray[np.float64]


def draw_rain(settings: RainSettings, rng: np.random.Generator) -> Rain:
    """Choose the rain of one image: how dense, long, wide, slanted, bright and hazy it is."""
    return Rain(
        density=rng.uniform(*settings.density),
        length=rng.uniform(*settings.length),
        width=rng.uniform(*settings.width),
        angle=rng.uniform(*settings.angle),
        angle_jitter=rng.uniform(*settings.angle_jitter),
        brightness=rng.uniform(*settings.brightness),
        brightness_variation=settings.brightness_variation,
        max_distance=settings.max_distance,
        veil=rng.uniform(*settings.veil),
        veil_light=settings.veil_light,
        streak_light=settings.streak_light,
    )


def draw_streaks(height: int, width: int, rain: Rain, rng: np.random.Generator) -> Streaks:
    """Place the streaks of an image of ``height`` x ``width`` pixels, evenly, also those that start outside of it."""
    margin = rain.length / 2
    area = (height + 2 * margin) * (width + 2 * margin)
    count = rng.poisson(rain.density * area / DENSITY_AREA)
    nearness = rng.beta(1.0, 1.0 + DISTANCE_POWER, count)
    scale = 1.0 / (rain.max_distance - (rain.max_distance - 1.0) * nearness)
    fwhm_per_sigma = 2.0 * np.sqrt(2.0 * np.log(2.0))
    # Far drops are dimmer only by half as much as they are smaller: there the haze of many drops adds light.
    brightness = rain.brightness * np.sqrt(scale)
    variation = np.clip(rng.normal(1.0, rain.brightness_variation, count), 0.1, None)
    return Streaks(
        x=rng.uniform(-margin, width + margin, count),
        y=rng.uniform(-margin, height + margin, count),
        length=np.maximum(rain.length * scale * rng.uniform(0.7, 1.3, count), 1.0),
        sigma=np.maximum(rain.width * scale / fwhm_per_sigma, MIN_STREAK_SIGMA),
        angle=np.deg2rad(rng.normal(rain.angle, rain.angle_jitter, count)),
        peak=brightness * variation,
    )


def render_streaks(height: int, width: int, streaks: Streaks) -> FloatImage:
    """The streak layer S, float32 [height, width] in [0, 1).

    Every streak becomes points about one pixel apart along it and five across it, each shared bilinearly among its
    four pixels (anti-aliasing) and weighted by the area it stands for; all points are summed at once.
    """
    counts = np.ceil(streaks.length).astype(np.int64)
    owner = np.repeat(np.arange(counts.size), counts)
    within = np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)
    position = (within + 0.5) / counts[owner]  # 0 at one end of the streak, 1 at the other
    fade = np.clip(np.minimum(position, 1.0 - position) / TAPER, 0.0, 1.0)
    along = (position - 0.5) * streaks.length[owner]
    sin, cos = np.sin(streaks.angle), np.cos(streaks.angle)
    centre_x = streaks.x[owner] + along * sin[owner]
    centre_y = streaks.y[owner] + along * cos[owner]
    spacing = PROFILE_POSITIONS[1] - PROFILE_POSITIONS[0]
    area = (streaks.length / np.maximum(counts, 1) * spacing * streaks.sigma)[owner]
    weight = streaks.peak[owner] * fade * fade * (3.0 - 2.0 * fade) * area
    total = np.zeros(height * width)
    for across in PROFILE_POSITIONS:
        offset = across * streaks.sigma
        total += _splat(
            centre_x + (offset * cos)[owner],
            centre_y - (offset * sin)[owner],
            weight * np.exp(-0.5 * across * across),
            height,
            width,
        )
    return (1.0 - np.exp(-total)).astype(np.float32).reshape(height, width)


def _splat(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64], height: int, width: int
) -> NDArray[np.float64]:
    """Sum of points shared bilinearly among pixels, [height * width]; pixel (0, 0) has its centre at x = y = 0."""
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    x, y, weight = x[inside], y[inside], weight[inside]
    # One pixel of border takes what falls half outside, so that no test per corner is needed.
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, down = x - column, y - row
    stride = width + 2
    first = (row + 1) * stride + column + 1
    upper, lower = weight * (1.0 - down), weight * down
    index = np.concatenate([first, first + 1, first + stride, first + stride + 1])
    share = np.concatenate([upper * (1.0 - right), upper * right, lower * (1.0 - right), lower * right])
    padded = np.bincount(index, weights=share, minlength=(height + 2) * stride).reshape(height + 2, stride)
    return np.asarray(padded[1:-1, 1:-1].ravel(), dtype=np.float64)


def compose_rain(image: FloatImage, layer: FloatImage, rain: Rain) -> FloatImage:
    """O of the equation above: ``image`` [H, W, 3] in [0, 1] behind the veil and the streak layer [H, W]."""
    veiled = (1.0 - rain.veil) * image + rain.veil * rain.veil_light
    light = np.asarray(rain.streak_light, dtype=np.float32)
    rainy = veiled + layer[..., None] * light * (1.0 - veiled)
    return np.clip(rainy, 0.0, 1.0).astype(np.float32)


def add_rain(image: FloatImage, rng: np.random.Generator, settings: RainSettings | None = None) -> FloatImage:
    """A rainy copy of ``image``, float32 RGB [H, W, 3] in [0, 1]; what rain is drawn from ``settings`` by ``rng``.

    Raises ``ValueError`` when the image has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32:
        raise ValueError(f"expected a float32 image of shape [H, W, 3], got {image.dtype} {list(image.shape)}")
    height, width, _ = image.shape
    rain = draw_rain(settings or RainSettings(), rng)
    layer = render_streaks(height, width, draw_streaks(height, width, rain, rng))
    return compose_rain(image, layer, rain)
