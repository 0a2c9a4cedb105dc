"""The images of a training, streams of them drawn in groups, and the images of a test, one by one and whole."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset

from data.cache import CacheRoom, ImageCache
from data.files import (
    Checked,
    ImageFile,
    PackedPaths,
    UnfitPairs,
    Unit,
    UnreadableImage,
    aligned_units,
    check_pairs,
    check_readable,
    existing_folder,
    find_test_units,
    matched_units,
    output_names,
    single_images,
)
from data.sampler import SampleKey
from data.transforms import Pixels, Placement, TrainingTransform, WholeImageTransform, cut
from util.errors import UserError
from util.option import Option
from util.pictures import UnreadablePicture, read_eight_bit
from util.streams import UNPAIRED, Stream, folder_ends, groups

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
PASSED_OVER = "passed_over"
"""Key of a sample's list of sentences about unreadable files; the loader logs them and takes them out."""


@dataclass(frozen=True)
class DatasetSettings:
    """What every data set is made from.

    Attributes:
        dataroot: the folder that the user named.
        phase: ``train``, ``val`` or ``test``.
        transform: what is done to each image.
        streams: the image streams that the model trains on.
        direction: ``AtoB``, or ``BtoA`` to make B the source.
        channels: 1 (gray) or 3 (RGB) by the option that a stream names.
        serial_batches: take images in the order of their names, with no random order or partner.
        max_dataset_size: use only the first that many images, by name, of each folder; None = all.
        skip_bad: leave unreadable images out, with a warning, instead of stopping.
        batch_size: only to refuse at once images that could not be stacked.
        cache_room: where decoded images may be kept for the next epochs; None = every image is decoded every time.
    """

    dataroot: Path
    phase: str
    transform: TrainingTransform
    streams: Sequence[Stream] = UNPAIRED
    direction: str = "AtoB"
    channels: Mapping[str, int] = field(default_factory=lambda: {"input_nc": 3, "output_nc": 3})
    serial_batches: bool = False
    max_dataset_size: int | None = None
    skip_bad: bool = False
    batch_size: int = 1
    cache_room: CacheRoom | None = None


class TrainingDataset(Dataset[Sample], ABC):
    """What a data set of ``--dataset_mode`` offers; a plugin's data set derives from it or from a subclass.

    It holds no open files, so that it can be sent to worker processes.
    """

    options: ClassVar[tuple[Option, ...]] = ()
    """Flags of this data set alone."""

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults of other flags under this data set, given the values ``chosen`` for its own."""
        del chosen
        return {}

    @classmethod
    def test_units(cls, *, dataroot: Path, phase: str, ends: tuple[str, str], eval_pairs: str) -> list[Unit]:
        """The images of a test: ``(source,)``, or ``(source, target)`` for all of them.

        ``ends`` of source and target follow ``phase`` in the folders' names.
        """
        return find_test_units(dataroot=dataroot, phase=phase, ends=ends, eval_pairs=eval_pairs)

    @abstractmethod
    def __init__(self, settings: DatasetSettings, **own: Any) -> None:
        """Find the images and look at the header of each.

        ``own`` holds the values of the data set's own ``options``, each under its name.

        Raises:
            UserError: folder missing or empty, image unreadable or too small, sizes that cannot share a batch.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples in an epoch."""

    @abstractmethod
    def __getitem__(self, key: SampleKey) -> Sample:
        """One sample, a function of ``key`` alone: tensors [C, H, W] in [-1, 1], and strings.

        Raises:
            UserError: a file cannot be read or used.
        """


class _Group:
    """The images of streams that are drawn together."""

    def __init__(self, streams: Sequence[Stream], units: Sequence[Unit], settings: DatasetSettings, label: str) -> None:
        """``streams`` of which each unit has one image; looks at every file's header."""
        checked = check_readable(units, skip_bad=settings.skip_bad)
        check_pairs(checked.units, checked.sizes)
        settings.transform.check([unit[0] for unit in checked.units], checked.sizes, batch_size=settings.batch_size)
        self.streams = streams
        self._transform, self._skip_bad = settings.transform, settings.skip_bad
        self._channels = [settings.channels[stream.channels] for stream in streams]
        # Workers share this memory as long as no references are counted in it, as a list of paths would.
        self._paths = [PackedPaths(unit[side].path for unit in checked.units) for side in range(len(streams))]
        self._parts = [file.part for file in checked.units[0]]
        self._caches: list[ImageCache] = []
        if settings.cache_room is not None:
            for side, channels in enumerate(self._channels):
                sizes = (unit[side].size(checked.sizes[unit[side].path]) for unit in checked.units)
                prepared = [settings.transform.resized(size) for size in sizes]
                self._caches.append(settings.cache_room.take([(h, w, channels) for w, h in prepared]))
        logger.info("%s: %d %s", label, len(self), "images" if len(streams) == 1 else "pairs")

    def __len__(self) -> int:
        """Number of units."""
        return len(self._paths[0])

    def load(self, index: int, placement: Placement) -> tuple[list[Pixels], list[str], list[str]]:
        """Crops of unit number ``index``, the paths of its files, and a sentence for every file passed over.

        With ``skip_bad`` a unit that cannot be read any more gives way to the next that can, in cyclic order: which one
        depends on the files alone, so every worker and every run takes the same.

        Raises:
            UnreadableImage: it cannot be read, without ``skip_bad``.
            UserError: none can be read, or an image is too small.
        """
        passed_over: list[str] = []
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            try:
                crops = [self._transform.crop(pixels, placement) for pixels in self._prepared(candidate)]
                return crops, [str(paths[candidate]) for paths in self._paths], passed_over
            except UnreadablePicture as error:
                if not self._skip_bad:
                    raise UnreadableImage.of(error) from error
                passed_over.append(f"--skip_bad passes over '{error.path}' ({error.reason})")
        raise UserError(f"--skip_bad: none of the {len(self)} images can be read any more; look at the dataset folder.")

    def _prepared(self, index: int) -> list[Pixels]:
        """The images of a unit before anything random is done: out of the caches, or decoded and kept there."""
        kept = [pixels for cache in self._caches if (pixels := cache.get(index)) is not None]
        if len(kept) == len(self.streams):
            return kept
        paths = [paths[index] for paths in self._paths]
        # A file of side-by-side pairs is decoded once.
        contents = {path: read_eight_bit(path, self._channels[0] if len(paths) == 1 else 3) for path in paths}
        prepared = [
            self._transform.prepare(cut(contents[path], part), channels, what=f"'{path}'")
            for path, part, channels in zip(paths, self._parts, self._channels, strict=True)
        ]
        for cache, pixels in zip(self._caches, prepared, strict=False):
            cache.put(index, pixels)
        return prepared


class StreamDataset(TrainingDataset):
    """Draws the images of a model's streams; those that are paired show one scene, with one crop and one flip.

    An epoch has as many samples as the largest group of paired streams has images, and shows every image of each group:
    the first group goes by the index, starting over where it is smaller, and each further group comes in a random order
    of its own, or with ``serial_batches`` by the index as well.

    A subclass with ``generates`` makes the images of the streams that are declared ``generated``: see :meth:`generate`.
    """

    generates: ClassVar[bool] = False

    def __init__(self, settings: DatasetSettings, **own: Any) -> None:
        """Errors are those of :class:`TrainingDataset`; a generated stream needs a data set that makes it."""
        del own
        streams = self.paired(settings.streams)
        generated = [stream.name for stream in streams if stream.generated]
        if generated and not self.generates:
            raise UserError(
                f"--dataset_mode: this model trains on images that are made while loading ({', '.join(generated)}), "
                "which this data set does not do; choose one that does."
            )
        ends = dict(zip((stream.name for stream in streams), folder_ends(streams, settings.direction), strict=True))
        self._names = [stream.name for stream in streams]
        self._transform, self._serial = settings.transform, settings.serial_batches
        self._groups: list[_Group] = []
        self._group_of: dict[str, int] = {}
        for members in groups(streams):
            read = [stream for stream in members if not stream.generated]
            if not read:
                raise ValueError(f"stream {members[0].name!r} is generated and paired with none that is read")
            units = self.units(settings, [ends[stream.name] for stream in read])[: settings.max_dataset_size]
            label = " + ".join(f"{settings.phase}{ends[stream.name]}" for stream in read)
            self._group_of.update({stream.name: len(self._groups) for stream in members})
            self._groups.append(_Group(read, units, settings, label))

    @classmethod
    def paired(cls, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """The model's streams, paired as this data set draws them."""
        return tuple(streams)

    @classmethod
    def units(cls, settings: DatasetSettings, ends: Sequence[str]) -> list[Unit]:
        """The images of streams that are drawn together, one of each in a unit; at least one unit.

        ``ends`` follow the phase in the folders' names.

        Raises:
            UserError: no such folders, no images, or names that do not match.
        """
        return matched_units(settings.dataroot, settings.phase, ends)

    def generate(self, crops: dict[str, Pixels], rng: np.random.Generator) -> dict[str, Pixels]:
        """The images of all streams, uint8 [H, W, C], made from the crops of those that were read.

        Here there is nothing to make. Take every random number from ``rng``, which is the sample's own.
        """
        del rng
        return crops

    def __len__(self) -> int:
        """Number of images in the largest group."""
        return max(len(group) for group in self._groups)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Under each stream's name float32 [C, H, W] in [-1, 1], and under ``<name>_paths`` its file; a generated
        stream names the file that it is made from."""
        generator = key.generator()
        placements = [Placement.draw(generator) for _ in self._groups]
        crops: dict[str, Pixels] = {}
        paths: dict[str, str] = {}
        notes: list[str] = []
        for number, group in enumerate(self._groups):
            by_index = number == 0 or self._serial
            index = key.index % len(group) if by_index else key.partner(len(group), number)
            images, files, passed_over = group.load(index, placements[number])
            for stream, image, file in zip(group.streams, images, files, strict=True):
                crops[stream.name], paths[stream.name] = image, file
            paths |= {name: files[0] for name, of in self._group_of.items() if of == number and name not in paths}
            notes += passed_over
        crops = self.generate(crops, generator.spawn(1)[0])
        sample: Sample = {
            name: self._transform.to_tensor(crops[name], placements[self._group_of[name]]) for name in self._names
        }
        return sample | {f"{name}_paths": paths[name] for name in self._names} | {PASSED_OVER: notes}


class UnalignedDataset(StreamDataset):
    """Each stream from its folder ``<dataroot>/<phase><name>``, sub-folders included; folders may differ in size."""


class AlignedDataset(StreamDataset):
    """All streams show the same scenes and get the same crop and the same flip.

    Of two streams there are two layouts, chosen by what exists: if there is a folder ``<dataroot>/<phase>``, each
    image in it holds A on its left and B on its right half, as in pix2pix; otherwise ``<dataroot>/<phase>A`` and
    ``<dataroot>/<phase>B`` hold images that match by relative path without extension.
    """

    @classmethod
    def paired(cls, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """All paired with the first."""
        first, *others = streams
        return (replace(first, paired_with=None), *(replace(other, paired_with=first.name) for other in others))

    @classmethod
    def units(cls, settings: DatasetSettings, ends: Sequence[str]) -> list[Unit]:
        """In either layout."""
        return aligned_units(settings.dataroot, settings.phase, ends)

    @classmethod
    def test_units(cls, *, dataroot: Path, phase: str, ends: tuple[str, str], eval_pairs: str) -> list[Unit]:
        """All pairs, or with ``eval_pairs`` ``no`` their source images alone."""
        if eval_pairs == "no" and existing_folder(dataroot, phase) is None:
            return super().test_units(dataroot=dataroot, phase=phase, ends=ends, eval_pairs=eval_pairs)
        units = aligned_units(dataroot, phase, ends)
        return [unit[:1] for unit in units] if eval_pairs == "no" else units


class SingleDataset(StreamDataset):
    """The images of a model that has one stream.

    They come from ``<dataroot>/<phase>A`` (``<phase>B`` under ``--direction BtoA``), or from ``<dataroot>``
    itself where it has none of the folders trainA, trainB, testA and so on; sub-folders included.
    """

    @classmethod
    def paired(cls, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """One stream is read; others may be made from it."""
        read = [stream.name for stream in streams if not stream.generated]
        if len(read) > 1:
            raise UserError(
                f"--dataset_mode single has one folder of images, but this model trains on {' and '.join(read)}; "
                "use unaligned or aligned."
            )
        return tuple(streams)

    @classmethod
    def units(cls, settings: DatasetSettings, ends: Sequence[str]) -> list[Unit]:
        """Alone."""
        return [(image,) for image in single_images(settings.dataroot, settings.phase, ends[0])]

    @classmethod
    def test_units(cls, *, dataroot: Path, phase: str, ends: tuple[str, str], eval_pairs: str) -> list[Unit]:
        """The images alone; ``eval_pairs`` ``yes`` is a :class:`UserError`, as there is nothing to pair with."""
        if eval_pairs == "yes":
            raise UserError(
                "--eval_pairs yes: --dataset_mode single has no ground truth; use --dataset_mode unaligned."
            )
        return [(image,) for image in single_images(dataroot, phase, ends[0])]


@dataclass(frozen=True, eq=False)
class TestItem:
    """One image of a test; ``target`` and ``target_path`` are its ground truth where there is one.

    ``name`` is a unique relative path with forward slashes and without extension, safe as an output name.
    ``source`` and ``target`` are float32 [1, C, H, W] in [-1, 1].
    """

    __test__: ClassVar[bool] = False  # keeps pytest from collecting it

    name: str
    source: torch.Tensor
    source_path: Path
    target: torch.Tensor | None = None
    target_path: Path | None = None


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
            channels: 1 (gray) or 3 (RGB), of the source and of the target.
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
        """Whether every item has its ground truth."""
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
        return TestItem(name, item.source, item.source_path, self._load(target[0], self._channels[1]), target[0].path)

    def _load(self, file: ImageFile, channels: int) -> torch.Tensor:
        try:
            image = read_eight_bit(file.path, channels)
        except UnreadablePicture as error:
            raise UnreadableImage.of(error) from error
        return self._transform(cut(image, file.part), channels).unsqueeze(0)


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
