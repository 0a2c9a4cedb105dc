"""Syn2Real: what a network learned from labeled pairs is carried over to photographs by a Gaussian process.

Yasarla, Sindagi, Patel, "Syn2Real Transfer Learning for Image Deraining using Gaussian Processes", CVPR 2020.

Each epoch of the paper has two passes, which are two of ours. In the odd ones G learns from pairs (A, B), and the
latents of their images are kept. In the even ones it learns from photographs U without ground truth: the latent of each
shall be what the process over the kept ones expects.
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

from models.base_model import Batch, Model, Phase, Progress
from models.image_pool import Gather
from models.losses import PerceptualLoss
from models.losses.gaussian_process import GaussianProcessLoss
from models.networks.res2unet import Res2UNet
from models.networks.vgg import pretrained_vgg
from util.engine.schedule import Step
from util.errors import UserError
from util.option import Option
from util.streams import Stream

VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3")
GAUSSIAN_PROCESS: dict[str, dict[str, Any]] = {
    "paper": {},
    "release": {"neighbors": 16, "noise": 0.01, "farthest": False},
}
PASSES = 2  # of ours in an epoch of the paper


class Latents:
    """Latents [C, h, w] of the images of a labeled pass; of all processes where several train."""

    def __init__(self) -> None:
        self.gather: Gather = lambda images: (images, slice(None))
        self._kept: list[Tensor] = []

    def clear(self) -> None:
        """Begin another pass."""
        self._kept = []

    def add(self, latents: Tensor) -> None:
        """Keep ``latents`` [N, C, h, w]."""
        self._kept += self.gather(latents.detach())[0].unbind()

    def all(self) -> Tensor:
        """[M, C, h, w]; raises :class:`UserError` if there are none."""
        if not self._kept:
            raise UserError("--epoch_count: an even epoch of syn2real follows a labeled one; begin with an odd one.")
        return torch.stack(self._kept)

    def state_dict(self) -> dict[str, Any]:
        """What is kept."""
        return {"kept": list(self._kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        self._kept = list(state["kept"])


@dataclass(frozen=True)
class Derained:
    """One step's images [N, C, H, W]; ``clean`` in [0, 1]."""

    rainy: Tensor
    clean: Tensor
    latents: Tensor
    target: Tensor | None  # of labeled images


class Syn2RealModel(Model):
    """G: rainy → clean, with a latent in its middle."""

    options = (
        Option("preset", "paper", "the Gaussian process of the paper (8 nearest and 8 farthest, σ² 1), or of the "
               "published training (16 nearest, σ² 0.01)", choices=tuple(GAUSSIAN_PROCESS)),
        Option("lambda_VGG", 0.04, "weight of VGG16's perceptual distance on pairs", minimum=0),
        Option("lambda_GP", 0.0015, "weight of the Gaussian process on photographs", above=0),
        Option("vgg_weights", None, "torchvision's VGG file; fetched if not given"),
    )  # fmt: skip
    streams: ClassVar[tuple[Stream, ...]] = (
        Stream("A"),
        Stream("B", paired_with="A", channels="output_nc"),
        Stream("U"),
    )
    inference_nets = ("G",)
    headings: ClassVar[Mapping[str, str]] = {"real_A": "rainy", "fake_B": "derained", "real_B": "clean"}

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Crops of 256, batches of 18, 200 epochs of two passes."""
        del chosen
        return {
            "ngf": 16,
            "preprocess": "crop",
            "batch_size": 18,
            "lr": 2e-4,
            "beta1": 0.9,
            "n_epochs": 200 * PASSES,
            "n_epochs_decay": 0,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        self.nets["G"] = Res2UNet(opt.input_nc, opt.output_nc, opt.ngf)
        if not training:
            return
        self.lambda_VGG, self.lambda_GP = opt.lambda_VGG, opt.lambda_GP
        self.perceptual, self.process = PerceptualLoss(), GaussianProcessLoss(**GAUSSIAN_PROCESS[opt.preset])
        if self.lambda_VGG > 0:
            self.frozen["vgg"] = pretrained_vgg("vgg16", VGG_LAYERS, opt.vgg_weights, normalize=False)
        self.latents, self.is_labeled = Latents(), True
        self.state = {"latents": self.latents}
        adam = partial(Adam, lr=opt.lr, betas=(opt.beta1, opt.beta2))
        self.phases = (Phase("G", ("G",), self.losses, adam, schedule=Step(100 * PASSES, 0.5)),)

    def on_epoch(self, progress: Progress) -> None:
        """A labeled pass begins, in which the latents of the one before are of no more use, or an unlabeled one."""
        self.is_labeled = progress.epoch % PASSES == 1
        if self.is_labeled and progress.images_in_epoch == 0:
            self.latents.clear()

    def use_gather(self, gather: Gather) -> None:
        self.latents.gather = gather

    @property
    def stride(self) -> int:
        return Res2UNet.stride

    def forward(self, batch: Batch) -> Derained:
        rainy = batch["A"] if self.is_labeled else batch["U"]
        clean, latents = self.nets["G"](rainy)
        return Derained(rainy, clean, latents, target=(batch["B"] + 1) / 2 if self.is_labeled else None)

    def losses(self, x: Derained) -> dict[str, Tensor]:
        """Smooth L1 and the perceptual distance on [0, 1] of pairs, or the Gaussian process's loss."""
        if x.target is None:
            # The image has no part in it, but several processes need a gradient for every weight, if only 0.
            return {"GP": self.lambda_GP * self.process(x.latents, self.latents.all()) + 0 * x.clean.mean()}
        self.latents.add(x.latents)
        losses = {"L1": F.smooth_l1_loss(x.clean.float(), x.target)}
        if self.lambda_VGG > 0:
            losses["VGG"] = self.lambda_VGG * self.perceptual(self.frozen["vgg"], x.clean, x.target)
        return losses

    def visuals(self, x: Derained) -> dict[str, Tensor]:
        images = {"real_A": x.rainy, "fake_B": 2 * x.clean - 1}
        return images if x.target is None else {**images, "real_B": 2 * x.target - 1}

    def infer(self, source: Tensor) -> Tensor:
        return 2 * self.nets["G"](source)[0] - 1
