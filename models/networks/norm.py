"""Normalization layers by name, and what their choice means for convolutions and batching."""

from __future__ import annotations

from torch import nn

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


def mixes_samples(network: nn.Module) -> bool:
    """Whether one sample's output depends on the others in the batch, as with batch norm in training mode."""
    return any(isinstance(module, nn.BatchNorm2d) and module.training for module in network.modules())
