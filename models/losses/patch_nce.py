"""PatchNCE: contrast between patches at the same and at other locations (CUT eq. 3–4; CCLGAN eq. 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.layers import at_least_float32


class PatchNCELoss(nn.Module):
    """Mean over images and patches of −log softmax(q · k / τ) at the patch's own location.

    The positive of query i is key i, its negatives are the other keys of the same image (or, with
    ``across_batch``, of the whole batch). Keys carry no gradient.

    Args:
        temperature: τ > 0.
        across_batch: let all images of the batch serve as negatives (single-image translation).
    """

    def __init__(self, temperature: float = 0.07, *, across_batch: bool = False) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        self.temperature = temperature
        self.across_batch = across_batch

    @at_least_float32
    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Queries and keys [N, P, E], usually of unit length → scalar.

        Raises:
            ValueError: the two shapes differ or are not three-dimensional.
        """
        if queries.ndim != 3 or queries.shape != keys.shape:
            raise ValueError(f"queries and keys must both be [N, P, E], not {queries.shape} and {keys.shape}")
        keys = keys.detach()
        if self.across_batch:
            queries, keys = queries.flatten(0, 1)[None], keys.flatten(0, 1)[None]
        logits = torch.bmm(queries, keys.transpose(1, 2)) / self.temperature  # [N, P, P]
        images, patches = logits.shape[:2]
        own_location = torch.arange(patches, device=logits.device).expand(images, -1)
        return F.cross_entropy(logits.flatten(0, 1), own_location.flatten())
