"""A loss that is NaN or infinite: noticed with the batch that it came from, without making a GPU wait."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from util.errors import UserError
from util.text import first_names

logger = logging.getLogger(__name__)

STOP, SKIP = "stop", "skip"
ON_NAN = (STOP, SKIP)
MOST_IN_A_ROW = 20  # steps that are skipped before the training counts as broken
_FILES_SHOWN = 4


class NotFinite(UserError):
    """A loss or a weight has become NaN or infinite; what is in memory is not to be saved."""


@dataclass(frozen=True)
class Step:
    """Which step it was: its epoch, the images in all after it, and the files of its batch."""

    epoch: int
    total_images: int
    files: tuple[str, ...]

    def __str__(self) -> str:
        files = first_names(self.files, _FILES_SHOWN)
        return f"epoch {self.epoch}, image {self.total_images} of all, batch of {files}"


@dataclass(frozen=True)
class _Report:
    """The losses of a step on their way from the device."""

    step: Step
    names: Sequence[str]
    values: Tensor
    arrival: torch.cuda.Event | None

    def offending(self) -> dict[str, float]:
        if self.arrival is not None:
            self.arrival.synchronize()
        return {n: v for n, v in zip(self.names, self.values.tolist(), strict=True) if not math.isfinite(v)}


class LossWatch:
    """Looks at the losses of every step: on a CPU at once, on a GPU while the next step is being computed.

    One small copy a step goes to the host and is looked at a step later, so that the GPU always has work.
    """

    def __init__(self, on_nan: str = STOP) -> None:
        self._skip = on_nan == SKIP
        self._pending: _Report | None = None
        self._in_a_row = 0

    def look(self, step: Step, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of a step.

        Raises:
            NotFinite: those of this step or of the one before are not finite (or, when skipping, of very many).
        """
        self.settle()
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        arrival = None
        if values.is_cuda:
            on_host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            values = on_host.copy_(values, non_blocking=True)
            arrival = torch.cuda.Event()
            arrival.record()
        self._pending = _Report(step, tuple(losses), values, arrival)
        if arrival is None:
            self.settle()

    def settle(self) -> None:
        """Finish looking, as before a save; raises as :meth:`look` does."""
        report, self._pending = self._pending, None
        if report is None:
            return
        offending = report.offending()
        if not offending:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        terms = " and ".join(f"{name} is {value}" for name, value in offending.items())
        if not self._skip:
            raise NotFinite(
                f"the loss {terms} ({report.step}); the last saved state is kept: continue from it with a lower --lr "
                "or --on_nan skip, or look at these files."
            )
        logger.warning("--on_nan skip: the loss %s (%s), so there is no update by it", terms, report.step)
        if self._in_a_row >= MOST_IN_A_ROW:
            raise NotFinite(
                f"the loss {terms}, and {MOST_IN_A_ROW} steps in a row were skipped for such ({report.step}); the last "
                "saved state is kept: continue from it with a lower --lr, or look at the data."
            )


def found_inf(loss: Tensor, gradients: Iterable[Tensor | None]) -> Tensor:
    """1 where the loss or a gradient is not finite, else 0: what a fused optimizer takes as ``found_inf``.

    It stays on the device; the optimizer then leaves weights and moments alone without anybody waiting.
    """
    norms = torch._foreach_norm([gradient for gradient in gradients if gradient is not None])
    finite = torch.stack([loss.detach().float(), *(norm.float() for norm in norms)]).isfinite().all()
    return finite.logical_not().float()


def check_weights(nets: Mapping[str, nn.Module]) -> None:
    """Make sure that networks are fit to be saved.

    Raises:
        NotFinite: a weight or a running statistic is not finite.
    """
    for name, network in nets.items():
        flags = [value.isfinite().all() for value in network.state_dict().values() if value.is_floating_point()]
        if flags and not torch.stack(flags).all():
            raise NotFinite(
                f"the network {name} holds values that are not finite, so it is not saved; the last saved state is "
                "kept: continue from it with a lower --lr."
            )
