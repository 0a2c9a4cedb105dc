"""Several processes that train together, by torch.distributed: the only place that knows.

What the processes say to each other about stopping goes over the CPUs (gloo) even where gradients go over GPUs (NCCL):
a process that dies closes its connections, so the others notice at their next step and need no torchrun for it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from util.errors import UserError

logger = logging.getLogger(__name__)

SHARE = "share"
"""Key of a batch's :class:`Share`, where several processes train."""

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others: more than any save takes, and the end for one whose partner is gone without
a word, such as a machine without power."""
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
_OF_THE_NETWORK = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")  # in RuntimeErrors of torch
_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RESTARTS = "TORCHELASTIC_RESTART_COUNT"


class LostProcess(UserError):
    """Another process of this training is gone; what this one has cannot be finished."""


@dataclass(frozen=True)
class Share:
    """How much of a batch is here: ``images`` of the ``of`` that all processes have.

    With 0 images there is one that only stands in: it is computed, as no process may be left out, and counts nothing.
    ``fewest`` is how many the process with the fewest has, a stand-in counted as one.
    """

    images: int
    of: int
    fewest: int

    @classmethod
    def even(cls, images: int, world_size: int) -> Share:
        """The share of a batch of which every process has ``images`` images."""
        return cls(images, images * world_size, images)

    @property
    def weight(self) -> float:
        """Of what is computed here, in a mean over the whole batch."""
        return self.images / self.of


@dataclass(frozen=True)
class Ranks:
    """A process's number among the ``world_size`` that train together, and the same on its own machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    restarts: int = 0

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Ranks:
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
        rank, world_size, local_rank, local_world_size = map(int, numbers)
        if not (rank < world_size and local_rank < local_world_size <= world_size):
            raise UserError(
                f"RANK {rank} of WORLD_SIZE {world_size} makes no sense; start several processes with torchrun."
            )
        restarts = variables.get(_RESTARTS, "0")
        return cls(rank, world_size, local_rank, local_world_size, int(restarts) if restarts.isdecimal() else 0)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that speaks, saves and validates."""
        return self.rank == 0

    def check_batch_size(self, batch_size: int) -> None:
        """Raise :class:`UserError` unless the batch divides evenly among the processes."""
        if batch_size % self.world_size:
            larger = -(-batch_size // self.world_size) * self.world_size
            raise UserError(
                f"--batch_size {batch_size} is what all {self.world_size} processes compute together, and cannot be "
                f"shared out evenly; use a multiple of {self.world_size}, such as {larger}."
            )

    def part(self, images: int) -> range:
        """Which of a batch's images are this process's: neighbors, one more or less than another has, or none."""
        return range(images * self.rank // self.world_size, images * (self.rank + 1) // self.world_size)

    def share(self, images: int) -> Share:
        """The same in numbers."""
        return Share(len(self.part(images)), images, max(1, images // self.world_size))

    @contextlib.contextmanager
    def name_in_errors(self) -> Iterator[None]:
        """In this context the errors of all but the main process say whose they are."""
        try:
            yield
        except UserError as error:
            if self.is_main:
                raise
            raise UserError(f"rank {self.rank}: {error}") from error


class Distributed:
    """The processes that train together. With a ``world_size`` of 1 its methods do nothing.

    Every method must be called by all processes, in the same order.

    Attributes:
        images_here: how many of the current batch's images are this process's; 0 where it computes a stand-in.
        failed: whether this process has reported that it cannot continue.
    """

    def __init__(self, ranks: Ranks | None = None, device: torch.device | None = None) -> None:
        """``device`` is where this process computes."""
        self.ranks, self.device = ranks or Ranks(), device or torch.device("cpu")
        self.images_here: int | None = None
        self.failed = False

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.ranks.world_size

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that speaks, saves and validates."""
        return self.ranks.is_main

    def sum_gradients(self, phase: str, parameters: Sequence[nn.Parameter]) -> None:
        """After a backward pass: every process has the sum of all processes' gradients, in one exchange.

        Raises:
            UserError: parameters of ``phase`` have none, for which the others might wait in vain.
        """
        if self.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if idle := len(parameters) - len(gradients):
            raise UserError(
                f"the losses of phase {phase} do not depend on {idle} parameters of the networks that it trains, which "
                "several processes cannot do; train with one process, or leave what is unused out of the model."
            )
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars, summed over the processes name by name; all of them have the same names."""
        if self.world_size == 1:
            return dict(terms)
        values = torch.stack([term.detach().double() for term in terms.values()])
        dist.all_reduce(values)
        return {name: value.to(term.dtype) for (name, term), value in zip(terms.items(), values, strict=True)}

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each number that any process has.

        Raises:
            LostProcess: one of them is gone.
        """
        if self.world_size == 1:
            return numbers
        values = torch.tensor(numbers, dtype=torch.int64)
        with explain_lost_processes():
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return tuple(values.tolist())

    def barrier(self) -> None:
        """Go on when all are here."""
        self.largest(0)

    def gather(self, images: Tensor) -> tuple[Tensor, slice]:
        """All processes' images [N, C, H, W] by rank, and which of them are this one's; their numbers may differ.

        A stand-in is left out.
        """
        images = images[:0] if self.images_here == 0 else images
        sizes = torch.zeros(self.ranks.world_size, dtype=torch.int64)
        sizes[self.ranks.rank] = len(images)
        dist.all_reduce(sizes)
        counts = sizes.tolist()
        padded = images.new_zeros(max(counts), *images.shape[1:])
        padded[: len(images)] = images
        raw = padded.view(torch.uint8)  # not every number type travels
        parts = [torch.empty_like(raw) for _ in counts]
        dist.all_gather(parts, raw)
        start = sum(counts[: self.ranks.rank])
        everybody = [part.view(images.dtype)[:count] for part, count in zip(parts, counts, strict=True)]
        return torch.cat(everybody), slice(start, start + len(images))

    def broadcast_object(self, content: Any) -> Any:
        """The main process's ``content``, tensors and plain values, on this process's device."""
        if self.world_size == 1:
            return content
        file = io.BytesIO()
        if self.is_main:
            torch.save(content, file)
        size = torch.tensor([file.tell()], dtype=torch.int64)
        dist.broadcast(size, src=0)
        data = torch.empty(int(size), dtype=torch.uint8)
        if self.is_main:
            data = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
        dist.broadcast(data, src=0)
        if self.is_main:
            return content
        return torch.load(io.BytesIO(data.numpy().tobytes()), map_location=self.device, weights_only=True)

    @contextlib.contextmanager
    def one_first(self) -> Iterator[None]:
        """One process of each machine goes through this context before the others, such as for a download."""
        is_first = self.ranks.local_rank == 0
        if not is_first:
            self.barrier()
        yield
        if is_first:
            self.barrier()


@contextlib.contextmanager
def init_distributed(ranks: Ranks, device: torch.device) -> Iterator[Distributed]:
    """The processes that this one trains with, from finding them to leaving them.

    Processes that end as they agreed to, be it because of an error that one has told, end together: torchrun stops
    the others as soon as one is gone.

    Raises:
        UserError: the others cannot be found.
        LostProcess: one of them is gone.
    """
    distributed = Distributed(ranks, device)
    if distributed.world_size == 1:
        yield distributed
        return
    if not dist.is_available():
        raise UserError("this PyTorch was built without torch.distributed; train with one process.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(_BACKENDS[device.type], timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the {ranks.world_size} processes do not find each other ({_reason(error)}).") from error
    try:
        with explain_lost_processes():
            yield distributed
    except LostProcess:
        raise
    except Exception:
        if distributed.failed:
            _leave(distributed)
        raise
    else:
        _leave(distributed)


def _leave(distributed: Distributed) -> None:
    """Meet a last time; it no longer matters if a process has died since."""
    with contextlib.suppress(LostProcess):
        distributed.barrier()
        dist.destroy_process_group()


@contextlib.contextmanager
def explain_lost_processes() -> Iterator[None]:
    """In this context an error of the network between processes is one sentence.

    Raises:
        LostProcess: instead of it.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_the_network(error):
            raise
        raise LostProcess(
            f"another process of this training has ended or cannot be reached ({_reason(error)}); see what it "
            "says, and go on from the last saved state with --continue_train."
        ) from error


def _is_of_the_network(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    return dist.is_initialized() and any(word in str(error).lower() for word in _OF_THE_NETWORK)


def _reason(error: Exception) -> str:
    """The first sentence of torch's message, without the place in its source code."""
    lines = re.sub(r"^(\[[^\]]*\] )?", "", str(error).strip()).splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")
