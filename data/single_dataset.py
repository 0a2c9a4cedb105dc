"""The images of one domain: batched for training, and one by one, with their ground truth, for a test."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from data.files import (
    Unit,
    check_pairs,
    existing_folder,
    find_images,
    has_layout,
    images_in,
    missing_folder,
    output_names,
    require_images,
    source_and_target,
)
from data.loader import PASSED_OVER, Sample, TrainingDataset
from data.reading import ImageFile, UnreadableImage, check_readable, read_first, read_image
from data.sampler import SampleKey
from data.transforms import Placement, TrainingTransform, WholeImageTransform
from util.errors import UserError

logger = logging.getLogger(__name__)


class Domain:
    """The checked images of one domain, and how to load one of them for training."""

    def __init__(
        self,
        images: Sequence[ImageFile],
        *,
        label: str,
        transform: TrainingTransform,
        channels: int,
        skip_bad: bool,
        batch_size: int,
    ) -> None:
        """Look at every file's header; ``label`` names the domain in the log.

        Raises:
            UserError: an image is unreadable, too small, or (``batch_size`` > 1) of another size than the rest.
        """
        checked = check_readable([(image,) for image in images], skip_bad=skip_bad)
        self.images = [image for (image,) in checked.units]
        transform.check(self.images, checked.sizes, batch_size=batch_size)
        self._transform, self._channels, self._skip_bad = transform, channels, skip_bad
        logger.info("%s: %d images", label, len(self.images))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def load(self, index: int, placement: Placement) -> tuple[torch.Tensor, str, list[str]]:
        """Image number ``index``: float32 [C, H, W] in [-1, 1], its path, and notes about files passed over."""

        def read(candidate: int) -> tuple[torch.Tensor, str]:
            path = self.images[candidate].path
            image = read_image(path, self._channels)
            return self._transform(image, placement, self._channels, what=f"'{path}'"), str(path)

        (tensor, path), notes = read_first(len(self.images), index, read, skip_bad=self._skip_bad)
        return tensor, path, notes


class SingleDataset(TrainingDataset):
    """Images of the source domain alone.

    They come from ``<dataroot>/<phase>A`` (``<phase>B`` under ``--direction BtoA``), or from ``<dataroot>``
    itself where it has none of the folders trainA, trainB, testA and so on; sub-folders included.
    """

    def __init__(
        self,
        *,
        dataroot: Path,
        phase: str,
        transform: TrainingTransform,
        direction: str = "AtoB",
        channels: tuple[int, int] = (3, 3),
        serial_batches: bool = False,
        max_dataset_size: int | None = None,
        skip_bad: bool = False,
        batch_size: int = 1,
    ) -> None:
        """Arguments and errors are those of :class:`data.loader.TrainingDataset`; only ``channels[0]`` matters."""
        del serial_batches  # there is no second domain to walk through
        self.domain = Domain(
            single_images(dataroot, phase, direction)[:max_dataset_size],
            label="source",
            transform=transform,
            channels=channels[0],
            skip_bad=skip_bad,
            batch_size=batch_size,
        )

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


@dataclass(frozen=True, eq=False)
class TestItem:
    """One image of a test; ``B`` and ``B_path`` are its ground truth where there is one.

    ``name`` is a unique relative path with forward slashes and without extension, safe as an output name.
    ``A`` and ``B`` are float32 [1, C, H, W] in [-1, 1].
    """

    __test__: ClassVar[bool] = False  # keeps pytest from collecting it

    name: str
    A: torch.Tensor
    A_path: Path
    B: torch.Tensor | None = None
    B_path: Path | None = None


class TestDataset:
    """Iterates over the images of the source domain, whole, in the order of their names."""

    __test__: ClassVar[bool] = False  # keeps pytest from collecting it

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        transform: WholeImageTransform,
        channels: tuple[int, int] = (3, 3),
        num_test: int | None = None,
        skip_bad: bool = False,
    ) -> None:
        """Decode every image once, so that a broken one shows before any work is done.

        Args:
            units: ``(source,)`` each, or ``(source, target)`` each.
            channels: 1 (grey) or 3 (RGB), of the source and of the target.
            num_test: use only the first that many.
            skip_bad: leave out unreadable images, and pairs with one; they are listed in ``skipped``.

        Raises:
            UserError: an image cannot be read; the two images of a pair differ in size.
        """
        names = dict(zip(units, output_names([unit[0] for unit in units]), strict=True))
        self.available = len(units)
        """How many images there are, before ``num_test`` and ``skip_bad``."""
        checked = check_readable(units[:num_test], skip_bad=skip_bad, decode=True)
        check_pairs(checked.units, checked.sizes)
        self.skipped: list[UnreadableImage] = checked.skipped
        """Files left out by ``skip_bad``, with ``path`` and ``reason``."""
        self.paired = any(len(unit) > 1 for unit in checked.units)
        """Whether every item has its ground truth ``B``."""
        self._units = [(names[unit], unit) for unit in checked.units]
        self._transform, self._channels = transform, channels

    def __len__(self) -> int:
        """Number of items."""
        return len(self._units)

    def __iter__(self) -> Iterator[TestItem]:
        """The items in order, each read when it is asked for."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> TestItem:
        """Item number ``index``.

        Raises:
            UserError: the file has become unreadable since the start.
        """
        name, (source, *target) = self._units[index]
        item = TestItem(name, self._load(source, self._channels[0]), source.path)
        if not target:
            return item
        return TestItem(name, item.A, item.A_path, self._load(target[0], self._channels[1]), target[0].path)

    def _load(self, file: ImageFile, channels: int) -> torch.Tensor:
        return self._transform(file.cut(read_image(file.path, channels)), channels).unsqueeze(0)
