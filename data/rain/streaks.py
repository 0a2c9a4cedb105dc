"""Streak patterns out of curtains of rain: what a camera sees of all drops that fall in about one direction.

The pattern is ``R = 1 - exp(-sum_i s_i)`` with one s_i >= 0 for every streak, so overlapping streaks saturate. Near
drops are single streaks: a curtain prepares a few dozen of them as sprites, each with a length, width, direction,
sub-pixel position and beading of its own, and adds them at many places. Drops too far and many to be distinguished are
grain: random points filtered with short streaks. A gust field makes the rain denser here and thinner there.

Lengths are pixels of an image whose shorter side has ``REFERENCE_SIDE`` pixels; ``scale`` turns them into real ones,
so that a large photograph shows the same rain as a small one. The same generator state gives the same pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image

FloatImage = NDArray[np.float32]

REFERENCE_SIDE = 512
# Density is counted per this many pixels.
DENSITY_AREA = 10_000.0
# A drop far away is still drawn at least this wide (standard deviation in pixels): the optics blur it.
MIN_STREAK_SIGMA = 0.45
# Part of a streak's length, at each end, over which it fades in and out.
TAPER = 0.25
# Sprites per curtain: so many that their repetition does not show.
SPRITES = 40
# A sprite ends where its Gaussian profile has fallen below 2 % (standard deviations).
CUTOFF = 2.8
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
# Grain is filtered with this many streaks of different length and direction.
GRAIN_KERNELS = 4
# Bright spots along a streak, where the falling drop swings towards and away from the light: per length.
BEADS = (1.0, 3.5)
# Points of the gust field along the shorter side.
GUST_POINTS = 4


@dataclass(frozen=True)
class Curtain:
    """Drops that fall in about one direction.

    ``density``: streaks per 10,000 pixels of the reference size. ``length``, ``width`` (full width at half maximum):
    of the nearest streaks, in pixels of the reference size. ``angle``: degrees from vertical, positive towards the
    right; ``jitter``: standard deviation around it. ``peak``: of s_i for the nearest streaks; ``variation``: its
    relative standard deviation. ``far``: relative distance of the farthest drops, seen 1 / far as long and wide
    (1: all alike). ``bead``: depth of the bright spots along a streak, 0 to 1. ``defocus``: whether the profile across
    is flat with soft edges, as of a drop that is out of focus, instead of a Gaussian.
    """

    density: float
    length: float
    width: float
    angle: float
    jitter: float = 1.0
    peak: float = 0.5
    variation: float = 0.35
    far: float = 1.0
    bead: float = 0.0
    defocus: bool = False


@dataclass(frozen=True)
class Pattern:
    """All curtains of an image: ``near`` drawn as streaks, ``grain`` as filtered points; ``gust`` is the relative
    standard deviation of the density over the image."""

    near: tuple[Curtain, ...] = ()
    grain: tuple[Curtain, ...] = ()
    gust: float = 0.0


def render_pattern(height: int, width: int, pattern: Pattern, scale: float, rng: np.random.Generator) -> FloatImage:
    """The streak pattern R, float32 [height, width] in [0, 1).

    ``scale``: real pixels per pixel of the reference size.
    """
    total = np.zeros((height, width), np.float32)
    for curtain in pattern.grain:
        total += _grain(height, width, curtain, scale, rng)
    for curtain in pattern.near:
        total += _near(height, width, curtain, scale, rng)
    if pattern.gust > 0:
        total *= gust_field(height, width, pattern.gust, rng)
    np.negative(total, out=total)
    np.expm1(total, out=total)
    return np.negative(total, out=total)


def streak_sprite(
    length: float,
    sigma: float,
    angle: float,
    shift: tuple[float, float] = (0.0, 0.0),
    *,
    defocus: bool = False,
    bead: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> FloatImage:
    """One streak of peak 1, float32 [h, w] with odd h and w, its middle ``shift`` (x, y) away from the middle pixel.

    ``length`` and ``sigma`` in pixels, ``angle`` in radians from vertical; ``bead``: depth, spots, phase.
    """
    sin, cos = np.sin(angle), np.cos(angle)
    reach = CUTOFF * sigma + 1.0
    half_height = int(np.ceil(0.5 * length * abs(cos) + reach))
    half_width = int(np.ceil(0.5 * length * abs(sin) + reach))
    y = np.arange(-half_height, half_height + 1, dtype=np.float32)[:, None] - np.float32(shift[1])
    x = np.arange(-half_width, half_width + 1, dtype=np.float32)[None, :] - np.float32(shift[0])
    along = (x * np.float32(sin) + y * np.float32(cos)) / np.float32(length)  # -0.5 at one end, 0.5 at the other
    across = (x * np.float32(cos) - y * np.float32(sin)) / np.float32(sigma)
    fade = np.clip((0.5 - np.abs(along)) / TAPER, 0.0, 1.0)
    squared = across * across
    profile = np.exp(-0.25 * squared * squared) if defocus else np.exp(-0.5 * squared)
    depth, spots, phase = bead
    if depth > 0:
        profile *= 1.0 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * (spots * along + phase)))
    return np.asarray(profile * fade * fade * (3.0 - 2.0 * fade), dtype=np.float32)


def _distances(curtain: Curtain, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How large ``count`` drops appear, relative to the nearest: from 1 / far to 1, more of them far than near."""
    nearness = rng.beta(1.0, 2.0, count)
    return np.asarray(1.0 / (curtain.far - (curtain.far - 1.0) * nearness))


def _sprites(curtain: Curtain, scale: float, count: int, rng: np.random.Generator) -> list[FloatImage]:
    """``count`` streaks as drops of this curtain draw them, brightness included."""
    size = _distances(curtain, count, rng)
    length = np.maximum(scale * curtain.length * size * rng.uniform(0.65, 1.35, count), 1.5)
    sigma = np.maximum(scale * curtain.width * size / FWHM_PER_SIGMA, MIN_STREAK_SIGMA)
    angle = np.deg2rad(rng.normal(curtain.angle, curtain.jitter, count))
    # Far drops are dimmer only by half as much as they are smaller: there the haze of many drops adds light.
    peak = curtain.peak * np.sqrt(size)
    shift = rng.uniform(-0.5, 0.5, (count, 2))
    beads = np.stack([np.full(count, curtain.bead), rng.uniform(*BEADS, count), rng.random(count)], axis=1)
    return [
        np.float32(peak[i])
        * streak_sprite(
            length[i],
            sigma[i],
            angle[i],
            (shift[i, 0], shift[i, 1]),
            defocus=curtain.defocus,
            bead=(beads[i, 0], beads[i, 1], beads[i, 2]),
        )
        for i in range(count)
    ]


def _count(curtain: Curtain, height: int, width: int, scale: float, rng: np.random.Generator) -> int:
    return int(rng.poisson(curtain.density * height * width / (scale * scale * DENSITY_AREA)))


def _brightness(curtain: Curtain, count: int, rng: np.random.Generator) -> FloatImage:
    """Relative brightness of single streaks: a gamma distribution of mean 1, so a few are much brighter than most."""
    if curtain.variation == 0:
        return np.ones(count, np.float32)
    shape = curtain.variation**-2
    return np.asarray(rng.standard_gamma(shape, count) / shape, dtype=np.float32)


def _near(height: int, width: int, curtain: Curtain, scale: float, rng: np.random.Generator) -> FloatImage:
    """Sum of the single streaks, float32 [height, width]."""
    sprites = _sprites(curtain, scale, SPRITES, rng)
    # Streaks whose middle lies outside of the image reach into it by half their size; the canvas has room for all of
    # such a streak, so that none needs to be cut.
    top = max(sprite.shape[0] for sprite in sprites) // 2
    left = max(sprite.shape[1] for sprite in sprites) // 2
    tall, wide = height + 2 * top, width + 2 * left  # where the middles lie
    canvas = np.zeros((tall + 2 * top, wide + 2 * left), np.float32)
    count = _count(curtain, tall, wide, scale, rng)
    rows, columns = rng.integers(0, tall, count).tolist(), rng.integers(0, wide, count).tolist()
    kinds = rng.integers(0, len(sprites), count).tolist()
    for row, column, kind, factor in zip(rows, columns, kinds, _brightness(curtain, count, rng), strict=True):
        sprite = sprites[kind]
        h, w = sprite.shape
        y, x = row + top - h // 2, column + left - w // 2
        canvas[y : y + h, x : x + w] += factor * sprite
    return canvas[2 * top : 2 * top + height, 2 * left : 2 * left + width]


def _grain(height: int, width: int, curtain: Curtain, scale: float, rng: np.random.Generator) -> FloatImage:
    """Sum of very many fine streaks, float32 [height, width]: random points, convolved with a few streaks by FFT.

    The convolution is cyclic: what leaves at one border enters at the opposite one.
    """
    kernels = _sprites(curtain, scale, GRAIN_KERNELS, rng)
    tall, wide = (
        scipy.fft.next_fast_len(max(side, *sizes), real=True)
        for side, sizes in zip((height, width), zip(*(k.shape for k in kernels), strict=True), strict=True)
    )
    spectrum: NDArray[np.complex64] | None = None
    for kernel in kernels:
        count = _count(curtain, tall, wide, scale, rng) // len(kernels)
        cells = rng.integers(0, tall * wide, count)
        points = np.bincount(cells, _brightness(curtain, count, rng), tall * wide).astype(np.float32)
        shape = np.zeros((tall, wide), np.float32)
        shape[: kernel.shape[0], : kernel.shape[1]] = kernel
        product = scipy.fft.rfft2(points.reshape(tall, wide)) * scipy.fft.rfft2(shape)
        spectrum = product if spectrum is None else spectrum + product
    summed = scipy.fft.irfft2(spectrum, s=(tall, wide))[:height, :width]
    return np.maximum(summed, 0.0)  # the transform leaves rounding errors around zero


def gust_field(height: int, width: int, strength: float, rng: np.random.Generator) -> FloatImage:
    """A smooth factor around 1 with about the relative standard deviation ``strength``, float32 [height, width] > 0."""
    short = min(height, width)
    points = [max(2, round(GUST_POINTS * side / short)) for side in (height, width)]
    coarse = rng.normal(0.0, strength, points).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(np.exp(np.asarray(smooth, dtype=np.float32)), dtype=np.float32)
