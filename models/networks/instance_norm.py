"""Instance norm that is not slow on CPUs; see :mod:`models.networks.layers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from models.networks.layers import is_channels_last, laid_out, plain

Gradient = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""The function :func:`gradient_of_norm`, as it is or compiled."""


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm without affine parameters and running statistics, [N, C, H, W] → [N, C, H, W].

    PyTorch's copies images with channels last into the other format. Batch norm of a batch of one is the same and
    does not. Where the engine has a compiler (:meth:`fuse`), the gradient is two loops over all images at once.
    """

    _gradient: Gradient | None = None

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def fuse(self, compiler: Callable[[Any], Any] | None) -> None:
        """Use operations that ``compiler`` has fused, from now on, or with None those of PyTorch again."""
        self._gradient = None if compiler is None else compiler(gradient_of_norm)

    def forward(self, x: Tensor) -> Tensor:
        if plain(x) or x.ndim != 4 or not is_channels_last(x):
            return super().forward(x)
        return _InstanceNorm.apply(x, self.eps, self._gradient)


def gradient_of_norm(gradient: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of an instance norm's output → that of its input ``x``.

    ``gradient`` and ``x`` are [N, H, W, C]; ``mean`` and ``inverse``, one over the standard deviation, [N, 1, 1, C].
    """
    wide, own = gradient.to(mean.dtype), (x.to(mean.dtype) - mean) * inverse
    shift, scale = (part.mean((1, 2), keepdim=True) for part in (wide, wide * own))
    return (inverse * (wide - shift - own * scale)).to(x.dtype)


class _InstanceNorm(Function):
    """Batch norm of each image of a batch, with statistics in float32 or wider."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, fused: Gradient | None) -> Tensor:
        ctx.eps, ctx.fused = eps, fused
        normed, ones = torch.empty_like(x), _ones(x)
        statistics = []
        for sample, target in zip(x.split(1), normed.split(1), strict=True):
            mean, inverse = torch.empty_like(ones), torch.empty_like(ones)
            torch.native_batch_norm(
                sample, ones, None, None, None, training=True, momentum=0.0, eps=eps, out=(target, mean, inverse)
            )
            statistics += [mean, inverse]
        ctx.save_for_backward(x, *statistics)
        return normed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x, *statistics), gradient = ctx.saved_tensors, laid_out(gradients[0])
        means, inverses = statistics[::2], statistics[1::2]
        if ctx.fused is not None and not torch.is_grad_enabled():  # that it is differentiated again is rare
            pixels = (image.permute(0, 2, 3, 1) for image in (gradient, x))
            of_images = (torch.stack(parts)[:, None, None] for parts in (means, inverses))
            return ctx.fused(*pixels, *of_images).permute(0, 3, 1, 2), None, None
        ones = _ones(x)
        differentiate = torch.ops.aten.native_batch_norm_backward
        for_samples = [
            differentiate(part, sample, ones, None, None, mean, inverse, True, ctx.eps, [True, False, False])[0]
            for part, sample, mean, inverse in zip(gradient.split(1), x.split(1), means, inverses, strict=True)
        ]
        return for_samples[0] if len(for_samples) == 1 else torch.cat(for_samples), None, None


def _ones(x: Tensor) -> Tensor:
    """A weight for each channel, whose precision is also that of the statistics."""
    return torch.ones(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
