"""Where and in which precision to compute."""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

from util.errors import UserError

logger = logging.getLogger(__name__)

PRECISIONS = ("fp32", "bf16", "auto")
_WORTHWHILE_SPEEDUP = 1.3  # below this, bfloat16's rounding is not worth having


def choose_device(gpu_ids: str) -> torch.device:
    """``auto``: the first GPU if there is one, else the CPU; ``-1``: the CPU; ``0``, ``1``, …: that GPU.

    Raises:
        UserError: no such GPU, or several of them.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu_ids == "auto":
        return torch.device("cuda", 0) if available else torch.device("cpu")
    ids = [part.strip() for part in gpu_ids.split(",") if part.strip()]
    if ids == ["-1"]:
        return torch.device("cpu")
    if len(ids) != 1 or not ids[0].isdecimal():
        raise UserError(f"--gpu_ids {gpu_ids}: give one GPU's number, -1 for the CPU, or auto.")
    if int(ids[0]) >= available:
        raise UserError(f"--gpu_ids {gpu_ids}: this machine has {available} usable GPUs; use -1 for the CPU, or auto.")
    return torch.device("cuda", int(ids[0]))


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve ``auto`` to ``bf16`` where a convolution measured here and now is clearly faster in it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    speedup = _convolution_seconds(torch.float32) / _convolution_seconds(torch.bfloat16)
    chosen = "bf16" if speedup >= _WORTHWHILE_SPEEDUP else "fp32"
    logger.info("precision: %s (a bf16 convolution is %.1f times as fast as fp32 here)", chosen, speedup)
    return chosen


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Best of a few runs of one 3×3 convolution as these generators have it."""
    image, kernel = torch.ones(1, 64, 64, 64, dtype=dtype), torch.ones(64, 64, 3, 3, dtype=dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        F.conv2d(image, kernel, padding=1)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
