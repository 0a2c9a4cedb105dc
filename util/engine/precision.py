"""In which arithmetic the networks compute.

Weights, gradients, optimizers and losses are float32 whatever is chosen; convolutions and matrix products are

* ``fp32``: float32 throughout, also where cuDNN would by itself take TF32;
* ``tf32``: float32 numbers multiplied with 10 bits of mantissa, on NVIDIA GPUs since Ampere;
* ``bf16``: autocast to bfloat16 (8 bits of mantissa, float32's range);
* ``fp16``: autocast to float16 with a scaled loss (11 bits of mantissa, a small range), on NVIDIA GPUs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch.amp import GradScaler

from util.errors import UserError

logger = logging.getLogger(__name__)

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "auto")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_AMPERE = (8, 0)  # the compute capability from which on there are TF32 and bfloat16
_WORTHWHILE_SPEEDUP = 1.3  # below this, bfloat16's rounding is not worth having


def set_precision(precision: str, device: torch.device) -> str:
    """Resolve ``auto``, and let float32 convolutions and products on GPUs use TF32 or not; returns the choice.

    ``auto`` is ``bf16`` on GPUs that have it, and on CPUs where a convolution measured here and now is clearly
    faster in it; otherwise ``fp32``. One logged line says which.

    Raises:
        UserError: this device does not have it.
    """
    chosen = _automatic(device) if precision == "auto" else precision
    if chosen == "tf32" and not _has_tf32(device):
        raise UserError(
            "--precision tf32: needs an NVIDIA GPU since Ampere (2020), which is not here; use fp32 or bf16."
        )
    if chosen == "fp16" and device.type != "cuda":
        raise UserError("--precision fp16: needs an NVIDIA GPU, and this runs on the CPU; use bf16 or fp32.")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if chosen == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = chosen == "tf32"
    return chosen


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run."""
    if precision in _AUTOCAST:
        return torch.autocast(device.type, dtype=_AUTOCAST[precision])
    return contextlib.nullcontext()


def loss_scaler(precision: str, device: torch.device) -> GradScaler:
    """Keeps float16's gradients inside its range; for the other precisions, one that leaves losses as they are."""
    return GradScaler(device.type, enabled=precision == "fp16")


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE


def _automatic(device: torch.device) -> str:
    if device.type == "cuda":
        chosen = "bf16" if torch.cuda.get_device_capability(device) >= _AMPERE else "fp32"
        logger.info("precision: %s (%s)", chosen, torch.cuda.get_device_name(device))
        return chosen
    speedup = _convolution_seconds(torch.float32) / _convolution_seconds(torch.bfloat16)
    chosen = "bf16" if speedup >= _WORTHWHILE_SPEEDUP else "fp32"
    logger.info("precision: %s (a bf16 convolution is %.1f times as fast as fp32 here)", chosen, speedup)
    return chosen


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Best of a few runs of one 3×3 convolution as these generators have it."""
    image, kernel = torch.ones(1, 64, 64, 64, dtype=dtype), torch.ones(64, 64, 3, 3, dtype=dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        F.conv2d(image, kernel, padding=1)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
