"""Pairs of the same scene, for supervised experiments and for tests with ground truth."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from data.cache import ImageCache
from data.files import (
    Unit,
    check_pairs,
    existing_folder,
    find_images,
    images_in,
    match,
    missing_folder,
    require_images,
    source_and_target,
)
from data.loader import PASSED_OVER, DatasetSettings, Sample, TrainingDataset
from data.reading import Size, check_readable, read_first, read_image
from data.sampler import SampleKey
from data.transforms import Pixels, Placement
from util.errors import UserError

logger = logging.getLogger(__name__)


class AlignedDataset(TrainingDataset):
    """Pairs of equally large images; both get the same crop and the same flip.

    Two layouts, told apart by what exists: if there is a folder ``<dataroot>/<phase>``, each image in it
    holds A on its left and B on its right half, as in pix2pix; otherwise ``<dataroot>/<phase>A`` and
    ``<dataroot>/<phase>B`` hold images that match by relative path without extension.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        """Errors are those of :class:`data.loader.TrainingDataset`; a pair stays together in any order.

        Raises:
            UserError: also for names or sizes of a pair that do not match.
        """
        units = aligned_units(settings.dataroot, settings.phase, settings.direction)[: settings.max_dataset_size]
        checked = check_readable(units, skip_bad=settings.skip_bad)
        check_pairs(checked.units, checked.sizes)
        self.pairs = checked.units
        sources = [source for source, _ in self.pairs]
        settings.transform.check(sources, checked.sizes, batch_size=settings.batch_size)
        self._settings = settings
        self._caches = self._make_caches(checked.sizes)
        logger.info("%s: %d pairs", settings.phase, len(self.pairs))

    def _make_caches(self, sizes: Mapping[Path, Size]) -> list[ImageCache]:
        """One for the sources and one for the targets, or none."""
        room, transform = self._settings.cache_room, self._settings.transform
        if room is None:
            return []
        caches = []
        for side, channels in enumerate(self._settings.channels):
            files = [unit[side] for unit in self.pairs]
            prepared = [transform.resized(file.size(sizes[file.path])) for file in files]
            caches.append(room.take([(height, width, channels) for width, height in prepared]))
        return caches

    @classmethod
    def test_units(cls, *, dataroot: Path, phase: str, direction: str, eval_pairs: str) -> list[Unit]:
        """All pairs, or with ``eval_pairs`` ``no`` their source images alone."""
        if eval_pairs == "no" and existing_folder(dataroot, phase) is None:
            return super().test_units(dataroot=dataroot, phase=phase, direction=direction, eval_pairs=eval_pairs)
        units = aligned_units(dataroot, phase, direction)
        return [unit[:1] for unit in units] if eval_pairs == "no" else units

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, key: SampleKey) -> Sample:
        """``A`` (source), ``B`` (target): float32 [C, H, W] in [-1, 1]; ``A_paths``, ``B_paths``: str."""
        placement = Placement.draw(key.generator())

        def read(index: int) -> tuple[list[torch.Tensor], list[str]]:
            tensors = [self._settings.transform.place(pixels, placement) for pixels in self._prepared(index)]
            return tensors, [str(file.path) for file in self.pairs[index]]

        ((a, b), (a_path, b_path)), notes = read_first(len(self), key.index, read, skip_bad=self._settings.skip_bad)
        return {"A": a, "B": b, "A_paths": a_path, "B_paths": b_path, PASSED_OVER: notes}

    def _prepared(self, index: int) -> list[Pixels]:
        """Both images of a pair before anything random is done: out of the caches, or decoded and kept there."""
        kept = [pixels for cache in self._caches if (pixels := cache.get(index)) is not None]
        if len(kept) == len(self._settings.channels):
            return kept
        unit = self.pairs[index]
        prepared = [
            self._settings.transform.prepare(image, channels, what=f"'{file.path}'")
            for image, channels, file in zip(_read_pair(unit), self._settings.channels, unit, strict=True)
        ]
        for cache, pixels in zip(self._caches, prepared, strict=False):
            cache.put(index, pixels)
        return prepared


def aligned_units(dataroot: Path, phase: str, direction: str) -> list[Unit]:
    """All pairs (source, target) in either layout; at least one.

    Raises:
        UserError: no such folders, no images, or names that do not match.
    """
    together = existing_folder(dataroot, phase)
    if together is not None:
        files = require_images(together, find_images(together))
        halves = [(replace(file, part="left"), replace(file, part="right")) for file in files]
        return [(b, a) if direction == "BtoA" else (a, b) for a, b in halves]
    folders = [f"{phase}{domain}" for domain in source_and_target(direction)]
    if not any(existing_folder(dataroot, folder) for folder in folders):
        raise missing_folder(dataroot, folders[0], alternative=phase)
    matching = match(*(images_in(dataroot, folder) for folder in folders))
    if not matching.complete:
        raise UserError(
            f"--dataset_mode aligned: {matching.complaint(*folders)}; "
            "mend the names, or use --dataset_mode unaligned for images that are no pairs."
        )
    return list(matching.pairs)


def _read_pair(unit: Unit) -> list[Image.Image]:
    """Both images of a pair; a side-by-side file is decoded once."""
    contents = {path: read_image(path) for path in {file.path for file in unit}}
    return [file.cut(contents[file.path]) for file in unit]
