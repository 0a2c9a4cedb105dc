"""Where to compute, and how the C library hands out memory there."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from util.engine.distributed import Ranks
from util.errors import UserError

_LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch's own variable, read when it first asks for memory of some size
_TRIM_THRESHOLD, _MAPPED_BLOCKS = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's mallopt
_NEVER, _NONE = -1, 0


def choose_device(gpu_ids: str, ranks: Ranks | None = None) -> torch.device:
    """``auto``: the first GPU if there is one, else the CPU; ``-1``: the CPU; ``0``, ``1``, …: that GPU.

    Of several processes (``ranks``) each has the GPU of its own number on the machine; they cannot choose one.

    Raises:
        UserError: no such GPU, or several of them.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if ranks is not None and ranks.world_size > 1:
        return _device_of_rank(gpu_ids, ranks, available)
    if gpu_ids == "auto":
        return torch.device("cuda", 0) if available else torch.device("cpu")
    ids = [part.strip() for part in gpu_ids.split(",") if part.strip()]
    if ids == ["-1"]:
        return torch.device("cpu")
    if len(ids) != 1 or not ids[0].isdecimal():
        raise UserError(
            f"--gpu_ids {gpu_ids}: give one GPU's number, -1 for the CPU, or auto; to train on several GPUs start "
            "train.py with torchrun."
        )
    if int(ids[0]) >= available:
        raise UserError(f"--gpu_ids {gpu_ids}: this machine has {available} usable GPUs; use -1 for the CPU, or auto.")
    return torch.device("cuda", int(ids[0]))


def _device_of_rank(gpu_ids: str, ranks: Ranks, available: int) -> torch.device:
    if gpu_ids == "-1" or (gpu_ids == "auto" and not available):
        return torch.device("cpu")
    if gpu_ids != "auto":
        raise UserError(
            f"--gpu_ids {gpu_ids}: torchrun gives each process a GPU of its own; use --gpu_ids auto, and "
            "CUDA_VISIBLE_DEVICES to choose among them, or -1 for the CPU."
        )
    if ranks.local_world_size > available:
        raise UserError(
            f"torchrun has started {ranks.local_world_size} processes, but this machine has {available} usable GPUs; "
            f"start as many processes as GPUs, or use --gpu_ids -1 for the CPU."
        )
    return torch.device("cuda", ranks.local_rank)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next tensors, and use large pages for them.

    glibc maps every large tensor anew and gives it back at once, so that the system zeroes each of its pages each
    time: a fifth of a step in fp32. To be called before the first tensor is made, or there will be no large pages.
    Elsewhere than with glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    os.environ.setdefault(_LARGE_PAGES, "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_MAPPED_BLOCKS, _NONE)
        mallopt(_TRIM_THRESHOLD, _NEVER)
