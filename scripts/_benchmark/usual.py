"""CCLGAN's step as it is usually written, to be timed beside ours: every loss makes passes of its own.

In the style of CycleGAN's and CUT's code: PyTorch's own layers in its own memory format, one image at a time through
the networks, features by passes that stop at the deepest layer, float32, Adam as it comes. The weights are those of one
of our models, and so are the losses.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cclgan_model import CCLGANModel
from models.losses.rain_exchange import add_rain, streaks
from models.networks.tapped import TappedSequential
from util.errors import UserError
from util.kernels import restore

Batch = dict[str, Tensor]


class UsualStep:
    """One training step after another, with the weights of ``model`` at its beginning.

    Raises:
        UserError: the model's networks are not of the kind that is known here.
    """

    def __init__(self, model: CCLGANModel, *, learning_rate: float, betas: tuple[float, float]) -> None:
        self.model = model
        self.nets: dict[str, Any] = {}
        self._taps: dict[str, list[int]] = {}
        for name, network in model.nets.items():
            if name[0] not in "GD":
                self.nets[name] = network  # projection heads are linear layers in either
                continue
            if not isinstance(network, TappedSequential) or getattr(network, "residual", False):
                raise UserError("--usual: needs ResNet generators without --residual, and PatchGAN discriminators.")
            restore([network])
            self.nets[name] = network.model
            taps = model.lcl_taps if name[0] == "G" else getattr(model, "inter_taps", ())
            self._taps[name] = [network.tap_position(tap) for tap in taps]
        self.optimizers = [
            torch.optim.Adam(self._parameters(phase.trains), lr=learning_rate, betas=betas) for phase in model.phases
        ]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Update the generators, then the discriminators; the losses, by the names that ours have."""
        R, N = batch["A"], batch["B"]
        self._let_learn(tuple(self.nets))
        N_hat, R_hat = self.nets["G_A"](R), self.nets["G_B"](N)
        R_tilde, N_tilde = self.nets["G_B"](N_hat), self.nets["G_A"](R_hat)
        losses: dict[str, Tensor] = {}
        for phase, optimizer in zip(self.model.phases, self.optimizers, strict=True):
            self._let_learn(phase.trains)
            optimizer.zero_grad()
            if phase.name == "G":
                terms = self._generators(R, N_hat, R_tilde, N, R_hat, N_tilde)
            else:
                terms = self._discriminators(R, N, N_hat.detach(), R_hat.detach())
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            losses |= {name: term.detach() for name, term in terms.items()}
        return losses

    def _generators(
        self, R: Tensor, N_hat: Tensor, R_tilde: Tensor, N: Tensor, R_hat: Tensor, N_tilde: Tensor
    ) -> dict[str, Tensor]:
        model, nets = self.model, self.nets
        losses: dict[str, Tensor] = {}
        if model.lambda_GAN > 0:
            losses["G_A"] = model.lambda_GAN * model.gan.fool(nets["D_A"](N_hat))
            losses["G_B"] = model.lambda_GAN * model.gan.fool(nets["D_B"](R_hat))
        if model.lambda_identity > 0:
            losses["idt"] = model.lambda_identity * (F.l1_loss(nets["G_A"](N), N) + F.l1_loss(nets["G_B"](R), R))
        if model.lambda_exchange > 0:
            rained_on = add_rain(model.lay_veil(N), streaks(R - N_hat.detach()))
            losses["exchange"] = model.lambda_exchange * model.exchange_distance(nets["G_A"](rained_on), N)
        if model.lcl_taps:
            pairs = [("A", R, "B", N_hat), ("B", N, "A", R_hat)]
            pairs += [("B", N_hat, "A", R_tilde), ("A", R_hat, "B", N_tilde)] if model.lcl_reconstructions else []
            losses["LCL"] = model.lambda_LCL * torch.stack([self._contrast_places(*pair) for pair in pairs]).mean()
        if model.lambda_inter > 0:
            first = self._contrast_discriminant("A", N_hat, N_tilde, N, R)
            losses["inter"] = model.lambda_inter * (first + self._contrast_discriminant("B", R_hat, R_tilde, R, N))
        if model.lambda_intra > 0:
            phi = model.frozen["phi"]
            terms = [
                model.intra(phi(anchor), *(phi(image.detach()) for image in others))
                for anchor, *others in ((R_tilde, R, N, N_hat), (N_tilde, N, R, R_hat))
            ]
            losses["intra"] = model.lambda_intra * torch.stack(terms).sum()
        return losses

    def _discriminators(self, R: Tensor, N: Tensor, N_hat: Tensor, R_hat: Tensor) -> dict[str, Tensor]:
        gan, losses = self.model.gan, {}
        for name, real, fake in (("D_A", N, N_hat), ("D_B", R, R_hat)):
            network = self.nets[name]
            losses[name] = 0.5 * (gan.real(network(real)) + gan.fake(network(fake)))
        return losses

    def _contrast_places(self, source: str, key: Tensor, target: str, query: Tensor) -> Tensor:
        keys = self._features(f"G_{source}", key)
        queries = self._features(f"G_{target}", query)
        where = self._places(keys, self.model.num_patches)
        embedded = zip(self.nets[f"F_{target}"](queries, where), self.nets[f"F_{source}"](keys, where), strict=True)
        return torch.stack([self.model.nce(q, k.detach()) for q, k in embedded]).mean()

    def _contrast_discriminant(self, domain: str, *images: Tensor) -> Tensor:
        features = [self._features(f"D_{domain}", image) for image in images]
        where = self._places(features[0], self.model.inter_patches)
        return self.model.inter(*(self.nets[f"P_{domain}"](each, where) for each in features))

    def _features(self, name: str, x: Tensor) -> list[Tensor]:
        """What the tapped layers say, of a pass of its own up to the deepest of them."""
        found = {}
        for position, layer in enumerate(itertools.islice(self.nets[name], max(self._taps[name]) + 1)):
            x = layer(x)
            found[position] = x
        return [found[position] for position in self._taps[name]]

    @staticmethod
    def _places(features: Sequence[Tensor], count: int) -> list[Tensor]:
        return [torch.randperm(feature.shape[2] * feature.shape[3])[:count] for feature in features]

    def _let_learn(self, names: Sequence[str]) -> None:
        for name, network in self.nets.items():
            network.requires_grad_(name in names)

    def _parameters(self, names: Sequence[str]) -> list[nn.Parameter]:
        return [parameter for name in names for parameter in self.nets[name].parameters()]
