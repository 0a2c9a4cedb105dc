"""A self-supervised method in one file: a blind restorer that learns on one folder of photos, without a target."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models import MODELS
from models.base_model import Batch, Model, Phase, generator_from
from util.streams import Stream

SHARE = 0.1  # of pixels that are hidden


class Hidden(NamedTuple):
    """Images [N, C, H, W] in [-1, 1], and where pixels were hidden."""

    real_A: Tensor
    fake_B: Tensor
    hidden: Tensor


@MODELS.register("self_supervised")
class SelfSupervisedModel(Model):
    """G guesses hidden pixels from their neighbors."""

    streams = (Stream("A"),)
    inference_nets = ("G",)

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        self.nets["G"] = generator_from(opt, opt.input_nc, opt.input_nc)
        if training:
            self.phases = (Phase("G", ("G",), self.losses),)

    def forward(self, batch: Batch) -> Hidden:
        A = batch["A"]
        hidden = torch.rand_like(A[:, :1]) < SHARE
        return Hidden(A, self.nets["G"](A.masked_fill(hidden, 0.0)), hidden)

    def losses(self, x: Hidden) -> dict[str, Tensor]:
        """Mean absolute error where pixels were hidden."""
        return {"L1": F.l1_loss(x.fake_B * x.hidden, x.real_A * x.hidden)}

    def visuals(self, outputs: Hidden) -> dict[str, Tensor]:
        return {"real_A": outputs.real_A, "fake_B": outputs.fake_B}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
