"""Adversarial objectives (CCLGAN eq. 8–10; CycleGAN eq. 1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.layers import at_least_float32

GAN_MODES = ("lsgan", "vanilla", "hinge", "wgangp")
_GRADIENT_PENALTY_WEIGHT = 10.0  # Gulrajani et al. 2017


class GANLoss(nn.Module):
    """Scalar losses from a discriminator's logits, averaged over all of them.

    | mode    | real            | fake            | fool (generator) |
    |---------|-----------------|-----------------|------------------|
    | lsgan   | (D − 1)²        | D²              | (D − 1)²         |
    | vanilla | softplus(−D)    | softplus(D)     | softplus(−D)     |
    | hinge   | max(0, 1 − D)   | max(0, 1 + D)   | −D               |
    | wgangp  | −D              | D               | −D               |
    """

    def __init__(self, mode: str = "lsgan") -> None:
        """Raises :class:`ValueError` if ``mode`` is not one of :data:`GAN_MODES`."""
        super().__init__()
        if mode not in GAN_MODES:
            raise ValueError(f"mode must be one of {GAN_MODES}, not {mode!r}")
        self.mode = mode

    @at_least_float32
    def real(self, logits: Tensor) -> Tensor:
        """Discriminator's loss on real images."""
        if self.mode == "lsgan":
            return (logits - 1).square().mean()
        if self.mode == "vanilla":
            return F.softplus(-logits).mean()
        return F.relu(1 - logits).mean() if self.mode == "hinge" else -logits.mean()

    @at_least_float32
    def fake(self, logits: Tensor) -> Tensor:
        """Discriminator's loss on generated images."""
        if self.mode == "lsgan":
            return logits.square().mean()
        if self.mode == "vanilla":
            return F.softplus(logits).mean()
        return F.relu(1 + logits).mean() if self.mode == "hinge" else logits.mean()

    @at_least_float32
    def fool(self, logits: Tensor) -> Tensor:
        """Generator's loss on its own images."""
        if self.mode in ("lsgan", "vanilla"):
            return self.real(logits)
        return -logits.mean()

    def penalty(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """WGAN-GP's 10 · (‖∇D(x)‖₂ − 1)² at random mixtures x of real and fake; zero in the other modes."""
        if self.mode != "wgangp":
            return real.new_zeros(())
        share = torch.rand(real.shape[0], 1, 1, 1, device=real.device, dtype=real.dtype)
        mixed = (share * real + (1 - share) * fake).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)
        return _GRADIENT_PENALTY_WEIGHT * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
