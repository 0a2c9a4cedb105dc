"""A semi-supervised method in one file: labeled pairs and unlabeled photos in turn, each with its own optimizers.

Even steps learn from a pair (A, B) by AdamW. Odd steps make the derained unlabeled photo U look like a clean one to a
discriminator, which learns by SGD. E comes before the generator; it learns from pairs alone, and half as fast.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from models import MODELS
from models.base_model import Batch, Model, Phase, discriminator_from, generator_from
from models.losses import GANLoss
from util.engine.schedule import Progress, Step, every
from util.streams import Stream


@MODELS.register("semi_supervised")
class SemiSupervisedModel(Model):
    """E then G: rainy → clean, judged by D."""

    streams = (Stream("A"), Stream("B", paired_with="A", channels="output_nc"), Stream("U"))
    inference_nets = ("E", "G")

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        self.nets["E"] = nn.Sequential(nn.Conv2d(opt.input_nc, opt.input_nc, 3, padding=1))
        self.nets["G"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        self.nets["D"] = discriminator_from(opt, opt.output_nc)
        self.gan = GANLoss(opt.gan_mode)
        self.weight = 1.0
        adamw = partial(AdamW, lr=opt.lr, weight_decay=0.01)
        labeled, unlabeled = every(2, 0), every(2, 1)
        self.phases = (
            Phase("labeled", ("E", "G"), self.labeled_losses, optimizer=adamw, lr={"E": opt.lr / 2}, active=labeled,
                  needs_graph=False),
            Phase("unlabeled", ("G",), self.unlabeled_losses, optimizer=adamw, schedule=Step(1, 0.5), active=unlabeled,
                  needs_graph=False),
            Phase("D", ("D",), self.discriminator_losses, optimizer=partial(SGD, lr=opt.lr, momentum=0.9),
                  active=unlabeled, needs_graph=False),
        )  # fmt: skip

    def on_epoch(self, progress: Progress) -> None:
        """The unlabeled photos count more in later epochs."""
        self.weight = progress.epoch / progress.total_epochs

    def forward(self, batch: Batch) -> Batch:
        """Only what the phases share: they make passes of different images."""
        return batch

    def labeled_losses(self, x: Batch) -> dict[str, Tensor]:
        """Mean absolute error."""
        return {"L1": F.l1_loss(self.infer(x["A"]), x["B"])}

    def unlabeled_losses(self, x: Batch) -> dict[str, Tensor]:
        """Fool D."""
        return {"G_GAN": self.weight * self.gan.fool(self.nets["D"](self.infer(x["U"])))}

    def discriminator_losses(self, x: Batch) -> dict[str, Tensor]:
        """Tell clean photos from derained ones."""
        with torch.no_grad():
            derained = self.infer(x["U"])
        D = self.nets["D"]
        return {"D": 0.5 * (self.gan.real(D(x["B"])) + self.gan.fake(D(derained)))}

    @torch.no_grad()
    def visuals(self, outputs: Batch) -> dict[str, Tensor]:
        return {"real_A": outputs["A"], "fake_B": self.infer(outputs["A"]), "real_B": outputs["B"]}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](self.nets["E"](source))
