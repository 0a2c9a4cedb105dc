"""The derainer as one module that is exported: images of any size in, images of the same size out."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from options import Options
from options.schema import shown
from util.environment import ROOT, git_commit
from util.errors import UserError

PRECISIONS = ("fp32", "fp16")
SMALLEST_SIDE = 9  # pixels; below, a ResNet would mirror more than there is, and a residual U-Net pads otherwise
INPUT, OUTPUT = "rainy", "derained"
MADE_BY = "CCLGAN-PyTorch"
ARCHITECTURE = ("netG", "ngf", "normG", "input_nc", "output_nc", "no_dropout", "no_antialias", "no_antialias_up",
                "residual")  # fmt: skip
"""The options that a generator is built by."""


class AnySize(nn.Module):
    """``network`` for images [N, C, H, W] of any size in [-1, 1]; the result has that size and range.

    It does what ``util.layers`` and ``util.engine.inference`` do, but without a branch that depends on a size: what
    is recorded of it holds for every size.

    Args:
        network: a network for sides that are multiples of ``stride``; it may also be a traced one.
        half: compute in float16. Input and output stay float32.
    """

    def __init__(self, network: nn.Module, stride: int, *, half: bool = False) -> None:
        super().__init__()
        self.network = network.half() if half else network
        self.stride = stride
        self.half_precision = half

    def forward(self, rainy: Tensor) -> Tensor:
        """Pad at the bottom and right by reflection, derain, crop."""
        height, width = rainy.shape[2], rainy.shape[3]
        image = rainy.half() if self.half_precision else rainy
        image = image.index_select(2, mirrored(height, self.stride, rainy.device))
        image = image.index_select(3, mirrored(width, self.stride, rainy.device))
        output = self.network(image)
        # Unlike a slice, this makes no difference between images that needed padding and those that did not.
        output = output.index_select(2, torch.arange(height, device=rainy.device))
        output = output.index_select(3, torch.arange(width, device=rainy.device))
        return output.float().clamp(-1, 1)


def mirrored(size: int, stride: int, device: torch.device) -> Tensor:
    """Where each position reads from, up to the next multiple of ``stride``: 0, 1, …, size-1, size-2, …, 0, 1, …"""
    positions = torch.arange((size + stride - 1) // stride * stride, device=device)
    last = size - 1
    # The remainder of two tensors: that by a number which is only known later is not translated to ONNX.
    period = torch.full((1,), max(2 * last, 1), dtype=torch.int64, device=device)
    return last - (last - torch.remainder(positions, period)).abs()


def the_network(nets: dict[str, nn.Module]) -> nn.Module:
    """The one network that a model derains with, ready to be recorded.

    Raises:
        UserError: the model has none or several.
    """
    if len(nets) != 1:
        names = ", ".join(nets) or "none"
        raise UserError(f"--model: one network can be exported, but this model derains with {len(nets)} ({names}).")
    return next(iter(nets.values())).eval().requires_grad_(False)


def stride_of(network: nn.Module) -> int:
    """The number that the sides of its images must be multiples of."""
    return int(getattr(network, "stride", 1))


def describe(opt: Options, weights: Path, *, stride: int, precision: str) -> dict[str, str]:
    """What somebody who finds the file must know about it, all as text."""
    return {
        "made_by": MADE_BY,
        "version": project_version(ROOT),
        "commit": git_commit(ROOT),
        "name": opt.name,
        "model": opt.model,
        "weights": weights.name,
        "input": f"{INPUT}: float32 [batch, {opt.input_nc}, height, width], RGB or grey, values / 127.5 - 1",
        "output": f"{OUTPUT}: float32 [batch, {opt.output_nc}, height, width] of the same size, (x + 1) * 127.5",
        "normalization": "[-1, 1]",
        "smallest_side": str(SMALLEST_SIDE),
        "padded_inside_to_multiples_of": str(stride),
        "precision": precision,
        **{name: shown(getattr(opt, name)) for name in ARCHITECTURE},
    }


def project_version(root: Path) -> str:
    """The version that pyproject.toml states; empty if it is not there."""
    file = root / "pyproject.toml"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    match = re.search(r'^version = "([^"]+)"', text, flags=re.MULTILINE)
    return match[1] if match else ""
