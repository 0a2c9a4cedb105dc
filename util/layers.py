"""Layers that torch.nn does not have: antialiased resampling, and padding images of any size.

Blur: Zhang, "Making Convolutional Networks Shift-Invariant Again" (ICML 2019). CUT's generators and discriminators use
[1, 2, 1] on the way down and [1, 3, 3, 1] on the way up. The filters are buffers named ``filt`` of shape [C, 1, k, k],
because the checkpoints of those projects contain them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.padding import pad_to_multiple

_DOWN_TAPS = (1.0, 2.0, 1.0)
_UP_TAPS = (1.0, 3.0, 3.0, 1.0)


def _outer_product(taps: tuple[float, ...], channels: int, gain: float) -> Tensor:
    """The separable filter as a depthwise kernel [channels, 1, k, k] whose elements sum to ``gain``."""
    line = torch.tensor(taps)
    kernel = torch.outer(line, line)
    return (gain * kernel / kernel.sum()).expand(channels, 1, -1, -1).clone()


class AnyMemoryFormat(nn.Module):
    """A network that computes the same however its tensors lie in memory: no ``.view``, nothing in place on a view.

    The layers of such a network may be swapped for faster ones (:mod:`util.kernels`).
    """


class PadToStride(nn.Module):
    """Images of any size → (padded by reflection to a multiple of ``stride``, function that crops the output).

    At 1/``stride`` of the resolution, both sides have at least ``fewest_pixels``.
    """

    def __init__(self, stride: int, fewest_pixels: int = 1) -> None:
        super().__init__()
        self.stride, self.fewest_pixels = stride, fewest_pixels

    def forward(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        tiny = min(x.shape[2:]) <= self.stride * (self.fewest_pixels - 1)
        return pad_to_multiple(x, self.stride * (self.fewest_pixels if tiny else 1))


class _Blur(nn.Module):
    """A blur filter that cannot be another one."""

    filt: Tensor

    def __init__(self, taps: tuple[float, ...], channels: int, gain: float) -> None:
        super().__init__()
        self._taps, self._gain = taps, gain
        self.register_buffer("filt", _outer_product(taps, channels, gain))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Loading another filter is an error: the CPU's form of the layer is written for this one."""
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
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class BlurUpsample(_Blur):
    """[N, C, H, W] → [N, C, 2H, 2W]: insert zeros, blur with [1, 3, 3, 1] (border repeated)."""

    def __init__(self, channels: int) -> None:
        # Three of four samples are inserted zeros, so a gain of 4 keeps the mean.
        super().__init__(_UP_TAPS, channels, gain=4.0)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        # padding=2 drops what the border's own border would contribute; one more row and column on each
        # side stems from the padded pixels alone.
        blurred = F.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])
        return blurred[:, :, 1:-1, 1:-1]
