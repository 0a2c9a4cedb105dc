"""Which of the processes that train together this one is, and which part of each batch is its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from util.errors import UserError

SHARE = "share"
"""Key of a batch's :class:`Share`, where several processes train."""

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RESTARTS = "TORCHELASTIC_RESTART_COUNT"


@dataclass(frozen=True)
class Share:
    """How much of a batch is here: ``images`` of the ``of`` that all processes have.

    With 0 images there is one that only stands in: it is computed, as no process may be left out, and counts nothing.
    ``fewest`` is how many the process with the fewest has, a stand-in counted as one.
    """

    images: int
    of: int
    fewest: int

    @property
    def weight(self) -> float:
        """Of what is computed here, in a mean over the whole batch."""
        return self.images / self.of


@dataclass(frozen=True)
class Ranks:
    """A process's number among the ``count`` that train together, and the same on its own machine."""

    rank: int = 0
    count: int = 1
    rank_on_machine: int = 0
    count_on_machine: int = 1
    restarts: int = 0

    @classmethod
    def of_environment(cls, variables: Mapping[str, str] = os.environ) -> Ranks:
        """As torchrun says it in ``RANK``, ``WORLD_SIZE`` and so on; alone where it does not.

        Raises:
            UserError: what it says is incomplete or makes no sense.
        """
        if not {"RANK", "WORLD_SIZE"} <= variables.keys() or variables["WORLD_SIZE"] == "1":
            return cls()
        missing = [name for name in _NEEDED if name not in variables]
        if missing:
            raise UserError(
                f"WORLD_SIZE is {variables['WORLD_SIZE']}, but {', '.join(missing)} is not set; start several "
                "processes with torchrun, or one without WORLD_SIZE and RANK."
            )
        numbers = [variables[name] for name in _NEEDED[:4]]
        if not all(number.isdecimal() for number in numbers):
            raise UserError(
                f"{', '.join(_NEEDED[:4])} are {', '.join(numbers)}, which are not all numbers; start with torchrun."
            )
        rank, count, rank_on_machine, count_on_machine = map(int, numbers)
        if not (rank < count and rank_on_machine < count_on_machine <= count):
            raise UserError(f"RANK {rank} of WORLD_SIZE {count} makes no sense; start several processes with torchrun.")
        restarts = variables.get(_RESTARTS, "0")
        return cls(rank, count, rank_on_machine, count_on_machine, int(restarts) if restarts.isdecimal() else 0)

    @property
    def alone(self) -> bool:
        """Whether this is an ordinary training by one process."""
        return self.count == 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that speaks, saves and validates."""
        return self.rank == 0

    def check_batch_size(self, batch_size: int) -> None:
        """Raise :class:`UserError` unless every process gets equally many of a whole batch's images."""
        if batch_size % self.count:
            larger = -(-batch_size // self.count) * self.count
            raise UserError(
                f"--batch_size {batch_size} is what all {self.count} processes compute together, and cannot be shared "
                f"out evenly; use a multiple of {self.count}, such as {larger}."
            )

    def part(self, images: int) -> range:
        """Which of a batch's images are this process's: neighbours, one more or less than another has, or none."""
        return range(images * self.rank // self.count, images * (self.rank + 1) // self.count)

    def share(self, images: int) -> Share:
        """The same in numbers."""
        return Share(len(self.part(images)), images, max(1, images // self.count))

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """In this context the errors of all but the leader say whose they are."""
        try:
            yield
        except UserError as error:
            if self.leads:
                raise
            raise UserError(f"rank {self.rank}: {error}") from error


def share_of(batch: Mapping[str, Any], count: int) -> Share:
    """The share that a batch [N, …] of one of ``count`` processes has; without a word, all have as much as this one."""
    images = len(batch["A"])
    share: Share = batch.get(SHARE) or Share(images, images * count, images)
    return share
