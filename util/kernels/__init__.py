"""Networks on CPUs: one pass swaps the layers of a network for forms that are fast there, and another swaps them back.

Parameters, buffers, hooks and state dict stay what they are. Swapped are the layers of networks that say so by
:class:`util.layers.AnyMemoryFormat`. The results differ from the plain layers' by rounding only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from util.kernels.layers import (
    Compiler,
    FastBlurDownsample,
    FastBlurUpsample,
    FastConv2d,
    FastConvTranspose2d,
    FastInstanceNorm2d,
    FastPadToStride,
    FastReflectionPad2d,
)
from util.layers import AnyMemoryFormat, BlurDownsample, BlurUpsample, PadToStride

_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FastConv2d,
    nn.ConvTranspose2d: FastConvTranspose2d,
    nn.InstanceNorm2d: FastInstanceNorm2d,
    nn.ReflectionPad2d: FastReflectionPad2d,
    BlurDownsample: FastBlurDownsample,
    BlurUpsample: FastBlurUpsample,
    PadToStride: FastPadToStride,
}
_PLAIN = {fast: plain for plain, fast in _FAST.items()}


def accelerate(nets: Iterable[nn.Module], device: torch.device) -> None:
    """Swap the layers of ``nets`` for their CPU forms if ``device`` is a CPU; twice is as good as once."""
    if device.type == "cpu":
        _swap((network for network in nets if isinstance(network, AnyMemoryFormat)), _FAST)


def restore(nets: Iterable[nn.Module]) -> None:
    """Swap the plain layers back, for export and compilers, which want to see PyTorch's own operations."""
    nets = list(nets)
    fuse(nets, None)
    _swap(nets, _PLAIN)


def fuse(nets: Iterable[nn.Module], compiler: Compiler | None) -> None:
    """Let accelerated layers use operations that ``compiler`` fuses, or with None those of PyTorch again.

    Wide 3 × 3 convolutions become Winograd's then, and instance norm's gradient one function.
    """
    if compiler is not None:
        _count_updates()
    for module in _modules(nets):
        if isinstance(module, (FastConv2d, FastInstanceNorm2d)):
            module.fuse(compiler)


def _swap(nets: Iterable[nn.Module], forms: dict[type[nn.Module], type[nn.Module]]) -> None:
    for module in _modules(nets):
        if type(module) in forms:
            module.__class__ = forms[type(module)]  # as torch.nn.utils.parametrize does it


def _modules(nets: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for network in nets:
        yield from network.modules()


@functools.cache
def _count_updates() -> None:
    """Once, and from then on for all optimizers.

    Fused ones do not count what they change, by which Winograd's kernels are known to be outdated.
    """
    register_optimizer_step_post_hook(_count_update)


def _count_update(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    torch.autograd.graph.increment_version([p for group in optimizer.param_groups for p in group["params"]])
