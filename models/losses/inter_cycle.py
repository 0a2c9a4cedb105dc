"""Inter-cycle contrast in the discriminant space of a discriminator's encoder (CCLGAN eq. 4–6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from util.layers import at_least_float32

INTER_POSITIVES = ("real", "fake", "both")
_EPSILON = 1e-7

Layers = Sequence[Tensor]
"""Embeddings [N, P, E] of P patches, one tensor per layer."""


def _distance(a: Layers, b: Layers) -> Tensor:
    """Mean absolute difference, averaged over embedding and patches, then over layers: → scalar."""
    return torch.stack([(x - y).abs().mean() for x, y in zip(a, b, strict=True)]).mean()


class InterCycleContrast(nn.Module):
    """[d(f, p) + d(r, p) + γ d(f, r)] / [d(f, n) + d(r, n) + ε].

    f and r are a domain's generated and reconstructed images, p its real image, n the real image of the
    other domain. For the rain-free domain: f = N̂, r = Ñ, p = N, n = R, with embeddings from D_A.

    Args:
        gamma: γ ≥ 0 of eq. 4 (0.2 in the release).
        positives: ``real`` (the terms with p), ``fake`` (the term with γ) or ``both`` (the paper's Table 4).
    """

    def __init__(self, gamma: float = 0.2, positives: str = "both") -> None:
        super().__init__()
        if positives not in INTER_POSITIVES:
            raise ValueError(f"positives must be one of {INTER_POSITIVES}, not {positives!r}")
        if gamma < 0 or (gamma == 0 and positives == "fake"):
            raise ValueError(f"gamma must not be negative, nor 0 if it weighs the only positive; got {gamma}")
        self.gamma = gamma
        self.positives = positives

    @at_least_float32
    def forward(self, fake: Layers, reconstructed: Layers, positive: Layers, negative: Layers) -> Tensor:
        """One list of embeddings [N, P, E] per layer for each image → scalar ≥ 0."""
        pulled: list[Tensor] = []
        if self.positives in ("real", "both"):
            pulled += [_distance(fake, positive), _distance(reconstructed, positive)]
        if self.positives in ("fake", "both"):
            pulled.append(self.gamma * _distance(fake, reconstructed))
        pushed = _distance(fake, negative) + _distance(reconstructed, negative)
        return torch.stack(pulled).sum() / (pushed + _EPSILON)
