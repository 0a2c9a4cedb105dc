"""DerainCycleGAN: CycleGAN, led by one detector that says of every image where rain is and how strong.

Wei, Zhang, Wang, Xu, Yang, Yan, Wang, "DerainCycleGAN: Rain Attentive CycleGAN for Single Image Deraining and
Rainmaking", TIP 2021.

m = M(image). G_A(a, m_a) takes the rain off, judged by D_A; G_B(b, m_b) makes rain, judged by D_B. Rain adds light:
the derained image and its mask shall add up to the rainy one, and the mask of a clean image shall be empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from models.base_model import Batch, Model, Phase, need_equal_channels
from models.image_pool import ImagePool
from models.losses import GANLoss, PerceptualLoss
from models.networks.derain_cyclegan import AttentiveGenerator, MultiScaleDiscriminator, RainDetector
from models.networks.factory import initialize
from models.networks.vgg import pretrained_vgg
from util.errors import UserError
from util.option import Option

RAINMAKING_NOISE = 0.01


@dataclass(frozen=True)
class AttentiveCycle:
    """Both cycles of one step, [N, C, H, W], and the masks of the real images, [N, 1, H, W]."""

    real_A: Tensor
    mask_A: Tensor  # M(real_A)
    fake_B: Tensor  # G_A(real_A, mask_A)
    rec_A: Tensor  # G_B(fake_B, M(fake_B))
    real_B: Tensor
    mask_B: Tensor
    fake_A: Tensor
    rec_B: Tensor


class DerainCycleGANModel(Model):
    """G_A: A → B; G_B: B → A; M: where rain is."""

    options = (
        Option("preset", "paper", "release: as published, where the perceptual distance has no gradient",
               choices=("paper", "release")),
        Option("lambda_A", 10.0, "weight of the cycle A → B → A", minimum=0),
        Option("lambda_B", 10.0, "weight of the cycle B → A → B", minimum=0),
        Option("lambda_empty", 10.0, "weight of the mask of clean images being empty", minimum=0),
        Option("lambda_rain", 10.0, "weight of derained image + mask = rainy image", minimum=0),
        Option("lambda_VGG", 0.01, "weight of VGG16's perceptual distance of rainy and derained image", minimum=0),
        Option("vgg_weights", None, "torchvision's VGG file; fetched if not given"),
    )  # fmt: skip
    inference_nets = ("G_A", "M")
    headings: ClassVar[Mapping[str, str]] = {"mask_A": "detected rain"}

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """N(0, 0.02), resized to 256 and cropped to 216, 200 + 200 epochs."""
        released = {"lambda_VGG": 0.0} if chosen.get("preset") == "release" else {}
        return {"init_type": "normal", "load_size": 256, "crop_size": 216, "lr": 1e-4, **released}

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` for crops too small for the discriminators."""
        super().__init__()
        need_equal_channels(opt, "--model derain_cyclegan", "another --model")
        channels = opt.input_nc
        self.nets["G_A"] = AttentiveGenerator(channels, opt.ngf)
        self.nets["M"] = RainDetector(channels, opt.ngf // 2)
        if not training:
            return
        self.nets["G_B"] = AttentiveGenerator(channels, opt.ngf)
        self.nets["D_A"] = MultiScaleDiscriminator(channels, opt.ndf)
        self.nets["D_B"] = MultiScaleDiscriminator(channels, opt.ndf)
        for network in self.nets.values():
            initialize(network, opt.init_type, opt.init_gain)
        smallest = MultiScaleDiscriminator.smallest
        if "crop" in opt.preprocess and opt.crop_size < smallest:
            raise UserError(f"--crop_size {opt.crop_size}: the discriminators' three scales need {smallest} or more.")
        self.gan = GANLoss(opt.gan_mode)
        self.pool_A, self.pool_B = ImagePool(opt.pool_size), ImagePool(opt.pool_size)
        self.state = {"pool_A": self.pool_A, "pool_B": self.pool_B}
        self.weights = {name: getattr(opt, f"lambda_{name}") for name in ("A", "B", "empty", "rain", "VGG")}
        self.perceptual = PerceptualLoss()
        if opt.lambda_VGG > 0:
            self.frozen["vgg"] = pretrained_vgg("vgg16", ("relu3_3",), opt.vgg_weights)
        adam = partial(Adam, lr=opt.lr, betas=(opt.beta1, opt.beta2), weight_decay=1e-4)
        self.phases = (
            Phase("G", ("G_A", "G_B", "M"), self.generator_losses, adam),
            Phase("D", ("D_A", "D_B"), self.discriminator_losses, adam, needs_graph=False),
        )

    @property
    def stride(self) -> int:
        return AttentiveGenerator.stride

    def forward(self, batch: Batch) -> AttentiveCycle:
        A, B, M = batch["A"], batch["B"], self.nets["M"]
        mask_A, mask_B = M(A), M(B)
        fake_B, fake_A = self.nets["G_A"](A, mask_A), self.nets["G_B"](B, mask_B)
        rec_B, rec_A = self.nets["G_A"](fake_A, M(fake_A)), self.nets["G_B"](fake_B, M(fake_B))
        return AttentiveCycle(A, mask_A, fake_B, rec_A, B, mask_B, fake_A, rec_B)

    def generator_losses(self, x: AttentiveCycle) -> dict[str, Tensor]:
        """Adversarial at full resolution, cycles, and what the masks are to be."""
        terms = {
            "A": lambda: F.l1_loss(x.rec_A, x.real_A),
            "B": lambda: F.l1_loss(x.rec_B, x.real_B),
            "empty": lambda: x.mask_B.float().square().mean(),
            "rain": lambda: F.mse_loss(x.mask_A + x.fake_B, x.real_A),
            "VGG": lambda: self.perceptual(self.frozen["vgg"], (x.fake_B + 1) / 2, (x.real_A + 1) / 2),
        }
        losses = {
            "G_A": self.gan.fool(self.nets["D_A"].full_resolution(x.fake_B)),
            "G_B": self.gan.fool(self.nets["D_B"].full_resolution(x.fake_A)),
        }
        return losses | {name: weight * terms[name]() for name, weight in self.weights.items() if weight > 0}

    def discriminator_losses(self, x: AttentiveCycle) -> dict[str, Tensor]:
        """Of all scales."""
        return {
            "D_A": self._judged("D_A", x.real_B, self.pool_B.query(x.fake_B)),
            "D_B": self._judged("D_B", x.real_A, self.pool_A.query(x.fake_A)),
        }

    def _judged(self, name: str, real: Tensor, fake: Tensor) -> Tensor:
        """Mean over the scales of half of the loss on real and fake images."""
        pairs = zip(self.nets[name](real), self.nets[name](fake), strict=True)
        return torch.stack([0.5 * (self.gan.real(r) + self.gan.fake(f)) for r, f in pairs]).mean()

    def make_rain(self, clean: Tensor, rainy: Tensor) -> Tensor:
        """Rain as in ``rainy`` on ``clean`` images, never twice the same, [N, C, H, W] all; for a trained model."""
        mask = self.nets["M"](rainy)
        return self.nets["G_B"](clean, mask + RAINMAKING_NOISE * torch.rand_like(mask))

    def visuals(self, x: AttentiveCycle) -> dict[str, Tensor]:
        images = {"real_A": x.real_A, "fake_B": x.fake_B, "rec_A": x.rec_A, "mask_A": x.mask_A.expand_as(x.real_A)}
        return images | {"real_B": x.real_B, "fake_A": x.fake_A, "rec_B": x.rec_B}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G_A"](source, self.nets["M"](source))
