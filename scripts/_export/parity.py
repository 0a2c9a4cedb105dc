"""Does an exported file compute what PyTorch computes? On pictures of several sizes, in grey levels of 255."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts._export.network import SMALLEST_SIDE
from util.errors import UserError

GREY_LEVELS = 127.5  # one unit in [-1, 1]
LIMITS = {"fp32": 0.1, "fp16": 4.0}
"""Largest difference of a single value in grey levels. Rounding in another order changes an fp32 result by some
thousandths of a level at most and fp16 by tenths or one or two; a fault, such as a shifted pixel, by many."""

COMMON_SIZES = ((1, 64, 96), (1, 61, 75), (2, 90, 47), (1, 256, 383))
SIZES = {"fp32": ((1, SMALLEST_SIDE, SMALLEST_SIDE), *COMMON_SIZES), "fp16": COMMON_SIZES}
"""Images, height and width: the smallest, whole strides of a ResNet, odd ones, a batch, and a larger one. In the
smallest, instance norm divides by the variance of four numbers, which makes several grey levels of fp16's rounding."""

SEED = 20240719
DETAIL = 0.1  # standard deviation of the noise, in [-1, 1]
BLOT = 12  # pixels


@dataclass(frozen=True)
class Difference:
    """Of two results for one batch: the largest and the mean absolute difference, as values in [-1, 1]."""

    shape: tuple[int, ...]
    largest: float
    mean: float


def pictures(channels: int, sizes: Sequence[tuple[int, int, int]]) -> Iterator[Tensor]:
    """Batches [N, C, H, W] in [-1, 1] of soft blots with noise: what a network knows rather than noise alone."""
    generator = torch.Generator().manual_seed(SEED)
    for count, height, width in sizes:
        small = torch.rand(count, channels, height // BLOT + 2, width // BLOT + 2, generator=generator) * 2 - 1
        smooth = F.interpolate(small, (height, width), mode="bicubic", align_corners=False)
        noise = DETAIL * torch.randn(count, channels, height, width, generator=generator)
        yield (smooth + noise).clamp(-1, 1)


def differences(
    exported: Callable[[Tensor], Tensor], batches: Sequence[Tensor], results: Sequence[Tensor]
) -> list[Difference]:
    """One per batch, from its result; one of another shape, or that is not a number, differs infinitely."""
    found = []
    for batch, expected in zip(batches, results, strict=True):
        ours = exported(batch)
        if ours.shape != expected.shape:
            found.append(Difference(tuple(batch.shape), float("inf"), float("inf")))
            continue
        gap = (ours - expected).abs().nan_to_num(nan=float("inf"))
        found.append(Difference(tuple(batch.shape), gap.max().item(), gap.mean().item()))
    return found


def table(found: Sequence[Difference]) -> str:
    """The differences as lines of text."""
    lines = [f"{'batch':>18}  {'largest':>9}  {'mean':>9}  {'in grey levels: largest':>23}  {'mean':>8}"]
    for each in found:
        shape = "×".join(map(str, each.shape))
        grey = f"{each.largest * GREY_LEVELS:23.5f}  {each.mean * GREY_LEVELS:8.5f}"
        lines.append(f"{shape:>18}  {each.largest:9.2e}  {each.mean:9.2e}  {grey}")
    return "\n".join(lines)


def require_parity(found: Sequence[Difference], precision: str) -> None:
    """Raise :class:`UserError` if a difference is larger than rounding explains."""
    worst = max(found, key=lambda difference: difference.largest)
    grey, limit = worst.largest * GREY_LEVELS, LIMITS[precision]
    if not grey <= limit:
        shape = "×".join(map(str, worst.shape))
        hint = "use --precision fp32" if precision == "fp16" else "use another --format, and report this"
        raise UserError(
            f"the exported network differs from PyTorch by up to {grey:.3g} grey levels ({shape}), more than "
            f"{limit:g}; no file is written; {hint}."
        )
