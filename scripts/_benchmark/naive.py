"""The naive implementation of CCLGAN, to be timed next to ours: the same losses, with sharing and kernels switched off.

In the style of CycleGAN's and CUT's code: every loss makes passes of its own, images go through the networks one by
one, the layers are PyTorch's in its own memory format and in float32, and Adam is not fused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.cclgan_model import CCLGANModel, TwoBranches


class OneByOne(nn.Module):
    """A network through which ``images`` images go at a time, however many come together."""

    def __init__(self, network: Any, images: int) -> None:
        super().__init__()
        self.network, self.images = network, images

    def forward(self, x: Tensor) -> Tensor:
        return _joined([self.network(part) for part in x.split(self.images)])

    def forward_tapped(self, x: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The output; features are for :meth:`encode`."""
        del taps
        return self(x), []

    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """A pass for the features alone."""
        parts = [self.network.encode(part, taps) for part in x.split(self.images)]
        return [_joined(layer) for layer in zip(*parts, strict=True)]

    def deepest(self, taps: Sequence[str]) -> str:
        """As the network has it."""
        deepest: str = self.network.deepest(taps)
        return deepest


class NaiveCCLGAN(CCLGANModel):
    """CCLGAN whose losses share no pass."""

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__(opt, training=training)
        for name in ("G_A", "G_B", "D_A", "D_B"):
            if name in self.nets:
                self.nets[name] = OneByOne(self.nets[name], opt.batch_size)

    def lcl_loss(self, x: TwoBranches) -> Tensor:
        """Keys and queries are encoded anew."""
        G_A, G_B, taps = self.nets["G_A"], self.nets["G_B"], self.lcl_taps
        keys = {"enc_R": G_A.encode(x.R, taps), "enc_N": G_B.encode(x.N, taps)}
        queries = {"enc_N_hat": G_B.encode(x.N_hat, taps), "enc_R_hat": G_A.encode(x.R_hat, taps)}
        return super().lcl_loss(dataclasses.replace(x, **keys, **queries))

    def intra_loss(self, x: TwoBranches) -> Tensor:
        """All four images are embedded for each branch."""
        phi = self.frozen["phi"]
        of_R = self.intra(phi(x.R_tilde), *(phi(image.detach()) for image in (x.R, x.N, x.N_hat)))
        of_N = self.intra(phi(x.N_tilde), *(phi(image.detach()) for image in (x.N, x.R, x.R_hat)))
        return of_R + of_N

    def _judged(self, domain: str, fake: Tensor, first: Tensor | None) -> Tensor:
        """The adversarial loss makes a whole pass of its own."""
        del first
        return super()._judged(domain, fake, None)


class NaiveStep:
    """One training step after another of a model, as a script would write them."""

    def __init__(self, model: NaiveCCLGAN, *, learning_rate: float, betas: tuple[float, float]) -> None:
        self.model = model
        self.optimizers = {
            phase.name: torch.optim.Adam(
                [parameter for name in phase.trains for parameter in model.nets[name].parameters()],
                lr=learning_rate,
                betas=betas,
            )
            for phase in model.phases
        }

    def step(self, batch: Any) -> dict[str, Tensor]:
        """Update the generators, then the discriminators; the losses by name."""
        self._train(tuple(self.model.nets))
        passed = self.model.forward(batch)
        losses: dict[str, Tensor] = {}
        for phase in self.model.phases:
            self._train(phase.trains)
            self.optimizers[phase.name].zero_grad()
            terms = phase.losses(passed)
            torch.stack(list(terms.values())).sum().backward()
            self.optimizers[phase.name].step()
            losses |= {name: term.detach() for name, term in terms.items()}
        return losses

    def _train(self, names: Sequence[str]) -> None:
        for name, network in self.model.nets.items():
            network.requires_grad_(name in names)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
