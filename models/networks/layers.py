"""Layers with the mathematics and the parameters of PyTorch's own, in forms that are not slow on CPUs.

Measured on AMD Zen 5 with PyTorch 2.15; docs/performance.md has the figures. All networks run with channels last there
(see :func:`laid_out`), in which convolutions are fastest. Elsewhere, and whenever a graph is taken of the network
(compilation, export, tracing), every layer is the plain formula.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from models.networks.winograd import KernelPlaces, Transforms, WinogradConvolution

_LANES = 32  # one direction of a kernel goes into channels as long as no more than these come of it
_MIN_KERNEL = 4
_FEWEST_FOR_WINOGRAD = 64  # channels on both sides; with fewer the sums cost more than the products save
_SLOW_STRIDED_KERNEL = (3, 3)  # its weights' gradient with channels last and stride 2 is four times as slow in fp32


def plain(x: Tensor) -> bool:
    """Whether ``x`` shall go through the plain formula: it is not on a CPU, or a graph is being taken."""
    return x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing()


def laid_out(x: Tensor) -> Tensor:
    """``x`` [N, C, H, W] in the memory format in which the networks are fastest: channels last on CPUs."""
    if x.device.type != "cpu":
        return x
    if x.shape[1] == 1:  # is in either format already, and PyTorch would take it for the other one
        return x.clone(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last)


def in_own_precision(x: Tensor) -> torch.autocast:
    """The context for operations that autocast would needlessly take back to fp32 on CPUs."""
    return torch.autocast(x.device.type, enabled=False)


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


class ReflectionPad2d(nn.ReflectionPad2d):
    """Reflection without repeating the edge, in the input's own precision."""

    def forward(self, x: Tensor) -> Tensor:
        if plain(x):
            return super().forward(x)
        with in_own_precision(x):
            return _Reflection.apply(x, self.padding) if x.ndim == 4 else super().forward(x)


class Conv2d(nn.Conv2d):
    """Convolution; wide kernels between an image and many channels are as fast as others.

    A convolution computes in vectors of channels, of which an image fills three places. So one direction of the kernel
    goes into the channels: k neighbours in a row stand side by side as k · C channels, and the kernel becomes k × 1.

    Where the engine has a compiler (:meth:`fuse`), 3 × 3 kernels between many channels become Winograd's convolution.
    """

    _transforms: Transforms | None = None
    _kernels: KernelPlaces

    def fuse(self, compiler: Callable[[Any], Any] | None) -> None:
        """Use operations that ``compiler`` has fused, from now on, or with None those of PyTorch again."""
        simple = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1 and self.padding_mode == "zeros"
        wide = min(self.in_channels, self.out_channels) >= _FEWEST_FOR_WINOGRAD
        if simple and wide and self.kernel_size == (3, 3) and self.padding in ((0, 0), (1, 1)):
            self._transforms = None if compiler is None else Transforms.by(compiler)
            self._kernels = KernelPlaces()

    def forward(self, x: Tensor) -> Tensor:
        if self._transforms is not None and not plain(x) and x.ndim == 4 and self._even(x):
            return self._by_winograd(x, self._transforms)
        if self._rewritable(x):
            if self.out_channels * self.kernel_size[1] <= _LANES:
                return self._collected(x)
            if self.in_channels * self.kernel_size[1] <= _LANES and x.requires_grad and torch.is_grad_enabled():
                return self._spread(x)  # only the gradient for an image is slow, not the way from it
        if not plain(x) and torch.is_grad_enabled() and _weight_gradient_is_slow(self, x):
            return _Convolution.apply(x, self.weight, self.bias, self._settings(), True)
        return super().forward(x)

    def _rewritable(self, x: Tensor) -> bool:
        simple = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1
        known = self.padding_mode == "zeros" and isinstance(self.padding, tuple)
        return simple and known and self.kernel_size[1] >= _MIN_KERNEL and x.ndim == 4 and not plain(x)

    def _settings(self) -> _Settings:
        return list(self.stride), list(self.padding), list(self.dilation), False, [0, 0], self.groups

    def _even(self, x: Tensor) -> bool:
        """Whether the outputs can be cut into tiles, of 2 × 2 or 2 × 4."""
        frame = 0 if self.padding == (0, 0) else 2
        return all(side % 2 == 0 and side + frame > 2 for side in x.shape[2:])

    def _by_winograd(self, x: Tensor, transforms: Transforms) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        with in_own_precision(x):
            frame = 0 if self.padding == (0, 0) else 1
            return WinogradConvolution.apply(laid_out(x), self.weight, self.bias, frame, transforms, self._kernels)

    def _collected(self, x: Tensor) -> Tensor:
        """Few outputs: all columns of the kernel at every place, then each output from where its columns were."""
        columns, rows = self.kernel_size[1], self.kernel_size[0]
        weight = self.weight.permute(3, 0, 1, 2).reshape(columns * self.out_channels, self.in_channels, rows, 1)
        parts = F.conv2d(x, weight, padding=self.padding)
        output = _Collect.apply(parts, columns)
        return output if self.bias is None else output + self.bias.to(output.dtype).view(1, -1, 1, 1)

    def _spread(self, x: Tensor) -> Tensor:
        """Few inputs: each place sees its neighbours in the row as channels of its own."""
        columns, rows = self.kernel_size[1], self.kernel_size[0]
        assert isinstance(self.padding, tuple)  # _rewritable has seen to it
        above, beside = self.padding
        row = _Spread.apply(F.pad(x, (beside, beside)) if beside else x, columns)
        weight = self.weight.permute(0, 3, 1, 2).reshape(self.out_channels, columns * self.in_channels, rows, 1)
        return F.conv2d(row, weight, self.bias, padding=(above, 0))


class ConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution whose gradients for weights and bias are not slow with channels last."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or plain(x) or self.padding_mode != "zeros" or not torch.is_grad_enabled():
            return super().forward(x, output_size)
        rearranged = _weight_gradient_is_slow(self, x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            x, weight = (part.to(torch.get_autocast_dtype("cpu")) for part in (x, weight))
        padding, extra = list(self.padding), list(self.output_padding)  # type: ignore[arg-type]
        settings = (list(self.stride), padding, list(self.dilation), True, extra, self.groups)
        return _Convolution.apply(x, weight, self.bias, settings, rearranged)


class _Reflection(Function):
    """Reflection padding that does not keep x, and whose gradient is not copied twice, as it is by PyTorch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
        ctx.padding, ctx.shape = padding, x.shape  # x itself is not kept
        return F.pad(x, padding, mode="reflect")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        if torch.is_grad_enabled():  # that it is differentiated again is rare
            like_x = gradient.new_empty(()).expand(ctx.shape)
            return torch.ops.aten.reflection_pad2d_backward(gradient, like_x, ctx.padding), None
        left, right, above, below = ctx.padding
        before, middle, behind = gradient.split([left, ctx.shape[3], right], 3)
        folded = _folded(middle, 2, above, below)
        _add_reflected(folded, 3, _folded(before, 2, above, below), _folded(behind, 2, above, below))
        return folded, None


def _folded(gradient: Tensor, dimension: int, before: int, behind: int) -> Tensor:
    """The gradient of what was padded by reflection along ``dimension``, with channels last."""
    first, middle, last = gradient.split([before, gradient.shape[dimension] - before - behind, behind], dimension)
    folded = middle.clone(memory_format=torch.channels_last)
    _add_reflected(folded, dimension, first, last)
    return folded


def _add_reflected(target: Tensor, dimension: int, first: Tensor, last: Tensor) -> None:
    """Add two edges to ``target``, mirrored on its first and its last place, which they leave out."""
    before, behind = first.shape[dimension], last.shape[dimension]
    target.narrow(dimension, 1, before).add_(first.flip(dimension))
    target.narrow(dimension, target.shape[dimension] - 1 - behind, behind).add_(last.flip(dimension))


class _Spread(Function):
    """[N, C, H, W] → [N, k · C, H, W - k + 1]: channel (j, c) is channel c, j places to the right."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int) -> Tensor:
        ctx.columns = columns
        pixels, (per_image, per_row, per_pixel) = _pixels(x)
        n, height, width, channels = pixels.shape
        # With channels last, k neighbours' channels already follow each other in memory.
        row = pixels.as_strided(
            (n, height, width - columns + 1, columns * channels), (per_image, per_row, per_pixel, 1)
        )
        return row.contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        edge = ctx.columns - 1
        padded = F.pad(gradients[0], (edge, edge))
        return _Collect.apply(_mirrored(padded, ctx.columns), ctx.columns), None


class _Collect(Function):
    """[N, k · C, H, W] → [N, C, H, W - k + 1]: channel c is the sum over j of channel (j, c), j places to the right."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int) -> Tensor:
        ctx.columns = columns
        pixels, (per_image, per_row, per_pixel) = _pixels(x)
        n, height, width, channels = pixels.shape
        out = channels // columns
        diagonal = pixels.as_strided(
            (n, height, width - columns + 1, columns, out), (per_image, per_row, per_pixel, per_pixel + out, 1)
        )
        return diagonal.sum(3).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        edge = ctx.columns - 1
        padded = F.pad(gradients[0], (edge, edge))
        return _mirrored(_Spread.apply(padded, ctx.columns), ctx.columns), None


def _pixels(x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """``x`` as [N, H, W, C], one after another in memory, and the steps there between images, rows and pixels.

    A tensor's own strides will not do: those of a dimension of length 1 may be anything.
    """
    pixels = x.permute(0, 2, 3, 1).contiguous()
    _, height, width, channels = pixels.shape
    return pixels, (height * width * channels, width * channels, channels)


def _mirrored(x: Tensor, columns: int) -> Tensor:
    """The channels (j, c) in reversed order of j."""
    return x.unflatten(1, (columns, -1)).flip(1).flatten(1, 2)


_Settings = tuple[list[Any], list[Any], list[Any], bool, list[Any], int]
"""Stride, padding, dilation, transposed, output padding, groups."""


def _weight_gradient_is_slow(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Whether this is a strided convolution in fp32 with channels last that learns."""
    return (
        layer.stride == (2, 2)
        and layer.kernel_size == _SLOW_STRIDED_KERNEL
        and layer.padding_mode == "zeros"
        and layer.weight.requires_grad
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and is_channels_last(x)
    )


class _Convolution(Function):
    """A convolution with the gradients that PyTorch is slow at: a transposed one's for its bias, which takes as long
    as the others together, and if ``rearranged`` the one for the weights, which is computed in the usual memory format.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings, rearranged: bool
    ) -> Tensor:
        ctx.settings, ctx.rearranged = settings, rearranged
        ctx.bias_type = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight)
        return torch.ops.aten.convolution(x, weight, None if bias is None else bias.to(x.dtype), *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (x, weight), gradient = ctx.saved_tensors, gradients[0]
        differentiate = torch.ops.aten.convolution_backward
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_x = differentiate(gradient, x, weight, None, *ctx.settings, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            parts = [part.contiguous() if ctx.rearranged else part for part in (gradient, x, weight)]
            for_weight = differentiate(*parts, None, *ctx.settings, [False, True, False])[1]
        if ctx.bias_type is not None and ctx.needs_input_grad[2]:
            for_bias = gradient.sum((0, 2, 3), dtype=ctx.bias_type)
        return for_x, for_weight, for_bias, None, None
