"""The work on one clean image: read, fit to the size, rain, write. Runs in a worker process."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data.rain.depth import read_depth
from data.rain.plan import Job, Settings, read_clean
from data.rain.presets import Weather
from data.rain.streaks import FloatImage
from data.rain.synthesis import Pixels, generator_for, rain_on
from util.errors import UserError

# zlib's Z_RLE: no repetitions but runs are searched for. Files become about 5 % larger, in half the time.
PNG_STRATEGY = 3
PEAK = 255.0


@dataclass(frozen=True)
class Output:
    """One written file. ``file`` is relative to the dataset; ``side`` A is rainy, B clean; ``sha256`` is that of its
    pixels (:func:`hash_pixels`); ``weather`` describes the rain and has the PSNR in dB over RGB."""

    file: str
    side: str
    source: str
    bytes: int
    sha256: str
    weather: dict[str, str] = field(default_factory=dict)


def make_images(job: Job, settings: Settings, folder: Path) -> list[Output]:
    """Write all outputs of ``job`` below ``folder``.

    Raises:
        UserError: the image or its depth cannot be used.
        OSError: a file cannot be written.
    """
    image = read_clean(job.clean)
    depth = None if job.depth is None else _depth_for(job, image, settings.depth_step)
    box = fitting(image.size, settings.size)
    clean = np.asarray(image if box is None else ImageOps.fit(image, box, Image.Resampling.LANCZOS))
    if depth is not None and box is not None:
        depth = _fit_depth(depth, box)
    outputs = []
    for draw, name in enumerate(job.rainy_outputs):
        rainy = rain_on(
            clean, generator_for(settings.seed, job.name, draw), settings.preset, depth=depth, fog=settings.fog
        )
        weather = {"psnr": f"{_psnr(clean, rainy.pixels):.3f}", **_describe(rainy.weather)}
        size = save_fast(rainy.pixels, folder / name)
        outputs.append(Output(name, "A", job.name, size, hash_pixels(rainy.pixels), weather))
    digest = hash_pixels(clean) if job.clean_outputs else ""
    for name in job.clean_outputs:
        first = folder / job.clean_outputs[0]
        size = save_fast(clean, first) if name == job.clean_outputs[0] else _link(first, folder / name)
        outputs.append(Output(name, "B", job.name, size, digest))
    return outputs


def fitting(size: tuple[int, int], wanted: tuple[int, int] | None) -> tuple[int, int] | None:
    """Width and height that an image of ``size`` is brought to for ``Settings.size``; None where it stays as it is."""
    if wanted is None:
        return None
    width, height = size
    if wanted[1] == 0:
        factor = wanted[0] / min(size)
        wanted = max(1, round(width * factor)), max(1, round(height * factor))
    return None if wanted == size else wanted


def hash_pixels(pixels: Pixels) -> str:
    """SHA-256 of the shape, as ``HxWx3`` and a line feed, and the bytes of an RGB image: no matter how it is packed."""
    digest = hashlib.sha256(("x".join(map(str, pixels.shape)) + "\n").encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def save_fast(pixels: Pixels, path: Path) -> int:
    """Write a PNG in little time and return its number of bytes.

    Raises:
        OSError: it cannot be written.
    """
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG", compress_level=1, compress_type=PNG_STRATEGY)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed.getbuffer())
    return packed.tell()


def _link(source: Path, target: Path) -> int:
    """The same file under a second name; a copy where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target.stat().st_size


def _depth_for(job: Job, image: Image.Image, step: float | None) -> FloatImage:
    assert job.depth is not None
    depth = read_depth(job.depth, step)
    height, width = depth.shape
    if (width, height) != image.size:
        raise UserError(
            f"--depth: '{job.depth}' has {width}×{height} pixels, but '{job.clean}' has {image.width}×{image.height}; "
            "give depth of the same size."
        )
    return depth


def _fit_depth(depth: FloatImage, box: tuple[int, int]) -> FloatImage:
    """As ``ImageOps.fit`` does with the image, but without mixing near and far into one pixel."""
    fitted = ImageOps.fit(Image.fromarray(depth), box, Image.Resampling.NEAREST)
    return np.asarray(fitted, dtype=np.float32)


def _psnr(clean: Pixels, rainy: Pixels) -> float:
    """In dB, over all channels; scikit-image's takes three times as long, as much as the rain itself needs."""
    difference = clean.astype(np.float32) - rainy
    mean = float(np.square(difference, out=difference).mean(dtype=np.float64))
    return float(10 * np.log10(PEAK**2 / mean)) if mean > 0 else float("inf")


def _describe(weather: Weather) -> dict[str, str]:
    near = weather.pattern.near[0]
    numbers = {
        "angle": weather.angle,
        "size": weather.size,
        "density": near.density,
        "length": near.length,
        "width": near.width,
        "peak": near.peak,
        "grain": weather.pattern.grain[0].density if weather.pattern.grain else 0.0,
        "veil": weather.veil,
        "alpha": weather.fog.alpha if weather.fog else 0.0,
        "beta": weather.fog.beta if weather.fog else 0.0,
    }
    return {"recipe": weather.recipe, **{name: f"{value:.4g}" for name, value in numbers.items()}}
