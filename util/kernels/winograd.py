"""Winograd's convolution F(2×4, 3×3): 24 multiplications where the formula has 72, or F(2×2, 3×3): 16 for 36.

Winograd, "Arithmetic Complexity of Computations" (1980); Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (2016). Each tile of outputs, 2 × 4 of them, comes from 4 × 6 inputs:

    Y = A2ᵀ [ (G2 g G4ᵀ) ⊙ (B2ᵀ d B4) ] A4

where ⊙, summed over channels, is one matrix product for each of the 24 places. The matrices 2 go down an image and the
matrices 4 along its lines. Nothing is approximated; what differs is the order in which numbers are rounded. The
gradients go the same way back, so that they need a third of the products as well.

The sums around the products are cheap only where a compiler makes one loop of each: see :meth:`Transforms.by`.
Images are [N, H, W, C] here.

The matrices come from points (Toom and Cook): the product of two polynomials is known from its values at enough points,
and each value costs one multiplication. Read backwards (transposed), that is a kernel of three sliding along a line.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Matrix = Sequence[Sequence[float]]
KERNEL = 3
Line = Sequence[Tensor]
Grid = Sequence[Line]
Steps = tuple[int, int]
"""Outputs of a tile, down and along."""


@dataclass(frozen=True)
class Direction:
    """F(m, 3): m outputs in a row from m + 2 inputs with m + 2 multiplications."""

    of_input: Matrix  # Bᵀ
    of_kernel: Matrix  # G
    to_output: Matrix  # Aᵀ

    @classmethod
    def through(cls, *points: Fraction) -> Direction:
        """The matrices for m + 1 ``points``, all different, and infinity, which is never written down."""
        others = [[other for other in points if other != point] for point in points]
        scales = [
            prod((point - other for other in rest), start=Fraction(1))
            for point, rest in zip(points, others, strict=True)
        ]
        outputs = len(points) - KERNEL + 2
        of_input = [[*_polynomial(rest), Fraction(0)] for rest in others] + [_polynomial(points)]
        of_kernel = [[point**k / scale for k in range(KERNEL)] for point, scale in zip(points, scales, strict=True)]
        to_output = [[point**k for point in points] + [Fraction(k == outputs - 1)] for k in range(outputs)]
        return cls(
            _floats(of_input),
            _floats([*of_kernel, [Fraction(k == KERNEL - 1) for k in range(KERNEL)]]),
            _floats(to_output),
        )


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of all (x - root), the constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [up - root * same for up, same in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found


def turned(matrix: Matrix) -> Matrix:
    """``matrix``ᵀ."""
    return tuple(zip(*matrix, strict=True))


def _floats(matrix: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in matrix)


_DIRECTIONS = {
    2: Direction.through(*map(Fraction, ("0", "1", "-1"))),
    # Points near 1 in size and inverse to each other round best: half as much again as m = 2 (docs/performance.md).
    4: Direction.through(*map(Fraction, ("0", "2/3", "-2/3", "3/2", "-3/2"))),
}


def _directions(steps: Steps) -> tuple[Direction, Direction]:
    return _DIRECTIONS[steps[0]], _DIRECTIONS[steps[1]]


def _times(matrix: Matrix, line: Line) -> Line:
    """``matrix`` · ``line``, whose elements are tensors."""
    rows = ([(factor, part) for factor, part in zip(row, line, strict=True) if factor] for row in matrix)
    return [
        functools.reduce(operator.add, (part if factor == 1 else factor * part for factor, part in row)) for row in rows
    ]


def _both(down: Matrix, along: Matrix, grid: Grid) -> Grid:
    """``down`` · ``grid`` · ``along``ᵀ."""
    columns = [_times(down, [row[j] for row in grid]) for j in range(len(grid[0]))]
    return [_times(along, [column[i] for column in columns]) for i in range(len(columns[0]))]


def _places(grid: Grid, dtype: torch.dtype) -> Tensor:
    """The elements of a ``grid`` of [N, h, w, C], P in all → [P, N · h · w, C]."""
    return torch.stack([element.to(dtype) for row in grid for element in row]).flatten(1, 3)


def _grid(places: Tensor, steps: Steps, tiles: tuple[int, int, int] | None = None) -> Grid:
    """[P, N · h · w, C] → grid of [N, h, w, C], or where there are no ``tiles`` of what there is."""
    down, along = (step + KERNEL - 1 for step in steps)
    square = _wide(places).unflatten(0, (down, along))
    square = square if tiles is None else square.unflatten(2, tiles)
    return [[square[i, j] for j in range(along)] for i in range(down)]


def _image(grid: Grid, dtype: torch.dtype) -> Tensor:
    """The pixels of each tile, a grid of [N, h, w, C] → [N, H, W, C]."""
    rows = [torch.stack([pixel.to(dtype) for pixel in row], 3) for row in grid]
    return torch.stack(rows, 2).flatten(3, 4).flatten(1, 2)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def input_places(x: Tensor, steps: Steps) -> Tensor:
    """Bᵀ d B of every tile d of ``x`` [N, H, W, C] → [places, tiles, C]."""
    wide, (down, along) = _wide(x), steps
    height, width = (side - KERNEL + 1 for side in x.shape[1:3])
    shifted = [
        [wide[:, i : height + i : down, j : width + j : along] for j in range(along + KERNEL - 1)]
        for i in range(down + KERNEL - 1)
    ]
    vertical, horizontal = _directions(steps)
    return _places(_both(vertical.of_input, horizontal.of_input, shifted), x.dtype)


def input_lines(places: Tensor, steps: Steps, tiles: tuple[int, int, int], padding: int) -> Tensor:
    """The other way round for gradients, B v Bᵀ of every tile without the padding. First down: B v, overlapping tiles
    added up → [places along a line, N, H, tiles along it, C]."""
    grid, down = _grid(places, steps, tiles), turned(_directions(steps)[0].of_input)
    columns = [_overlapping(_times(down, [row[j] for row in grid]), 1, padding) for j in range(len(grid[0]))]
    return torch.stack([torch.stack([part.to(places.dtype) for part in column], 2).flatten(1, 2) for column in columns])


def input_image(lines: Tensor, steps: Steps, width: int, padding: int) -> Tensor:
    """Then along the lines → [N, H, ``width``, C]. One loop for both would compute each line several times."""
    along = turned(_directions(steps)[1].of_input)
    pixels = _overlapping(_times(along, list(_wide(lines))), 2, padding)
    return torch.stack([pixel.to(lines.dtype) for pixel in pixels], 3).flatten(2, 3)[:, :, :width]


def _overlapping(line: Line, dimension: int, padding: int) -> Line:
    """The places of each tile → those of each step: the last two of a tile lie on the first two of the next."""

    def moved(part: Tensor, before: int, behind: int) -> Tensor:
        return F.pad(part, (*[0, 0] * (part.ndim - 1 - dimension), before, behind))

    step = len(line) - KERNEL + 1
    if not padding:
        parts = [moved(part, 0, 1) for part in line[:step]]
        return [part + moved(line[step + a], 1, 0) if a < KERNEL - 1 else part for a, part in enumerate(parts)]
    first, *inner, last = line  # the first and the last place of all fall away
    inner[0] = inner[0] + moved(last, 1, -1)
    inner[-1] = inner[-1] + moved(first, -1, 1)
    return inner


def output_image(places: Tensor, bias: Tensor | None, steps: Steps, tiles: tuple[int, int, int]) -> Tensor:
    """Aᵀ m A of every tile, and the bias → [N, H, W, K]."""
    vertical, horizontal = _directions(steps)
    grid = _both(vertical.to_output, horizontal.to_output, _grid(places, steps, tiles))
    if bias is not None:
        grid = [[pixel + bias for pixel in row] for row in grid]
    return _image(grid, places.dtype)


def output_places(gradient: Tensor, steps: Steps) -> Tensor:
    """The other way round for gradients: A g Aᵀ of every tile → [places, tiles, K]."""
    wide, (down, along) = _wide(gradient), steps
    shifted = [[wide[:, i::down, j::along] for j in range(along)] for i in range(down)]
    vertical, horizontal = _directions(steps)
    return _places(_both(turned(vertical.to_output), turned(horizontal.to_output), shifted), gradient.dtype)


def kernel_places(weight: Tensor, steps: Steps, dtype: torch.dtype) -> Tensor:
    """G g Gᵀ of ``weight`` [K, C, 3, 3] → [places, K, C]; one product, for which no compiler is needed."""
    wide = _wide(weight)
    vertical, horizontal = (wide.new_tensor(direction.of_kernel) for direction in _directions(steps))
    both = torch.kron(vertical, horizontal)
    return torch.mm(both, wide.reshape(-1, KERNEL**2).t()).to(dtype).unflatten(1, weight.shape[:2])


def kernel_gradient(places: Tensor, steps: Steps, dtype: torch.dtype) -> Tensor:
    """The other way round: Gᵀ u G of ``places`` [places, C, K] → [K, C, 3, 3]."""
    vertical, horizontal = _directions(steps)
    grid = _both(turned(vertical.of_kernel), turned(horizontal.of_kernel), _grid(places, steps))
    return torch.stack([torch.stack(list(row)) for row in grid]).to(dtype).permute(3, 2, 0, 1).contiguous()


@dataclass(frozen=True)
class Transforms:
    """The sums around the products, as they are written above or compiled."""

    input_places: Callable[..., Tensor] = input_places
    input_lines: Callable[..., Tensor] = input_lines
    input_image: Callable[..., Tensor] = input_image
    output_image: Callable[..., Tensor] = output_image
    output_places: Callable[..., Tensor] = output_places
    kernel_gradient: Callable[..., Tensor] = kernel_gradient

    @classmethod
    def by(cls, compiler: Callable[[Any], Any]) -> Transforms:
        """Each of them as ``compiler`` makes it."""
        return cls(*(compiler(field.default) for field in fields(cls)))


class KernelPlaces:
    """:func:`kernel_places` of one layer's weights, made anew only when they have changed."""

    def __init__(self) -> None:
        self._made_for: tuple[Any, ...] = ()
        self._places: Tensor | None = None

    def of(self, weight: Tensor, steps: Steps, dtype: torch.dtype) -> Tensor:
        """[places, K, C] in ``dtype``. A change is noticed by the tensor's version, as autograd does it."""
        wanted = (weight._version, weight.data_ptr(), weight.dtype, steps, dtype)
        if self._places is None or wanted != self._made_for:
            with torch.inference_mode(False):  # what is kept may be needed for gradients later
                self._made_for, self._places = wanted, kernel_places(weight.detach(), steps, dtype)
        return self._places


class WinogradConvolution(Function):
    """A 3 × 3 convolution, stride 1, of images [N, C, H, W] with channels last, whose outputs have even sides.

    The weights' transforms are made of the weights in full precision, the products in that of ``x``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        transforms: Transforms,
        kernels: KernelPlaces,
    ) -> Tensor:
        ctx.padding, ctx.transforms, ctx.has_bias, ctx.dtype = padding, transforms, bias is not None, weight.dtype
        pixels = _framed(x, padding)
        steps = ctx.steps = _steps(pixels)
        kernel = kernels.of(weight, steps, x.dtype)
        ctx.save_for_backward(x, kernel)
        shift = None if bias is None else bias.detach()
        products = torch.bmm(transforms.input_places(pixels, steps), kernel.transpose(1, 2))
        return transforms.output_image(products, shift, steps, _tiles(pixels, steps)).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        (x, kernel), transforms, steps = ctx.saved_tensors, ctx.transforms, ctx.steps
        pixels, gradient = _framed(x, ctx.padding), gradient.permute(0, 2, 3, 1).contiguous()
        for_x = for_weight = for_bias = None
        if ctx.has_bias and ctx.needs_input_grad[2]:
            for_bias = gradient.sum((0, 1, 2), dtype=ctx.dtype)
        places = transforms.output_places(gradient, steps)
        if ctx.needs_input_grad[0]:
            lines = transforms.input_lines(torch.bmm(places, kernel), steps, _tiles(pixels, steps), ctx.padding)
            for_x = transforms.input_image(lines, steps, x.shape[3], ctx.padding).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            products = torch.bmm(transforms.input_places(pixels, steps).transpose(1, 2), places)
            for_weight = transforms.kernel_gradient(products, steps, ctx.dtype)
        return for_x, for_weight, for_bias, None, None, None


def _framed(x: Tensor, padding: int) -> Tensor:
    """[N, C, H, W] → [N, H, W, C] in a frame of zeros; not left to the compiler, whose loops it would slow down."""
    pixels = x.detach().permute(0, 2, 3, 1)
    return F.pad(pixels, (0, 0, padding, padding, padding, padding)) if padding else pixels


def _steps(framed: Tensor) -> Steps:
    """The largest tile that fits: 2 × 4, or 2 × 2."""
    width = framed.shape[2] - KERNEL + 1
    return 2, 2 if width % 4 else 4


def _tiles(framed: Tensor, steps: Steps) -> tuple[int, int, int]:
    """How many tiles there are: images, and in each of them rows and columns."""
    height, width = ((side - KERNEL + 1) // step for side, step in zip(framed.shape[1:3], steps, strict=True))
    return framed.shape[0], height, width
