"""Batches for training: repeatable whatever the number of workers, and free of tracebacks for bad files."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from data.datasets import PASSED_OVER, Sample, TrainingDataset
from data.sampler import EpochBatches, SampleKey
from util.engine.distributed import SHARE, Ranks
from util.errors import STOP_SIGNALS, UserError

logger = logging.getLogger(__name__)

Batch = dict[str, Any]
_DEAD_WORKER = "DataLoader worker (pid"  # how torch's own error begins
_LESS_MEMORY = "use a lower --num_threads or --cache_gb, or close other programs."


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
            for each stream ``batch[name]`` float32 [N, C, H, W] in [-1, 1] and ``batch[f"{name}_paths"]``; with the
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
        for number, batch in enumerate(_explain_dead_workers(batches), start_batch):
            if isinstance(batch, _Failure):
                raise UserError(batch.message)
            for note in batch.pop(PASSED_OVER):
                if note not in self._logged:
                    self._logged.add(note)
                    logger.warning("%s", note)
            if self._batches.ranks.world_size > 1:
                batch[SHARE] = self._batches.share(number)
            yield batch


def _explain_dead_workers(batches: Iterator[Batch | _Failure]) -> Iterator[Batch | _Failure]:
    """The batches; a worker process that was killed is one sentence, as it has met no bug of ours."""
    try:
        yield from batches
    except MemoryError as error:
        raise UserError(f"a DataLoader worker ran out of memory; {_LESS_MEMORY}") from error
    except RuntimeError as error:
        if not str(error).startswith(_DEAD_WORKER):
            raise
        raise UserError(f"a DataLoader worker was killed, probably out of memory; {_LESS_MEMORY}") from error


class WorkerSignals:
    """A ``worker_init_fn`` that keeps a worker serving when its whole process group is told to stop.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to every process of a job. The main process finishes
    its step and saves, for which its workers have to stay. A worker ignores these signals for good, but SIGTERM until
    the main process is about to exit: then Python itself ends the workers that are left with SIGTERM and
    waits for them. A worker whose main process was killed notices within seconds (PyTorch looks after that).
    """

    def __init__(self) -> None:
        self._main_ends = multiprocessing.RawValue("b", 0)
        self._registered = False

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Around the start of workers: signals wait until these have their own handlers."""
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            yield
        else:
            if multiprocessing.get_start_method() == "spawn":
                resource_tracker.ensure_running()  # whose own start would let the signals through again
            before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            try:
                with _no_news_of_children():
                    yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not self._registered:  # after PyTorch's and multiprocessing's own, hence run before them
            atexit.register(self._let_workers_end)
            self._registered = True

    def __call__(self, worker_id: int) -> None:
        """In a worker: replace the handlers that were inherited from the main process."""
        del worker_id
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_terminate if number == signal.SIGTERM else signal.SIG_IGN)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._main_ends.value:
            os._exit(0)

    def _let_workers_end(self) -> None:
        self._main_ends.value = 1


@contextmanager
def _no_news_of_children() -> Iterator[None]:
    """Keep the handler for ended child processes that is there now.

    PyTorch installs one that raises in the middle of whatever runs, be it an update of the networks, when a worker
    dies. Its loader finds that out by itself while it waits for a batch, which is a moment to save at.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
