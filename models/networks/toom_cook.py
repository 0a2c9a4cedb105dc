"""Toom's and Cook's way to convolve one line with few multiplications: matrices from points.

The product of two polynomials is known from its values at enough points; each value costs one multiplication. Read
backwards (transposed), that is a kernel of three sliding along a line: Aᵀ [ (G g) ⊙ (Bᵀ d) ].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

Matrix = Sequence[Sequence[float]]
KERNEL = 3


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
