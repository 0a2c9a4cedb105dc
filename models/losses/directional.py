"""Priors of an image that is split into a scene and vertical rain, as UDGNet has them (Yu et al., ACM Multimedia 2021).

Sums over all values of an image, [N]; ∂x and ∂y are differences of neighboring pixels along a row and along a column.
"""

from __future__ import annotations

from torch import Tensor

ALONG, ACROSS, SPARSE = 1.5, 1.0, 0.1


def directional_rain(rain: Tensor, image: Tensor) -> Tensor:
    """1.5 ‖∂y R‖₁ + ‖∂x O − ∂x R‖₁ + 0.1 ‖R‖₁ of rain R in images O, [N, C, H, W] both.

    Vertical streaks change little along themselves, and they are what changes across.
    """
    along, across = _down(rain), _right(image) - _right(rain)
    return ALONG * _sum(along.abs()) + ACROSS * _sum(across.abs()) + SPARSE * _sum(rain.abs())


def smoothness(scene: Tensor) -> Tensor:
    """2 (‖∂x B‖² + ‖∂y B‖²)."""
    return 2 * (_sum(_right(scene).square()) + _sum(_down(scene).square()))


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖²."""
    return _sum((a - b).square())


def _sum(x: Tensor) -> Tensor:
    return x.sum((1, 2, 3))


def _right(x: Tensor) -> Tensor:
    return x[..., 1:] - x[..., :-1]


def _down(x: Tensor) -> Tensor:
    return x[..., 1:, :] - x[..., :-1, :]
