"""The data of the general model: rain of every kind at two sizes, and rain-free pictures of other scenes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import ImageFile
from data.manifest import existing, write_manifest
from data.rain.dataset import Inputs, Settings, check_headers, fingerprint, make_plan, write_dataset
from scripts._general.split import Split
from util.staging import Staging

MADE_BY = "train_general"
CLEAN = "clean"
"""A data set of its own in this sub-folder: the test's clean pictures on both sides, to see what harm is done."""
TRAIN_PRESET, TEST_PRESET = "streaks", "mixed"
# Shorter side in pixels. Published benchmarks have 320 to 1024; crops see streaks of the larger ones at full size.
TRAIN_SIDES, VAL_SIDE, TEST_SIDE = (512, 352), 384, 512
TRAIN_DRAWS, VAL_DRAWS, TEST_DRAWS = 6, 6, 2  # rainy versions of a photograph
TRAIN_SEED, VAL_SEED, TEST_SEED = 1, 2, 3


@dataclass(frozen=True)
class Part:
    """One call of the rain's synthesis; its folders ``<phase>A`` and ``<phase>B`` get the sub-folder ``place``."""

    files: Sequence[ImageFile]
    settings: Settings
    place: str


def parts_of(split: Split) -> list[Part]:
    """Unpaired for training: half of the scenes are rained on, the others stay clean. Pairs for the other two."""
    train = [
        Part(
            split.train,
            # Streaks alone: fog shifts color, which is what a discriminator then looks at instead of rain.
            Settings(TRAIN_PRESET, "unpaired", "train", TRAIN_SEED, TRAIN_DRAWS, (side, 0), fog=False),
            str(side),
        )
        for side in TRAIN_SIDES
    ]
    val = Settings(TEST_PRESET, "paired", "val", VAL_SEED, VAL_DRAWS, (VAL_SIDE, 0))
    test = Settings(TEST_PRESET, "paired", "test", TEST_SEED, TEST_DRAWS, (TEST_SIDE, 0))
    return [*train, Part(split.val, val, str(VAL_SIDE)), Part(split.test, test, str(TEST_SIDE))]


def make_dataset(photos: Path, split: Split, out: Path, *, workers: int) -> dict[str, Any]:
    """Write the dataset to ``out`` unless it is there already; returns its manifest: counts, hashes, input PSNR.

    Raises:
        UserError: an image that cannot be read, a file that cannot be written, or something else in ``out``.
    """
    parts = [
        (part, Inputs(photos, None, make_plan(part.files, None, part.settings)))
        for part in parts_of(split)
        if part.files
    ]
    marks = [f"{part.place} {fingerprint(inputs, part.settings)}" for part, inputs in parts]
    mark = hashlib.sha256("\n".join(marks).encode()).hexdigest()
    if (found := existing(out, MADE_BY, mark, flag="--out")) is not None:
        return found
    with Staging(out, "--out") as staging:
        written = {}
        for part, inputs in parts:
            check_headers(inputs.jobs)
            written[f"{part.settings.phase} {part.place}"] = _write(part, inputs, staging.folder, workers)
        _clean_pairs(staging.folder)
        manifest = write_manifest(staging.folder, MADE_BY, mark, {"parts": written})
        staging.publish()
    return manifest


def _write(part: Part, inputs: Inputs, folder: Path, workers: int) -> dict[str, Any]:
    """Synthesize one part and put its images into their place in ``folder``."""
    own = folder / ".part"
    written = write_dataset(inputs, part.settings, own, mark="", workers=workers)
    for domain in "AB":
        place = folder / f"{part.settings.phase}{domain}" / part.place
        place.parent.mkdir(parents=True, exist_ok=True)
        (own / f"{part.settings.phase}{domain}").replace(place)
    shutil.rmtree(own)
    return {key: written[key] for key in ("counts", "input_psnr", "sha256", "made_with") if key in written}


def _clean_pairs(folder: Path) -> None:
    """Make the data set ``CLEAN``: each scene of the test once, as input and as ground truth."""
    for scene in sorted((folder / "testB").rglob("*_rain1.png")):
        for domain in "AB":
            target = folder / CLEAN / f"test{domain}" / scene.name.replace("_rain1", "")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(scene, target)
