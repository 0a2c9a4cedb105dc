"""Trainings by several processes as torchrun starts them, but as forks of the tests' own process: nothing is imported
again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import train as train_program
from util.engine import step as stepper_module

SECONDS_LIMIT = 60.0  # for a training; more is a hang


def variables(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun would tell this process."""
    numbers = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count}
    return {**{name: str(number) for name, number in numbers.items()}, "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port)}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Ranks:
    """Forked trainings; ``outputs`` has what each has said, once they have ended."""

    def __init__(self, log: Path, flags: list[str], count: int, prepare: Callable[[int], None] | None = None) -> None:
        """``prepare`` is called in each process, with its rank, before it trains."""
        self._logs = [log.with_suffix(f".{rank}.log") for rank in range(count)]
        context, port = multiprocessing.get_context("fork"), free_port()
        self.processes = [
            context.Process(target=_live, args=(flags, rank, count, port, self._logs[rank], prepare))
            for rank in range(count)
        ]
        self._end = time.monotonic() + SECONDS_LIMIT
        for process in self.processes:
            process.start()

    def codes(self) -> list[int | None]:
        """Exit codes, when all have ended; None for one that has not within the limit, and is then killed."""
        codes = []
        for process in self.processes:
            process.join(max(0.0, self._end - time.monotonic()))
            codes.append(process.exitcode)
        for process in self.processes:
            process.kill()
        return codes

    @property
    def outputs(self) -> list[str]:
        return [log.read_text(encoding="utf-8") for log in self._logs]


def _live(flags: list[str], rank: int, count: int, port: int, log: Path, prepare: Callable[[int], None] | None) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1, encoding="utf-8")
    if count > 1:
        os.environ.update(variables(rank, count, port))
    torch.set_num_threads(1)
    code = 70
    try:
        if prepare is not None:
            prepare(rank)
        code = train_program.main(flags)
    finally:
        os._exit(code)


def in_float64(rank: int) -> None:
    """Train in double precision: in single, rounding alone moves weights that have no gradient by a whole step."""
    del rank
    torch.set_default_dtype(torch.float64)
    to_device = stepper_module.to_device
    stepper_module.to_device = lambda *args: {  # type: ignore[assignment]
        key: value.double() if isinstance(value, torch.Tensor) else value for key, value in to_device(*args).items()
    }


@contextlib.contextmanager
def training(log: Path, flags: list[str], count: int, prepare: Callable[[int], None] | None = None) -> Iterator[Ranks]:
    """A training that runs meanwhile; nothing of it is left afterwards."""
    ranks = Ranks(log, flags, count, prepare)
    try:
        yield ranks
    finally:
        for process in ranks.processes:
            process.kill()
            process.join()


def tensors(content: Any) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content.double()]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [tensor for part in parts for tensor in tensors(part)]


def difference(one: Any, two: Any) -> float:
    """The largest between two numbers of the same place; 0 only if all are equal."""
    pairs = zip(tensors(one), tensors(two), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs if a.numel())
