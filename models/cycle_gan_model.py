"""CycleGAN: adversarial losses and cycle consistency.

Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
ICCV 2017. Equation numbers are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from models.base_model import (
    Batch,
    Model,
    Phase,
    discriminator_from,
    discriminator_loss,
    generator_from,
    need_equal_channels,
)
from models.image_pool import ImagePool
from models.losses import GANLoss
from models.networks.passes import generate_together
from util.option import Option


@dataclass(frozen=True)
class Cycle:
    """Both cycles of one step, all [N, C, H, W]."""

    real_A: Tensor
    fake_B: Tensor  # G_A(real_A)
    rec_A: Tensor  # G_B(fake_B)
    real_B: Tensor
    fake_A: Tensor  # G_B(real_B)
    rec_B: Tensor  # G_A(fake_A)
    idt_A: Tensor | None  # G_A(real_B)
    idt_B: Tensor | None  # G_B(real_A)


class CycleGANModel(Model):
    """G_A: A → B, judged by D_A; G_B: B → A, judged by D_B."""

    options = (
        Option("lambda_A", 10.0, "weight of the cycle A → B → A", minimum=0),
        Option("lambda_B", 10.0, "weight of the cycle B → A → B", minimum=0),
        Option("lambda_identity", 0.5, "weight of the identity terms, relative to the cycles'", minimum=0),
    )
    inference_nets = ("G_A",)

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As published: plain strided convolutions, N(0, 0.02), pool of 50, 100 + 100 epochs."""
        return {
            "no_antialias": True,
            "no_antialias_up": True,
            "init_type": "normal",
            "pool_size": 50,
            "n_epochs": 100,
            "n_epochs_decay": 100,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        self.nets["G_A"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        self.nets["G_B"] = generator_from(opt, opt.output_nc, opt.input_nc)
        self.nets["D_A"] = discriminator_from(opt, opt.output_nc)
        self.nets["D_B"] = discriminator_from(opt, opt.input_nc)
        self.pool_B, self.pool_A = ImagePool(opt.pool_size), ImagePool(opt.pool_size)
        self.state = {"pool_B": self.pool_B, "pool_A": self.pool_A}
        self.gan = GANLoss(opt.gan_mode)
        self.lambda_A, self.lambda_B = opt.lambda_A, opt.lambda_B
        self.lambda_identity = opt.lambda_identity
        if self.lambda_identity > 0:
            need_equal_channels(opt, "--lambda_identity", "--lambda_identity 0")
        self.phases = (
            Phase("G", ("G_A", "G_B"), self.generator_losses),
            Phase("D", ("D_A", "D_B"), self.discriminator_losses, needs_graph=False),
        )

    def forward(self, batch: Batch) -> Cycle:
        A, B = batch["A"], batch["B"]
        with_identity = self.lambda_identity > 0
        to_B = generate_together(self.nets["G_A"], [A, B] if with_identity else [A])
        to_A = generate_together(self.nets["G_B"], [B, A] if with_identity else [B])
        fake_B, fake_A = to_B[0][0], to_A[0][0]
        return Cycle(
            real_A=A,
            fake_B=fake_B,
            rec_A=self.nets["G_B"](fake_B),
            real_B=B,
            fake_A=fake_A,
            rec_B=self.nets["G_A"](fake_A),
            idt_A=to_B[1][0] if with_identity else None,
            idt_B=to_A[1][0] if with_identity else None,
        )

    def generator_losses(self, x: Cycle) -> dict[str, Tensor]:
        """Eq. 1 (adversarial), eq. 2 (cycle) and section 5.2 (identity)."""
        losses = {
            "G_A": self.gan.fool(self.nets["D_A"](x.fake_B)),
            "G_B": self.gan.fool(self.nets["D_B"](x.fake_A)),
            "cycle_A": self.lambda_A * F.l1_loss(x.rec_A, x.real_A),
            "cycle_B": self.lambda_B * F.l1_loss(x.rec_B, x.real_B),
        }
        if x.idt_A is not None and x.idt_B is not None:
            losses["idt_A"] = self.lambda_identity * self.lambda_B * F.l1_loss(x.idt_A, x.real_B)
            losses["idt_B"] = self.lambda_identity * self.lambda_A * F.l1_loss(x.idt_B, x.real_A)
        return losses

    def discriminator_losses(self, x: Cycle) -> dict[str, Tensor]:
        """Half of eq. 1 for each discriminator, which slows it down relative to the generator."""
        return {
            "D_A": discriminator_loss(self.gan, self.nets["D_A"], x.real_B, self.pool_B.query(x.fake_B)),
            "D_B": discriminator_loss(self.gan, self.nets["D_B"], x.real_A, self.pool_A.query(x.fake_A)),
        }

    def visuals(self, x: Cycle) -> dict[str, Tensor]:
        images = {"real_A": x.real_A, "fake_B": x.fake_B, "rec_A": x.rec_A, "idt_B": x.idt_B}
        images |= {"real_B": x.real_B, "fake_A": x.fake_A, "rec_B": x.rec_B, "idt_A": x.idt_A}
        return {label: image for label, image in images.items() if image is not None}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G_A"](source)
