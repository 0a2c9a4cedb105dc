"""UDGNet: rain is turned until it is vertical, and then told from the scene by how the two change along and across.

Yu, Chang, Li, Zhao, Yan, "Unsupervised Image Deraining: Optimization Model Driven Deep CNN", ACM Multimedia 2021.

O is a rainy crop, turned. G finds the scene B, S the rain R, each alone from O. E tells the angle of the rain; at first
it learns alone. D judges scenes. All images are [0, 1] here, and losses are sums over the pixels of a batch.
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

from models.base_model import Batch, Model, Phase, Progress, discriminator_from, need_equal_channels
from models.image_pool import ImagePool
from models.losses import GANLoss
from models.losses.directional import directional_rain, smoothness, squared_distance
from models.networks.factory import initialize
from models.networks.passes import forward_together
from models.networks.udgnet import ANGLE_PATCH, AngleNet, LayerBranch, rotated
from models.rain_angles import RainAngles
from util.engine.schedule import MultiStep
from util.errors import UserError
from util.layers import pad_to_multiple
from util.option import Option, Scope

WEIGHT = 0.1  # of each of the three groups of G's losses
NEAR, SMOOTH, ADVERSARIAL = 0.01, 0.01, 4000.0
PATCH_STEP = ANGLE_PATCH // 2
BORDER = 20  # pixels that are mirrored around a picture


@dataclass(frozen=True)
class Split:
    """One step's images in [0, 1], [N, C, H, W]; those of a turned crop are None while E learns alone."""

    real_A: Tensor
    angle: Tensor  # the labels, [N]
    turned_A: Tensor | None = None  # O
    scene: Tensor | None = None  # B = G(O)
    rain: Tensor | None = None  # R = S(O)
    turned_B: Tensor | None = None  # a clean crop, turned alike


class UDGNetModel(Model):
    """E: angle; G: scene, judged by D; S: rain."""

    options = (
        Option("udg_blocks", 32, "residual blocks of each branch", minimum=1, scope=Scope.ARCHITECTURE),
        Option("angle_epochs", 20, "epochs at the beginning that train the angle network alone", minimum=0),
        Option("angles", None, "labels of the rain's angle: a folder of .npy, or a CSV; not set: the record of drawn "
               "rain in --dataroot (images.csv), or else estimated"),
    )  # fmt: skip
    inference_nets = ("G", "E")
    headings: ClassVar[Mapping[str, str]] = {
        "fake_B": "scene",
        "turned_A": "turned input",
        "turned_B": "turned clean image",
    }

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """32 channels, batch norm, crops of 128 that are not mirrored, batches of 8, 150 epochs (of 2000 steps)."""
        del chosen
        return {
            "ngf": 32,
            "normD": "batch",
            "no_antialias": True,
            "init_type": "normal",
            "preprocess": "crop",
            "crop_size": ANGLE_PATCH,
            "no_flip": True,
            "batch_size": 8,
            "lr": 1e-4,
            "beta1": 0.9,
            "n_epochs": 150,
            "n_epochs_decay": 0,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` for crops too small for E, and for mirrored images whose angles are known."""
        super().__init__()
        need_equal_channels(opt, "--model udgnet", "another --model")
        self.nets["G"] = LayerBranch(opt.input_nc, opt.ngf, opt.udg_blocks)
        self.nets["E"] = AngleNet(opt.input_nc)
        if not training:
            return
        self.nets["S"] = LayerBranch(opt.input_nc, opt.ngf, opt.udg_blocks)
        for name in ("G", "E", "S"):
            initialize(self.nets[name], opt.init_type, opt.init_gain)
        self.nets["D"] = discriminator_from(opt, opt.output_nc)
        if opt.crop_size < ANGLE_PATCH:
            raise UserError(f"--crop_size {opt.crop_size}: the angle network needs {ANGLE_PATCH} or more.")
        source = "B" if opt.direction == "BtoA" else "A"
        self.angles = RainAngles(opt.dataroot, f"{opt.phase}{source}", opt.angles)
        if self.angles.are_known and not opt.no_flip:
            raise UserError("--no_flip false: a mirrored image has another angle than its label says; leave it out.")
        self.gan, self.pool = GANLoss(opt.gan_mode), ImagePool(opt.pool_size)
        self.state = {"pool": self.pool}
        self.images, self.angle_epochs = opt.batch_size, opt.angle_epochs
        self.is_learning_angles = opt.angle_epochs > 0
        adam = partial(Adam, lr=opt.lr, betas=(opt.beta1, opt.beta2), eps=1e-4, amsgrad=True)
        late = MultiStep((50, 70, 100))
        self.phases = (
            Phase("E", ("E",), self.angle_losses, adam, schedule=MultiStep((10, 40, 50)), needs_graph=False),
            Phase("G", ("G", "S"), self.layer_losses, adam, schedule=late, active=self.knows_angles),
            Phase("D", ("D",), self.discriminator_losses, adam, schedule=late, active=self.knows_angles,
                  needs_graph=False),
        )  # fmt: skip

    def knows_angles(self, progress: Progress) -> bool:
        """Whether E has had its epochs."""
        return progress.epoch > self.angle_epochs

    def on_epoch(self, progress: Progress) -> None:
        self.is_learning_angles = not self.knows_angles(progress)

    def forward(self, batch: Batch) -> Split:
        A, B = (batch["A"] + 1) / 2, (batch["B"] + 1) / 2
        labels = self.angles.of(batch["A"], batch["A_paths"])
        if self.is_learning_angles:
            return Split(A, labels)
        with torch.no_grad():
            upright = upright_by(self.nets["E"](A))
        turned = rotated(A, upright)
        return Split(A, labels, turned, self.nets["G"](turned), self.nets["S"](turned), rotated(B, upright))

    def angle_losses(self, x: Split) -> dict[str, Tensor]:
        """Σ (E(crop) − a)²."""
        return {"angle": self.images * (self.nets["E"](x.real_A) - x.angle).square().mean()}

    def layer_losses(self, x: Split) -> dict[str, Tensor]:
        """Fidelity ‖B + R − O‖², the directional prior of R, and what B has of natural scenes."""
        assert x.turned_A is not None and x.scene is not None and x.rain is not None
        image, scene, rain = x.turned_A, x.scene, x.rain
        sums = {
            "fidelity": squared_distance(scene + rain, image),
            "direction": directional_rain(rain, image),
            "near": NEAR * squared_distance(scene, image),
            "TV": SMOOTH * smoothness(scene),
        }
        losses = {name: WEIGHT * self.images * each.mean() for name, each in sums.items()}
        losses["G_GAN"] = WEIGHT * ADVERSARIAL * self.gan.fool(self.nets["D"](scene))
        return losses

    def discriminator_losses(self, x: Split) -> dict[str, Tensor]:
        """Both halves, not halved."""
        assert x.scene is not None and x.turned_B is not None
        real, fake = forward_together(self.nets["D"], [x.turned_B, self.pool.query(x.scene)])
        return {"D_real": self.gan.real(real), "D_fake": self.gan.fake(fake)}

    def visuals(self, x: Split) -> dict[str, Tensor]:
        images = {"turned_A": x.turned_A, "fake_B": x.scene, "rain": x.rain, "turned_B": x.turned_B}
        shown = {label: 2 * image - 1 for label, image in images.items() if image is not None}
        return shown or {"real_A": 2 * x.real_A - 1}

    @torch.no_grad()
    def infer(self, source: Tensor) -> Tensor:
        """Each picture by itself: its angle, turned upright on a larger canvas, derained, and turned back."""
        return torch.cat([self._infer_one((image + 1) / 2) * 2 - 1 for image in source.split(1)])

    def _infer_one(self, image: Tensor) -> Tensor:
        upright = upright_by(self.angle_of(image))
        height, width = image.shape[2:]
        down, across = min(BORDER, height - 1), min(BORDER, width - 1)
        bordered = F.pad(image, (across, across, down, down), mode="reflect")
        more_down, more_across = canvas_margins(bordered, upright)
        canvas = F.pad(bordered, (more_across, more_across, more_down, more_down))
        scene = rotated(self.nets["G"](rotated(canvas, upright)), -upright)
        top, left = down + more_down, across + more_across
        return scene[:, :, top : top + height, left : left + width].clamp(0, 1)

    def angle_of(self, image: Tensor) -> Tensor:
        """Mean [1] over overlapping patches of an image [1, C, H, W] in [0, 1], which is mirrored where too small."""
        padded, _ = pad_to_multiple(image, ANGLE_PATCH) if min(image.shape[2:]) < ANGLE_PATCH else (image, None)
        patches = padded.unfold(2, ANGLE_PATCH, PATCH_STEP).unfold(3, ANGLE_PATCH, PATCH_STEP)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        return self.nets["E"](patches).mean(0, keepdim=True)


def upright_by(label: Tensor) -> Tensor:
    """Degrees counterclockwise that make rain of these labels vertical: 45 − 90 a."""
    return 45 - 90 * label.float()


def canvas_margins(image: Tensor, degrees: Tensor) -> tuple[int, int]:
    """Pixels to add above and below, and at both sides, so that a turned image [1, C, H, W] keeps its corners."""
    height, width = image.shape[2:]
    radians = torch.deg2rad(degrees)
    sin, cos = float(radians.sin().abs()), float(radians.cos().abs())
    needed = (height * cos + width * sin, width * cos + height * sin)
    down, across = (max(0, int(-(-(turned - side) // 2))) for turned, side in zip(needed, (height, width), strict=True))
    return down, across
