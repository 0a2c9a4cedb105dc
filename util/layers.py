"""What torch.nn does not have: antialiased resampling, padding images of any size, and computing in float32.

Blur: Zhang, "Making Convolutional Networks Shift-Invariant Again" (ICML 2019). CUT's generators and discriminators use
[1, 2, 1] on the way down and [1, 3, 3, 1] on the way up. The filters are buffers named ``filt`` of shape [C, 1, k, k],
because the checkpoints of those projects contain them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DOWN_TAPS = (1.0, 2.0, 1.0)
_UP_TAPS = (1.0, 3.0, 3.0, 1.0)

Method = TypeVar("Method", bound=Callable[..., Any])


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


def pad_to_multiple(images: Tensor, multiple: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Extend images at the bottom and right, by reflection, until both sides are a multiple of ``multiple``.

    Reflection does not repeat the edge pixel and goes back and forth as often as needed, so the padding may be
    larger than the image, down to a single pixel. The top left corner stays where it was.

        padded, crop = pad_to_multiple(images, 4)
        result = crop(network(padded))

    Args:
        images: [N, C, H, W], any values, H and W at least 1.
        multiple: at least 1.

    Returns:
        The padded images (the very same tensor if nothing was missing), and the function that crops any
        [..., H', W'] tensor of the padded size back to [..., H, W].

    Raises:
        ValueError: another shape, an empty image or a multiple below 1.
    """
    if images.ndim != 4 or 0 in images.shape[-2:]:
        raise ValueError(f"expected images [N, C, H, W] with at least one pixel, got shape {tuple(images.shape)}")
    if multiple < 1:
        raise ValueError(f"the multiple must be at least 1, got {multiple}")
    height, width = images.shape[-2:]
    padded = images
    for dim, size in ((-2, height), (-1, width)):
        missing = -size % multiple
        if missing:
            padded = padded.index_select(dim, _reflection(size, size + missing, images.device))
    padded_height, padded_width = padded.shape[-2:]
    return padded, partial(_crop, padded_size=(padded_height, padded_width), size=(height, width))


def _reflection(size: int, padded_size: int, device: torch.device) -> Tensor:
    """Where each of ``padded_size`` positions reads from: the triangular wave 0, 1, …, size-1, …, 1, 0, 1, …"""
    last = size - 1
    period = max(2 * last, 1)  # a single pixel is repeated
    return last - (last - torch.arange(padded_size, device=device) % period).abs()


def _crop(images: Tensor, *, padded_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Cut ``size`` (height, width) out of images that must have ``padded_size``."""
    if tuple(images.shape[-2:]) != padded_size:
        raise ValueError(f"expected the padded size {padded_size}, got {tuple(images.shape[-2:])}")
    height, width = size
    return images[..., :height, :width]


def _widened(value: Any) -> Any:
    """Tensors of half precision as float32, also inside lists and tuples; everything else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.element_size() < 4:
        return value.float()
    if isinstance(value, (list, tuple)):
        return type(value)(_widened(item) for item in value)
    return value


def at_least_float32(method: Method) -> Method:
    """Decorator for a module's ``forward`` or a function: compute in float32 or wider, also under autocast.

    Softmax over temperatures of 0.07 and ratios of small differences do not survive bfloat16.
    """

    @functools.wraps(method)
    def wide(*args: Any, **settings: Any) -> Any:
        wide_args = _widened(args)
        first = next((a for a in _flatten(wide_args) if isinstance(a, Tensor)), None)
        device = "cpu" if first is None or first.is_meta else first.device.type  # without data nothing is computed
        with torch.autocast(device, enabled=False):
            return method(*wide_args, **settings)

    return wide  # type: ignore[return-value]


def _flatten(values: Any) -> list[Any]:
    flat = []
    for value in values:
        flat.extend(_flatten(value) if isinstance(value, (list, tuple)) else [value])
    return flat
