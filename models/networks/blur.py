"""Antialiased resampling: a fixed binomial blur around the change of resolution.

Zhang, "Making Convolutional Networks Shift-Invariant Again" (ICML 2019). CUT's generators and
discriminators use [1, 2, 1] on the way down and [1, 3, 3, 1] on the way up. The filters are buffers named
``filt`` of shape [C, 1, k, k], because the checkpoints of those projects contain them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from models.networks.layers import in_own_precision, plain

_DOWN_TAPS = (1.0, 2.0, 1.0)
_UP_TAPS = (1.0, 3.0, 3.0, 1.0)


def _outer_product(taps: tuple[float, ...], channels: int, gain: float) -> Tensor:
    """The separable filter as a depthwise kernel [channels, 1, k, k] whose elements sum to ``gain``."""
    line = torch.tensor(taps)
    kernel = torch.outer(line, line)
    return (gain * kernel / kernel.sum()).expand(channels, 1, -1, -1).clone()


class _Blur(nn.Module):
    """A blur filter that cannot be another one."""

    filt: Tensor

    def __init__(self, taps: tuple[float, ...], channels: int, gain: float) -> None:
        super().__init__()
        self._taps, self._gain = taps, gain
        self.register_buffer("filt", _outer_product(taps, channels, gain))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Loading another filter is an error: on CPUs the filter is written out as an operation."""
        loaded = state_dict.get(f"{prefix}filt")
        if isinstance(loaded, Tensor) and loaded.shape == self.filt.shape and not loaded.is_meta:
            own = _outer_product(self._taps, len(loaded), self._gain).to(loaded)
            if not torch.allclose(loaded, own, rtol=1e-2):
                args[-1].append(f"{prefix}filt is not the blur filter {list(self._taps)}")
        super()._load_from_state_dict(state_dict, prefix, *args)


class BlurDownsample(_Blur):
    """[N, C, H, W] → [N, C, ⌈H/2⌉, ⌈W/2⌉]: blur with [1, 2, 1] (reflect padding), keep every second pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__(_DOWN_TAPS, channels, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        if plain(x):
            return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=x.shape[1])
        with in_own_precision(x):
            return _HalvingFilter.apply(x, self.filt.to(x.dtype))


class _HalvingFilter(Function):
    """Reflection padding and a depthwise filter [1, 2, 1] with stride 2, whose gradient is an enlargement.

    CPUs have no fast backward pass of depthwise convolutions. Along a line, pixel 2i gets half of gradient i, and pixel
    2i + 1 a quarter of gradients i and i + 1: half of what linear interpolation between them gives. What the padding
    mirrored comes on top.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, filt: Tensor) -> Tensor:
        ctx.size = x.shape[2:]
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), filt, stride=2, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        framed = F.pad(gradient / 4, (0, 1, 0, 1))  # behind the last one there is none
        size = [2 * side + 1 for side in gradient.shape[2:]]
        enlarged = F.interpolate(framed, size, mode="bilinear", align_corners=True)
        enlarged = enlarged[:, :, : ctx.size[0], : ctx.size[1]]
        for dimension in (2, 3):
            _add_mirrored(enlarged.transpose(2, dimension))
        return enlarged, None


def _add_mirrored(lines: Tensor) -> None:
    """Add what reaches the second line through the mirrored one before the first, and likewise at the other end."""
    lines[:, :, 1] += lines[:, :, 0] / 2
    if lines.shape[2] % 2 == 1:  # else the filter does not reach over the other end
        lines[:, :, -2] += lines[:, :, -1] / 2


class BlurUpsample(_Blur):
    """[N, C, H, W] → [N, C, 2H, 2W]: insert zeros, blur with [1, 3, 3, 1] (border repeated)."""

    def __init__(self, channels: int) -> None:
        # Three of four samples are inserted zeros, so a gain of 4 keeps the mean.
        super().__init__(_UP_TAPS, channels, gain=4.0)

    def forward(self, x: Tensor) -> Tensor:
        if not plain(x):
            with in_own_precision(x):  # 1 : 3 between the two nearest is what bilinear interpolation does
                return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        # padding=2 drops what the border's own border would contribute; one more row and column on each
        # side stems from the padded pixels alone.
        blurred = F.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])
        return blurred[:, :, 1:-1, 1:-1]
