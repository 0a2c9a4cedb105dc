"""RESCAN: rain taken off in recurrent stages, each of which is trained on pairs.

Li, Wu, Lin, Liu, Zha, "Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image Deraining", ECCV 2018.
docs/methods.md says where each number comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from models.base_model import Batch, Model, Phase, need_equal_channels
from models.networks.rescan import RescanNetwork
from util.engine.schedule import StepAtShares
from util.option import Option, Scope
from util.streams import PAIRED

FALLS = (15 / 20, 17.5 / 20)  # of the 20,000 steps


class Stages(NamedTuple):
    """Images [N, C, H, W] in [-1, 1], and the rain in [0, 1] that each stage has found."""

    real_A: Tensor
    real_B: Tensor
    rain: list[Tensor]


class RESCANModel(Model):
    """G: rainy → clean in several stages, of which each estimates the whole rain."""

    options = (Option("stages", 4, "stages, of shared weights", minimum=1, scope=Scope.ARCHITECTURE),)
    streams = PAIRED
    inference_nets = ("G",)

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As published: 64 crops of 64 pixels, 20,000 steps on Rain100H's 1800 pairs."""
        del chosen
        return {
            "ngf": 24,
            "dataset_mode": "aligned",
            "preprocess": "crop",
            "crop_size": 64,
            "no_flip": True,
            "batch_size": 64,
            "lr": 5e-3,
            "beta1": 0.9,
            "lr_policy": "step",
            "n_epochs": 711,
            "n_epochs_decay": 0,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` unless source and target have equally many channels."""
        super().__init__()
        need_equal_channels(opt, "--model rescan", "--model cut")
        self.nets["G"] = RescanNetwork(opt.input_nc, opt.ngf, opt.stages)
        if not training:
            return
        falls = StepAtShares(FALLS, per_step=True) if opt.lr_policy == "step" else None
        self.phases = (Phase("G", ("G",), self.losses, schedule=falls),)

    def forward(self, batch: Batch) -> Stages:
        return Stages(batch["A"], batch["B"], self.nets["G"].estimates(batch["A"]))

    def losses(self, x: Stages) -> dict[str, Tensor]:
        """Each stage's squared error of the rain; their sum is minimized."""
        rain = (x.real_A - x.real_B) / 2
        return {f"stage_{number}": F.mse_loss(found.float(), rain) for number, found in enumerate(x.rain, 1)}

    def visuals(self, outputs: Stages) -> dict[str, Tensor]:
        fake_B = outputs.real_A - 2 * outputs.rain[-1]
        return {"real_A": outputs.real_A, "fake_B": fake_B, "real_B": outputs.real_B}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
