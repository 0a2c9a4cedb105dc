"""CPU forms of layers: the same mathematics and parameters as the plain ones, in forms that are not slow there.

Measured on AMD Zen 5 with PyTorch 2.15; docs/performance.md has the figures. All of them work on images with channels
last, in which convolutions are fastest: :class:`FastPadToStride` and :class:`FastConv2d` lay their input out so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from util.kernels.winograd import KernelPlaces, Transforms, WinogradConvolution
from util.layers import BlurDownsample, BlurUpsample, PadToStride

Compiler = Callable[[Any], Any]
Gradient = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""The function :func:`gradient_of_norm`, as it is or compiled."""

_LANES = 32  # one direction of a kernel goes into channels as long as no more than these come of it
_MIN_KERNEL = 4
_FEWEST_FOR_WINOGRAD = 64  # channels on both sides; with fewer the sums cost more than the products save
_SLOW_STRIDED_KERNEL = (3, 3)  # its weights' gradient with channels last and stride 2 is four times as slow in fp32


def laid_out(x: Tensor) -> Tensor:
    """``x`` [N, C, H, W] with channels last."""
    if x.shape[1] == 1 and x.stride(1) != 1:  # PyTorch takes it for both formats, and its strides for the other one
        return x.clone(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last)


def in_own_precision(x: Tensor) -> torch.autocast:
    """The context for operations that autocast would needlessly take back to fp32 on CPUs."""
    return torch.autocast(x.device.type, enabled=False)


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


class FastPadToStride(PadToStride):
    """Where images enter a generator, they are laid out with channels last."""

    def forward(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        padded, crop = super().forward(x)
        return laid_out(padded), crop


class FastBlurDownsample(BlurDownsample):
    """In its input's own precision, with a gradient that is not slow."""

    def forward(self, x: Tensor) -> Tensor:
        with in_own_precision(x):
            return _HalvingFilter.apply(x, self.filt.to(x.dtype))


class FastBlurUpsample(BlurUpsample):
    """1 : 3 between the two nearest pixels is what bilinear interpolation does."""

    def forward(self, x: Tensor) -> Tensor:
        with in_own_precision(x):
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class FastReflectionPad2d(nn.ReflectionPad2d):
    """Reflection padding in the input's own precision."""

    def forward(self, x: Tensor) -> Tensor:
        with in_own_precision(x):
            return _Reflection.apply(x, self.padding) if x.ndim == 4 else super().forward(x)


class FastInstanceNorm2d(nn.InstanceNorm2d):
    """PyTorch's copies images with channels last into the other format. Batch norm of a batch of one is the same and
    does not. With a compiler (:meth:`fuse`), the gradient is two loops over all images at once.
    """

    _gradient: Gradient | None = None

    def fuse(self, compiler: Compiler | None) -> None:
        """Use operations that ``compiler`` has fused, from now on, or with None those of PyTorch again."""
        self._gradient = None if compiler is None else compiler(gradient_of_norm)

    def forward(self, x: Tensor) -> Tensor:
        if self.affine or self.track_running_stats or x.ndim != 4 or not is_channels_last(x):
            return super().forward(x)
        return _InstanceNorm.apply(x, self.eps, self._gradient)


class FastConv2d(nn.Conv2d):
    """Wide kernels between an image and many channels are as fast as others.

    A convolution computes in vectors of channels, of which an image fills three places. So one direction of the kernel
    goes into the channels: k neighbors in a row stand side by side as k · C channels, and the kernel becomes k × 1.

    With a compiler (:meth:`fuse`), 3 × 3 kernels between many channels become Winograd's convolution.
    """

    _transforms: Transforms | None = None
    _kernels: KernelPlaces

    def fuse(self, compiler: Compiler | None) -> None:
        """Use operations that ``compiler`` has fused, from now on, or with None those of PyTorch again."""
        simple = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1 and self.padding_mode == "zeros"
        wide = min(self.in_channels, self.out_channels) >= _FEWEST_FOR_WINOGRAD
        if simple and wide and self.kernel_size == (3, 3) and self.padding in ((0, 0), (1, 1)):
            self._transforms = None if compiler is None else Transforms.by(compiler)
            self._kernels = KernelPlaces()

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            return super().forward(x)
        x = laid_out(x)
        if self._transforms is not None and self._even(x):
            return self._by_winograd(x, self._transforms)
        if self._rewritable():
            if self.out_channels * self.kernel_size[1] <= _LANES:
                return self._collected(x)
            if self.in_channels * self.kernel_size[1] <= _LANES and x.requires_grad and torch.is_grad_enabled():
                return self._spread(x)  # only the gradient for an image is slow, not the way from it
        if torch.is_grad_enabled() and _weight_gradient_is_slow(self, x):
            return _Convolution.apply(x, self.weight, self.bias, self._settings(), True)
        return super().forward(x)

    def _rewritable(self) -> bool:
        simple = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1
        known = self.padding_mode == "zeros" and isinstance(self.padding, tuple)
        return simple and known and self.kernel_size[1] >= _MIN_KERNEL

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
            return WinogradConvolution.apply(x, self.weight, self.bias, frame, transforms, self._kernels)

    def _collected(self, x: Tensor) -> Tensor:
        """Few outputs: all columns of the kernel at every place, then each output from where its columns were."""
        columns, rows = self.kernel_size[1], self.kernel_size[0]
        weight = self.weight.permute(3, 0, 1, 2).reshape(columns * self.out_channels, self.in_channels, rows, 1)
        parts = F.conv2d(x, weight, padding=self.padding)
        output = _Collect.apply(parts, columns)
        return output if self.bias is None else output + self.bias.to(output.dtype).view(1, -1, 1, 1)

    def _spread(self, x: Tensor) -> Tensor:
        """Few inputs: each place sees its neighbors in the row as channels of its own."""
        columns, rows = self.kernel_size[1], self.kernel_size[0]
        assert isinstance(self.padding, tuple)  # _rewritable has seen to it
        above, beside = self.padding
        row = _Spread.apply(F.pad(x, (beside, beside)) if beside else x, columns)
        weight = self.weight.permute(0, 3, 1, 2).reshape(self.out_channels, columns * self.in_channels, rows, 1)
        return F.conv2d(row, weight, self.bias, padding=(above, 0))


class FastConvTranspose2d(nn.ConvTranspose2d):
    """Its gradients for weights and bias are not slow with channels last."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or self.padding_mode != "zeros" or not torch.is_grad_enabled():
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
        # With channels last, k neighbors' channels already follow each other in memory.
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
