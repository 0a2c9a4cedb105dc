"""A trained model applied to images of any size: at the size it knows, whole, or in tiles where memory is short.

:class:`Translator` is the way in. Below it: the change brought to full size, tiles, and statistics that tiles share.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.engine.oom import is_out_of_memory
from util.engine.precision import autocast
from util.errors import UserError
from util.kernels import accelerate
from util.pixels import COLOR_CHANNELS, LUMA

logger = logging.getLogger(__name__)

NATIVE = 0
"""The work size of a model that sees every image at its own size."""

GUIDE_RADIUS, GUIDE_EPSILON = 2, 1e-4
"""Of the guided filter: pixels at the work size, and the variance of luma (in [-1, 1]) that counts as flat."""

DEFAULT_OVERLAP = 64  # pixels that tiles share
NO_TILES = 0
SMALLEST_TILE = 64  # pixels; below, a network sees hardly anything but borders
STRIDES_PER_TILE = 2  # fewer would leave the deepest layer a single pixel, which has no variance to normalize by

Span = tuple[int, int]
"""First pixel of a tile along one axis, and the one after its last."""


class Translatable(Protocol):
    """What translating needs of a model."""

    nets: dict[str, nn.Module]

    @property
    def stride(self) -> int: ...
    def infer(self, source: Tensor) -> Tensor: ...


class Translator:
    """Images [N, C, H, W] in [-1, 1] on the CPU → the model's translation of them, likewise.

    Where the memory does not hold a batch, its images are translated one by one; where it does not hold an image,
    the image is translated in tiles, as large as possible in steps of one half. One logged line tells each, and
    what was found out counts for the images that follow. Tiles of an image share the statistics of instance norm.

    Args:
        evaluation_mode: False keeps dropout and batch statistics as in training.
        work_size: shorter side in pixels at which larger images are translated; 0 = every image at its own size.
        strength: how much of the change is applied; 1 = all.
        self_ensemble: the mean over the eight ways to turn and mirror an image.
        tile: side in pixels of the tiles that larger images are translated in; 0 = whole images if possible.
        overlap: pixels that neighboring tiles share.

    Raises:
        UserError: tiles too small for the networks, or an overlap too large for the tiles.
    """

    def __init__(
        self,
        model: Translatable,
        *,
        device: torch.device,
        precision: str,
        evaluation_mode: bool = True,
        work_size: int = NATIVE,
        strength: float = 1.0,
        self_ensemble: bool = False,
        tile: int = NO_TILES,
        overlap: int = DEFAULT_OVERLAP,
    ) -> None:
        self._model, self._device, self._precision = model, device, precision
        for network in model.nets.values():
            network.to(device).train(not evaluation_mode)
        accelerate(model.nets.values(), device)
        self._stride = model.stride
        self._statistics = SharedStatistics(model.nets.values())
        self._work_size, self._strength, self._self_ensemble = work_size, strength, self_ensemble
        self._overlap = overlap
        self._one_by_one = self._told = False
        self._too_many_pixels: int | None = None
        self._tiling: Tiling | None = None
        if tile != NO_TILES:
            self._tiling = choose_tiling(tile, overlap, self._stride)
            self._too_many_pixels = self._tiling.tile**2 + 1
            if self._tiling.tile != tile:
                logger.info("--tile %d: tiles of %d pixels, whole strides of the network", tile, self._tiling.tile)

    @torch.inference_mode()
    def __call__(self, source: Tensor) -> Tensor:
        """Translate; the result has the height and width of ``source``.

        Raises:
            UserError: not even the smallest tile fits in memory.
        """
        height, width = source.shape[-2:]
        if self._work_size == NATIVE or min(height, width) <= self._work_size:
            output = self._ensembled(source)
            weaker = self._strength != 1 and output.shape == source.shape
            return torch.lerp(source, output, self._strength).clamp_(-1, 1) if weaker else output
        if not self._told:
            logger.info(
                "pictures above %d pixels on the shorter side are derained at that size and the change is enlarged "
                "(--work_size 0 computes at full size)",
                self._work_size,
            )
            self._told = True
        scale = self._work_size / min(height, width)
        size = (round(height * scale), round(width * scale))
        small = F.interpolate(source, size=size, mode="bicubic", antialias=True).clamp_(-1, 1)
        output = self._ensembled(small)
        if output.shape != small.shape:
            raise UserError(f"--work_size {self._work_size}: this network changes the number of channels; pass 0.")
        return add_upsampled(source, (output - small).mul_(self._strength), small)

    def _ensembled(self, source: Tensor) -> Tensor:
        if not self._self_ensemble:
            return self._whole(source)
        outputs = []
        for turns in range(4):
            for mirrored in (False, True):
                turned = torch.rot90(source.flip(-1) if mirrored else source, turns, (-2, -1)).contiguous()
                output = torch.rot90(self._whole(turned), -turns, (-2, -1))
                outputs.append(output.flip(-1) if mirrored else output)
        return torch.stack(outputs).mean(0)

    def _whole(self, source: Tensor) -> Tensor:
        """Translate at the size of ``source``."""
        if len(source) > 1 and self._one_by_one:
            return torch.cat([self._whole(image) for image in source.split(1)])
        height, width = source.shape[-2:]
        fits = self._too_many_pixels is None or height * width < self._too_many_pixels
        result = self._attempt(source, None if fits else self._tiling)
        if result is not None:
            return result
        if len(source) == 1:
            return self._in_ever_smaller_tiles(source)
        logger.warning("out of memory with %d images at once: going on one by one (--batch_size 1)", len(source))
        self._one_by_one = True
        return self._whole(source)

    def _attempt(self, source: Tensor, tiling: Tiling | None) -> Tensor | None:
        """The translation, whole or in tiles; None if the memory does not suffice."""
        try:
            if tiling is None:
                return self._translate(source)
            return self._in_tiles(source, tiling)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler the error is gone, and with its traceback the tensors that it kept alive.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _in_tiles(self, source: Tensor, tiling: Tiling) -> Tensor:
        """First learn how the whole image is to be normalized, then translate."""
        if not self._statistics:
            return in_tiles(source, self._translate, tiling)
        with self._statistics.gathered():
            for part in tiling.parts(source):
                self._translate(part)
        with self._statistics.imposed():
            return in_tiles(source, self._translate, tiling)

    def _in_ever_smaller_tiles(self, source: Tensor) -> Tensor:
        """Halve the tiles until they fit in memory."""
        height, width = source.shape[-2:]
        smallest = smallest_tile(self._stride)
        tried = max(height, width) if self._tiling is None else self._tiling.tile
        while tried > smallest:
            tried = max(smallest, round_up(tried // 2, self._stride))
            overlap = min(self._overlap, tried // 2)
            tiling = Tiling(tried, overlap, self._stride)
            result = self._attempt(source, tiling)
            if result is not None:
                logger.warning(
                    "out of memory with %d×%d pixels at once: translated in tiles of %d pixels that share %d "
                    "(--tile %d does so from the start)",
                    *(width, height, tried, overlap, tried),
                )
                self._tiling = tiling
                self._too_many_pixels = min(self._too_many_pixels or height * width, height * width)
                return result
        raise UserError(
            f"out of memory: not even tiles of {smallest} pixels fit; close other programs, or compute on the CPU with "
            "--gpu_ids -1."
        )

    def _translate(self, source: Tensor) -> Tensor:
        with autocast(self._precision, self._device):
            output = self._model.infer(source.to(self._device))
        return output.float().clamp(-1, 1).cpu()


def add_upsampled(source: Tensor, change: Tensor, small: Tensor) -> Tensor:
    """``source`` plus a ``change`` that was computed on ``small``, its reduced copy.

    Along edges of the picture the change follows the picture: it is fitted as a linear function of the luma in each
    neighborhood of the small copy (He et al., Fast Guided Filter, 2015), and these functions are what is enlarged.

    Args:
        source: [N, C, H, W] in [-1, 1].
        change, small: [N, C, h, w].

    Returns:
        [N, C, H, W], clamped to [-1, 1].
    """
    size = source.shape[-2:]
    guide, small_guide = _guide(source), _guide(small)
    mean = box_mean(small_guide)
    variance = box_mean(small_guide.square()) - mean.square()
    result = torch.empty_like(source)
    for channel in range(source.shape[1]):  # one at a time, which takes the memory of few planes
        plane = change[:, channel : channel + 1]
        slope = (box_mean(small_guide * plane) - mean * box_mean(plane)) / (variance + GUIDE_EPSILON)
        offset = box_mean(box_mean(plane) - slope * mean)
        enlarged = F.interpolate(box_mean(slope), size=size, mode="bilinear").mul_(guide)
        enlarged += F.interpolate(offset, size=size, mode="bilinear")
        enlarged += source[:, channel : channel + 1]
        result[:, channel : channel + 1] = enlarged.clamp_(-1, 1)
    return result


def _guide(images: Tensor) -> Tensor:
    """The luma, with less memory than :func:`util.pixels.luma` needs."""
    if images.shape[1] != COLOR_CHANNELS:
        return images[:, :1]
    guide = images[:, :1] * LUMA[0]
    for channel in (1, 2):
        guide.add_(images[:, channel : channel + 1], alpha=LUMA[channel])
    return guide


def box_mean(x: Tensor, radius: int = GUIDE_RADIUS) -> Tensor:
    """The mean over squares of ``2 * radius + 1`` pixels, of which those outside of the image do not count."""
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


@dataclass(frozen=True)
class Tiling:
    """Squares of ``tile`` pixels that share at least ``overlap`` pixels and start at multiples of ``stride``."""

    tile: int
    overlap: int
    stride: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for tiles that would not advance."""
        if self.tile % self.stride or not 0 <= self.overlap <= self.tile - self.stride:
            raise ValueError(f"tiles of {self.tile} with overlap {self.overlap} do not fit stride {self.stride}")

    def spans(self, size: int) -> list[Span]:
        """Where the tiles lie along an axis of ``size`` pixels, spread evenly; a single one if the axis is short.

        The distance of two starts is a multiple of ``stride``, as what a network with that stride computes only then
        is the same in every tile.
        """
        if size <= self.tile:
            return [(0, size)]
        farthest = (self.tile - self.overlap) // self.stride * self.stride
        rest = size - self.tile
        steps = -(-rest // farthest)
        starts = (round_up(-(-i * rest // steps), self.stride) for i in range(steps + 1))
        return [(start, min(start + self.tile, size)) for start in starts]

    def parts(self, images: Tensor) -> Iterator[Tensor]:
        """Cut images [N, C, H, W] into equal parts no larger than a tile, which share nothing."""
        rows, columns = (self._divided(size) for size in images.shape[-2:])
        return (images[..., top:bottom, left:right] for top, bottom in rows for left, right in columns)

    def _divided(self, size: int) -> list[Span]:
        length = round_up(-(-size // -(-size // self.tile)), self.stride)
        return [(start, min(start + length, size)) for start in range(0, size, length)]


def choose_tiling(tile: int, overlap: int, stride: int) -> Tiling:
    """The tiling that ``--tile`` and ``--tile_overlap`` ask for, with tiles rounded down to whole strides.

    Raises:
        UserError: tiles too small for a network of this stride, or an overlap above half a tile.
    """
    smallest = smallest_tile(stride)
    if tile < smallest:
        raise UserError(
            f"--tile {tile}: this network halves the resolution down to 1/{stride}, so tiles need at least "
            f"{smallest} pixels a side; raise it."
        )
    rounded = tile // stride * stride
    if overlap > rounded // 2:
        raise UserError(
            f"--tile_overlap {overlap}: is more than half of a tile ({rounded} pixels); lower it or raise --tile."
        )
    return Tiling(rounded, overlap, stride)


def smallest_tile(stride: int) -> int:
    """Pixels a side that a tile needs at least for a network that reduces the resolution to 1/``stride``."""
    return round_up(max(SMALLEST_TILE, STRIDES_PER_TILE * stride), stride)


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is not below ``number``."""
    return -(-number // multiple) * multiple


def blend_weights(spans: Sequence[Span]) -> list[Tensor]:
    """How much each tile counts at each of its pixels along one axis: float64, adding up to one at every pixel.

    Where two tiles overlap, one fades out as the other fades in, by sin² and cos² of an angle that turns by 90°
    over the overlap. So a tile counts least where it is cut, where the network had to guess what lies beyond.
    """
    windows = [torch.ones(stop - start, dtype=torch.float64) for start, stop in spans]
    for left, right in zip(range(len(spans) - 1), range(1, len(spans)), strict=True):
        shared = spans[left][1] - spans[right][0]
        if shared == 0:
            continue
        rise = torch.sin((torch.arange(shared, dtype=torch.float64) + 0.5) * (math.pi / 2 / shared)).square()
        windows[right][:shared] *= rise
        windows[left][-shared:] *= 1 - rise
    total = torch.zeros(spans[-1][1], dtype=torch.float64)
    for (start, stop), window in zip(spans, windows, strict=True):
        total[start:stop] += window
    # Even spreading can make a third tile reach into an overlap, so the sum is not one by construction.
    return [window / total[start:stop] for (start, stop), window in zip(spans, windows, strict=True)]


def in_tiles(source: Tensor, translate: Callable[[Tensor], Tensor], tiling: Tiling) -> Tensor:
    """Translate images [N, C, H, W] tile by tile; ``translate`` must keep height and width.

    The result is a weighted mean of the tiles' results with weights that vary smoothly: for a ``translate`` that
    looks at single pixels only, the same as translating the whole image.

    Returns:
        [N, C', H, W] float32 on the device of ``translate``'s results.
    """
    rows, columns = (tiling.spans(size) for size in source.shape[-2:])
    row_weights, column_weights = blend_weights(rows), blend_weights(columns)
    blended: Tensor | None = None
    for (top, bottom), row_weight in zip(rows, row_weights, strict=True):
        for (left, right), column_weight in zip(columns, column_weights, strict=True):
            result = translate(source[..., top:bottom, left:right])
            if blended is None:
                shape = (*result.shape[:2], *source.shape[-2:])
                blended = torch.zeros(shape, dtype=torch.float32, device=result.device)
            weight = torch.outer(row_weight, column_weight).to(result)
            blended[..., top:bottom, left:right] += result * weight
    assert blended is not None  # every axis has at least one tile
    return blended


@dataclass
class _Moments:
    """Sums over the tiles seen: of pixels, values and squared values, [N, C, 1, 1] in float64 on the CPU."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, features: Tensor) -> None:
        """Count features [N, C, H, W]."""
        variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0, keepdim=True)
        variance, mean = variance.cpu().double(), mean.cpu().double()
        pixels = features.shape[2] * features.shape[3]
        self.count += pixels
        self.total = self.total + mean * pixels
        self.squares = self.squares + (variance + mean.square()) * pixels

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


class SharedStatistics:
    """Means and variances of what goes into instance norms and global average pools, gathered over several inputs.

        with statistics.gathered():
            for tile in tiles: network(tile)      # results are of no interest
        with statistics.imposed():
            for tile in tiles: network(tile)      # normalized alike

    What a layer gathers still depends on how earlier ones treat each tile alone, so imposing does not give the result
    of the whole image exactly; docs/derain.md says how near it comes. A layer must run once in a pass.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self._layers = [
            module for network in networks for module in network.modules() if _is_norm(module) or _is_mean(module)
        ]
        self._moments: dict[nn.Module, _Moments] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to share."""
        return bool(self._layers)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather from every pass inside, anew."""
        self._moments = {layer: _Moments() for layer in self._layers}
        with self._hooked(self._gather):
            yield

    @contextmanager
    def imposed(self) -> Iterator[None]:
        """Use what was gathered in every pass inside."""
        with self._hooked(self._impose):
            yield

    @contextmanager
    def _hooked(self, hook: Any) -> Iterator[None]:
        handles = [layer.register_forward_hook(hook) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _gather(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._moments[layer].add(inputs[0])

    def _impose(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        mean, variance = self._moments[layer].mean_and_variance()
        return _normed(layer, mean, variance, inputs[0], output) if _is_norm(layer) else mean.to(output)


def _is_norm(layer: nn.Module) -> TypeGuard[nn.InstanceNorm2d]:
    return isinstance(layer, nn.InstanceNorm2d) and (layer.training or not layer.track_running_stats)


def _is_mean(layer: nn.Module) -> bool:
    return isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1))


def _normed(norm: nn.InstanceNorm2d, mean: Tensor, variance: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """``x`` as ``norm`` gives it with this mean and variance, in the type and on the device of ``output``."""
    scale = (variance + norm.eps).rsqrt()
    shift = -mean * scale
    if norm.affine:
        weight, bias = (part.detach().cpu().double().view(1, -1, 1, 1) for part in (norm.weight, norm.bias))
        scale, shift = scale * weight, shift * weight + bias
    return (
        (x.float() * scale.to(output.device, torch.float32))
        .add_(shift.to(output.device, torch.float32))
        .to(output.dtype)
    )
