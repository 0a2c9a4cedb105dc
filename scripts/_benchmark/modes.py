"""What the contestants of a benchmark are told: modes in words, and the flags of other repositories."""

from __future__ import annotations

import argparse

import torch

from util.engine.precision import PRECISIONS
from util.errors import UserError
from util.suggest import did_you_mean

_CPU_MODES = "fp32,bf16"
_GPU_MODES = "fp32,tf32,bf16,bf16+channels_last,bf16+channels_last+compile=networks,bf16+channels_last+cuda_graphs=auto"
_OLD_GPU_MODES = "fp32,fp16"


def default_modes(device: str) -> str:
    """What is worth comparing on this device."""
    if device == "cpu":
        return _CPU_MODES
    return _GPU_MODES if torch.cuda.is_bf16_supported(including_emulation=False) else _OLD_GPU_MODES


def flags_of_mode(mode: str) -> list[str]:
    """``bf16+channels_last+compile=networks`` → ``--precision=bf16 --channels_last --compile=networks``.

    Raises:
        UserError: it does not begin with a precision. (Flags that do not exist are refused where they are parsed.)
    """
    precision, *switches = mode.split("+")
    if precision not in PRECISIONS:
        raise UserError(
            f"--modes {mode}: must begin with a precision{did_you_mean(precision, PRECISIONS)}: "
            f"{', '.join(PRECISIONS)}, then +flag or +flag=value for each flag of train.py."
        )
    return [f"--precision={precision}", *(f"--{switch}" for switch in switches)]


def parse_size(size: str) -> tuple[int, int]:
    """``2048x1024`` → (2048, 1024), width and height.

    Raises:
        UserError: it is not written like that.
    """
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--sizes {size}: give WIDTHxHEIGHT in pixels, for example 1024x512.")
    return int(width), int(height)


def original_flags(flag: str, model: str, args: argparse.Namespace, folder: str, device: str) -> list[str] | None:
    """The other repository's command line for the same training; None if it has no such model.

    Networks are the same as ours by default: antialiased for CUT, plain for CycleGAN. CUT's repository antialiases
    both unless told otherwise; CycleGAN's does not know the flags.
    """
    known = {"against": ("cut", "cycle_gan"), "against_cyclegan": ("cycle_gan",)}
    if model not in known[flag]:
        return None
    side = str(args.crop_size)
    flags = ["--dataroot", folder, "--name", "benchmark", "--checkpoints_dir", folder, "--model", model]
    flags += ["--batch_size", str(args.batch_size), "--crop_size", side, "--load_size", side]
    flags += ["--ngf", str(args.ngf), "--ndf", str(args.ngf), "--no_html", "--display_id", "0"]
    if flag == "against":
        flags += ["--no_antialias", "--no_antialias_up"] if model == "cycle_gan" else []
    return [*flags, "--gpu_ids", "-1" if device == "cpu" else "0"]
