"""Instance norm over all tiles of an image together, so that each tile is normalised like the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

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
    """Means and variances of the instance norms in ``networks``, gathered over several inputs and then imposed.

        with statistics.gathered():
            for tile in tiles: network(tile)      # results are of no interest
        with statistics.imposed():
            for tile in tiles: network(tile)      # normalised alike

    What a norm gathers still depends on how earlier norms normalise each tile alone, so imposing does not give the
    result of the whole image exactly; docs/derain.md says how near it comes. A norm must run once in a pass.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self._norms = [
            module
            for network in networks
            for module in network.modules()
            if isinstance(module, nn.InstanceNorm2d) and (module.training or not module.track_running_stats)
        ]
        self._moments: dict[nn.Module, _Moments] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to share."""
        return bool(self._norms)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather from every pass inside, anew."""
        self._moments = {norm: _Moments() for norm in self._norms}
        with self._hooked(self._gather):
            yield

    @contextmanager
    def imposed(self) -> Iterator[None]:
        """Normalise every pass inside with what was gathered."""
        with self._hooked(self._impose):
            yield

    @contextmanager
    def _hooked(self, hook: Any) -> Iterator[None]:
        handles = [norm.register_forward_hook(hook) for norm in self._norms]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _gather(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._moments[norm].add(inputs[0])

    def _impose(self, norm: nn.InstanceNorm2d, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        mean, variance = self._moments[norm].mean_and_variance()
        scale = (variance + norm.eps).rsqrt()
        shift = -mean * scale
        if norm.affine:
            weight, bias = (part.detach().cpu().double().view(1, -1, 1, 1) for part in (norm.weight, norm.bias))
            scale, shift = scale * weight, shift * weight + bias
        return (
            (inputs[0].float() * scale.to(output.device, torch.float32))
            .add_(shift.to(output.device, torch.float32))
            .to(output.dtype)
        )
