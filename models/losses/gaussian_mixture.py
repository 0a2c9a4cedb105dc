"""A mixture of zero-mean Gaussians, fitted to residuals while training goes on (SSIR eq. 3–6).

Wei, Meng, Zhao, Xu, Wu, "Semi-supervised Transfer Learning for Image Rain Removal", CVPR 2019: what is removed from
photographs of real rain, r = input − output, is scalar values of the density Σ_k π_k N(r | 0, v_k).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SMALLEST_VARIANCE = 1e-6  # added to each
LOG_NARROWEST, LOG_WIDEST = -4, -1  # powers of 10 of the first variances, in [0, 1] of the images


class GaussianMixture:
    """Weights π and variances v of the components, which a run keeps from step to step.

    Attributes:
        gather: set where several processes train; gives the residuals of all of them first, whose mixture it then is.
    """

    def __init__(self, components: int = 3) -> None:
        self.gather: Callable[[Tensor], tuple[Tensor, slice]] | None = None
        self.weights = torch.full((components,), 1 / components)
        self.variances = torch.logspace(LOG_NARROWEST, LOG_WIDEST, components)

    def update_and_rate(self, residual: Tensor) -> Tensor:
        """One E, one M and one E step on residuals [N, …], then their mean of Σ_k p(k | r) r² / 2 v_k.

        The probabilities p and variances v are constants of that term, so it says how much each residual is to shrink.
        """
        with torch.no_grad():
            everyones = residual if self.gather is None else self.gather(residual.detach())[0]
            squares = everyones.double().square()
            shares = self._shares(squares)
            self.weights = shares.mean(tuple(range(shares.ndim - 1))).float()
            totals = shares.flatten(0, -2).sum(0).clamp(min=torch.finfo(shares.dtype).tiny)
            self.variances = ((shares * squares[..., None]).flatten(0, -2).sum(0) / totals + SMALLEST_VARIANCE).float()
            pull = (self._shares(residual.double().square()) / (2 * self.variances.double())).sum(-1)
        return (pull.to(residual.dtype) * residual.square()).mean()

    def _shares(self, squares: Tensor) -> Tensor:
        """p(k | r) of r² [N, …]: [N, …, K]."""
        weights, variances = (each.to(squares) for each in (self.weights, self.variances))
        return torch.softmax(weights.log() - 0.5 * variances.log() - squares[..., None] / (2 * variances), -1)

    def state_dict(self) -> dict[str, Any]:
        """Weights and variances."""
        return {"weights": self.weights, "variances": self.variances}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self.weights, self.variances = state["weights"], state["variances"]


def divergence_from_nearest(residual: Tensor, variances: Tensor) -> Tensor:
    """min over k of KL(N(m, s²) ‖ N(0, v_k)), where m and s² are mean and variance of ``residual``: → scalar."""
    variances = variances.to(residual)
    mean, variance = residual.mean(), residual.var(correction=0)
    return (0.5 * ((variances / variance).log() + (variance + mean.square()) / variances - 1)).min()
