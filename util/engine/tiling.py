"""Images too large for one pass: overlapping tiles, blended so that no seam shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from util.errors import UserError

Span = tuple[int, int]
"""First pixel of a tile along one axis, and the one after its last."""

SMALLEST_TILE = 64  # pixels; below, a network sees hardly anything but borders
STRIDES_PER_TILE = 2  # fewer would leave the deepest layer a single pixel, which has no variance to normalise by


@dataclass(frozen=True)
class Tiling:
    """Squares of ``tile`` pixels that share at least ``overlap`` pixels and start at multiples of ``stride``."""

    tile: int
    overlap: int
    stride: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for tiles that would not advance."""
        if self.tile % self.stride or not 0 <= self.overlap <= self.tile - self.stride:
            raise ValueError(f"tiles of {self.tile} with overlap {self.overlap} do not fit stride {self.stride}")

    def spans(self, size: int) -> list[Span]:
        """Where the tiles lie along an axis of ``size`` pixels, spread evenly; a single one if the axis is short.

        The distance of two starts is a multiple of ``stride``, as what a network with that stride computes only then
        is the same in every tile.
        """
        if size <= self.tile:
            return [(0, size)]
        farthest = (self.tile - self.overlap) // self.stride * self.stride
        rest = size - self.tile
        steps = -(-rest // farthest)
        starts = (round_up(-(-i * rest // steps), self.stride) for i in range(steps + 1))
        return [(start, min(start + self.tile, size)) for start in starts]

    def parts(self, images: Tensor) -> Iterator[Tensor]:
        """Cut images [N, C, H, W] into equal parts no larger than a tile, which share nothing."""
        rows, columns = (self._divided(size) for size in images.shape[-2:])
        return (images[..., top:bottom, left:right] for top, bottom in rows for left, right in columns)

    def _divided(self, size: int) -> list[Span]:
        length = round_up(-(-size // -(-size // self.tile)), self.stride)
        return [(start, min(start + length, size)) for start in range(0, size, length)]


def choose_tiling(tile: int, overlap: int, stride: int) -> Tiling:
    """The tiling that ``--tile`` and ``--tile_overlap`` ask for, with tiles rounded down to whole strides.

    Raises:
        UserError: tiles too small for a network of this stride, or an overlap above half a tile.
    """
    smallest = smallest_tile(stride)
    if tile < smallest:
        raise UserError(
            f"--tile {tile}: this network halves the resolution down to 1/{stride}, so tiles need at least "
            f"{smallest} pixels a side; raise it."
        )
    rounded = tile // stride * stride
    if overlap > rounded // 2:
        raise UserError(
            f"--tile_overlap {overlap}: is more than half of a tile ({rounded} pixels); lower it or raise --tile."
        )
    return Tiling(rounded, overlap, stride)


def smallest_tile(stride: int) -> int:
    """Pixels a side that a tile needs at least for a network that reduces the resolution to 1/``stride``."""
    return round_up(max(SMALLEST_TILE, STRIDES_PER_TILE * stride), stride)


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is not below ``number``."""
    return -(-number // multiple) * multiple


def blend_weights(spans: Sequence[Span]) -> list[Tensor]:
    """How much each tile counts at each of its pixels along one axis: float64, adding up to one at every pixel.

    Where two tiles overlap, one fades out as the other fades in, by sin² and cos² of an angle that turns by 90°
    over the overlap. So a tile counts least where it is cut, where the network had to guess what lies beyond.
    """
    windows = [torch.ones(stop - start, dtype=torch.float64) for start, stop in spans]
    for left, right in zip(range(len(spans) - 1), range(1, len(spans)), strict=True):
        shared = spans[left][1] - spans[right][0]
        if shared == 0:
            continue
        rise = torch.sin((torch.arange(shared, dtype=torch.float64) + 0.5) * (math.pi / 2 / shared)).square()
        windows[right][:shared] *= rise
        windows[left][-shared:] *= 1 - rise
    total = torch.zeros(spans[-1][1], dtype=torch.float64)
    for (start, stop), window in zip(spans, windows, strict=True):
        total[start:stop] += window
    # Even spreading can make a third tile reach into an overlap, so the sum is not one by construction.
    return [window / total[start:stop] for (start, stop), window in zip(spans, windows, strict=True)]


def in_tiles(source: Tensor, translate: Callable[[Tensor], Tensor], tiling: Tiling) -> Tensor:
    """Translate images [N, C, H, W] tile by tile; ``translate`` must keep height and width.

    The result is a weighted mean of the tiles' results with weights that vary smoothly: for a ``translate`` that
    looks at single pixels only, the same as translating the whole image.

    Returns:
        [N, C', H, W] float32 on the device of ``translate``'s results.
    """
    rows, columns = (tiling.spans(size) for size in source.shape[-2:])
    row_weights, column_weights = blend_weights(rows), blend_weights(columns)
    blended: Tensor | None = None
    for (top, bottom), row_weight in zip(rows, row_weights, strict=True):
        for (left, right), column_weight in zip(columns, column_weights, strict=True):
            result = translate(source[..., top:bottom, left:right])
            if blended is None:
                shape = (*result.shape[:2], *source.shape[-2:])
                blended = torch.zeros(shape, dtype=torch.float32, device=result.device)
            weight = torch.outer(row_weight, column_weight).to(result)
            blended[..., top:bottom, left:right] += result * weight
    assert blended is not None  # every axis has at least one tile
    return blended
