"""Antialiased resampling: a fixed binomial blur around the change of resolution.

Zhang, "Making Convolutional Networks Shift-Invariant Again" (ICML 2019). CUT's generators and
discriminators use [1, 2, 1] on the way down and [1, 3, 3, 1] on the way up. The filters are buffers named
``filt`` of shape [C, 1, k, k], because the checkpoints of those projects contain them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DOWN_TAPS = (1.0, 2.0, 1.0)
_UP_TAPS = (1.0, 3.0, 3.0, 1.0)


def _outer_product(taps: tuple[float, ...], channels: int, gain: float) -> Tensor:
    """The separable filter as a depthwise kernel [channels, 1, k, k] whose elements sum to ``gain``."""
    line = torch.tensor(taps)
    kernel = torch.outer(line, line)
    return (gain * kernel / kernel.sum()).expand(channels, 1, -1, -1).clone()


class BlurDownsample(nn.Module):
    """[N, C, H, W] → [N, C, ⌈H/2⌉, ⌈W/2⌉]: blur with [1, 2, 1] (reflect padding), keep every second pixel."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _outer_product(_DOWN_TAPS, channels, gain=1.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class BlurUpsample(nn.Module):
    """[N, C, H, W] → [N, C, 2H, 2W]: insert zeros, blur with [1, 3, 3, 1] (border repeated)."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Three of four samples are inserted zeros, so a gain of 4 keeps the mean.
        self.register_buffer("filt", _outer_product(_UP_TAPS, channels, gain=4.0))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        # padding=2 drops what the border's own border would contribute; one more row and column on each
        # side stems from the padded pixels alone.
        blurred = F.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])
        return blurred[:, :, 1:-1, 1:-1]
