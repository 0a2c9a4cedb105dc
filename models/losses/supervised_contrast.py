"""Supervised contrast of two classes of embeddings (Khosla et al., NeurIPS 2020; NLCL's layer contrast)."""

from __future__ import annotations

import torch
from torch import Tensor


def two_class_contrast(first: Tensor, second: Tensor, temperature: float = 0.07) -> Tensor:
    """Mean over all z_i of −1/|P(i)| Σ_{p ∈ P(i)} log(exp(z_i · z_p / τ) / Σ_{a ≠ i} exp(z_i · z_a / τ)): → scalar.

    P(i) are the other members of the class of z_i.

    Args:
        first, second: the members of the classes [K, E], two or more each, usually of unit length.
    """
    z = torch.cat([first, second]).float() if first.dtype.itemsize < 4 else torch.cat([first, second])
    label = torch.arange(len(z), device=z.device) < len(first)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    same = (label[:, None] == label) & ~itself
    log_share = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(~same, 0)
    return -(log_share.sum(1) / same.sum(1)).mean()
