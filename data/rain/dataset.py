"""A data set of rainy and clean images on disk: planned, drawn by several processes, written completely or not at all.

``dataset.yaml`` says how it was made and with what result; ``images.csv`` lists every image with its rain, its PSNR
against the clean image and a hash of its pixels.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import scipy  # type: ignore[import-untyped]
from PIL import Image, ImageOps

from data.files import ImageFile, output_names
from data.manifest import write_manifest
from data.rain.depth import read_depth
from data.rain.presets import Weather
from data.rain.streaks import FloatImage
from data.rain.synthesis import Pixels, generator_for, rain_on
from util.errors import UserError
from util.finding import IMAGE_SUFFIXES, find_files, same_name
from util.pictures import UnreadablePicture, picture_size, read_eight_bit
from util.pictures.decoding import NoFile, require_file
from util.staging import Staging

Layout = Literal["paired", "unpaired"]
LAYOUTS: tuple[Layout, ...] = ("paired", "unpaired")

RULES: dict[Layout, str] = {
    "paired": "every clean image is rained on; A (rainy) and B (clean) have the same names",
    "unpaired": "clean images in the order of sha256('<seed>/<name>'): the first half, rounded up, is rained on (A), "
    "the others stay clean (B)",
}
# What names of depth files may have at their end, and names of clean images in place of it.
DEPTH_ENDINGS, CLEAN_ENDINGS = ("_depth_", "_depth"), ("_leftImg8bit",)


@dataclass(frozen=True)
class Settings:
    """All that decides about the outputs besides the input files.

    ``size``: None leaves images as they are, (N, 0) brings the shorter side to N pixels, (W, H) cuts out the middle in
    that shape. ``depth_step``: meters per step of a depth file, None for the file kind's own.
    """

    preset: str
    layout: Layout
    phase: str
    seed: int = 0
    per_image: int = 1
    size: tuple[int, int] | None = None
    fog: bool = True
    depth_step: float | None = None


@dataclass(frozen=True)
class Job:
    """One clean image and what becomes of it. Outputs are relative to the dataset, with forward slashes."""

    clean: Path
    name: str
    depth: Path | None
    rainy_outputs: tuple[str, ...]
    clean_outputs: tuple[str, ...]


def find_depths(folder: Path) -> list[ImageFile]:
    """All depth files below ``folder``: images and ``.npy``.

    Raises:
        UserError: a folder cannot be listed, or there is none.
    """
    found = [ImageFile(path, name) for name, path in find_files(folder, IMAGE_SUFFIXES | {".npy"}).items()]
    if not found:
        raise UserError(f"--depth {folder}: holds no depth file; give a folder of images or .npy files.")
    return found


def make_plan(files: Sequence[ImageFile], depths: Sequence[ImageFile] | None, settings: Settings) -> list[Job]:
    """One job for every clean image, in the order of ``files``.

    Raises:
        UserError: an image without depth, though ``depths`` are given; fewer than two images to be split in two.
    """
    rained = _rained_on(files, settings)
    depth_of = None if depths is None else {_scene(file, DEPTH_ENDINGS): file.path for file in depths}
    jobs = []
    for file, name in zip(files, output_names(files), strict=True):
        rainy = file.name in rained
        depth = None
        if rainy and depth_of is not None:
            depth = depth_of.get(_scene(file, ())) or depth_of.get(_scene(file, CLEAN_ENDINGS))
            if depth is None:
                raise _without_depth(file, len(depth_of))
        draws = [f"{name}_rain{draw + 1}" if settings.per_image > 1 else name for draw in range(settings.per_image)]
        clean = draws if settings.layout == "paired" else ([] if rainy else [name])
        jobs.append(
            Job(
                clean=file.path,
                name=file.name,
                depth=depth,
                rainy_outputs=tuple(f"{settings.phase}A/{draw}.png" for draw in draws) if rainy else (),
                clean_outputs=tuple(f"{settings.phase}B/{draw}.png" for draw in clean),
            )
        )
    return jobs


def _rained_on(files: Sequence[ImageFile], settings: Settings) -> set[str]:
    names = [file.name for file in files]
    if settings.layout == "paired":
        return set(names)
    if len(names) < len(("A", "B")):
        raise UserError(
            "--clean: holds one image alone, which cannot be split into a rainy and a clean side; add some."
        )

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{settings.seed}/{name}".encode("utf-8", errors="surrogateescape")).digest()

    return set(sorted(names, key=rank)[: (len(names) + 1) // 2])


def _scene(file: ImageFile, endings: Sequence[str]) -> str:
    """Relative path without extension and without the first of ``endings`` that it has."""
    stem = same_name(file.name.rpartition(".")[0])
    return next((stem.removesuffix(ending) for ending in endings if stem.endswith(ending)), stem)


def _without_depth(file: ImageFile, count: int) -> UserError:
    return UserError(
        f"--depth: none of the {count} files there belongs to '{file.name}'; name them like the clean images, "
        "with _depth at the end if you like."
    )


def check_headers(jobs: Sequence[Job]) -> None:
    """Look at the head of every clean image, so that most mistakes show before the work and not in its middle.

    Raises:
        UserError: a file is no image.
    """
    for job in jobs:
        try:
            picture_size(job.clean)
        except UnreadablePicture as error:
            raise _unreadable(error) from error


def read_clean(path: Path) -> Image.Image:
    """The RGB image in a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return read_eight_bit(path)
    except UnreadablePicture as error:
        raise _unreadable(error) from error


def _unreadable(error: UnreadablePicture) -> UserError:
    advice = error.advice("repair or remove it")
    return UserError(f"--clean: '{error.path}' cannot be read as an image ({error.reason}){advice}.")


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


LIST = "images.csv"
MADE_BY = "synthesize_rain"
# Raise when the same inputs and settings give other files, so that datasets of before are not taken for equal.
VERSION = 1
PSNR_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Inputs:
    """What is read: folders as the user named them, and the jobs."""

    clean: Path
    depth: Path | None
    jobs: Sequence[Job]


def fingerprint(inputs: Inputs, settings: Settings) -> str:
    """SHA-256 that changes with anything the outputs depend on: contents and names of the inputs, settings, version.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256(f"{VERSION} {sorted(asdict(settings).items())}\n".encode())
    for job in sorted(inputs.jobs, key=lambda job: job.name):
        for path in (job.clean, job.depth):
            if path is not None:
                try:
                    require_file(path)
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                except (OSError, NoFile) as error:
                    reason = error.strerror if isinstance(error, OSError) else error
                    raise UserError(f"'{path}' cannot be read ({reason}); check it and its permissions.") from error
                digest.update(f"{job.name}\t{content}\n".encode("utf-8", errors="surrogateescape"))
    return digest.hexdigest()


def write_dataset(
    inputs: Inputs, settings: Settings, out: Path, *, mark: str, workers: int = 1, progress: bool = False
) -> dict[str, Any]:
    """Write the dataset to ``out``, replacing what is there, and return its manifest.

    ``mark`` is its :func:`fingerprint`. Outputs do not depend on ``workers``.

    Raises:
        UserError: an image or depth file that cannot be used, or a file that cannot be written; ``out`` is as before.
    """
    with Staging(out, "--out") as staging:
        with _results(inputs.jobs, settings, staging.folder, workers) as results:
            outputs = list(_shown(results, len(inputs.jobs), progress))
        _write_list(staging.folder / LIST, outputs)
        manifest = write_manifest(staging.folder, MADE_BY, mark, _about(inputs, settings, outputs))
        staging.publish()
    return manifest


@contextmanager
def _results(jobs: Sequence[Job], settings: Settings, folder: Path, workers: int) -> Iterator[Iterable[list[Output]]]:
    """The outputs of each job, in the order of ``jobs``. No worker is left at the end, whatever happens before."""
    work = partial(make_images, settings=settings, folder=folder)
    if workers <= 1:
        yield map(work, jobs)
        return
    pool = ProcessPoolExecutor(max_workers=min(workers, len(jobs)), initializer=_leave_interrupts_to_the_main_process)
    try:
        yield pool.map(work, jobs)
    except BrokenProcessPool as error:
        raise UserError(
            f"--workers {workers}: a worker process was killed, probably out of memory; use fewer."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_main_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _shown(results: Iterable[list[Output]], total: int, progress: bool) -> Iterator[Output]:
    from tqdm import tqdm

    # Nothing is drawn where standard error is no terminal.
    for outputs in tqdm(results, total=total, unit="image", disable=None if progress else True):
        yield from outputs


def _write_list(path: Path, outputs: Sequence[Output]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "side", "source", "bytes", "sha256", *_weather_columns(outputs)], restval="")
    writer.writeheader()
    for output in outputs:
        row = {"file": output.file, "side": output.side, "source": output.source, "bytes": output.bytes}
        writer.writerow({**row, "sha256": output.sha256, **output.weather})
    path.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace", newline="")


def _weather_columns(outputs: Sequence[Output]) -> list[str]:
    return next((list(output.weather) for output in outputs if output.weather), [])


def _about(inputs: Inputs, settings: Settings, outputs: Sequence[Output]) -> dict[str, Any]:
    values = [float(output.weather["psnr"]) for output in outputs if output.weather]
    quantiles = np.percentile(values, PSNR_PERCENTILES, method="nearest")
    return {
        "version": VERSION,
        "source": {"clean": inputs.clean.as_posix(), "depth": inputs.depth.as_posix() if inputs.depth else None},
        "settings": {**asdict(settings), "size": list(settings.size) if settings.size else None},
        "rule": RULES[settings.layout],
        "counts": {f"{settings.phase}{side}": sum(output.side == side for output in outputs) for side in ("A", "B")},
        "input_psnr": {f"p{rank}": round(float(q), 2) for rank, q in zip(PSNR_PERCENTILES, quantiles, strict=True)},
        "sha256": {
            "file_list": _hash_lines(output.file for output in outputs),
            "images": _hash_lines(f"{output.file}\t{output.sha256}" for output in outputs),
        },
        "made_with": {"numpy": np.__version__, "scipy": scipy.__version__, "pillow": PIL.__version__},
    }


def _hash_lines(lines: Iterable[str]) -> str:
    text = "".join(f"{line}\n" for line in sorted(lines))
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()
