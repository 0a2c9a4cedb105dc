"""The images of the source domain alone."""

from __future__ import annotations

from pathlib import Path

from data.domain import Domain
from data.files import (
    Unit,
    existing_folder,
    find_images,
    has_layout,
    images_in,
    missing_folder,
    require_images,
    source_and_target,
)
from data.loader import PASSED_OVER, DatasetSettings, Sample, TrainingDataset
from data.reading import ImageFile
from data.sampler import SampleKey
from data.transforms import Placement
from util.errors import UserError


class SingleDataset(TrainingDataset):
    """Images of the source domain alone.

    They come from ``<dataroot>/<phase>A`` (``<phase>B`` under ``--direction BtoA``), or from ``<dataroot>``
    itself where it has none of the folders trainA, trainB, testA and so on; sub-folders included.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        """Errors are those of :class:`data.loader.TrainingDataset`; of the settings, ``serial_batches`` has no use."""
        images = single_images(settings.dataroot, settings.phase, settings.direction)
        self.domain = Domain(images[: settings.max_dataset_size], "source", settings, side=0)

    @classmethod
    def test_units(cls, *, dataroot: Path, phase: str, direction: str, eval_pairs: str) -> list[Unit]:
        """The images alone; ``eval_pairs`` ``yes`` is a :class:`UserError`, as there is nothing to pair with."""
        if eval_pairs == "yes":
            raise UserError(
                "--eval_pairs yes: --dataset_mode single has no ground truth; use --dataset_mode unaligned."
            )
        return [(image,) for image in single_images(dataroot, phase, direction)]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.domain)

    def __getitem__(self, key: SampleKey) -> Sample:
        """``A``: float32 [C, H, W] in [-1, 1]; ``A_paths``: str."""
        image, path, notes = self.domain.load(key.index, Placement.draw(key.generator()))
        return {"A": image, "A_paths": path, PASSED_OVER: notes}


def single_images(dataroot: Path, phase: str, direction: str) -> list[ImageFile]:
    """The source images of a dataset that may be a plain folder of images; at least one.

    Raises:
        UserError: no such folder, or no image in it.
    """
    source = f"{phase}{source_and_target(direction)[0]}"
    if existing_folder(dataroot, source) or has_layout(dataroot):
        return images_in(dataroot, source)
    if not dataroot.is_dir():
        raise missing_folder(dataroot, source)
    return require_images(dataroot, find_images(dataroot))
