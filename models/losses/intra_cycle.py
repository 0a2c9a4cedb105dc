"""Intra-cycle contrast in the semantic space of a frozen image encoder (CCLGAN eq. 1–3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from util.layers import at_least_float32

INTRA_NEGATIVES = ("real", "fake", "both")
_EPSILON = 1e-7


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of each pair of embeddings: [N, E] × [N, E] → [N]."""
    return (a - b).abs().mean(dim=1)


class IntraCycleContrast(nn.Module):
    """ℓ(a, p, n_real, n_fake) = ‖a−p‖₁ / (‖a−n_real‖₁ + β ‖a−n_fake‖₁ + ε), averaged over the batch.

    a is φ of the reconstruction, p of the real image of its own domain, n_real and n_fake of the real and
    of the generated image of the other domain. Only the anchor carries gradient.

    Args:
        beta: β ≥ 0 of eq. 1 (0.1 in the release).
        negatives: ``real``, ``fake`` or ``both`` terms of the denominator (the paper's Table 3).
    """

    def __init__(self, beta: float = 0.1, negatives: str = "both") -> None:
        super().__init__()
        if negatives not in INTRA_NEGATIVES:
            raise ValueError(f"negatives must be one of {INTRA_NEGATIVES}, not {negatives!r}")
        if beta < 0 or (beta == 0 and negatives == "fake"):
            raise ValueError(f"beta must not be negative, nor 0 if it weighs the only negative; got {beta}")
        self.beta = beta
        self.negatives = negatives

    @at_least_float32
    def forward(self, anchor: Tensor, positive: Tensor, real_negative: Tensor, fake_negative: Tensor) -> Tensor:
        """Embeddings [N, E] each → scalar ≥ 0. A negative that ``negatives`` excludes is not looked at."""
        numerator = _distance(anchor, positive.detach())
        denominator = torch.full_like(numerator, _EPSILON)
        if self.negatives in ("real", "both"):
            denominator = denominator + _distance(anchor, real_negative.detach())
        if self.negatives in ("fake", "both"):
            denominator = denominator + self.beta * _distance(anchor, fake_negative.detach())
        return (numerator / denominator).mean()
