"""Layers in NumPy, in float64 and by plain loops over kernel positions: a second way to write a network down.

Images are [N, C, H, W] arrays. A network is transcribed from the description of its publication. It shares no code with
ours, but its parameters, in the order in which ours made them (:class:`Weights`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]


def array(x: torch.Tensor) -> Array:
    return x.detach().double().numpy().copy()


class Weights:
    """The parameters of a network under a prefix, one layer after another."""

    def __init__(self, network: nn.Module) -> None:
        self._layers: Iterator[nn.Module] = (
            module for module in network.modules() if any(True for _ in module.parameters(recurse=False))
        )

    def next(self) -> tuple[Array, Array]:
        """Weight and bias of the next layer."""
        layer = next(self._layers)
        return array(layer.weight), array(layer.bias)  # type: ignore[arg-type]

    def conv(self, x: Array, *, dilation: int = 1) -> Array:
        """Through the next layer, a convolution that keeps the size."""
        return conv(x, *self.next(), dilation=dilation)

    def norm(self, x: Array) -> Array:
        """Through the next layer, a batch norm in training."""
        weight, bias = self.next()
        return normalized(x, (0, 2, 3)) * weight.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)

    def linear(self, x: Array) -> Array:
        weight, bias = self.next()
        return x @ weight.T + bias

    def end(self) -> None:
        """Assert that nothing is left."""
        assert next(self._layers, None) is None


def conv(x: Array, weight: Array, bias: Array | None = None, *, dilation: int = 1, stride: int = 1,
         padding: int | None = None, mode: str = "constant") -> Array:  # fmt: skip
    """By default padded with zeros so that the size stays."""
    outputs, _, kernel, _ = weight.shape
    pad = dilation * (kernel - 1) // 2 if padding is None else padding
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], mode=mode)  # type: ignore[call-overload]
    reach = dilation * (kernel - 1)
    height, width = ((size - reach - 1) // stride + 1 for size in x.shape[2:])
    out = np.zeros((len(x), outputs, height, width))
    for row in range(kernel):
        for column in range(kernel):
            top, left = row * dilation, column * dilation
            seen = x[
                :, :, top : top + stride * (height - 1) + 1 : stride, left : left + stride * (width - 1) + 1 : stride
            ]
            out += np.einsum("oc,nchw->nohw", weight[:, :, row, column], seen)
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


def normalized(x: Array, axes: tuple[int, ...], epsilon: float = 1e-5) -> Array:
    """Mean 0 and variance 1 over ``axes``."""
    centered = x - x.mean(axes, keepdims=True)
    return np.asarray(centered / np.sqrt(centered.__pow__(2).mean(axes, keepdims=True) + epsilon))


def instance_norm(x: Array) -> Array:
    return normalized(x, (2, 3))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def leaky(x: Array, slope: float) -> Array:
    return np.where(x > 0, x, slope * x)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def box(x: Array, radius: int) -> Array:
    """Mean over a square around each pixel, of what lies in the image."""
    out = np.empty_like(x)
    for row, column in np.ndindex(*x.shape[2:]):
        window = x[:, :, max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
        out[:, :, row, column] = window.mean((2, 3))
    return out


def close(ours: torch.Tensor, plain: Array | float, tolerance: float = 1e-5) -> None:
    """Assert that they agree, relative to the largest value."""
    found, expected = array(ours), np.asarray(plain)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
