"""Normalization layers by name, and what their choice means for convolutions and batching."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NORMS = ("instance", "batch", "none")


def make_norm(kind: str, channels: int) -> nn.Module:
    """Instance norm without affine parameters and running statistics, batch norm with both, or identity.

    Raises:
        ValueError: ``kind`` is not one of :data:`NORMS`.
    """
    if kind == "instance":
        return nn.InstanceNorm2d(channels)
    if kind == "batch":
        return nn.BatchNorm2d(channels, affine=True, track_running_stats=True)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm must be one of {NORMS}, not {kind!r}")


def convolution_has_bias(norm: str) -> bool:
    """CycleGAN's and CUT's rule, which their checkpoints' keys depend on: a bias with instance norm only."""
    return norm == "instance"


class OwnStatisticsNorm(nn.InstanceNorm2d):
    """Batch norm that never uses running statistics: those of the batch in training, of each image by itself in a test.

    So a result does not depend on what else is in a batch of a test.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def mixes_samples(network: nn.Module) -> bool:
    """Whether one sample's output depends on the others in the batch, as with batch norm in training mode."""
    mixing = (nn.BatchNorm2d, OwnStatisticsNorm)
    return any(isinstance(module, mixing) and module.training for module in network.modules())
