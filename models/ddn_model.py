"""DDN: a deep network on the detail layer of an image, trained on pairs.

Fu, Huang, Zeng, Huang, Ding, Paisley, "Removing Rain from Single Images via a Deep Detail Network", CVPR 2017.
docs/methods.md says where each number comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD

from models.base_model import Batch, Model, Phase, need_equal_channels
from models.networks.ddn import DetailNetwork
from util.engine.schedule import StepAtShares
from util.streams import PAIRED

MOMENTUM = 0.9
FALLS = (100 / 210, 200 / 210)  # of the 210,000 steps


class Restored(NamedTuple):
    """Images [N, C, H, W] in [-1, 1]."""

    real_A: Tensor
    fake_B: Tensor
    real_B: Tensor


class DDNModel(Model):
    """G: rainy → clean, by a change that is found in the detail layer."""

    streams = PAIRED
    inference_nets = ("G",)

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As published: 20 crops of 64 pixels, 210,000 steps on 12,600 pairs."""
        del chosen
        return {
            "ngf": 16,
            "dataset_mode": "aligned",
            "preprocess": "crop",
            "crop_size": 64,
            "no_flip": True,
            "batch_size": 20,
            "lr": 0.1,
            "lr_policy": "step",
            "n_epochs": 333,
            "n_epochs_decay": 0,
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` unless source and target have equally many channels."""
        super().__init__()
        need_equal_channels(opt, "--model ddn", "--model cut")
        self.nets["G"] = DetailNetwork(opt.input_nc, opt.ngf)
        if not training:
            return
        sgd = partial(SGD, lr=opt.lr, momentum=MOMENTUM)
        falls = StepAtShares(FALLS, per_step=True) if opt.lr_policy == "step" else None
        self.phases = (Phase("G", ("G",), self.losses, sgd, schedule=falls),)

    def forward(self, batch: Batch) -> Restored:
        return Restored(batch["A"], self.nets["G"](batch["A"]), batch["B"])

    def losses(self, x: Restored) -> dict[str, Tensor]:
        """Eq. 4: squared error on [0, 1]."""
        return {"MSE": F.mse_loss(x.fake_B.float() / 2, x.real_B / 2)}

    def visuals(self, outputs: Restored) -> dict[str, Tensor]:
        return outputs._asdict()

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
