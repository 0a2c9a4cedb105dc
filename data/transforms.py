"""From an image file's content to the network's tensor: cut, resize, crop, flip, scale to [-1, 1].

Transforms are frozen dataclasses, so they pickle; chance comes in from outside as a :class:`Placement`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data.files import ImageFile, Part
from util.errors import UserError
from util.pictures import MODES, Size
from util.pixels import to_tensor as pixels_to_tensor

PREPROCESS = ("resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "none")
CROPS_AFTER_RESIZING = ("resize_and_crop", "scale_width_and_crop")
TRAINING_MULTIPLE = 4  # resnet generators halve the resolution twice; the other families pad what they get
GAMMA = 2.2  # of 8-bit images: values are light ** (1 / GAMMA)


Pixels = NDArray[np.uint8]
"""[H, W, C] with one channel (gray) or three (RGB)."""


def cut(image: Image.Image, part: Part) -> Image.Image:
    """The image that is this part of a file's content; see :class:`data.files.ImageFile`."""
    if part == "whole":
        return image
    width = image.width // 2
    left = 0 if part == "left" else image.width - width
    return image.crop((left, 0, left + width, image.height))


def to_pixels(image: Image.Image, channels: int = 3) -> Pixels:
    """The pixels of an 8-bit image."""
    mode = MODES[channels]
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(image.height, image.width, channels)


def to_tensor(image: Image.Image, channels: int = 3) -> torch.Tensor:
    """Float32 tensor [C, H, W] in [-1, 1] of an 8-bit image."""
    return pixels_to_tensor(to_pixels(image, channels))


@dataclass(frozen=True)
class Placement:
    """Where a crop lies, as fractions in [0, 1) of the free space, whether the image is mirrored, and how it is lit.

    Free of any size, so that one placement crops two equally large images alike. ``exposure`` is between -1 and 1, the
    darkest and the brightest that the transform makes; 0 changes nothing.
    """

    across: float
    down: float
    flip: bool
    exposure: float = 0.0

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Placement:
        """A uniformly random placement; always takes three numbers from ``generator``, and a child of it for light."""
        across, down, side = generator.random(3)
        (light,) = generator.spawn(1)
        return cls(float(across), float(down), bool(side < 0.5), light.uniform(-1, 1))


@dataclass(frozen=True)
class _Resizing:
    """The first half of ``--preprocess``, shared by training and test."""

    preprocess: str = "resize_and_crop"
    load_size: int = 286

    def __post_init__(self) -> None:
        if self.preprocess not in PREPROCESS:
            raise ValueError(f"preprocess is {self.preprocess!r}, not one of {PREPROCESS}")

    def resized(self, size: Size) -> Size:
        """Size after resizing: ``load_size`` squared, or as wide as ``load_size`` at the same aspect ratio."""
        if self.preprocess == "resize_and_crop":
            return (self.load_size, self.load_size)
        if self.preprocess.startswith("scale_width"):
            width, height = size
            return (self.load_size, max(1, round(self.load_size * height / width)))
        return size

    def resize(self, image: Image.Image) -> Image.Image:
        """The image at :meth:`resized` size, bicubic with antialiasing."""
        size = self.resized(image.size)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class TrainingTransform(_Resizing):
    """Resize, crop and flip for training.

    ==================== ======================================= ===========================
    ``preprocess``       resize (bicubic)                        crop
    ==================== ======================================= ===========================
    resize_and_crop      to ``load_size`` × ``load_size``        random, ``crop_size`` square
    crop                 no                                      random, ``crop_size`` square
    scale_width          to width ``load_size``, aspect kept     center, multiple of 4
    scale_width_and_crop to width ``load_size``, aspect kept     random, ``crop_size`` square
    none                 no                                      center, multiple of 4
    ==================== ======================================= ===========================

    The crop to a multiple of 4 costs at most 3 pixels a side and makes a generator's output as large as its
    input, which the losses compare; CycleGAN resizes instead and so changes every pixel.
    ``flip`` mirrors half of the images. ``exposure`` lights each as if the camera had taken up to so many stops more
    or less: of the light, which is a power of the values, a stop is twice. What becomes brighter than white is white.

    Raises:
        ValueError: an unknown ``preprocess``, or ``load_size`` below ``crop_size`` where both are used; the
            options are checked for that before.
    """

    crop_size: int = 256
    flip: bool = True
    exposure: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preprocess in CROPS_AFTER_RESIZING and self.load_size < self.crop_size:
            raise ValueError(f"load_size {self.load_size} is below crop_size {self.crop_size}")

    @property
    def crops(self) -> bool:
        """Whether a random crop is taken, which gives all images the same size."""
        return self.preprocess.endswith("crop")

    def output_size(self, size: Size) -> Size | None:
        """Width and height after the transform, or None if the image is too small for the crop."""
        width, height = self.resized(size)
        if self.crops:
            return (self.crop_size, self.crop_size) if min(width, height) >= self.crop_size else None
        width, height = (side - side % TRAINING_MULTIPLE for side in (width, height))
        return (width, height) if min(width, height) > 0 else None

    def __call__(
        self, image: Image.Image, placement: Placement, channels: int = 3, *, what: str = "an image"
    ) -> torch.Tensor:
        """Float32 tensor [channels, H, W] in [-1, 1]; ``what`` names the image in an error.

        Raises:
            UserError: the image is smaller than the crop.
        """
        return self.to_tensor(self.crop(self.prepare(image, channels, what=what), placement), placement)

    def prepare(self, image: Image.Image, channels: int = 3, *, what: str = "an image") -> Pixels:
        """The part without chance, worth keeping: the resized image, uint8 [H, W, channels].

        Raises:
            UserError: the image is smaller than the crop.
        """
        if self.output_size(image.size) is None:
            raise self.too_small(what, image.size)
        return to_pixels(self.resize(image), channels)

    def crop(self, pixels: Pixels, placement: Placement) -> Pixels:
        """The part of a prepared image that the placement names, uint8 [H, W, C], perhaps mirrored."""
        height, width, _ = pixels.shape
        if self.crops:
            crop_width = crop_height = self.crop_size
            left = int(placement.across * (width - crop_width + 1))
            top = int(placement.down * (height - crop_height + 1))
        else:
            crop_width, crop_height = (side - side % TRAINING_MULTIPLE for side in (width, height))
            left, top = (width - crop_width) // 2, (height - crop_height) // 2
        cropped = pixels[top : top + crop_height, left : left + crop_width]
        return cropped[:, ::-1] if self.flip and placement.flip else cropped

    def to_tensor(self, crop: Pixels, placement: Placement) -> torch.Tensor:
        """Float32 tensor [C, H, W] in [-1, 1] of a crop, lit as the placement says."""
        image = pixels_to_tensor(crop)
        if self.exposure == 0:
            return image
        brighter: float = 2 ** (self.exposure * placement.exposure / GAMMA)
        return ((image + 1) * brighter - 1).clamp(max=1)

    def too_small(self, what: str, size: Size) -> UserError:
        """The error for an image of ``size`` that :meth:`output_size` has no answer for."""
        width, height = self.resized(size)
        scaled = f", {width}×{height} after scaling to --load_size {self.load_size}" if (width, height) != size else ""
        if not self.crops:
            return UserError(
                f"{what} has {size[0]}×{size[1]} pixels{scaled}, "
                f"but --preprocess {self.preprocess} needs at least {TRAINING_MULTIPLE} a side; leave it out."
            )
        return UserError(
            f"{what} has {size[0]}×{size[1]} pixels{scaled}, which is too small for --crop_size {self.crop_size}; "
            "choose a smaller --crop_size, or --preprocess resize_and_crop."
        )

    def check(self, files: Iterable[ImageFile], sizes: dict[Path, Size], *, batch_size: int) -> None:
        """Check, before training, that every image of one domain can be cropped and all can share a batch.

        Raises:
            UserError: names the first file that is too small, or two that differ where a batch needs one size.
        """
        first: tuple[ImageFile, Size] | None = None
        for file in files:
            size = file.size(sizes[file.path])
            output = self.output_size(size)
            if output is None:
                raise self.too_small(f"'{file.path}'", size)
            if first is None:
                first = (file, output)
            elif batch_size > 1 and output != first[1]:
                raise UserError(
                    f"--batch_size {batch_size} needs images of one size, but with --preprocess {self.preprocess} "
                    f"'{first[0].path}' is {first[1][0]}×{first[1][1]} and '{file.path}' {output[0]}×{output[1]}; "
                    "use --batch_size 1, or --preprocess crop or resize_and_crop."
                )


@dataclass(frozen=True)
class WholeImageTransform(_Resizing):
    """The transform of a test: the whole image, never cropped and never flipped.

    Only the resizing half of ``preprocess`` is carried out: ``resize_and_crop`` to ``load_size`` ×
    ``load_size``, ``scale_width`` and ``scale_width_and_crop`` to width ``load_size``; ``none`` (the
    default of a test) and ``crop`` leave the image as it is.
    """

    preprocess: str = "none"

    def __call__(self, image: Image.Image, channels: int = 3) -> torch.Tensor:
        """Float32 tensor [channels, H, W] in [-1, 1]."""
        return to_tensor(self.resize(image), channels)
