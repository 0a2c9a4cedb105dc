"""Winograd's convolution F(2×2, 3×3): 16 multiplications where the formula has 36.

Winograd, "Arithmetic Complexity of Computations" (1980); Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (2016). Each tile of 2 × 2 outputs comes from 4 × 4 inputs:

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A

where ⊙, summed over channels, is one matrix product for each of the 16 places. Nothing is approximated; what differs is
the order in which numbers are rounded. The gradients go the same way back, so that they need 16 of 36 products as well.

The sums around the products are cheap only where a compiler makes one loop of each: see :meth:`Transforms.by`.
Images are [N, H, W, C] here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

T = TypeVar("T", bound=Callable[..., Any])
Line = Sequence[Tensor]
Grid = Sequence[Line]
_TILE, _STEP = 4, 2  # inputs of a tile in a row, and outputs
_SQUARE = (_TILE, _TILE)
_WHOLE_TILE = _TILE + 1  # the place where A g Aᵀ is the sum of a tile's gradients


def _of_input(d: Line) -> Line:
    """Bᵀ d."""
    return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]


def _to_input(v: Line) -> Line:
    """B v."""
    return v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], -v[3]


def _to_output(m: Line) -> Line:
    """Aᵀ m."""
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


def _of_output(y: Line) -> Line:
    """A y."""
    return y[0], y[0] + y[1], y[0] - y[1], -y[1]


def _of_kernel(g: Line) -> Line:
    """G g."""
    edges, middle = (g[0] + g[2]) / 2, g[1] / 2
    return g[0], edges + middle, edges - middle, g[2]


def _to_kernel(u: Line) -> Line:
    """Gᵀ u."""
    both, difference = (u[1] + u[2]) / 2, (u[1] - u[2]) / 2
    return u[0] + both, difference, both + u[3]


def _twice(line: Callable[[Line], Line], grid: Grid) -> Grid:
    """``line`` along the columns of ``grid``, then along its rows."""
    columns = [line([row[j] for row in grid]) for j in range(len(grid[0]))]
    return [line([column[i] for column in columns]) for i in range(len(columns[0]))]


def _places(grid: Grid, dtype: torch.dtype) -> Tensor:
    """The elements of a 4 × 4 ``grid`` [N, h, w, C] → [16, N · h · w, C]."""
    return torch.stack([element.to(dtype) for row in grid for element in row]).flatten(1, 3)


def _grid(places: Tensor, tiles: tuple[int, int, int]) -> Grid:
    """[16, N · h · w, C] → 4 × 4 of [N, h, w, C]."""
    square = _wide(places).unflatten(0, _SQUARE).unflatten(2, tiles)
    return [[square[i, j] for j in range(_TILE)] for i in range(_TILE)]


def _image(grid: Grid, dtype: torch.dtype) -> Tensor:
    """The four pixels of each tile, 2 × 2 of [N, h, w, C] → [N, 2h, 2w, C]."""
    rows = [torch.stack([pixel.to(dtype) for pixel in row], 3) for row in grid]
    return torch.stack(rows, 2).flatten(3, 4).flatten(1, 2)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def input_places(x: Tensor) -> Tensor:
    """Bᵀ d B of every tile d of ``x`` [N, H, W, C] → [16, tiles, C]."""
    wide = _wide(x)
    height, width = (side - _TILE + _STEP for side in x.shape[1:3])
    shifted = [[wide[:, i : height + i : _STEP, j : width + j : _STEP] for j in range(_TILE)] for i in range(_TILE)]
    return _places(_twice(_of_input, shifted), x.dtype)


def input_image(places: Tensor, tiles: tuple[int, int, int], padding: int) -> Tensor:
    """The other way round for gradients: B v Bᵀ of every tile, overlapping ones added up, without the padding.

    First along the columns, then along the rows: so a pixel is a sum of two lines and not of four tiles.
    """
    grid = _grid(places, tiles)
    columns = [_overlapping(_to_input([row[j] for row in grid]), 1, padding) for j in range(_TILE)]
    pixels = [_overlapping(_to_input([column[a] for column in columns]), 2, padding) for a in range(_STEP)]
    return _image(pixels, places.dtype)


def _overlapping(line: Line, dimension: int, padding: int) -> Line:
    """The four places of each tile → the two of each step: the last two of a tile lie on the first two of the next."""

    def moved(part: Tensor, before: int, behind: int) -> Tensor:
        return F.pad(part, (*[0, 0] * (part.ndim - 1 - dimension), before, behind))

    first, second, third, fourth = line
    if padding:  # the first and the last place of all fall away
        return second + moved(fourth, 1, -1), third + moved(first, -1, 1)
    return moved(first, 0, 1) + moved(third, 1, 0), moved(second, 0, 1) + moved(fourth, 1, 0)


def output_image(places: Tensor, bias: Tensor | None, tiles: tuple[int, int, int]) -> Tensor:
    """Aᵀ m A of every tile, and the bias → [N, 2h, 2w, K]."""
    grid = _twice(_to_output, _grid(places, tiles))
    if bias is not None:
        grid = [[pixel + bias for pixel in row] for row in grid]
    return _image(grid, places.dtype)


def output_places(gradient: Tensor) -> Tensor:
    """The other way round for gradients: A g Aᵀ of every tile → [16, tiles, K]."""
    wide = _wide(gradient)
    shifted = [[wide[:, i::_STEP, j::_STEP] for j in range(_STEP)] for i in range(_STEP)]
    return _places(_twice(_of_output, shifted), gradient.dtype)


def kernel_places(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """G g Gᵀ of ``weight`` [K, C, 3, 3] → [16, C, K], and turned to [16, K, C], which the product would do slowly."""
    kernel = weight.permute(2, 3, 1, 0)
    grid = _twice(_of_kernel, [[kernel[i, j] for j in range(3)] for i in range(3)])
    places = torch.stack([element.to(dtype) for row in grid for element in row])
    return places, places.transpose(1, 2).contiguous()


def kernel_gradient(places: Tensor, dtype: torch.dtype) -> Tensor:
    """The other way round: Gᵀ u G of ``places`` [16, C, K] → [K, C, 3, 3]."""
    square = _wide(places).unflatten(0, _SQUARE)
    grid = _twice(_to_kernel, [[square[i, j] for j in range(_TILE)] for i in range(_TILE)])
    return torch.stack([torch.stack(list(row)) for row in grid]).to(dtype).permute(3, 2, 0, 1).contiguous()


@dataclass(frozen=True)
class Transforms:
    """The sums around the products, as they are written above or compiled."""

    input_places: Callable[..., Tensor] = input_places
    input_image: Callable[..., Tensor] = input_image
    output_image: Callable[..., Tensor] = output_image
    output_places: Callable[..., Tensor] = output_places
    kernel_places: Callable[..., tuple[Tensor, Tensor]] = kernel_places
    kernel_gradient: Callable[..., Tensor] = kernel_gradient

    @classmethod
    def by(cls, compiler: Callable[[Any], Any]) -> Transforms:
        """Each of them as ``compiler`` makes it."""
        return cls(*(compiler(field.default) for field in fields(cls)))


class WinogradConvolution(Function):
    """A 3 × 3 convolution, stride 1, of images [N, C, H, W] with channels last, whose outputs have even sides.

    The weights' transforms are made of the weights in full precision, the products in that of ``x``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, transforms: Transforms
    ) -> Tensor:
        ctx.padding, ctx.transforms, ctx.has_bias, ctx.dtype = padding, transforms, bias is not None, weight.dtype
        pixels = _framed(x, padding)
        kernel, turned = transforms.kernel_places(weight.detach(), x.dtype)
        ctx.save_for_backward(x, turned)
        shift = None if bias is None else bias.detach()
        products = torch.bmm(transforms.input_places(pixels), kernel)
        return transforms.output_image(products, shift, _tiles(pixels)).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (x, turned), transforms = ctx.saved_tensors, ctx.transforms
        pixels = _framed(x, ctx.padding)
        places = transforms.output_places(gradient.permute(0, 2, 3, 1).contiguous())
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_places = torch.bmm(places, turned)
            image = transforms.input_image(for_places, _tiles(pixels), ctx.padding)
            for_x = image.permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            products = torch.bmm(transforms.input_places(pixels).transpose(1, 2), places)
            for_weight = transforms.kernel_gradient(products, ctx.dtype)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            for_bias = places[_WHOLE_TILE].sum(0, dtype=ctx.dtype)
        return for_x, for_weight, for_bias, None, None


def _framed(x: Tensor, padding: int) -> Tensor:
    """[N, C, H, W] → [N, H, W, C] in a frame of zeros; not left to the compiler, whose loops it would slow down."""
    pixels = x.detach().permute(0, 2, 3, 1)
    return F.pad(pixels, (0, 0, padding, padding, padding, padding)) if padding else pixels


def _tiles(framed: Tensor) -> tuple[int, int, int]:
    """How many tiles there are: images, and in each of them rows and columns."""
    height, width = ((side - _STEP) // _STEP for side in framed.shape[1:3])
    return framed.shape[0], height, width
