"""A supervised method in one file: regression on pairs, by AdamW with a cosine over all steps after a warm-up."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from models import MODELS
from models.base_model import Batch, Model, Phase, generator_from
from util.engine.schedule import Cosine, WarmUp
from util.option import Option
from util.streams import Stream


class Restored(NamedTuple):
    """Images [N, C, H, W] in [-1, 1]."""

    real_A: Tensor
    fake_B: Tensor
    real_B: Tensor


@MODELS.register("supervised")
class SupervisedModel(Model):
    """G: A → B, where B is the ground truth of A."""

    options = (Option("weight_decay", 0.01, "of AdamW", minimum=0),)
    streams = (Stream("A"), Stream("B", paired_with="A", channels="output_nc"))
    inference_nets = ("G",)

    def __init__(self, opt: Any, *, training: bool) -> None:
        super().__init__()
        self.nets["G"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        self.phases = (
            Phase(
                "G",
                ("G",),
                self.losses,
                optimizer=partial(AdamW, lr=opt.lr, weight_decay=opt.weight_decay, fused=True),
                schedule=WarmUp(Cosine(per_step=True), 2, per_step=True),
            ),
        )

    def forward(self, batch: Batch) -> Restored:
        return Restored(batch["A"], self.nets["G"](batch["A"]), batch["B"])

    def losses(self, x: Restored) -> dict[str, Tensor]:
        """Mean absolute error."""
        return {"L1": F.l1_loss(x.fake_B, x.real_B)}

    def visuals(self, outputs: Restored) -> dict[str, Tensor]:
        return outputs._asdict()

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
