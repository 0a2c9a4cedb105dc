"""How well a Gaussian process over latents of labeled images explains the latents of other images.

Yasarla, Sindagi, Patel, CVPR 2020. For a latent z, taken as one vector, with Z its nearest labeled latents and k the
cosine of the angle between two vectors,

    μ = k(z, Z) [K + σ² I]⁻¹ Z,   v = k(z, z) − k(z, Z) [K + σ² I]⁻¹ k(Z, z) + σ²,   K = k(Z, Z),
    L = mean (z − μ)² / v + λ log v − λ' log v',

where v' is the same with the farthest labeled latents: z shall be near what it is like, and not by being near to all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.layers import at_least_float32

VARIANCE, FAR_VARIANCE = 0.33, 0.33e-6  # λ and λ'


class GaussianProcessLoss(nn.Module):
    """The mean of L over latents.

    Args:
        neighbors: how many nearest, and how many farthest.
        noise: σ².
        farthest: whether the term of v' is there.
    """

    def __init__(self, neighbors: int = 8, noise: float = 1.0, *, farthest: bool = True) -> None:
        super().__init__()
        self.neighbors, self.noise, self.farthest = neighbors, noise, farthest

    @at_least_float32
    def forward(self, latents: Tensor, labeled: Tensor) -> Tensor:
        """``latents`` [N, …] and ``labeled`` [M, …] of the same shape each; no gradient goes to the latter."""
        z, Z = latents.flatten(1), labeled.detach().flatten(1)
        distances = torch.cdist(z.detach(), Z, compute_mode="donot_use_mm_for_euclid_dist")
        count = min(self.neighbors, len(Z))
        return torch.stack([self._of_one(*pair, Z, count) for pair in zip(z, distances, strict=True)]).mean()

    def _of_one(self, z: Tensor, distances: Tensor, labeled: Tensor, count: int) -> Tensor:
        mean, variance = self._predicted(z, labeled[distances.topk(count, largest=False).indices])
        loss = ((z - mean).square() / variance).mean() + VARIANCE * variance.log()
        if self.farthest:
            loss = loss - FAR_VARIANCE * self._predicted(z, labeled[distances.topk(count).indices])[1].log()
        return loss

    def _predicted(self, z: Tensor, labeled: Tensor) -> tuple[Tensor, Tensor]:
        """μ and v."""
        Z = F.normalize(labeled)
        k = Z @ F.normalize(z, dim=0)
        noisy = Z @ Z.T + self.noise * torch.eye(len(Z), dtype=z.dtype, device=z.device)
        weights = torch.linalg.solve(noisy, torch.cat([labeled, k[:, None]], 1))
        return k @ weights[:, :-1], 1 - k @ weights[:, -1] + self.noise
