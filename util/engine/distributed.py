"""Several processes that train together, by torch.distributed and DistributedDataParallel: the only place that knows.

What the processes say to each other about stopping goes over the CPUs (gloo) even where gradients go over GPUs (NCCL):
a process that dies closes its connections, so the others notice at their next step and need no torchrun for it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from util.errors import UserError
from util.ranks import Ranks

logger = logging.getLogger(__name__)

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others: more than any save takes, and the end for one whose partner is gone without
a word, such as a machine without power."""
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
_OF_THE_NETWORK = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")  # in RuntimeErrors of torch


class LostProcess(UserError):
    """Another process of this training is gone; what this one has cannot be finished."""


class Team:
    """The processes of a training. One that trains alone is a team too, for which nothing here does anything.

    Every method but :meth:`wrap`'s results must be called by all processes, in the same order.
    """

    def __init__(self, ranks: Ranks | None = None, device: torch.device | None = None) -> None:
        """``device`` is where this process computes."""
        self.ranks, self.device = ranks or Ranks(), device or torch.device("cpu")
        self.failed = False
        """Whether this process has told the others that it cannot go on."""

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.ranks.alone

    @property
    def leads(self) -> bool:
        """Whether this process is the one that speaks, saves and validates."""
        return self.ranks.leads

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module`` such that a backward pass through it leaves the mean of all processes' gradients.

        Its weights become the leader's. Every parameter must take part: :meth:`check_all_took_part`. Buffers stay each
        process's own: here these are blur filters, which are constant, and batch norm's statistics.
        """
        if self.alone:
            return module
        with warnings.catch_warnings():  # newer versions have another name for the flag, which older ones do not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(module, broadcast_buffers=False)

    def check_all_took_part(self, name: str, parameters: Iterable[nn.Parameter]) -> None:
        """After a backward pass: make sure that DistributedDataParallel has waited for no gradient in vain.

        Raises:
            UserError: parameters of the phase ``name`` have none.
        """
        if self.alone:
            return
        idle = sum(parameter.grad is None for parameter in parameters)
        if idle:
            raise UserError(
                f"the losses of phase {name} do not depend on {idle} parameters of the networks that it trains, which "
                "several processes cannot do; train with one process, or leave what is unused out of the model."
            )

    def without_exchange(self, wrapped: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """In this context passes through what :meth:`wrap` gave only add to this process's own gradients."""
        return contextlib.nullcontext() if self.alone else wrapped.no_sync()  # type: ignore[operator]

    def sum(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars, summed over the processes name by name; all of them have the same names."""
        if self.alone:
            return dict(terms)
        values = torch.stack([term.detach().double() for term in terms.values()])
        dist.all_reduce(values)
        return {name: value.to(term.dtype) for (name, term), value in zip(terms.items(), values, strict=True)}

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each number that any process has.

        Raises:
            LostProcess: one of them is gone.
        """
        if self.alone:
            return numbers
        values = torch.tensor(numbers, dtype=torch.int64)
        with told_of_lost_processes():
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return tuple(values.tolist())

    def meet(self) -> None:
        """Go on when all are here."""
        self.largest(0)

    def gather(self, images: Tensor) -> tuple[Tensor, slice]:
        """All processes' images [N, C, H, W] by rank, and which of them are this one's; their numbers may differ."""
        sizes = torch.zeros(self.ranks.count, dtype=torch.int64)
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

    def of_leader(self, content: Any) -> Any:
        """The leader's ``content``, tensors and plain values, on this process's device."""
        if self.alone:
            return content
        file = io.BytesIO()
        if self.leads:
            torch.save(content, file)
        size = torch.tensor([file.tell()], dtype=torch.int64)
        dist.broadcast(size, src=0)
        data = torch.empty(int(size), dtype=torch.uint8)
        if self.leads:
            data = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
        dist.broadcast(data, src=0)
        if self.leads:
            return content
        return torch.load(io.BytesIO(data.numpy().tobytes()), map_location=self.device, weights_only=True)

    @contextlib.contextmanager
    def one_first(self) -> Iterator[None]:
        """One process of each machine goes through this context before the others, such as for a download."""
        is_first = self.ranks.rank_on_machine == 0
        if not is_first:
            self.meet()
        yield
        if is_first:
            self.meet()


@contextlib.contextmanager
def team_of(ranks: Ranks, device: torch.device) -> Iterator[Team]:
    """The team of this process, from finding the others to parting from them.

    Processes that end as they agreed to, be it because of an error that one has told, end together: torchrun stops
    the others as soon as one is gone.

    Raises:
        UserError: the others cannot be found.
        LostProcess: one of them is gone.
    """
    team = Team(ranks, device)
    if team.alone:
        yield team
        return
    if not dist.is_available():
        raise UserError("this PyTorch was built without torch.distributed; train with one process.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(_BACKENDS[device.type], timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the {ranks.count} processes do not find each other ({_reason(error)}).") from error
    try:
        with told_of_lost_processes():
            yield team
    except LostProcess:
        raise
    except Exception:
        if team.failed:
            _part(team)
        raise
    else:
        _part(team)


def _part(team: Team) -> None:
    """Meet a last time; whoever has died since then is nobody's trouble any more."""
    with contextlib.suppress(LostProcess):
        team.meet()
        dist.destroy_process_group()


@contextlib.contextmanager
def told_of_lost_processes() -> Iterator[None]:
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
