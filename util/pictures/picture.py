"""A picture out of a file: its pixels, its alpha, and what writing the same kind of file again needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from util.pixels import COLOR_CHANNELS, from_tensor, luma, to_eight_bit, to_tensor

if TYPE_CHECKING:
    import torch

SUFFIXES = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pnm"),
}
"""The formats that can be written, by Pillow's name, each with its suffixes; the first is the usual one."""

DEEP_FORMATS = ("PNG", "TIFF")
"""Formats that hold 16 bits of every kind of picture."""

ALPHA_FORMATS = ("PNG", "TIFF", "WEBP")
"""Formats that hold alpha."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its pixels.

    ``exif`` is a TIFF structure (without JPEG's ``Exif`` prefix) whose orientation is upright and whose
    thumbnail, which shows the picture as it was, is gone. ``icc`` is the profile the pixel values are in.
    ``chunks`` are further PNG chunks (type, data), ``tags`` further TIFF tags, ``encoding`` the options of
    Pillow's encoder that come near the original, such as JPEG's quantization tables.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    tags: Mapping[int, Any] = field(default_factory=dict)
    encoding: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a file, upright.

    Attributes:
        pixels: [H, W, C] uint8 or uint16, the full range of the type; C is 1 (gray) or 3 (RGB).
        alpha: [H, W] of the same type, or None; 0 is transparent. Not multiplied into ``pixels``.
        format: Pillow's name of the format that it will be written in, a key of :data:`SUFFIXES`.
        suffix: the suffix for a file of that format, with the dot; the original one where it fits.
        metadata: see :class:`Metadata`.
        notes: what is not kept as it was, one clause each, such as "only the first of 12 frames is used".
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    format: str = "PNG"
    suffix: str = ".png"
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (self.pixels.shape[1], self.pixels.shape[0])

    @property
    def bits(self) -> int:
        """8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (RGB), not counting alpha."""
        return int(self.pixels.shape[2])

    def tensor(self, channels: int | None = None) -> torch.Tensor:
        """Float32 [1, C, H, W] in [-1, 1], from all bits; ``channels`` as the network needs them, else its own.

        Gray is repeated for three channels; one channel of RGB is its BT.601 luma.
        """
        image = to_tensor(self.pixels)[None]
        if channels is None or channels == self.channels:
            return image
        return luma(image) if channels == 1 else image.expand(-1, COLOR_CHANNELS, -1, -1).contiguous()

    def with_tensor(self, output: torch.Tensor) -> Picture:
        """This picture with other pixels; alpha and metadata stay.

        Args:
            output: [1, C, H, W] or [C, H, W] in [-1, 1], of this picture's size. It is clipped and rounded to
                this picture's bit depth. Gray pictures stay gray (BT.601 luma of three channels), and RGB stays RGB.

        Raises:
            ValueError: another size or number of channels.
        """
        image = output if output.ndim == 4 else output[None]
        if image.shape[0] != 1 or image.shape[1] not in (1, 3) or tuple(image.shape[2:]) != self.pixels.shape[:2]:
            raise ValueError(f"expected the output of a {self.size} picture, got shape {tuple(output.shape)}")
        if self.channels == 1 and image.shape[1] != 1:
            image = luma(image)
        pixels = from_tensor(image, self.pixels.dtype)
        return replace(self, pixels=pixels if pixels.shape[2] == self.channels else np.repeat(pixels, 3, axis=2))

    def in_format(self, name: str) -> Picture:
        """The same picture for a file of another format of :data:`SUFFIXES`.

        EXIF, ICC and XMP go along where the format has them. 16 bits are rounded to 8 and alpha is dropped
        where the format cannot hold them, with a note.
        """
        if name == self.format:
            return self
        pixels, alpha, notes = self.pixels, self.alpha, list(self.notes)
        if pixels.dtype == np.uint16 and name not in DEEP_FORMATS:
            pixels, alpha = to_eight_bit(pixels), None if alpha is None else to_eight_bit(alpha)
            notes.append(f"{name} holds 8 bits of its 16")
        if alpha is not None and name not in ALPHA_FORMATS:
            alpha = None
            notes.append(f"{name} holds no alpha")
        metadata = replace(self.metadata, chunks=(), tags={}, encoding={})
        return Picture(pixels, alpha, name, SUFFIXES[name][0], metadata, tuple(notes))
