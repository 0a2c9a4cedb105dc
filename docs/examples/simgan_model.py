"""A method in one file: SimGAN, an adversarial loss with an L1 tie to the input.

Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial Training", CVPR 2017.

    python train.py --plugin docs/examples/simgan_model.py --model simgan --dataroot ./datasets/rain_demo --name sim
    python test.py  --plugin docs/examples/simgan_model.py --model simgan --dataroot ./datasets/rain_demo --name sim
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from models import MODELS
from models.base_model import Batch, Model, Phase, discriminator_from, generator_from
from models.losses import GANLoss
from util.option import Option


class Refined(NamedTuple):
    """What the phases share; images are [N, C, H, W] in [-1, 1]."""

    real_A: Tensor
    fake_B: Tensor
    real_B: Tensor


@MODELS.register("simgan")
class SimGANModel(Model):
    """G: A → B, judged by D and kept near its input."""

    options = (Option("lambda_L1", 5.0, "weight of ‖G(A) − A‖₁", minimum=0),)
    inference_nets = ("G",)

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        self.nets["G"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        self.nets["D"] = discriminator_from(opt, opt.output_nc)
        self.gan = GANLoss(opt.gan_mode)
        self.lambda_L1 = opt.lambda_L1
        self.phases = (
            Phase("D", ("D",), self.discriminator_losses, needs_graph=False),
            Phase("G", ("G",), self.generator_losses),
        )

    def forward(self, batch: Batch) -> Refined:
        return Refined(batch["A"], self.nets["G"](batch["A"]), batch["B"])

    def discriminator_losses(self, x: Refined) -> dict[str, Tensor]:
        """Eq. 2."""
        D = self.nets["D"]
        return {
            "D_real": 0.5 * self.gan.real(D(x.real_B)),
            "D_fake": 0.5 * self.gan.fake(D(x.fake_B.detach())),
        }

    def generator_losses(self, x: Refined) -> dict[str, Tensor]:
        """Eq. 4: fool D, stay near the input."""
        return {
            "G_GAN": self.gan.fool(self.nets["D"](x.fake_B)),
            "L1": self.lambda_L1 * F.l1_loss(x.fake_B, x.real_A),
        }

    def visuals(self, x: Refined) -> dict[str, Tensor]:
        return x._asdict()

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
