"""SSIR: pairs of drawn rain and photographs of real rain without a target, with a mixture model of the rain removed.

Wei, Meng, Zhao, Xu, Wu, "Semi-supervised Transfer Learning for Image Rain Removal", CVPR 2019.
docs/methods.md says where each number comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from models.base_model import Batch, Model, Phase, need_equal_channels
from models.image_pool import Gather
from models.losses.gaussian_mixture import GaussianMixture, divergence_from_nearest
from models.losses.restoration import total_variation
from models.networks.ddn import DetailNetwork
from util.engine.schedule import StepAtShares
from util.option import Option
from util.streams import PAIRED, Stream

FALLS = (1 / 3, 2 / 3)  # of the training


class Restored(NamedTuple):
    """Images [N, C, H, W] in [-1, 1]."""

    real_A: Tensor
    fake_B: Tensor  # G(real_A)
    real_B: Tensor
    real_U: Tensor
    clean_U: Tensor  # G(real_U)


class SSIRModel(Model):
    """G: rainy → clean, on pairs (A, B) and on rainy photographs U."""

    options = (
        Option("lambda_GMM", 0.5, "weight of the mixture model's likelihood of the rain removed from U", minimum=0),
        Option("lambda_KL", 1e-9, "weight of the distance of the rain of A from the mixture of U", minimum=0),
        Option("lambda_TV", 1e-5, "weight of the total variation of U without rain", minimum=0),
        Option("components", 3, "Gaussians in the mixture", minimum=1),
    )
    streams = (*PAIRED, Stream("U"))
    inference_nets = ("G",)
    headings: ClassVar[Mapping[str, str]] = {
        "real_U": "photograph",
        "clean_U": "photograph without rain",
    }

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As published: 20 labeled and 20 unlabeled crops of 64 pixels, 15 epochs."""
        del chosen
        return {
            "ngf": 16,
            "preprocess": "crop",
            "crop_size": 64,
            "no_flip": True,
            "batch_size": 20,
            "lr": 1e-3,
            "beta1": 0.9,
            "lr_policy": "step",
            "n_epochs": 15,
            "n_epochs_decay": 0,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` unless source and target have equally many channels."""
        super().__init__()
        need_equal_channels(opt, "--model ssir", "--model cut")
        self.nets["G"] = DetailNetwork(opt.input_nc, opt.ngf, own_statistics=True)
        if not training:
            return
        self.lambda_GMM, self.lambda_KL, self.lambda_TV = opt.lambda_GMM, opt.lambda_KL, opt.lambda_TV
        self.mixture = GaussianMixture(opt.components)
        self.state = {"mixture": self.mixture}
        adam = partial(Adam, lr=opt.lr, betas=(opt.beta1, opt.beta2), fused=True)
        falls = StepAtShares(FALLS) if opt.lr_policy == "step" else None
        self.phases = (Phase("G", ("G",), self.losses, adam, schedule=falls),)

    def use_gather(self, gather: Gather) -> None:
        """The mixture is that of all processes' images."""
        super().use_gather(gather)
        self.mixture.gather = gather

    def forward(self, batch: Batch) -> Restored:
        A, U = batch["A"], batch["U"]
        return Restored(A, self.nets["G"](A), batch["B"], U, self.nets["G"](U))

    def losses(self, x: Restored) -> dict[str, Tensor]:
        """Eq. 8, on [0, 1] of the images: what is removed from U follows the mixture, and that from A is near to it."""
        losses = {"MSE": F.mse_loss(x.fake_B.float() / 2, x.real_B / 2)}
        removed_A, removed_U = ((source - clean.float()) / 2 for source, clean in (x[:2], x[3:]))
        if self.lambda_GMM > 0:
            losses["GMM"] = self.lambda_GMM * self.mixture.update_and_rate(removed_U)
        if self.lambda_KL > 0:
            losses["KL"] = self.lambda_KL * divergence_from_nearest(removed_A, self.mixture.variances)
        if self.lambda_TV > 0:
            losses["TV"] = self.lambda_TV * total_variation(x.clean_U.float() / 2)
        return losses

    def visuals(self, outputs: Restored) -> dict[str, Tensor]:
        return outputs._asdict()

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
