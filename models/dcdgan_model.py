"""DCD-GAN: two generators without a cycle, tied by contrast between the features of one and of the other.

Chen, Pan, Jiang, Li, Huang, Kong, Dai, Fan, "Unpaired Deep Image Deraining Using Dual Contrastive Learning", CVPR 2022.
docs/methods.md says where each number comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from models.base_model import (
    Batch,
    Model,
    Phase,
    discriminator_from,
    discriminator_loss,
    generator_from,
    need_equal_channels,
    patch_nce,
    taps_from,
)
from models.image_pool import ImagePool
from models.losses import GANLoss, PatchNCELoss
from models.networks import create_sampler
from models.networks.passes import generate_together
from util.option import Option, Scope

HEAD_LR, HEAD_BETAS = 1e-3, (0.9, 0.999)
"""Of the projection heads' Adam: PyTorch's own, as the published code does not pass its options on to it."""

Features = list[Tensor]
"""One feature map [N, C_l, H_l, W_l] per layer."""


@dataclass(frozen=True)
class BothWays:
    """One step's images [N, C, H, W], and the features of the passes that made the fakes."""

    real_A: Tensor
    fake_B: Tensor  # G_A(real_A)
    idt_A: Tensor  # G_A(real_B)
    real_B: Tensor
    fake_A: Tensor  # G_B(real_B)
    idt_B: Tensor  # G_B(real_A)
    keys_A: Features  # of G_A on real_A
    keys_B: Features  # of G_B on real_B


class DCDGANModel(Model):
    """G_A: rainy → clean, judged by D_A; G_B: clean → rainy, judged by D_B; F_A and F_B project their features."""

    options = (
        Option("lambda_GAN", 0.5, "weight of each generator's adversarial loss", minimum=0),
        Option("lambda_NCE", 1.0, "weight of each of the two contrastive terms", minimum=0),
        Option("lambda_identity", 0.5, "weight of each L1 identity term", minimum=0),
        Option("nce_layers", "down1,down2,block1,block5", "layers of the generators for the contrast, by name or "
               "position (the default is 4,8,12,16 of the antialiased ResNet)", scope=Scope.ARCHITECTURE),
        Option("netF_nc", 256, "width of the projection heads", minimum=1, scope=Scope.ARCHITECTURE),
        Option("nce_T", 0.07, "temperature τ of the contrast", above=0),
        Option("num_patches", 256, "locations per layer", minimum=1),
    )  # fmt: skip
    inference_nets = ("G_A",)

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As published: CUT's networks, hinge, crops of 256 of images of 512 pixels, 300 + 300 epochs."""
        del chosen
        return {
            "gan_mode": "hinge",
            "pool_size": 0,
            "load_size": 512,
            "crop_size": 256,
            "lr": 1e-4,
            "n_epochs": 300,
            "n_epochs_decay": 300,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` for channels that differ, or if ``--nce_layers`` names no layer."""
        super().__init__()
        self.nets["G_A"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        need_equal_channels(opt, "--model dcdgan", "--model cut")
        self.nets["G_B"] = generator_from(opt, opt.output_nc, opt.input_nc)
        self.nets["D_A"] = discriminator_from(opt, opt.output_nc)
        self.nets["D_B"] = discriminator_from(opt, opt.input_nc)
        self.taps = taps_from("nce_layers", opt.nce_layers, self.nets["G_A"])
        for head, generator in (("F_A", "G_A"), ("F_B", "G_B")):
            self.nets[head] = create_sampler(
                "mlp_sample",
                self.nets[generator],
                self.taps,
                opt.input_nc,
                embedding=opt.netF_nc,
                init_type=opt.init_type,
                init_gain=opt.init_gain,
            )
        self.lambda_GAN, self.lambda_NCE, self.lambda_identity = opt.lambda_GAN, opt.lambda_NCE, opt.lambda_identity
        self.num_patches = opt.num_patches
        self.pool_B, self.pool_A = ImagePool(opt.pool_size), ImagePool(opt.pool_size)
        self.state = {"pool_B": self.pool_B, "pool_A": self.pool_A}
        self.gan = GANLoss(opt.gan_mode)
        self.nce = PatchNCELoss(opt.nce_T)
        adam = partial(adam_for_generators_and_heads, lr=opt.lr, betas=(opt.beta1, opt.beta2))
        heads = {"F_A": HEAD_LR, "F_B": HEAD_LR}
        self.phases = (
            Phase("D", ("D_A", "D_B"), self.discriminator_losses, needs_graph=False),
            Phase("G", ("G_A", "G_B", *heads), self.generator_losses, adam, lr=heads),
        )

    def forward(self, batch: Batch) -> BothWays:
        A, B = batch["A"], batch["B"]
        (fake_B, keys_A), (idt_A, _) = generate_together(self.nets["G_A"], [A, B], self.taps)
        (fake_A, keys_B), (idt_B, _) = generate_together(self.nets["G_B"], [B, A], self.taps)
        return BothWays(A, fake_B, idt_A, B, fake_A, idt_B, keys_A, keys_B)

    def generator_losses(self, x: BothWays) -> dict[str, Tensor]:
        """Adversarial, contrastive and identity terms. A fake is judged by the loss that real images have."""
        queries_A = self.nets["G_B"].encode(x.fake_B, self.taps)
        queries_B = self.nets["G_A"].encode(x.fake_A, self.taps)
        return {
            "G_A": self.lambda_GAN * self.gan.real(self.nets["D_A"](x.fake_B)),
            "G_B": self.lambda_GAN * self.gan.real(self.nets["D_B"](x.fake_A)),
            "NCE_A": self.lambda_NCE * self.patch_nce(("F_A", x.keys_A), ("F_B", queries_A)),
            "NCE_B": self.lambda_NCE * self.patch_nce(("F_B", x.keys_B), ("F_A", queries_B)),
            "idt_A": self.lambda_identity * F.l1_loss(x.idt_A, x.real_B),
            "idt_B": self.lambda_identity * F.l1_loss(x.idt_B, x.real_A),
        }

    def patch_nce(self, key: tuple[str, Features], query: tuple[str, Features]) -> Tensor:
        """PatchNCE between (head, features) of a generator's input and of its output in the other, mean over layers."""
        (key_head, key_features), (query_head, query_features) = key, query
        heads = self.nets[key_head], self.nets[query_head]
        return patch_nce(self.nce, (heads[0], key_features), (heads[1], query_features), self.num_patches)

    def discriminator_losses(self, x: BothWays) -> dict[str, Tensor]:
        """Halved, as in CycleGAN."""
        return {
            "D_A": discriminator_loss(self.gan, self.nets["D_A"], x.real_B, self.pool_B.query(x.fake_B)),
            "D_B": discriminator_loss(self.gan, self.nets["D_B"], x.real_A, self.pool_A.query(x.fake_A)),
        }

    def visuals(self, x: BothWays) -> dict[str, Tensor]:
        labels = ("real_A", "fake_B", "idt_B", "real_B", "fake_A", "idt_A")
        return {label: getattr(x, label) for label in labels}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G_A"](source)


def adam_for_generators_and_heads(groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> Adam:
    """Adam, whose groups with a learning rate of their own, the heads, have their own β too."""
    own = [{**group, "betas": HEAD_BETAS} if "lr" in group else group for group in groups]
    return Adam(own, lr=lr, betas=betas, fused=True)
