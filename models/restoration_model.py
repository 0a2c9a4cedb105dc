"""Restoration: one network, trained as regression from degraded images to their clean originals.

The pairs are folders of equal file names (``--dataset_mode aligned``), or clean photographs on which rain is drawn
afresh for every sample (``--dataset_mode rain``). The loss is a weighted sum of :mod:`models.losses.restoration`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from models.base_model import Batch, Model, Phase, generator_from, need_equal_channels
from models.losses import restoration
from util.engine.schedule import Progress, Schedule, WarmUp
from util.errors import UserError
from util.option import Option
from util.streams import PAIRED


@dataclass(frozen=True)
class Restored:
    """One step's images [N, C, H, W] in [-1, 1]."""

    real_A: Tensor
    fake_B: Tensor  # G(real_A)
    real_B: Tensor


@dataclass
class StagedCosine(Schedule):
    """Half a cosine by steps, down to 0 after ``epochs`` (0: the whole training), which end in a later stage."""

    epochs: int

    def factor(self, progress: Progress) -> float:
        steps = progress.total_steps / progress.total_epochs * (self.epochs or progress.total_epochs)
        return (1 + math.cos(math.pi * min(1.0, progress.step / steps))) / 2


class RestorationModel(Model):
    """G: degraded → clean."""

    options = (
        Option("lambda_L1", 1.0, "weight of L1 (Charbonnier with --charbonnier) on [0, 1]", minimum=0),
        Option("charbonnier", 0.0, "ε of the Charbonnier loss √(e² + ε²); 0 = L1", minimum=0),
        Option("lambda_PSNR", 0.01, "weight of −PSNR in dB", minimum=0),
        Option("lambda_SSIM", 0.0, "weight of 1 − SSIM", minimum=0),
        Option("lambda_FFT", 0.02, "weight of L1 between the spectra", minimum=0),
        Option("lambda_gray", 0.0, "weight of the color of what is removed; rain is gray", minimum=0),
        Option("weight_decay", 1e-4, "of AdamW", minimum=0),
        Option("lr_warmup", 200, "steps in which --lr_policy cosine, here per step, rises to --lr", minimum=1),
        Option(
            "lr_horizon", 0, "epochs over which --lr_policy cosine falls, for a training in stages; 0 = all", minimum=0
        ),
        Option("clean_share", 0.0, "of the images, the share that is clean on both sides", minimum=0, maximum=1),
    )
    streams = PAIRED
    inference_nets = ("G",)

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """A small NAFNet that predicts a change, from crops."""
        del chosen
        return {
            "netG": "nafnet",
            "ngf": 16,
            "residual": True,
            "init_type": "kaiming",
            "dataset_mode": "aligned",
            "preprocess": "crop",
            "crop_size": 128,
            "batch_size": 8,
            "lr": 1e-3,
            "beta1": 0.9,
            "beta2": 0.9,
            "ema": 0.999,
            "clip_grad": 0.1,
            "lr_policy": "cosine",
        }

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` if every loss is off, or an option needs equal channels."""
        super().__init__()
        self.nets["G"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        self.weights = {
            "L1": opt.lambda_L1,
            "PSNR": opt.lambda_PSNR,
            "SSIM": opt.lambda_SSIM,
            "FFT": opt.lambda_FFT,
            "gray": opt.lambda_gray,
        }
        if not any(self.weights.values()):
            raise UserError("every --lambda_… is 0, which leaves nothing to train; raise one, such as --lambda_L1.")
        if opt.lambda_gray > 0:
            need_equal_channels(opt, "--lambda_gray", "--lambda_gray 0")
        if opt.clean_share > 0:
            need_equal_channels(opt, "--clean_share", "--clean_share 0")
        self.charbonnier, self.clean_share = opt.charbonnier, opt.clean_share
        adamw = partial(AdamW, lr=opt.lr, betas=(opt.beta1, opt.beta2), weight_decay=opt.weight_decay, fused=True)
        schedule = WarmUp(StagedCosine(opt.lr_horizon), opt.lr_warmup, per_step=True)
        self.phases = (
            Phase("G", ("G",), self.losses, adamw, schedule=schedule if opt.lr_policy == "cosine" else None),
        )

    def forward(self, batch: Batch) -> Restored:
        source, target = batch["A"], batch["B"]
        if self.clean_share > 0:
            clean = torch.rand_like(source[:, :1, :1, :1]) < self.clean_share
            source = torch.where(clean, target, source)
        return Restored(real_A=source, fake_B=self.nets["G"](source), real_B=target)

    def losses(self, x: Restored) -> dict[str, Tensor]:
        """The weighted terms, each in [0, 1] of the images."""
        restored, target, source = ((image.float() + 1) / 2 for image in (x.fake_B, x.real_B, x.real_A))
        terms = {
            "L1": lambda: restoration.charbonnier(restored, target, self.charbonnier),
            "PSNR": lambda: restoration.psnr(restored, target),
            "SSIM": lambda: restoration.ssim(restored, target),
            "FFT": lambda: restoration.frequency(restored, target),
            "gray": lambda: restoration.channel_difference(restored, source),
        }
        return {name: weight * terms[name]() for name, weight in self.weights.items() if weight > 0}

    def visuals(self, x: Restored) -> dict[str, Tensor]:
        return {"real_A": x.real_A, "fake_B": x.fake_B, "real_B": x.real_B}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G"](source)
