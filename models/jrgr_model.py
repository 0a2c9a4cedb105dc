"""JRGR: deraining of drawn and of real rain, and generation of each rain from the other, learned together.

Ye, Chang, Zhou, Yan, "Closing the Loop: Joint Rain Generation and Removal via Disentangled Image Translation", CVPR
2021. docs/methods.md says where each number comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from models.base_model import (
    Batch,
    Model,
    Phase,
    Progress,
    discriminator_from,
    discriminator_loss,
    generator_from,
    need_equal_channels,
)
from models.image_pool import ImagePool
from models.losses import GANLoss
from util.option import Option
from util.streams import PAIRED, Stream

CLEAN = ("Bs1", "Bs2", "Bt1", "Bt2")
"""What D_B judges, one pool for each."""
SHARE_G1, SHARE_G3 = 1 / 100, 1 / 10
"""Of the learning rate: what is pre-trained learns on slowly."""


@dataclass(frozen=True)
class Loops:
    """Both loops of one step, all [N, C, H, W]: s is drawn rain, t real rain; O is rainy, B its background."""

    Os: Tensor
    Bs: Tensor
    Bs1: Tensor  # G1(Os)
    Ot1: Tensor  # Bs1 + G2(Os − Bs1)
    Bs2: Tensor  # G3(Ot1)
    Os2: Tensor  # Bs2 + G4(Ot1 − Bs2)
    Ot: Tensor
    Bt1: Tensor  # G3(Ot)
    Os1: Tensor  # Bt1 + G4(Ot − Bt1)
    Bt2: Tensor  # G1(Os1)
    Ot2: Tensor  # Bt2 + G2(Os1 − Bt2)


@dataclass(frozen=True)
class Pair:
    """Of a step of the pre-training."""

    Os: Tensor
    Bs: Tensor
    Bs1: Tensor  # G3(Os)


class JRGRModel(Model):
    """G1 derains drawn rain, G3 real rain; G2 makes real rain of drawn, G4 drawn rain of real; on A, B and photos U."""

    options = (
        Option("pretrain_epochs", 20, "epochs in which one network learns from the pairs alone, before all others",
               minimum=0),
        Option("pretrain_lr", 2e-4, "learning rate meanwhile", above=0),
        Option("lambda_MSE", 40.0, "weight of the squared errors of the derained pairs", minimum=0),
        Option("lambda_GAN", 4.0, "weight of the adversarial losses", minimum=0),
        Option("lambda_rec", 40.0, "weight of the L1 distances around the loops", minimum=0),
    )  # fmt: skip
    streams = (*PAIRED, Stream("U"))
    inference_nets = ("G3",)
    headings: ClassVar[Mapping[str, str]] = {
        "real_A": "drawn rain",
        "fake_B": "derained",
        "real_B": "clean",
        "fake_U": "as real rain",
        "rec_A": "and back",
        "real_U": "photograph",
        "clean_U": "photograph derained",
        "fake_A": "as drawn rain",
        "rec_U": "photograph again",
    }

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As published: pix2pix's U-Net and CycleGAN's ResNet, batch norm, 100 + 100 epochs after the pre-training."""
        return {
            "netG": "unet_128",
            "normG": "batch",
            "no_antialias": True,
            "no_antialias_up": True,
            "init_type": "normal",
            "pool_size": 50,
            "preprocess": "crop",
            "crop_size": 256,
            "lr": 1e-5,
            "n_epochs": 100 + int(chosen.get("pretrain_epochs", cls.options[0].default)),
            "n_epochs_decay": 100,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` unless source and target have equally many channels."""
        super().__init__()
        need_equal_channels(opt, "--model jrgr", "--model cut")
        channels = opt.input_nc
        self.nets["G3"] = generator_from(opt, channels, channels)
        if not training:
            return
        self.nets["G1"] = generator_from(opt, channels, channels)
        for name in ("G2", "G4"):
            self.nets[name] = generator_from(opt, channels, channels, netG="resnet_9blocks", residual=False)
        for name in ("D_B", "D_Os", "D_Ot"):
            self.nets[name] = discriminator_from(opt, channels)
        self.pools = {name: ImagePool(opt.pool_size) for name in (*CLEAN, "Os1", "Ot1")}
        self.state = {f"pool_{name}": pool for name, pool in self.pools.items()}
        self.gan = GANLoss(opt.gan_mode)
        self.lambda_MSE, self.lambda_GAN, self.lambda_rec = opt.lambda_MSE, opt.lambda_GAN, opt.lambda_rec
        self.pretrain_epochs = opt.pretrain_epochs
        self.joint = opt.pretrain_epochs == 0
        adam = partial(Adam, betas=(opt.beta1, opt.beta2), fused=True)
        rates = {"G1": SHARE_G1 * opt.lr, "G3": SHARE_G3 * opt.lr} if opt.pretrain_epochs else {}
        self.phases = (
            Phase("pretrain", ("G3",), self.pretraining_losses, partial(adam, lr=opt.pretrain_lr),
                  active=lambda progress: not self._is_joint(progress)),
            Phase("G", ("G1", "G2", "G3", "G4"), self.generator_losses, partial(adam, lr=opt.lr), lr=rates,
                  active=self._is_joint),
            Phase("D", ("D_B", "D_Os", "D_Ot"), self.discriminator_losses, partial(adam, lr=opt.lr),
                  active=self._is_joint, needs_graph=False),
        )  # fmt: skip

    def _is_joint(self, progress: Progress) -> bool:
        return progress.epoch > self.pretrain_epochs

    def on_epoch(self, progress: Progress) -> None:
        """When the pre-training is over, both derainers begin with what one of them has learned."""
        self.joint = self._is_joint(progress)
        if 0 < self.pretrain_epochs == progress.epoch - 1 and progress.images_in_epoch == 0:
            self.nets["G1"].load_state_dict(self.nets["G3"].state_dict())

    def forward(self, batch: Batch) -> Loops | Pair:
        Os, Bs = batch["A"], batch["B"]
        G1, G2, G3, G4 = (self.nets[name] for name in ("G1", "G2", "G3", "G4"))
        if not self.joint:
            return Pair(Os, Bs, G3(Os))
        Bs1 = G1(Os)
        Ot1 = Bs1 + G2(Os - Bs1)
        Bs2 = G3(Ot1)
        Os2 = Bs2 + G4(Ot1 - Bs2)
        Ot = batch["U"]
        Bt1 = G3(Ot)
        Os1 = Bt1 + G4(Ot - Bt1)
        Bt2 = G1(Os1)
        Ot2 = Bt2 + G2(Os1 - Bt2)
        return Loops(Os, Bs, Bs1, Ot1, Bs2, Os2, Ot, Bt1, Os1, Bt2, Ot2)

    def pretraining_losses(self, x: Pair) -> dict[str, Tensor]:
        """Squared error of the pairs."""
        return {"pretrain": F.mse_loss(x.Bs1, x.Bs)}

    def generator_losses(self, x: Loops) -> dict[str, Tensor]:
        """Pairs, adversarial losses, and what has gone around a loop is what it was."""
        D_B = self.nets["D_B"]
        rain = self.gan.fool(self.nets["D_Ot"](x.Ot1)) + self.gan.fool(self.nets["D_Os"](x.Os1))
        clean = sum(self.gan.fool(D_B(getattr(x, name))) for name in CLEAN)
        around = ((x.Os, x.Os2), (x.Ot, x.Ot2), (x.Bs1, x.Bs2), (x.Bt1, x.Bt2))
        return {
            "MSE": self.lambda_MSE * (F.mse_loss(x.Bs1, x.Bs) + F.mse_loss(x.Bs2, x.Bs)),
            "G_rain": self.lambda_GAN * rain,
            "G_clean": self.lambda_GAN * clean,
            "rec": self.lambda_rec * sum(F.l1_loss(one, other) for one, other in around),
        }

    def discriminator_losses(self, x: Loops) -> dict[str, Tensor]:
        """Halved, as in CycleGAN; D_B's is the sum over its four kinds of images."""
        fakes = {name: pool.query(getattr(x, name)) for name, pool in self.pools.items()}
        of_B = [discriminator_loss(self.gan, self.nets["D_B"], x.Bs, fakes[name]) for name in CLEAN]
        return {
            "D_B": of_B[0] + of_B[1] + of_B[2] + of_B[3],
            "D_Ot": discriminator_loss(self.gan, self.nets["D_Ot"], x.Ot, fakes["Ot1"]),
            "D_Os": discriminator_loss(self.gan, self.nets["D_Os"], x.Os, fakes["Os1"]),
        }

    def visuals(self, outputs: Loops | Pair) -> dict[str, Tensor]:
        x = outputs
        images = {"real_A": x.Os, "fake_B": x.Bs1, "real_B": x.Bs}
        if isinstance(x, Pair):
            return images
        images |= {"fake_U": x.Ot1, "rec_A": x.Os2, "real_U": x.Ot, "clean_U": x.Bt1, "fake_A": x.Os1, "rec_U": x.Ot2}
        return images

    def infer(self, source: Tensor) -> Tensor:
        """Real rain."""
        return self.nets["G3"](source)
