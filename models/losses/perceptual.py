"""Distance of two images in the activations of a frozen network: the mean over layers of a mean over their values."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.layers import at_least_float32

Distance = Callable[[Tensor, Tensor], Tensor]


class PerceptualLoss(nn.Module):
    """L(x, y) = 1/L Σ_l d(φ_l(x), φ_l(y)); y carries no gradient.

    Args:
        distance: d, a mean over all values, such as L1 or the squared error.
    """

    def __init__(self, distance: Distance = F.mse_loss) -> None:
        super().__init__()
        self.distance = distance

    @at_least_float32
    def forward(self, network: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Images [N, C, H, W] as ``network`` takes them, which returns a list of activations."""
        with torch.no_grad():
            wanted = network(target)
        found = network(images)
        return torch.stack([self.distance(x, y) for x, y in zip(found, wanted, strict=True)]).mean()
