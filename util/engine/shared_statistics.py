"""Instance norm and global means over all tiles of an image together, so that each tile is treated like the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn


@dataclass
class _Moments:
    """Sums over the tiles seen: of pixels, values and squared values, [N, C, 1, 1] in float64 on the CPU."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, features: Tensor) -> None:
        """Count features [N, C, H, W]."""
        variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0, keepdim=True)
        variance, mean = variance.cpu().double(), mean.cpu().double()
        pixels = features.shape[2] * features.shape[3]
        self.count += pixels
        self.total = self.total + mean * pixels
        self.squares = self.squares + (variance + mean.square()) * pixels

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


class SharedStatistics:
    """Means and variances of what goes into instance norms and global average pools, gathered over several inputs.

        with statistics.gathered():
            for tile in tiles: network(tile)      # results are of no interest
        with statistics.imposed():
            for tile in tiles: network(tile)      # normalised alike

    What a layer gathers still depends on how earlier ones treat each tile alone, so imposing does not give the result
    of the whole image exactly; docs/derain.md says how near it comes. A layer must run once in a pass.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self._layers = [
            module for network in networks for module in network.modules() if _is_norm(module) or _is_mean(module)
        ]
        self._moments: dict[nn.Module, _Moments] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to share."""
        return bool(self._layers)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather from every pass inside, anew."""
        self._moments = {layer: _Moments() for layer in self._layers}
        with self._hooked(self._gather):
            yield

    @contextmanager
    def imposed(self) -> Iterator[None]:
        """Use what was gathered in every pass inside."""
        with self._hooked(self._impose):
            yield

    @contextmanager
    def _hooked(self, hook: Any) -> Iterator[None]:
        handles = [layer.register_forward_hook(hook) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _gather(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._moments[layer].add(inputs[0])

    def _impose(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        mean, variance = self._moments[layer].mean_and_variance()
        return _normed(layer, mean, variance, inputs[0], output) if _is_norm(layer) else mean.to(output)


def _is_norm(layer: nn.Module) -> TypeGuard[nn.InstanceNorm2d]:
    return isinstance(layer, nn.InstanceNorm2d) and (layer.training or not layer.track_running_stats)


def _is_mean(layer: nn.Module) -> bool:
    return isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1))


def _normed(norm: nn.InstanceNorm2d, mean: Tensor, variance: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """``x`` as ``norm`` gives it with this mean and variance, in the type and on the device of ``output``."""
    scale = (variance + norm.eps).rsqrt()
    shift = -mean * scale
    if norm.affine:
        weight, bias = (part.detach().cpu().double().view(1, -1, 1, 1) for part in (norm.weight, norm.bias))
        scale, shift = scale * weight, shift * weight + bias
    return (
        (x.float() * scale.to(output.device, torch.float32))
        .add_(shift.to(output.device, torch.float32))
        .to(output.dtype)
    )
