"""NLCL: an image is split into background and rain, whose patches are told apart by non-local contrast.

Ye, Yu, Chang, Zhu, Zhao, Yan, Tian, "Unsupervised Deraining: Where Contrastive Learning Meets Self-similarity", CVPR
2022. docs/methods.md says where each number comes from.
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

from models.base_model import (
    Batch,
    Model,
    Phase,
    discriminator_from,
    discriminator_loss,
    need_equal_channels,
    taps_from,
)
from models.image_pool import ImagePool
from models.losses import GANLoss, PatchNCELoss
from models.losses.supervised_contrast import two_class_contrast
from models.networks import PatchSampler
from models.networks.block_matching import SMALLEST_SIDE, at_level, nearest_patches
from models.networks.factory import initialize
from models.networks.nlcl import LayerGenerator
from models.networks.passes import encode_together, generate_together, tap_widths
from models.networks.patchgan import PatchDiscriminator
from util.errors import UserError
from util.option import Option, Scope

LOCATIONS = 256  # of the location contrast
BACKGROUND, RAIN = 8, 128  # patches of the layer contrast
LAYER_TAPS = ("conv1", "conv2", "conv3")  # of the discriminator, after the image itself: positions 0, 3, 7

PRESETS = ("paper", "release")

Features = list[Tensor]
"""One feature map [N, C_l, H_l, W_l] per layer."""


@dataclass(frozen=True)
class Layers:
    """One step's images [N, C, H, W], and the generator's features of its inputs."""

    real_A: Tensor
    fake_B: Tensor  # G(real_A), the background
    rain: Tensor  # R(real_A)
    real_B: Tensor
    idt_B: Tensor  # G(real_B)
    keys_A: Features
    keys_B: Features


class NLCLModel(Model):
    """G: rainy → background, judged by D; R: rainy → rain; three heads project features."""

    options = (
        Option("preset", "paper", "release: heads and rates as the published code trains them by mistake",
               choices=PRESETS),
        Option("lambda_GAN", 1.0, "weight of the adversarial loss", minimum=0),
        Option("lambda_NCE", 1.0, "weight of the location contrast", minimum=0),
        Option("lambda_layers", 1.0, "weight of the contrast between background and rain", minimum=0),
        Option("lambda_MSE", 1.0, "weight of the squared error of background + rain", minimum=0),
        Option("lambda_L1", 0.1, "weight of the distance of the background from the image", minimum=0),
        Option("nce_layers", "0,2,4,8,12", "layers of G for the location contrast, by name or position",
               scope=Scope.ARCHITECTURE),
        Option("netF_nc", 256, "width of the projection heads", minimum=1, scope=Scope.ARCHITECTURE),
        Option("nce_T", 0.07, "temperature τ of both contrasts", above=0),
    )  # fmt: skip
    inference_nets = ("G",)
    headings: ClassVar[Mapping[str, str]] = {"idt_B": "target image through the generator", "rain": "rain"}

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As published: crops of 256 pixels, neither resized nor mirrored, 200 + 10 epochs, no image pool."""
        del chosen
        return {
            "ngf": 32,
            "preprocess": "crop",
            "crop_size": 256,
            "no_flip": True,
            "pool_size": 0,
            "n_epochs": 200,
            "n_epochs_decay": 10,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` for channels that differ, crops that are too small, or missing layers."""
        super().__init__()
        need_equal_channels(opt, "--model nlcl", "--model cut")
        self.nets["G"] = LayerGenerator(opt.input_nc, opt.output_nc, opt.ngf)
        if not training:
            return
        if "crop" in opt.preprocess and opt.crop_size < SMALLEST_SIDE:
            raise UserError(f"--crop_size {opt.crop_size}: the search for patches needs {SMALLEST_SIDE}; raise it.")
        self.nets["R"] = LayerGenerator(opt.input_nc, opt.output_nc, opt.ngf)
        self.nets["D"] = discriminator_from(opt, opt.output_nc)
        if not isinstance(self.nets["D"], PatchDiscriminator):
            raise UserError(f"--netD {opt.netD} has no layers for the contrast of layers; use basic.")
        self.taps = taps_from("nce_layers", opt.nce_layers, self.nets["G"])
        self.layer_taps = tuple(tap for tap in LAYER_TAPS if tap in self.nets["D"].tap_positions)
        layer_widths = [opt.output_nc, *tap_widths(self.nets["D"], self.layer_taps, opt.output_nc)]
        for head, widths in (
            ("F_location", [opt.ngf] * len(self.taps)),
            ("F_back", layer_widths),
            ("F_rain", layer_widths),
        ):
            self.nets[head] = PatchSampler(widths, embedding=opt.netF_nc)
            initialize(self.nets[head], opt.init_type, opt.init_gain)
        self.weights = {
            "GAN": opt.lambda_GAN,
            "NCE": opt.lambda_NCE,
            "layers": opt.lambda_layers,
            "MSE": opt.lambda_MSE,
            "L1": opt.lambda_L1,
        }
        self.temperature = opt.nce_T
        self.pool = ImagePool(opt.pool_size)
        self.state = {"pool": self.pool}
        self.gan = GANLoss(opt.gan_mode)
        self.nce = PatchNCELoss(opt.nce_T)
        adam = partial(Adam, lr=opt.lr, betas=(opt.beta1, opt.beta2), fused=True)
        heads: tuple[str, ...] = ("F_location", "F_back", "F_rain")
        rates: dict[str, float] = {}
        if opt.preset == "release":  # two heads stay as they begin, and the third makes each of its steps twice
            heads, rates = ("F_rain",), {"F_rain": 2 * opt.lr}
        self.phases = (
            Phase("D", ("D",), self.discriminator_losses, needs_graph=False),
            Phase("G", ("G", "R", *heads), self.generator_losses, adam, lr=rates),
        )

    def forward(self, batch: Batch) -> Layers:
        A, B = batch["A"], batch["B"]
        (fake_B, keys_A), (idt_B, keys_B) = generate_together(self.nets["G"], [A, B], self.taps)
        return Layers(A, fake_B, self.nets["R"](A), B, idt_B, keys_A, keys_B)

    def generator_losses(self, x: Layers) -> dict[str, Tensor]:
        """Both contrasts, the adversarial loss, and that background and rain add up to the image."""
        terms = {
            "GAN": lambda: {"GAN": self.gan.fool(self.nets["D"](x.fake_B))},
            "NCE": lambda: self.location_contrasts(x),
            "layers": lambda: {"layers": self.layer_contrast(x.fake_B, x.rain)},
            "MSE": lambda: {"MSE": F.mse_loss(x.fake_B + x.rain, x.real_A)},
            "L1": lambda: {"L1": F.l1_loss(x.fake_B, x.real_A)},
        }
        chosen = {term: weight for term, weight in self.weights.items() if weight > 0}
        return {name: weight * loss for term, weight in chosen.items() for name, loss in terms[term]().items()}

    def location_contrasts(self, x: Layers) -> dict[str, Tensor]:
        """A place of the output is that place of the input, and none of the places that look like it."""
        of_fake, of_identity = encode_together(self.nets["G"], [x.fake_B, x.idt_B], self.taps)
        return {
            "NCE": 0.5 * self._location_contrast(of_fake, x.keys_A),
            "NCE_Y": 0.5 * self._location_contrast(of_identity, x.keys_B),
        }

    def _location_contrast(self, queries: Features, keys: Features) -> Tensor:
        """PatchNCE at places that look alike in the first layer of the input, mean over layers and images."""
        losses = []
        for image in range(len(keys[0])):
            locations = nearest_patches(keys[0][image], LOCATIONS)
            projected = self._projected("F_location", queries, image, locations)
            with torch.no_grad():
                constants = self._projected("F_location", keys, image, locations)
            losses += [self.nce(q, k) for q, k in zip(projected, constants, strict=True)]
        return torch.stack(losses).mean()

    def layer_contrast(self, background: Tensor, rain: Tensor) -> Tensor:
        """Patches of the background look like each other to D and unlike those of the rain, and the other way round."""
        features = [
            [layer, *found]
            for layer, found in zip(
                (background, rain),
                encode_together(self.nets["D"], [background, rain], self.layer_taps),
                strict=True,
            )
        ]
        losses = []
        for image in range(len(background)):
            of_background, of_rain = (
                self._projected(head, of_layer, image, nearest_patches(of_layer[0][image], count))
                for head, of_layer, count in zip(("F_back", "F_rain"), features, (BACKGROUND, RAIN), strict=True)
            )
            losses += [
                two_class_contrast(one[0], other[0], self.temperature)
                for one, other in zip(of_background, of_rain, strict=True)
            ]
        return torch.stack(losses).mean()

    def _projected(self, head: str, features: Features, image: int, locations: Tensor) -> Features:
        """Embeddings [1, K, E] of each layer of one image, at locations in the first of the features."""
        of_image = [feature[image : image + 1] for feature in features]
        size = (features[0].shape[2], features[0].shape[3])
        indices = [at_level(locations, size, (f.shape[2], f.shape[3])) for f in of_image]
        return self.nets[head](of_image, indices)

    def discriminator_losses(self, x: Layers) -> dict[str, Tensor]:
        """Halved, as in CycleGAN."""
        return {"D": discriminator_loss(self.gan, self.nets["D"], x.real_B, self.pool.query(x.fake_B))}

    def visuals(self, x: Layers) -> dict[str, Tensor]:
        return {label: getattr(x, label) for label in ("real_A", "fake_B", "rain", "real_B", "idt_B")}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
