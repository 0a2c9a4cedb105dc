"""A trained model applied to images: whole, or in tiles where the memory is too small for that."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor, nn

from util.engine.oom import is_out_of_memory
from util.engine.precision import autocast
from util.engine.shared_statistics import SharedStatistics
from util.engine.tiling import Tiling, choose_tiling, in_tiles, round_up, smallest_tile
from util.errors import UserError
from util.kernels import accelerate

logger = logging.getLogger(__name__)

DEFAULT_OVERLAP = 64  # pixels that tiles share
NO_TILES = 0


class Translatable(Protocol):
    """What translating needs of a model."""

    nets: dict[str, nn.Module]

    def infer(self, source: Tensor) -> Tensor: ...


class Translator:
    """Images [N, C, H, W] in [-1, 1] on the CPU → the model's translation of them, likewise.

    Where the memory does not hold a batch, its images are translated one by one; where it does not hold an image,
    the image is translated in tiles, as large as possible in steps of one half. One logged line tells each, and
    what was found out counts for the images that follow. Tiles of an image share the statistics of instance norm.

    Args:
        evaluation_mode: False keeps dropout and batch statistics as in training.
        tile: side in pixels of the tiles that larger images are translated in; 0 = whole images if possible.
        overlap: pixels that neighbouring tiles share.

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
        tile: int = NO_TILES,
        overlap: int = DEFAULT_OVERLAP,
    ) -> None:
        self._model, self._device, self._precision = model, device, precision
        for network in model.nets.values():
            network.to(device).train(not evaluation_mode)
        accelerate(model.nets.values(), device)
        self._stride = max((int(getattr(network, "stride", 1)) for network in model.nets.values()), default=1)
        self._statistics = SharedStatistics(model.nets.values())
        self._overlap = overlap
        self._one_by_one = False
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
        if len(source) > 1 and self._one_by_one:
            return torch.cat([self(image) for image in source.split(1)])
        height, width = source.shape[-2:]
        fits = self._too_many_pixels is None or height * width < self._too_many_pixels
        result = self._attempt(source, None if fits else self._tiling)
        if result is not None:
            return result
        if len(source) == 1:
            return self._in_ever_smaller_tiles(source)
        logger.warning("out of memory with %d images at once: going on one by one (--batch_size 1)", len(source))
        self._one_by_one = True
        return self(source)

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
        """First learn how the whole image is to be normalised, then translate."""
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
