"""JORDER-E: where rain is, how strong it is, and the image without it, found together in two stages.

Yang, Tan, Feng, Guo, Yan, Liu, "Joint Rain Detection and Removal from a Single Image with Contextualized Deep
Networks", TPAMI 2019. Images are [0, 255] inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from models.base_model import Batch, Model, Phase, need_equal_channels
from models.networks.jorder import Found, JorderNet
from util.engine.schedule import Step
from util.option import Option
from util.streams import Stream

HALF_RANGE = 127.5


@dataclass(frozen=True)
class Stages:
    """One step's images [N, C, H, W] in [0, 255] and what both stages found."""

    rainy: Tensor
    first: Found
    second: Found
    clean: Tensor


class JorderEModel(Model):
    """G: rainy → clean, trained on pairs."""

    options = (
        Option("preset", "paper", "paper: the mask is where the rain adds light; release: where the red channel loses "
               "it, as in the published code", choices=("paper", "release")),
        Option("lambda_mask", 1e-3, "weight of the mask's cross-entropy, summed over pixels", minimum=0),
        Option("lambda_level", 1e-2, "weight of L1 of the level, clean − rainy", minimum=0),
    )  # fmt: skip
    streams: ClassVar[tuple[Stream, ...]] = (Stream("A"), Stream("B", paired_with="A", channels="output_nc"))
    inference_nets = ("G",)
    headings: ClassVar[Mapping[str, str]] = {"real_A": "rainy", "fake_B": "derained", "real_B": "clean"}

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """64 channels, crops of 64, batches of 8, 200 epochs (of 1000 steps)."""
        del chosen
        return {
            "dataset_mode": "aligned",
            "preprocess": "crop",
            "crop_size": 64,
            "batch_size": 8,
            "lr": 1e-4,
            "beta1": 0.9,
            "n_epochs": 200,
            "n_epochs_decay": 0,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        need_equal_channels(opt, "--model jorder_e", "another --model")
        self.nets["G"] = JorderNet(opt.input_nc, opt.ngf)
        if not training:
            return
        self.lambda_mask, self.lambda_level = opt.lambda_mask, opt.lambda_level
        self.as_released, self.images = opt.preset == "release", opt.batch_size
        adam = partial(Adam, lr=opt.lr, betas=(opt.beta1, opt.beta2))
        self.phases = (Phase("G", ("G",), self.losses, adam, schedule=Step(200, 0.5)),)

    def forward(self, batch: Batch) -> Stages:
        rainy, clean = _bytes(batch["A"]), _bytes(batch["B"])
        first, second = self.nets["G"](rainy)
        return Stages(rainy, first, second, clean)

    def losses(self, x: Stages) -> dict[str, Tensor]:
        """L1 of both stages' images, cross-entropy of the mask and L1 of the level."""
        losses = {"L1": F.l1_loss(x.second.image, x.clean), "L1_first": F.l1_loss(x.first.image, x.clean)}
        if self.lambda_mask > 0:
            entropy = F.cross_entropy(x.second.mask.float(), self.mask(x).long(), reduction="none")
            losses["mask"] = self.lambda_mask * self.images * entropy.sum((1, 2)).mean()
        if self.lambda_level > 0:
            losses["level"] = self.lambda_level * F.l1_loss(x.second.level, x.clean - x.rainy)
        return losses

    def mask(self, x: Stages) -> Tensor:
        """Where it rains, [N, H, W]."""
        if self.as_released:
            return (x.clean - x.rainy)[:, 0] > 0
        return ((x.rainy - x.clean) > 0).any(1)

    def visuals(self, x: Stages) -> dict[str, Tensor]:
        images = {"real_A": x.rainy, "fake_B": x.second.image, "real_B": x.clean}
        return {label: image / HALF_RANGE - 1 for label, image in images.items()}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](_bytes(source))[1].image / HALF_RANGE - 1


def _bytes(images: Tensor) -> Tensor:
    """[-1, 1] → [0, 255]."""
    return (images + 1) * HALF_RANGE
