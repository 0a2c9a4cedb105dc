"""Where to compute, and how batches get there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from util.errors import UserError
from util.pixels import half_range

_IMAGE_DIMENSIONS = 4  # [N, C, H, W]


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


def to_device(
    batch: Mapping[str, Any], device: torch.device, memory_format: torch.memory_format = torch.contiguous_format
) -> dict[str, Any]:
    """The batch with its tensors on ``device``.

    Images [N, C, H, W] are laid out in ``memory_format``. Those of uint8 travel as they are, a quarter of the bytes,
    and become float32 in [-1, 1] there, with the values that :func:`util.pixels.to_tensor` gives.
    """
    return {key: _moved(value, device, memory_format) for key, value in batch.items()}


def _moved(value: Any, device: torch.device, memory_format: torch.memory_format) -> Any:
    if not isinstance(value, Tensor):
        return value
    moved = value.to(device, non_blocking=True)
    if moved.ndim != _IMAGE_DIMENSIONS:
        return moved
    if moved.dtype == torch.uint8:
        # A divisor on the device: GPUs multiply by the reciprocal of a Python number, which rounds otherwise.
        moved = moved.float().div_(torch.full((), half_range(np.uint8), device=device)).sub_(1.0)
    return moved.contiguous(memory_format=memory_format)
