"""Which image comes when, and with which random numbers: a function of seed, epoch and position alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from util.engine.distributed import Ranks, Share

_PARTNERS = 2**32 - 1  # where a sample's path has its position, and no epoch has so many


@dataclass(frozen=True)
class SampleKey:
    """What a dataset gets instead of a bare index; small, picklable, and enough to make the sample again."""

    index: int
    seed: int
    epoch: int
    position: int

    def generator(self) -> np.random.Generator:
        """A generator of this sample's own, the same in every process."""
        return _generator(self.seed, self.epoch, self.position)

    def partner(self, count: int, group: int = 1) -> int:
        """An index below ``count``: in an epoch each comes equally often, or once more, in an order of its own.

        ``group`` numbers the groups of streams; group 0 goes by ``index``, and each further one has another order.
        """
        round_, place = divmod(self.position, count)
        return int(_partners(count, self.seed, self.epoch, round_, group)[place])


@functools.lru_cache(maxsize=8)  # several groups, and a batch may reach into the next round
def _partners(count: int, seed: int, epoch: int, round_: int, group: int) -> NDArray[np.int64]:
    further = () if group == 1 else (group,)
    return _generator(seed, epoch, _PARTNERS, round_, *further).permutation(count)


def _generator(seed: int, *path: int) -> np.random.Generator:
    # The path goes into the spawn key: as plain entropy, [s, e] and [s, e, 0] would give the same stream.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


def epoch_order(count: int, *, seed: int, epoch: int, shuffle: bool = True) -> list[int]:
    """The indices 0 … count-1 in the order of one epoch."""
    if not shuffle:
        return list(range(count))
    return [int(index) for index in _generator(seed, epoch).permutation(count)]


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches of keys for a :class:`torch.utils.data.DataLoader`; the last batch may be smaller.

    Of several processes each gets its part of every batch. One whose part is empty, as of a small last batch, gets the
    batch's first sample to stand in, so that all processes have equally many batches.
    """

    def __init__(
        self, count: int, *, batch_size: int, seed: int, shuffle: bool = True, ranks: Ranks | None = None
    ) -> None:
        """``count`` samples an epoch, shuffled anew in each epoch unless ``shuffle`` is off.

        ``batch_size`` is that of all ``ranks`` together.
        """
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.ranks = ranks or Ranks()
        self.epoch, self.start_batch = 0, 0

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in a whole epoch."""
        return -(-self.count // self.batch_size)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose what the next iteration yields: ``epoch``, without its first ``start_batch`` batches."""
        self.epoch, self.start_batch = epoch, start_batch

    def share(self, batch: int) -> Share:
        """How much of the epoch's batch of this number (from 0) this process gets."""
        return self.ranks.share(len(self._whole(batch)))

    def _whole(self, batch: int) -> range:
        """The positions that make up a batch."""
        return range(batch * self.batch_size, min((batch + 1) * self.batch_size, self.count))

    def __len__(self) -> int:
        """Number of batches the next iteration yields."""
        return self.batches_per_epoch - self.start_batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """The chosen epoch; a later :meth:`set_epoch` does not disturb an iterator that exists already."""
        return self._batches(self.epoch, self.start_batch)

    def _batches(self, epoch: int, start_batch: int) -> Iterator[list[SampleKey]]:
        order = epoch_order(self.count, seed=self.seed, epoch=epoch, shuffle=self.shuffle)
        for batch in range(start_batch, self.batches_per_epoch):
            whole = self._whole(batch)
            part = self.ranks.part(len(whole)) or range(1)
            yield [SampleKey(order[position], self.seed, epoch, position) for position in (whole[n] for n in part)]
