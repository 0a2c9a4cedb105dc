"""The images of a test, one by one, whole, with their ground truth where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from data.files import UnfitPairs, Unit, check_pairs, output_names
from data.reading import Checked, ImageFile, UnreadableImage, check_readable, read_image
from data.transforms import WholeImageTransform


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
        smallest_pair: int = 1,
    ) -> None:
        """Decode every image once, so that a broken one shows before any work is done.

        Args:
            units: ``(source,)`` each, or ``(source, target)`` each.
            channels: 1 (grey) or 3 (RGB), of the source and of the target.
            num_test: use only the first that many.
            skip_bad: leave out unreadable images, and pairs with one; they are listed in ``skipped``.
            smallest_pair: pixels that a pair needs on each side to be compared.

        Raises:
            UserError: an image cannot be read; the two images of a pair differ in size or are too small.
        """
        names = dict(zip(units, output_names([unit[0] for unit in units]), strict=True))
        self.available = len(units)
        """How many images there are, before ``num_test`` and ``skip_bad``."""
        checked = check_readable(units[:num_test], skip_bad=skip_bad, decode=True)
        check_pairs(checked.units, checked.sizes)
        _check_comparable(checked, transform, smallest_pair)
        self.skipped: list[UnreadableImage] = checked.skipped
        """Files left out by ``skip_bad``, with ``path`` and ``reason``."""
        self.paired = any(len(unit) > 1 for unit in checked.units)
        """Whether every item has its ground truth ``B``."""
        self._units = [(names[unit], unit) for unit in checked.units]
        self._transform, self._channels = transform, channels

    @property
    def names(self) -> tuple[str, ...]:
        """The items' names, in order."""
        return tuple(name for name, _ in self._units)

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


def _check_comparable(checked: Checked, transform: WholeImageTransform, smallest: int) -> None:
    for unit in checked.units:
        size = unit[0].size(checked.sizes[unit[0].path])
        if len(unit) > 1 and min(transform.resized(size)) < smallest:
            width, height = transform.resized(size)
            resized = f", {width}×{height} after --preprocess {transform.preprocess}" if (width, height) != size else ""
            raise UnfitPairs(
                f"'{unit[0].path}' has {size[0]}×{size[1]} pixels{resized}, but comparing with ground truth needs "
                f"{smallest} a side",
                "leave the pair out, or pass --eval_pairs no to test without ground truth",
            )
