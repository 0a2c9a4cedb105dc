"""torch.compile for the networks of a model or for parts of them: when it pays, and what happens where it fails."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from util.errors import UserError
from util.kernels import fuse, restore

logger = logging.getLogger(__name__)

AUTO, OFF, KERNELS, NETWORKS = "auto", "off", "kernels", "networks"
COMPILE_MODES = (AUTO, OFF, KERNELS, NETWORKS)

_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_METHODS = ("run", "forward_tapped", "forward")  # the first of them that a network has is what all calls go through
_VARIANTS = 64  # of one network: phases that freeze it or not, taps, batch sizes
_WARM_UP_STEPS, _MEASURED_STEPS = 2, 5
_COMPILE_SECONDS = {"cpu": 120.0, "cuda": 300.0}  # of a model at first, rounded up; on GPUs an assumption
_SAVED_SHARE = {"cpu": 0.15, "cuda": 0.2}  # of a step, rounded down; on GPUs an assumption
_SAFETY = 2.0  # what compiling must save at least, in terms of what it costs


class Compilation:
    """Compiles a model's convolutional networks (``networks``), only chains of simple operations within their
    accelerated layers (``kernels``, on CPUs), nothing (``off``), or what pays (``auto``).

    ``auto`` is about kernels on CPUs and about networks on GPUs: it times a few steps and compiles if the steps that
    are left will save, by cautious figures, twice of what compiling costs. Compiled networks keep their state dicts.
    What was compiled is kept for the next runs, in the folder that ``TORCHINDUCTOR_CACHE_DIR`` names, by default beside
    torch's other downloads.
    """

    def __init__(self, mode: str, device: torch.device) -> None:
        if mode not in COMPILE_MODES:
            raise ValueError(f"mode must be one of {COMPILE_MODES}, not {mode!r}")
        self.mode, self._device = mode, device
        self._of_networks = mode == NETWORKS or (mode == AUTO and device.type != "cpu")
        self._seconds: list[float] = []
        self._compiled: list[tuple[nn.Module, str, Any]] = []
        self._fused: list[nn.Module] = []
        self._compiler = functools.cache(lambda function: torch.compile(function, dynamic=False))
        self._decided = mode == OFF

    @property
    def measuring(self) -> bool:
        """Whether steps are to be timed."""
        return self.mode == AUTO and not self._decided

    def add_step(self, seconds: float) -> None:
        """Take in how long a step took, if that is still of interest."""
        if self.measuring:
            self._seconds.append(seconds)

    def decide(self, steps_left: int) -> bool:
        """Whether to compile now, given the number of steps left; True at most once."""
        if self._decided or (self.mode == AUTO and len(self._seconds) < _WARM_UP_STEPS + _MEASURED_STEPS):
            return False
        self._decided = True
        if self.mode != AUTO:
            logger.info("--compile %s: compiling, which takes minutes; later runs find it in %s",
                        self.mode, cache_folder())  # fmt: skip
            return True
        seconds = median(self._seconds[_WARM_UP_STEPS:])
        worthwhile = pays(steps_left, seconds, self._device.type)
        logger.info(
            "--compile auto: %s (%d steps of %.2f s are left)",
            *("compiling" if worthwhile else "not compiling, which would cost more than it saves", steps_left),
            seconds,
        )
        return worthwhile

    def apply(self, nets: Mapping[str, nn.Module]) -> None:
        """Compile those of ``nets`` that have convolutions, or their layers; each when it is first used.

        Raises:
            UserError: nothing can be compiled on this machine, although it was asked for.
        """
        if self.mode == KERNELS and self._device.type != "cpu":
            raise UserError("--compile kernels: is for CPUs only; use --compile networks on a GPU.")
        obstacle = find_obstacle(self._device)
        if obstacle:
            if self.mode != AUTO:
                raise UserError(f"--compile {self.mode}: {obstacle}; or use --compile off.")
            logger.warning("--compile auto: going on without, because %s", obstacle)
            return
        _allow_variants()
        if not self._of_networks:
            self._fused = list(nets.values())
            fuse(self._fused, self._compiler)
            return
        restore(nets.values())  # compilers want to see PyTorch's own operations
        for network in _convolutional(nets.values()):
            method = next(name for name in _METHODS if callable(getattr(network, name, None)))
            compiled = torch.compile(getattr(network, method))
            setattr(network, method, compiled)  # hides the class's method, and is no part of the state dict
            self._compiled.append((network, method, compiled))

    def undo(self, reason: BaseException) -> None:
        """Go on uncompiled, as compiled networks do not work.

        Raises:
            UserError: it was asked for.
        """
        lines = str(reason).splitlines() or [type(reason).__name__]
        if self.mode != AUTO:
            raise UserError(f"--compile {self.mode}: does not work here ({lines[0]}); use --compile off.") from reason
        logger.warning("--compile auto: going on without, because it does not work here (%s)", lines[0])
        for network, method, _ in self._compiled:
            delattr(network, method)
        self._compiled.clear()
        fuse(self._fused, None)
        self._fused.clear()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """In this context the networks are as they were: whole images of many sizes would each be compiled for."""
        for network, method, _ in self._compiled:
            delattr(network, method)
        fuse(self._fused, None)
        try:
            yield
        finally:
            fuse(self._fused, self._compiler)
            restore(network for network, *_ in self._compiled)
            for network, method, compiled in self._compiled:
                setattr(network, method, compiled)


def pays(steps: int, seconds: float, device: str) -> bool:
    """Whether ``steps`` of ``seconds`` each are worth compiling for."""
    return steps * seconds * _SAVED_SHARE[device] > _SAFETY * _COMPILE_SECONDS[device]


def cache_folder() -> Path:
    """Where compiled code is kept; makes that the default of this process."""
    folder = os.environ.setdefault(_CACHE_VARIABLE, str(Path(torch.hub.get_dir()).parent / "inductor"))
    return Path(folder)


def find_obstacle(device: torch.device) -> str | None:
    """Why nothing can be compiled here, found by trying it on something small; None if it works."""
    cache_folder()
    probe = torch.ones(2, device=device)
    try:
        torch.compile(_probe)(probe)
    except Exception as error:  # whatever a missing or broken tool chain raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        tools = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler such as g++"
        return f"torch.compile does not work on this machine ({lines[0]}); install {tools} and Python's headers"
    finally:
        torch._dynamo.reset()
    return None


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + x.cos()


def _convolutional(nets: Iterable[nn.Module]) -> list[nn.Module]:
    return [network for network in nets if any(isinstance(module, nn.Conv2d) for module in network.modules())]


def _allow_variants() -> None:
    """By default torch gives up on a function after eight variants, and says so once."""
    name = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, name, _VARIANTS)
