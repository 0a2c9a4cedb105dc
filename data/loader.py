"""Batches for training: repeatable whatever the number of workers, and free of tracebacks for bad files."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader, Dataset

from data.cache import CacheRoom
from data.files import Unit, find_test_units
from data.sampler import EpochBatches, SampleKey
from data.transforms import TrainingTransform
from data.workers import WorkerSignals
from util.engine.distributed import SHARE, Ranks
from util.errors import UserError
from util.option import Option

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
Batch = dict[str, Any]
PASSED_OVER = "passed_over"
"""Key of a sample's list of sentences about unreadable files; the loader logs them and takes them out."""
_DEAD_WORKER = "DataLoader worker (pid"  # how torch's own error begins
_LESS_MEMORY = "use a lower --num_threads or --cache_gb, or close other programs."


@dataclass(frozen=True)
class DatasetSettings:
    """What every dataset is made from.

    Attributes:
        dataroot: the folder that the user named.
        phase: ``train``, ``val`` or ``test``.
        transform: what is done to each image.
        direction: ``AtoB``, or ``BtoA`` to make B the source.
        channels: 1 (grey) or 3 (RGB), of the source and of the target.
        serial_batches: take images in the order of their names, with no random order or partner.
        max_dataset_size: use only the first that many images, by name, of each folder; None = all.
        skip_bad: leave unreadable images out, with a warning, instead of stopping.
        batch_size: only to refuse at once images that could not be stacked.
        cache_room: where decoded images may be kept for the next epochs; None = every image is decoded every time.
    """

    dataroot: Path
    phase: str
    transform: TrainingTransform
    direction: str = "AtoB"
    channels: tuple[int, int] = (3, 3)
    serial_batches: bool = False
    max_dataset_size: int | None = None
    skip_bad: bool = False
    batch_size: int = 1
    cache_room: CacheRoom | None = None


class TrainingDataset(Dataset[Sample], ABC):
    """What a dataset of ``--dataset_mode`` offers; a plugin's dataset derives from it.

    It holds no open files, so that it can be sent to worker processes.
    """

    options: ClassVar[tuple[Option, ...]] = ()
    """Flags of this dataset alone."""

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults of other flags under this dataset, given the values ``chosen`` for its own."""
        del chosen
        return {}

    @classmethod
    def test_units(cls, *, dataroot: Path, phase: str, direction: str, eval_pairs: str) -> list[Unit]:
        """The images of a test: ``(source,)``, or ``(source, target)`` for all of them."""
        return find_test_units(dataroot=dataroot, phase=phase, direction=direction, eval_pairs=eval_pairs)

    @abstractmethod
    def __init__(self, settings: DatasetSettings, **own: Any) -> None:
        """Find the images and look at the header of each.

        ``own`` holds the values of the dataset's own ``options``, each under its name.

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


@dataclass(frozen=True)
class _Failure:
    """A user's mistake on its way from a worker process, where raising it would wrap it in a traceback."""

    message: str


class _Guarded(Dataset[Sample | _Failure]):
    """Returns the :class:`UserError` of a dataset instead of raising it."""

    def __init__(self, dataset: TrainingDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: SampleKey) -> Sample | _Failure:
        try:
            return self.dataset[key]
        except UserError as error:
            return _Failure(str(error))


def collate(samples: Sequence[Sample | _Failure]) -> Batch | _Failure:
    """Stack the samples' tensors to [N, C, H, W] and list their strings; the first failure wins."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
        good.append(sample)
    batch: Batch = {PASSED_OVER: [note for sample in good for note in sample.pop(PASSED_OVER, ())]}
    for key in good[0]:
        values = [sample[key] for sample in good]
        if not isinstance(values[0], torch.Tensor):
            batch[key] = values
            continue
        if len({value.shape for value in values}) > 1:
            sizes = ", ".join(sorted({f"{value.shape[-1]}×{value.shape[-2]}" for value in values}))
            return _Failure(
                f"--batch_size {len(good)} needs images of one size but found {sizes}; "
                "use --batch_size 1, or --preprocess crop or resize_and_crop."
            )
        batch[key] = torch.stack(values)
    return batch


class TrainingLoader:
    """Serves epochs of training batches.

    A sample depends on (seed, epoch, position in the epoch) and on nothing else, so any number of workers
    gives the same batches and training can resume in the middle of an epoch. The global random state of
    torch, NumPy and Python is neither read nor changed. The last batch of an epoch may be smaller.
    """

    def __init__(
        self,
        dataset: TrainingDataset,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        num_threads: int = 0,
        pin_memory: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        """``num_threads`` worker processes live as long as the loader; 0 loads in the main process.

        ``ranks`` says which part of each batch is this process's; ``batch_size`` is that of all of them together.
        """
        self.dataset = dataset
        self._signals = WorkerSignals()
        self._batches = EpochBatches(len(dataset), batch_size=batch_size, seed=seed, shuffle=shuffle, ranks=ranks)
        self._loader: DataLoader[Any] = DataLoader(
            _Guarded(dataset),
            batch_sampler=self._batches,
            num_workers=num_threads,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=num_threads > 0,
            worker_init_fn=self._signals,
            generator=torch.Generator(),  # otherwise every epoch draws a number from torch's global generator
        )
        self._logged: set[str] = set()

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._batches.batches_per_epoch

    @property
    def batch_size(self) -> int:
        """Samples in every batch, of all processes together, but perhaps the last of an epoch."""
        return self._batches.batch_size

    @property
    def images_per_epoch(self) -> int:
        """Samples per epoch."""
        return len(self.dataset)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from number ``start_batch`` on; those before it are not even decoded.

        Loading starts with the call. One epoch at a time: the next call ends the iterator before it.

        Yields:
            ``{"A": float32 [N, C, H, W] in [-1, 1], "A_paths": list[str], …}`` as the dataset defines it; with the
            :class:`util.engine.distributed.Share` of this process, where there are others.

        Raises:
            UserError: while iterating, for an image that cannot be read or used.
        """
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"start_batch is {start_batch}, but an epoch has {len(self)} batches")
        self._batches.set_epoch(epoch, start_batch)
        with self._signals.starting():
            batches = iter(self._loader)
        return self._unwrap(batches, start_batch)

    def _unwrap(self, batches: Iterator[Batch | _Failure], start_batch: int) -> Iterator[Batch]:
        for number, batch in enumerate(_told_of_dead_workers(batches), start_batch):
            if isinstance(batch, _Failure):
                raise UserError(batch.message)
            for note in batch.pop(PASSED_OVER):
                if note not in self._logged:
                    self._logged.add(note)
                    logger.warning("%s", note)
            if self._batches.ranks.world_size > 1:
                batch[SHARE] = self._batches.share(number)
            yield batch


def _told_of_dead_workers(batches: Iterator[Batch | _Failure]) -> Iterator[Batch | _Failure]:
    """The batches; a worker process that was killed is one sentence, as it has met no bug of ours."""
    try:
        yield from batches
    except MemoryError as error:
        raise UserError(f"a process that reads images ran out of memory; {_LESS_MEMORY}") from error
    except RuntimeError as error:
        if not str(error).startswith(_DEAD_WORKER):
            raise
        raise UserError(
            f"a process that reads images was killed, most likely by the system for want of memory; {_LESS_MEMORY}"
        ) from error
