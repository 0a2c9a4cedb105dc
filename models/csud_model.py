"""CSUD: rain is carried from rainy photographs onto clean ones, and taken off them again with a known result.

Dong, Zheng, Cao, Qing, Ren, "Channel Consistency Prior and Self-Reconstruction Strategy Based Unsupervised Image
Deraining", CVPR 2025. There is no discriminator of clean images, no cycle and no identity term.

T(n, r) puts the rain of r onto n. G derains; it learns by regression on (T(N, R) → N) alone, while T learns from
a discriminator of rainy images, from the prior that rain is gray, and from having to change nothing where the second
image has no rain. What could not be recovered of the paper is listed in docs/methods.md.
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

from models.base_model import Batch, Model, Phase, discriminator_from, generator_from, need_equal_channels
from models.losses import GANLoss, PerceptualLoss, restoration
from models.networks import GENERATORS, create_generator
from models.networks.passes import forward_together
from models.networks.vgg import pretrained_vgg
from util.engine.schedule import Step
from util.option import Option, Scope

VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_4", "relu4_4")
SMALLEST_SSIM = 1e-3  # below which −log SSIM no longer grows


@dataclass(frozen=True)
class Transfer:
    """One step's images [N, C, H, W]."""

    real_A: Tensor  # R
    real_B: Tensor  # N
    fake_A: Tensor  # T(N, R)
    fake_B: Tensor  # G(R), without gradient
    rec_B: Tensor  # G(T(N, R)), with G's gradient alone
    again: tuple[Tensor, Tensor, Tensor]  # further rainy images: T(G(R), R), T(rec_B, R), T(G(R), fake_A)
    kept: tuple[Tensor, ...]  # T(N, n) for images n without rain
    idt_B: Tensor | None  # G(N)

    @property
    def made_rainy(self) -> list[Tensor]:
        """The four streams that D takes for fakes."""
        return [self.fake_A, *self.again]


class CSUDModel(Model):
    """G: A → B; T: (B, A) → A, judged by D."""

    options = (
        Option("netT", "resnet_6blocks", "generator of the rain that is added", choices=GENERATORS,
               scope=Scope.ARCHITECTURE),
        Option("lambda_GAN", 1.0, "weight of the adversarial loss of T", minimum=0),
        Option("lambda_gray", 10.0, "weight of the color of the rain that T adds", minimum=0),
        Option("lambda_self_T", 5.0, "weight of T changing nothing, given an image without rain", minimum=0),
        Option("lambda_self_G", 0.5, "weight of G changing nothing on clean images", minimum=0),
        Option("lambda_L1", 1.0, "weight of L1 on pseudo-pairs", minimum=0),
        Option("lambda_SSIM", 1.0, "weight of −log SSIM on pseudo-pairs", minimum=0),
        Option("lambda_VGG", 0.2, "weight of VGG19's perceptual distance on pseudo-pairs", minimum=0),
        Option("vgg_weights", None, "torchvision's VGG file; fetched if not given"),
    )  # fmt: skip
    inference_nets = ("G",)
    headings: ClassVar[Mapping[str, str]] = {"rec_B": "derained pseudo-rainy image"}

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """NAFNet of width 32, batches of 2, crops of 256; 100,000 steps are 1000 epochs of Rain100L's 200 images."""
        del chosen
        return {
            "netG": "nafnet",
            "ngf": 32,
            "nafnet_blocks": "2,2,4,8,12,2,2,2,2",
            "residual": True,
            "preprocess": "crop",
            "batch_size": 2,
            "pool_size": 0,
            "lr": 1e-4,
            "beta1": 0.9,
            "n_epochs": 1000,
            "n_epochs_decay": 0,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        self.nets["G"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        need_equal_channels(opt, "--model csud", "another --model")
        self.nets["T"] = create_generator(
            opt.netT, 2 * opt.input_nc, opt.input_nc, opt.ngf, init_type=opt.init_type, init_gain=opt.init_gain
        )
        self.nets["D"] = discriminator_from(opt, opt.input_nc)
        self.gan = GANLoss(opt.gan_mode)
        self.weights = {name: getattr(opt, f"lambda_{name}") for name in ("GAN", "gray", "self_T")}
        self.regression = {name: getattr(opt, f"lambda_{name}") for name in ("L1", "SSIM", "VGG")}
        self.lambda_self_G = opt.lambda_self_G
        self.perceptual = PerceptualLoss(F.l1_loss)
        if opt.lambda_VGG > 0:
            self.frozen["vgg"] = pretrained_vgg("vgg19", VGG_LAYERS, opt.vgg_weights)
        adam = partial(Adam, lr=opt.lr, betas=(opt.beta1, opt.beta2))
        halved = Step(20_000, 0.5, per_step=True)
        self.phases = (
            Phase("G", ("G", "T"), self.generator_losses, adam, schedule=halved),
            Phase("D", ("D",), self.discriminator_losses, adam, schedule=halved, needs_graph=False),
        )

    def transfer(self, pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """T(n, r) = n + network(n, r) for each pair, in one pass where that is exact."""
        layers = forward_together(self.nets["T"], [torch.cat(pair, 1) for pair in pairs])
        return [clean + layer for (clean, _), layer in zip(pairs, layers, strict=True)]

    def forward(self, batch: Batch) -> Transfer:
        """G sees what T made without a gradient into T, and T likewise: neither can make the other's task easy."""
        R, N, G = batch["A"], batch["B"], self.nets["G"]
        (fake_A,) = self.transfer([(N, R)])
        rec_B = G(fake_A.detach())
        with torch.no_grad():
            fake_B = G(R)
        derained = rec_B.detach()
        keeps = self.weights["self_T"] > 0
        rain_on = [(fake_B, R), (derained, R), (fake_B, fake_A.detach())]
        nothing_on = [(N, N), (N, fake_B), (N, derained)] if keeps else []
        made = self.transfer([*rain_on, *nothing_on])
        return Transfer(
            real_A=R,
            real_B=N,
            fake_A=fake_A,
            fake_B=fake_B,
            rec_B=rec_B,
            again=(made[0], made[1], made[2]),
            kept=tuple(made[3:]),
            idt_B=G(N) if self.lambda_self_G > 0 else None,
        )

    def generator_losses(self, x: Transfer) -> dict[str, Tensor]:
        """T's adversarial, channel and self-reconstruction losses, and G's regression; all on [0, 1]."""
        clean, derained = (x.real_B + 1) / 2, (x.rec_B.float() + 1) / 2
        grounds = [x.real_B, x.fake_B, x.rec_B.detach(), x.fake_B]
        terms = {
            "GAN": lambda: _mean([self.gan.fool(self.nets["D"](image)) for image in x.made_rainy]),
            "gray": lambda: _mean(
                [restoration.channel_difference(n / 2, r / 2) for n, r in zip(grounds, x.made_rainy, strict=True)]
            ),
            "self_T": lambda: _mean([F.l1_loss(image / 2, x.real_B / 2) for image in x.kept]),
            "L1": lambda: F.l1_loss(derained, clean),
            "SSIM": lambda: -torch.log((1 - restoration.ssim(derained, clean)).clamp(min=SMALLEST_SSIM)),
            "VGG": lambda: self.perceptual(self.frozen["vgg"], derained, clean),
        }
        losses = {name: weight * terms[name]() for name, weight in (self.weights | self.regression).items() if weight}
        if x.idt_B is not None:
            losses["self_G"] = self.lambda_self_G * F.l1_loss(x.idt_B / 2, x.real_B / 2)
        return losses

    def discriminator_losses(self, x: Transfer) -> dict[str, Tensor]:
        """Real rainy images against the four streams of made ones."""
        D = self.nets["D"]
        return {
            "D_real": 0.5 * self.gan.real(D(x.real_A)),
            "D_fake": 0.5 * _mean([self.gan.fake(D(image.detach())) for image in x.made_rainy]),
        }

    def visuals(self, x: Transfer) -> dict[str, Tensor]:
        return {"real_A": x.real_A, "fake_B": x.fake_B, "real_B": x.real_B, "fake_A": x.fake_A, "rec_B": x.rec_B}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)


def _mean(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).mean()
