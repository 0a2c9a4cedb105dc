"""CUDA graphs: a whole training step recorded once and replayed with one launch.

At batch 1 a GPU waits for Python to launch thousands of small kernels; a replayed graph launches them all at once. What
is recorded is fixed: shapes, addresses, and every decision that the host takes.
:func:`graph_unsafe_reason` says what does not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from util.errors import UserError

logger = logging.getLogger(__name__)

AUTO, OFF, ON = "auto", "off", "on"
GRAPH_MODES = (AUTO, OFF, ON)
WARM_UP_STEPS = 3  # before recording: cuDNN chooses algorithms, Adam makes its moments, torch.compile compiles

T = TypeVar("T")


def graph_unsafe_reason(
    device: torch.device,
    *,
    precision: str,
    accumulate: int,
    skip_non_finite: bool,
    host_decides: str | None,
    world_size: int = 1,
) -> str | None:
    """Why steps cannot be recorded; None if they can.

    ``host_decides`` names what makes a model's step depend on decisions of the host, such as an image pool that
    draws on the CPU which image to return; None if nothing does.
    """
    if device.type != "cuda":
        return "CUDA graphs need an NVIDIA GPU"
    if world_size > 1:
        return "the exchange between several processes is not recorded"
    if precision == "fp16":
        return "--precision fp16 decides after every step whether its update counts; use bf16"
    if accumulate > 1:
        return "--accumulate sets random numbers between its pieces"
    if skip_non_finite:
        return "--on_nan skip looks at every update"
    return host_decides


def choose_graphs(mode: str, reason_against: str | None) -> bool:
    """Whether to record steps, said in the log where ``auto`` decides, given :func:`graph_unsafe_reason`'s answer.

    Raises:
        UserError: they are asked for, but cannot be recorded.
    """
    if mode == OFF:
        return False
    if reason_against is None:
        return True
    if mode == ON:
        raise UserError(f"--cuda_graphs on: {reason_against}; or use --cuda_graphs off.")
    logger.info("--cuda_graphs auto: off, because %s", reason_against)
    return False


class StaticBatch:
    """Tensors at fixed addresses that batches of one form are copied into."""

    def __init__(self, batch: Mapping[str, Any]) -> None:
        self.tensors = {key: value.clone() for key, value in batch.items() if isinstance(value, Tensor)}

    def fits(self, batch: Mapping[str, Any]) -> bool:
        """Whether ``batch`` has the same tensors in shape and type; the last batch of an epoch may be smaller."""
        return self.tensors.keys() == {key for key, value in batch.items() if isinstance(value, Tensor)} and all(
            batch[key].shape == mine.shape and batch[key].dtype == mine.dtype for key, mine in self.tensors.items()
        )

    def fill(self, batch: Mapping[str, Any]) -> None:
        """Copy a batch that fits."""
        for key, mine in self.tensors.items():
            mine.copy_(batch[key], non_blocking=True)


class Recorder(Generic[T]):
    """Runs a function of a batch on the device; from the fourth batch of one form on by replaying a graph of it.

    ``function`` must do the same kernels for every batch of one form, and its result's tensors are those of the
    last call. Batches of another form are computed without the graph. Random numbers come from the generator of the
    device, whose seed at the time of the call counts.
    """

    def __init__(self, function: Callable[[Mapping[str, Any]], T]) -> None:
        self._function = function
        self._static: StaticBatch | None = None
        self._graph: Any = None
        self._result: T | None = None
        self._calls = 0

    def __call__(self, batch: Mapping[str, Any]) -> T:
        """The function's result on ``batch``, whose tensors are on the device."""
        if self._static is None:
            self._static = StaticBatch(batch)
        if not self._static.fits(batch):
            return self._function(batch)
        self._calls += 1
        self._static.fill(batch)
        if self._calls <= WARM_UP_STEPS:
            return self._on_a_side_stream(self._static.tensors)
        if self._graph is None:
            self._record()
        self._graph.replay()  # recording computes nothing yet
        assert self._result is not None
        return self._result

    def _on_a_side_stream(self, batch: Mapping[str, Any]) -> T:
        """What is made before recording must not be tied to the stream that recording cannot use."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._function(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self) -> None:
        assert self._static is not None
        logger.info("--cuda_graphs: recording the step")
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._function(self._static.tensors)
