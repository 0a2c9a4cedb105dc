"""Images of any size for networks that halve the resolution: pad to a multiple, crop back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


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
