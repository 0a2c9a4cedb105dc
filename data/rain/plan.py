"""Which clean images are rained on, which stay clean, and what every output file is called.

Paired: every clean image gives ``per_image`` rainy ones in ``<phase>A``, and as many copies of itself with the same
names in ``<phase>B``. Unpaired: no scene is on both sides. Clean images are ordered by the SHA-256 of seed and name;
the first half of them, rounded up, is rained on (``<phase>A``), the others stay clean (``<phase>B``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from data.files import output_names
from data.reading import ImageFile, UnreadableImage, image_size, read_image
from util.errors import UserError
from util.finding import IMAGE_SUFFIXES, find_files, same_name

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
    that shape. ``depth_step``: metres per step of a depth file, None for the file kind's own.
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
            image_size(job.clean)
        except UnreadableImage as error:
            raise _unreadable(error) from error


def read_clean(path: Path) -> Image.Image:
    """The RGB image in a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return read_image(path)
    except UnreadableImage as error:
        raise _unreadable(error) from error


def _unreadable(error: UnreadableImage) -> UserError:
    return UserError(f"--clean: '{error.path}' cannot be read as an image ({error.reason}); repair or remove it.")
