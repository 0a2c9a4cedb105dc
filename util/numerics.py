"""Numerical care that several layers share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def _widened(value: Any) -> Any:
    """Tensors of half precision as float32, also inside lists and tuples; everything else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.element_size() < 4:
        return value.float()
    if isinstance(value, (list, tuple)):
        return type(value)(_widened(item) for item in value)
    return value


def at_least_float32(method: F) -> F:
    """Decorator for a module's ``forward``: compute in float32 or wider, also under autocast.

    Softmax over temperatures of 0.07 and ratios of small differences do not survive bfloat16.
    """

    @functools.wraps(method)
    def wide(self: Any, *args: Any) -> Any:
        wide_args = _widened(args)
        first = next((a for a in _flatten(wide_args) if isinstance(a, Tensor)), None)
        device = "cpu" if first is None or first.is_meta else first.device.type  # without data nothing is computed
        with torch.autocast(device, enabled=False):
            return method(self, *wide_args)

    return wide  # type: ignore[return-value]


def _flatten(values: Any) -> list[Any]:
    flat = []
    for value in values:
        flat.extend(_flatten(value) if isinstance(value, (list, tuple)) else [value])
    return flat
