"""CUT and FastCUT: adversarial loss and PatchNCE between input and output.

Park, Efros, Zhang, Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020.
Equation numbers are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.base_model import (
    Batch,
    Model,
    Phase,
    discriminator_from,
    generator_from,
    need_equal_channels,
    patch_nce,
    taps_from,
)
from models.image_pool import ImagePool
from models.losses import GANLoss, PatchNCELoss
from models.networks import SAMPLERS, create_sampler
from models.networks.passes import encode_together, forward_together, generate_together
from util.errors import UserError
from util.option import Option, Scope

Features = list[Tensor]
"""One feature map [N, C_l, H_l, W_l] per layer."""


@dataclass(frozen=True)
class Translation:
    """One step's images [N, C, H, W]; ``flipped`` says that fake_B and idt_B are mirrored."""

    real_A: Tensor
    real_B: Tensor
    fake_B: Tensor
    idt_B: Tensor | None
    flipped: bool
    keys_A: Features
    keys_B: Features


class CUTModel(Model):
    """G: A → B, judged by D; F projects G's encoder features for PatchNCE."""

    options = (
        Option("CUT_mode", "CUT", "CUT, or FastCUT: no identity NCE, λ_NCE 10, flip equivariance, 150 + 50 epochs",
               choices=("CUT", "FastCUT")),
        Option("lambda_GAN", 1.0, "weight of the adversarial loss", minimum=0),
        Option("lambda_NCE", 1.0, "weight of PatchNCE", minimum=0),
        Option("nce_idt", True, "also PatchNCE between real_B and G(real_B)"),
        Option("nce_layers", "pad,down1,down2,block1,block5", "layers of G for PatchNCE, by name or position "
               "(the default is 0,4,8,12,16 of the antialiased ResNet)", scope=Scope.ARCHITECTURE),
        Option("nce_includes_all_negatives_from_minibatch", False, "negatives from all images of the batch"),
        Option("netF", "mlp_sample", "projection head of the features", choices=SAMPLERS, scope=Scope.ARCHITECTURE),
        Option("netF_nc", 256, "width of the projection head", minimum=1, scope=Scope.ARCHITECTURE),
        Option("nce_T", 0.07, "temperature τ of PatchNCE", above=0),
        Option("num_patches", 256, "locations per layer", minimum=1),
        Option("flip_equivariance", False, "mirror G's input at random and its features back"),
    )  # fmt: skip
    inference_nets = ("G",)
    headings: ClassVar[Mapping[str, str]] = {"idt_B": "target image through the generator"}

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """CUT: antialiased networks, Xavier, no image pool; FastCUT's own settings on top of it."""
        if chosen.get("CUT_mode") != "FastCUT":
            return {"pool_size": 0}
        return {
            "pool_size": 0,
            "nce_idt": False,
            "lambda_NCE": 10.0,
            "flip_equivariance": True,
            "n_epochs": 150,
            "n_epochs_decay": 50,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` if every loss is off or ``--nce_layers`` names no layer."""
        super().__init__()
        if training and not (opt.lambda_GAN > 0 or opt.lambda_NCE > 0):
            raise UserError("--lambda_GAN and --lambda_NCE are both 0, which leaves nothing to train; raise one.")
        self.nets["G"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        self.lambda_GAN, self.lambda_NCE = opt.lambda_GAN, opt.lambda_NCE
        if self.lambda_GAN > 0:
            self.nets["D"] = discriminator_from(opt, opt.output_nc)
        self.taps = taps_from("nce_layers", opt.nce_layers, self.nets["G"]) if self.lambda_NCE > 0 else ()
        if self.taps:
            self.nets["F"] = create_sampler(
                opt.netF,
                self.nets["G"],
                self.taps,
                opt.input_nc,
                embedding=opt.netF_nc,
                init_type=opt.init_type,
                init_gain=opt.init_gain,
            )
        self.nce_idt = bool(self.taps) and opt.nce_idt
        if self.nce_idt:
            need_equal_channels(opt, "--nce_idt", "--nce_idt false")
        self.flip_equivariance = opt.flip_equivariance
        self.num_patches = opt.num_patches
        self.pool = ImagePool(opt.pool_size)
        self.state = {"pool": self.pool}
        self.gan = GANLoss(opt.gan_mode)
        self.nce = PatchNCELoss(opt.nce_T, across_batch=opt.nce_includes_all_negatives_from_minibatch)
        generator = Phase("G", ("G", "F") if self.taps else ("G",), self.generator_losses)
        discriminator = Phase("D", ("D",), self.discriminator_losses, needs_graph=False)
        self.phases = (discriminator, generator) if self.lambda_GAN > 0 else (generator,)

    def forward(self, batch: Batch) -> Translation:
        A, B = batch["A"], batch["B"]
        flipped = self.flip_equivariance and bool(torch.rand(()) < 0.5)
        sources = [A, B] if self.nce_idt else [A]
        passes = generate_together(
            self.nets["G"], [image.flip(3) for image in sources] if flipped else sources, self.taps
        )
        # PatchNCE's keys are G's features of its own input: they come from the pass that makes the fake,
        # unless that pass saw a mirrored input.
        keys = [features for _, features in passes]
        if flipped and self.taps:
            with torch.no_grad():
                keys = encode_together(self.nets["G"], sources, self.taps)
        return Translation(
            real_A=A,
            real_B=B,
            fake_B=passes[0][0],
            idt_B=passes[1][0] if self.nce_idt else None,
            flipped=flipped,
            keys_A=keys[0],
            keys_B=keys[1] if self.nce_idt else [],
        )

    def discriminator_losses(self, x: Translation) -> dict[str, Tensor]:
        """Eq. 1, halved."""
        fake = self.pool.query(x.fake_B)
        judged_fake, judged_real = forward_together(self.nets["D"], [fake, x.real_B])
        losses = {"D_real": 0.5 * self.gan.real(judged_real), "D_fake": 0.5 * self.gan.fake(judged_fake)}
        if self.gan.mode == "wgangp":
            losses["D_penalty"] = self.gan.penalty(self.nets["D"], x.real_B, fake)
        return losses

    def generator_losses(self, x: Translation) -> dict[str, Tensor]:
        """Eq. 5: adversarial loss, PatchNCE(A, fake_B), and PatchNCE(B, idt_B) where identity is on."""
        losses: dict[str, Tensor] = {}
        if self.lambda_GAN > 0:
            losses["G_GAN"] = self.lambda_GAN * self.gan.fool(self.nets["D"](x.fake_B))
        if not self.taps:
            return losses
        outputs = [x.fake_B] if x.idt_B is None else [x.fake_B, x.idt_B]
        queries = encode_together(self.nets["G"], outputs, self.taps)
        if x.flipped:
            queries = [[feature.flip(3) for feature in features] for features in queries]
        share = 1 / len(outputs)
        losses["NCE"] = share * self.lambda_NCE * self.patch_nce(queries[0], x.keys_A)
        if x.idt_B is not None:
            losses["NCE_Y"] = share * self.lambda_NCE * self.patch_nce(queries[1], x.keys_B)
        return losses

    def patch_nce(self, queries: Features, keys: Features) -> Tensor:
        """Eq. 4, averaged over layers."""
        F = self.nets["F"]
        return patch_nce(self.nce, (F, keys), (F, queries), self.num_patches)

    def visuals(self, x: Translation) -> dict[str, Tensor]:
        def upright(image: Tensor) -> Tensor:
            return image.flip(3) if x.flipped else image

        images = {"real_A": x.real_A, "fake_B": upright(x.fake_B), "real_B": x.real_B}
        return images if x.idt_B is None else {**images, "idt_B": upright(x.idt_B)}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
