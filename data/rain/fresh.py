"""Rain drawn afresh for every training sample, fast enough for the loader: a crop and a generator give a pair.

Every pattern is a sum of points filtered with a few streaks (by FFT, cyclic), which is how rain is drawn in image
editors and how the published benchmarks were made, with all that makes rain look different drawn for each sample: kind,
direction, length, width, ends, beads, density, brightness, layers, gusts, scale, color, and the way in which it is put
on the image. The kinds:

``lines``  straight streaks of one direction, sparse to dense    ``fine``   short and faint
``heavy``  dense layers of up to five directions                 ``night``  short bright dashes in the color of lamps
``noise``  thresholded noise under motion blur                   ``snow``   flakes, splashes, drops out of focus
``photo``  near and far streaks, grain, a thin veil              ``dense``  soft streaks all over, as in downpours
``clean``  none: what is clean stays as it is

The same generator state gives the same pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Float = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Rng = np.random.Generator

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SHARES = {"lines": 0.21, "heavy": 0.18, "noise": 0.12, "photo": 0.13, "dense": 0.17, "fine": 0.05, "night": 0.05,
          "snow": 0.02, "clean": 0.07}  # fmt: skip
# Lengths are pixels at a shorter side of about 400; a streak much longer than the crop looks the same in it.
LONGEST = 1.8
SECOND_KIND = 0.08
NATURAL = ("photo", "dense", "fine", "snow", "real")
LAYER_SHARE = 0.12  # of the samples, where there are layers of real rain
# Photographs come sharpened, noisy and compressed: so are both sides of this share of the samples, by kind.
CAMERA_SHARE = {"lines": 0.15, "heavy": 0.15, "clean": 0.4}
ANY_CAMERA_SHARE = 0.6
JPEG_QUALITY = (55, 98)
DULL_SHARE = 0.35  # of the photographs under another light: darker, flatter, grayer


@dataclass(frozen=True)
class Streak:
    """One streak: pixels, radians from vertical. ``soft``: share of the length that each end fades over; ``skew``:
    how much brighter the lower end is; ``flat``: a flat profile across with soft edges, as of a drop out of focus."""

    length: float
    width: float
    angle: float
    soft: float = 0.3
    skew: float = 0.0
    beads: float = 0.0
    flat: bool = False


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number whose logarithm is drawn evenly."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def streak_kernel(streak: Streak, rng: Rng) -> Float:
    """The streak as float32 [h, w] of peak about 1, h and w odd, its middle up to half a pixel off the middle."""
    sin, cos = np.sin(streak.angle), np.cos(streak.angle)
    sigma = max(streak.width / 2.355, 0.42)
    reach = (1.6 if streak.flat else 2.6) * sigma + 1
    tall, wide = (int(np.ceil(0.5 * streak.length * abs(part) + reach)) for part in (cos, sin))
    off = rng.uniform(-0.5, 0.5, 2)
    y = (np.arange(-tall, tall + 1) - off[0]).astype(np.float32)[:, None]
    x = (np.arange(-wide, wide + 1) - off[1]).astype(np.float32)[None]
    along = (x * np.float32(sin) + y * np.float32(cos)) / np.float32(max(streak.length, 1.0))
    squared = ((x * np.float32(cos) - y * np.float32(sin)) / np.float32(sigma)) ** 2
    kernel = np.exp(-0.25 * squared * squared) if streak.flat else np.exp(-0.5 * squared)
    # Half a pixel of fading at least, or ends would be jagged.
    soft = max(streak.soft, 0.5 / max(streak.length, 1.0))
    kernel *= np.clip((0.5 + soft / 4 - np.abs(along)) / np.float32(soft), 0, 1)
    if streak.skew:
        kernel *= np.clip(1 + 2 * streak.skew * along, 0, None)
    if streak.beads:
        spots, phase = rng.uniform(1, 4), rng.random()
        kernel *= 1 - streak.beads * (0.5 + 0.5 * np.cos(2 * np.pi * (spots * along + phase)))
    return np.asarray(kernel, np.float32)


def disc_kernel(radius: float, rng: Rng) -> Float:
    """A round spot with soft edges; a ring now and then, as drops out of focus are."""
    reach = int(np.ceil(1.4 * radius + 1))
    off = rng.uniform(-0.5, 0.5, 2)
    y = (np.arange(-reach, reach + 1) - off[0]).astype(np.float32)[:, None]
    x = (np.arange(-reach, reach + 1) - off[1]).astype(np.float32)[None] * np.float32(rng.uniform(0.75, 1.3))
    far = np.hypot(x, y) / np.float32(radius)
    spot = np.exp(-0.7 * far**2) if rng.random() < 0.6 else np.exp(-0.7 * far**6)
    if rng.random() < 0.15:
        spot = spot * np.clip(far, 0.3, 1)
    return np.asarray(spot, np.float32)


def spread(points: list[Float], kernels: list[Float], shape: tuple[int, int]) -> Float:
    """Each field of points filtered with its kernel, summed, the part [H, W] of ``shape``, not below 0."""
    canvas = points[0].shape
    spectrum = None
    for field, kernel in zip(points, kernels, strict=True):
        padded = np.zeros(canvas, np.float32)
        padded[: kernel.shape[0], : kernel.shape[1]] = kernel
        product = scipy.fft.rfft2(field) * scipy.fft.rfft2(padded)
        spectrum = product if spectrum is None else spectrum + product
    summed = scipy.fft.irfft2(spectrum, s=canvas)
    return np.maximum(summed[: shape[0], : shape[1]], 0)


def canvas_for(kernels: list[Float], shape: tuple[int, int]) -> tuple[int, int]:
    """A size that the FFT likes, at least ``shape`` and every kernel's."""
    tall, wide = (max(side, *(kernel.shape[axis] for kernel in kernels)) for axis, side in enumerate(shape))
    return scipy.fft.next_fast_len(tall, real=True), scipy.fft.next_fast_len(wide, real=True)


def scatter(kernels: list[Float], shape: tuple[int, int], coverage: float, variation: float, rng: Rng) -> Float:
    """Kernels at random places: ``coverage`` is the sum of the kernels' values over the number of pixels."""
    canvas = canvas_for(kernels, shape)
    area = canvas[0] * canvas[1]
    points = []
    for kernel in kernels:
        count = max(int(rng.poisson(coverage * area / len(kernels) / max(float(kernel.sum()), 0.5))), 0)
        gain = np.ones(count) if variation == 0 else rng.standard_gamma(variation**-2, count) * variation**2
        field = np.bincount(rng.integers(0, area, count), gain, area)
        points.append(field.astype(np.float32).reshape(canvas))
    return spread(points, kernels, shape)


def smooth_field(shape: tuple[int, int], cells: int, rng: Rng) -> Float:
    """A smooth field, normal with mean 0 and a standard deviation below 1."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    image = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def alike(base: Streak, count: int, jitter: float, vary: float, rng: Rng) -> list[Float]:
    """``count`` streaks around ``base``: ``jitter`` degrees, ``vary`` of the lengths and half of it of the widths."""
    return [
        streak_kernel(
            Streak(
                max(1.0, base.length * float(np.exp(rng.normal(0, vary)))),
                base.width * float(np.exp(rng.normal(0, vary / 2))),
                base.angle + np.deg2rad(rng.normal(0, jitter)),
                base.soft,
                base.skew,
                base.beads,
                base.flat,
            ),
            rng,
        )
        for _ in range(count)
    ]


def some_streak(rng: Rng, size: float, longest: float, length: tuple[float, float], width: tuple[float, float],
                slant: float) -> Streak:  # fmt: skip
    """A streak with ends, skew and beads of its own."""
    return Streak(
        length=min(log_uniform(rng, *length) * size, longest),
        width=max(log_uniform(rng, *width) * size, 0.8),
        angle=float(np.deg2rad(rng.uniform(-slant, slant))),
        soft=float(rng.choice([0.05, 0.15, 0.3, 0.5])) * rng.uniform(0.8, 1.2),
        skew=float(rng.uniform(-0.8, 0.8)) if rng.random() < 0.2 else 0.0,
        beads=float(rng.uniform(0, 0.7)) if rng.random() < 0.2 else 0.0,
    )


# Each kind: (shape, size factor, generator) -> s of the pattern, float32 [H, W], 0 or more.


def lines(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Straight streaks of one direction."""
    base = some_streak(rng, size, LONGEST * max(shape), (12, 130), (0.9, 3.0), rng.choice([20, 45, 45, 80]))
    kernels = alike(base, int(rng.integers(1, 4)), rng.choice([0.0, 0.5, 2.0]), rng.choice([0.05, 0.3]), rng)
    s = scatter(kernels, shape, log_uniform(rng, 0.008, 0.30), rng.choice([0.0, 0.3, 0.6]), rng)
    return s * np.float32(log_uniform(rng, 0.12, 0.9))


def heavy(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Dense layers of one to five directions."""
    layers = int(rng.choice([1, 1, 2, 2, 3, 4, 5]))
    total = log_uniform(rng, 0.12, 1.1)
    peak = rng.uniform(0.3, 1.0)
    middle, fan = rng.uniform(-30, 30), rng.choice([10, 30, 50])
    out = np.zeros(shape, np.float32)
    alike_layers = rng.random() < 0.5
    base = some_streak(rng, size, LONGEST * max(shape), (12, 120), (1.0, 4.0), 1)
    for _ in range(layers):
        if not alike_layers:
            base = some_streak(rng, size, LONGEST * max(shape), (12, 120), (1.0, 4.0), 1)
        turned = Streak(base.length, base.width, float(np.deg2rad(middle + rng.uniform(-fan, fan))), base.soft)
        kernels = alike(turned, int(rng.integers(1, 3)), rng.choice([0.0, 1.0, 3.0]), rng.choice([0.1, 0.35]), rng)
        out += np.float32(rng.uniform(0.6, 1.2)) * scatter(kernels, shape, total / layers, rng.choice([0, 0.4]), rng)
    return out * np.float32(peak)


def noise(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Noise, thresholded, under motion blur, contrast stretched: rain as drawn in an image editor."""
    out = np.zeros(shape, np.float32)
    for _ in range(int(rng.choice([1, 1, 2]))):
        base = some_streak(rng, size, LONGEST * max(shape), (6, 90), (0.5, 2.4), rng.choice([15, 45, 60]))
        kernels = alike(base, 1, 0, 0.0, rng)
        canvas = canvas_for(kernels, shape)
        if rng.random() < 0.5:
            # Coarse grains: noise drawn smaller and enlarged.
            grain = max(1.0, rng.uniform(1, 2.5) * size)
            small = rng.standard_normal((int(canvas[0] / grain) + 1, int(canvas[1] / grain) + 1), np.float32)
            resized = Image.fromarray(small).resize((canvas[1], canvas[0]), Image.Resampling.BILINEAR)
            field = np.asarray(resized, np.float32)
        else:
            field = rng.standard_normal(canvas, np.float32)
        field = np.maximum(field - np.float32(rng.uniform(-0.5, 2.2)), 0)
        s = spread([field], kernels, shape)
        low, high = np.percentile(s[::2, ::2], [rng.uniform(5, 75), rng.uniform(95, 100)])
        s = np.clip((s - low) / max(high - low, 1e-6), 0, 1.5)
        if rng.random() < 0.3:
            s = s ** np.float32(rng.uniform(0.7, 2))
        out += s * np.float32(log_uniform(rng, 0.06, 0.75))
    return out


def photo(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Near streaks, far ones, grain, a few out of focus."""
    longest = LONGEST * max(shape)
    base = some_streak(rng, size, longest, (14, 90), (1.0, 3.2), rng.choice([10, 25, 40]))
    jitter = rng.uniform(0.3, 3.5)
    s = scatter(alike(base, 2, jitter, 0.3, rng), shape, log_uniform(rng, 0.003, 0.12), 0.5, rng)
    s *= np.float32(log_uniform(rng, 0.12, 0.95))
    far = rng.uniform(2, 5)
    small = Streak(max(2.0, base.length / far), max(0.8, base.width / far), base.angle, base.soft)
    if rng.random() < 0.8:
        grain = scatter(alike(small, 2, 2 * jitter, 0.3, rng), shape, log_uniform(rng, 0.02, 1.5), 0.8, rng)
        s += grain * np.float32(log_uniform(rng, 0.04, 0.7))
    if rng.random() < 0.3:
        wide = Streak(min(1.8 * base.length, longest), base.width * rng.uniform(2.5, 6), base.angle, 0.4, flat=True)
        s += scatter(alike(wide, 1, jitter, 0.3, rng), shape, log_uniform(rng, 0.01, 0.1), 0.4, rng) * np.float32(
            rng.uniform(0.05, 0.35)
        )
    return s


def dense(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Soft streaks all over, hardly any place without, as in photographs of downpours.

    Part of their mean is left out, since it is a veil that cannot be told from haze: so this may be below 0.
    """
    base = some_streak(rng, size, LONGEST * max(shape), (8, 60), (0.9, 3.0), rng.choice([12, 30]))
    base = replace(base, soft=rng.uniform(0.25, 0.6))
    jitter = rng.uniform(0.5, 6)
    s = scatter(alike(base, 3, jitter, 0.35, rng), shape, log_uniform(rng, 0.15, 2.5), rng.uniform(0.4, 1.0), rng)
    if rng.random() < 0.6:
        far = rng.uniform(1.6, 4)
        small = replace(base, length=max(3.0, base.length / far), width=max(0.8, base.width / far))
        grain = scatter(alike(small, 2, jitter, 0.3, rng), shape, log_uniform(rng, 0.3, 2.5), 0.8, rng)
        s += grain * np.float32(rng.uniform(0.2, 0.8))
    s *= np.float32(log_uniform(rng, 0.04, 0.9))
    return s - np.float32(rng.uniform(0, 1)) * s.mean()


def fine(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Short, thin, faint, few."""
    base = some_streak(rng, size, LONGEST * max(shape), (5, 40), (0.8, 2.2), 25)
    s = scatter(alike(base, 2, rng.uniform(0.5, 6), 0.35, rng), shape, log_uniform(rng, 0.004, 0.12), 0.6, rng)
    return s * np.float32(log_uniform(rng, 0.06, 0.5))


def dashes(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Short bright dashes."""
    base = some_streak(rng, size, LONGEST * max(shape), (4, 40), (0.9, 2.8), rng.choice([15, 40]))
    s = scatter(alike(base, 3, rng.uniform(0.5, 5), 0.4, rng), shape, log_uniform(rng, 0.008, 0.25), 0.7, rng)
    return s * np.float32(log_uniform(rng, 0.25, 1.6))


def snow(shape: tuple[int, int], size: float, rng: Rng) -> Float:
    """Flakes, splashes, drops out of focus, some of them moving."""
    radius = log_uniform(rng, 0.8, 5) * size
    if rng.random() < 0.5:
        kernels = [disc_kernel(min(radius * rng.uniform(0.6, 1.6), 40), rng) for _ in range(3)]
    else:
        angle = float(np.deg2rad(rng.uniform(-50, 50)))
        streak = Streak(2.5 * radius * rng.uniform(1, 2.5), 1.8 * radius, angle, 0.5, flat=rng.random() < 0.5)
        kernels = alike(streak, 3, 10, 0.3, rng)
    s = scatter(kernels, shape, log_uniform(rng, 0.004, 0.15), 0.6, rng)
    return s * np.float32(log_uniform(rng, 0.15, 1.2))


def from_layer(layer: Pixels, shape: tuple[int, int], rng: Rng) -> Float:
    """A part of a layer of real rain, uint8 [H, W]: enlarged or reduced, turned a little, mirrored, of any strength."""
    side = int(np.ceil(1.3 * max(shape)))  # room to turn in
    zoom = max(log_uniform(rng, 0.6, 2.0), side / min(layer.shape))
    part = int(side / zoom)
    top, left = (int(rng.integers(0, length - part + 1)) for length in layer.shape)
    image = Image.fromarray(layer[top : top + part, left : left + part]).resize((side, side), Image.Resampling.BICUBIC)
    turned = np.asarray(image.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR), np.float32)
    turned = turned[:, ::-1] if rng.random() < 0.5 else turned
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    s = turned[top : top + shape[0], left : left + shape[1]]
    s = s * np.float32(log_uniform(rng, 0.06, 0.9)) / max(float(np.percentile(s[::2, ::2], 99)), 8.0)
    return s - np.float32(rng.uniform(0, 1)) * s.mean()


KINDS: dict[str, Callable[[tuple[int, int], float, Rng], Float]] = {
    "lines": lines, "heavy": heavy, "noise": noise, "photo": photo, "dense": dense,
    "fine": fine, "night": dashes, "snow": snow,
}  # fmt: skip


def some_size(rng: Rng) -> float:
    """The factor on all lengths: near 1 mostly, as in pictures of benchmark size, from thumbnail to camera else."""
    return log_uniform(rng, 0.65, 1.6) if rng.random() < 0.65 else log_uniform(rng, 0.35, 4.0)


def another_light(image: Float, rng: Rng) -> Float:
    """The photograph darker or brighter, flatter, grayer: as under clouds. A change of the clean side."""
    if rng.random() < 0.6:
        image = image ** np.float32(log_uniform(rng, 0.7, 1.7))
    if rng.random() < 0.5:
        gray = (image @ LUMA)[..., None]
        image = gray + (image - gray) * np.float32(rng.uniform(0.0, 1.15))
    if rng.random() < 0.5:
        low, high = rng.uniform(0, 0.3), rng.uniform(0.6, 1)
        image = np.float32(low) + image * np.float32(high - low)
    return np.clip(image, 0, 1)


def nightfall(image: Float, rng: Rng) -> tuple[Float, Float]:
    """The photograph at night with a few lamps, and the color of the light at each place, both [H, W, 3]."""
    height, width, _ = image.shape
    image = image ** np.float32(rng.uniform(1.1, 2.2)) * np.float32(rng.uniform(0.15, 0.7))
    cast = np.array([1, rng.uniform(0.7, 1.0), rng.uniform(0.4, 1.2)], np.float32)
    image = image * (cast / cast.max())
    light = np.full_like(image, np.float32(rng.uniform(0.05, 0.5)))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        center, reach = rng.uniform(-0.2, 1.2, 2) * (height, width), log_uniform(rng, 0.1, 0.7) * height
        squared = ((y - np.float32(center[0])) ** 2 + (x - np.float32(center[1])) ** 2) / np.float32(reach) ** 2
        color = np.array([1, rng.uniform(0.5, 1), rng.uniform(0.1, 1)], np.float32)
        color = color[rng.permutation(3)] if rng.random() < 0.3 else color
        light += np.exp(-squared)[..., None] * color
        image = image + np.float32(rng.uniform(0.1, 0.6)) * np.exp(-6 * squared)[..., None] * color
        lamp = np.exp(-((squared * np.float32(rng.uniform(60, 400))) ** 2))[..., None]
        image = image + lamp * color
    return np.clip(image, 0, 1), light


def compose(image: Float, s: Float, rng: Rng, *, natural: bool) -> Float:
    """Put the pattern on the image: as light on top, by screen, or in front of it, as ``natural`` rain mostly is."""
    pattern = 1 - np.exp(-s) if rng.random() < 0.5 else np.minimum(s, 1)
    bright = np.percentile(image[::4, ::4] @ LUMA, 90)
    how = rng.random() + 0.35 * natural
    if rng.random() < (0.2 if natural else 0.6):
        color = np.ones(3, np.float32)
    else:
        color = np.full(3, min(1.0, max(0.45, bright) * rng.uniform(0.85, 1.2)), np.float32)
        if rng.random() < 0.5:
            color *= np.array([rng.uniform(0.93, 1), rng.uniform(0.97, 1), 1], np.float32)
    rain = pattern[..., None] * color
    if how < 0.55:
        return image + rain
    if how < 0.75:
        return image + rain * (1 - image)
    return image * (1 - pattern[..., None]) + rain


def veil(image: Float, rng: Rng) -> Float:
    """An even thin veil, or one that thickens upwards."""
    strength = rng.uniform(0, 0.2)
    color = np.float32(rng.uniform(0.6, 0.95))
    share = np.full(image.shape[:2], strength, np.float32)
    if rng.random() < 0.5:
        share = share * np.linspace(1, rng.uniform(0, 1), image.shape[0], dtype=np.float32)[:, None]
    return image + (color - image) * share[..., None]


def camera(images: list[Pixels], rng: Rng) -> list[Pixels]:
    """All images blurred, sharpened, noisy, through a JPEG file: each perhaps, and all alike."""
    filters: list[ImageFilter.Filter] = []
    if rng.random() < 0.25:
        filters.append(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    if rng.random() < 0.4:
        filters.append(ImageFilter.UnsharpMask(rng.uniform(0.6, 2), int(rng.uniform(30, 160)), 0))
    grain = rng.normal(0, rng.uniform(0.5, 4), images[0].shape) if rng.random() < 0.2 else None
    quality = int(rng.integers(*JPEG_QUALITY)) if rng.random() < 0.75 else None
    out = []
    for pixels in images:
        image = Image.fromarray(pixels)
        for each in filters:
            image = image.filter(each)
        pixels = np.asarray(image)
        if grain is not None:
            pixels = np.clip(pixels + grain, 0, 255).round().astype(np.uint8)
        if quality is not None:
            buffer = BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
            pixels = np.asarray(Image.open(buffer))
        out.append(pixels)
    return out


def to_pixels(image: Float) -> Pixels:
    """[0, 1], clipped, to 8 bits, rounded."""
    return (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def rainy_pair(clean: Pixels, rng: Rng, layers: Sequence[Pixels] = ()) -> tuple[Pixels, Pixels, str]:
    """(rainy, clean, kind) of a crop uint8 [H, W, 3]; the clean one may come back under another light.

    ``layers``, uint8 [H, W], are rain taken off real photographs; some of the samples, of kind ``real``, get it.
    """
    image = clean * np.float32(1 / 255)
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if layers and rng.random() < LAYER_SHARE:
        kind = "real"
    if rng.random() < DULL_SHARE:
        image = another_light(image, rng)
    shape = (clean.shape[0], clean.shape[1])
    light = None
    if kind == "night":
        image, light = nightfall(image, rng)
    rainy = image
    if kind != "clean":
        size = some_size(rng)
        if kind == "real":
            s = from_layer(layers[int(rng.integers(len(layers)))], shape, rng)
        else:
            s = KINDS[kind](shape, size, rng)
        if rng.random() < SECOND_KIND:
            s = s + KINDS[str(rng.choice(list(KINDS)))](shape, some_size(rng), rng)
        if rng.random() < 0.35:
            gust = smooth_field(shape, int(rng.integers(2, 5)), rng) * np.float32(rng.uniform(0.2, 1.0))
            s = s * np.exp(gust)
        if rng.random() < (0.3 if kind in ("photo", "fine") else 0.03):
            rainy = veil(rainy, rng)
        natural = kind in NATURAL or (kind == "heavy" and rng.random() < 0.25)
        if light is None:
            rainy = compose(rainy, s, rng, natural=natural)
        else:
            rainy = rainy + np.minimum(s, 1.5)[..., None] * light
    before, after = to_pixels(rainy), to_pixels(image)
    if rng.random() < CAMERA_SHARE.get(kind, ANY_CAMERA_SHARE):
        before, after = camera([before, after], rng)
    return before, after, kind
