"""From a file to upright pixels, with Pillow: one rule for each kind of image, for training, tests and results alike.

Pillow has no mode for 16 bits of more than one channel and keeps the upper bytes of such files. So they are
decoded twice, the second time with the bytes of every value in the other order, which gives the lower bytes.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin, UnidentifiedImageError

from util.errors import UserError
from util.files import attempts
from util.pictures.metadata import QUARTER_TURNS, Source, fitting_icc, orientation_in, read_metadata
from util.pictures.picture import ALPHA_FORMATS, SUFFIXES, Metadata, Picture
from util.pictures.png import without_large_texts
from util.pixels import to_eight_bit

T = TypeVar("T")
Size = tuple[int, int]
"""Width and height in pixels, in Pillow's order."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of each EXIF orientation upright."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""

SAME_KIND = {"MPO": "JPEG", "DIB": "BMP"}  # Pillow's names for variants
DEEP_GRAY = ("I;16", "I;16B", "I;16L", "I;16N")
WIDE_16_BIT_FORMATS = ("PNG", "PPM")  # whose mode I is 16 bits in 32
MAX_16_BIT = 65535
OTHER_ORDER = "B" if sys.byteorder == "little" else "L"
LOWER_BYTES = {  # the raw mode that takes the lower bytes where the key takes the upper ones
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBA", "RGBX")
    for order, other in (("L", "B"), ("B", "L"), ("N", OTHER_ORDER))
}
DEEP_GRAY_ALPHA = "LA;16B"  # 4 bytes a pixel, which the raw mode RGBA takes as they are
PREMULTIPLIED_16_BIT = "RGBa;16"
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLES, TIFF_PLANES, TIFF_EXTRA = 258, 262, 277, 284, 338
TIFF_UNSPECIFIED = 0  # an extra channel that is no alpha
MOST_CHANNELS = 4
TIFF_WHITE_IS_ZERO, TIFF_SEPARATE_PLANES = 0, 2
PALETTE_MODES = ("P", "PA")
PLAIN_MODES = {"1": "L", "RGBX": "RGB", "YCbCr": "RGB", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}

TOO_MUCH_TEXT = "MAX_TEXT"  # in what Pillow says of texts and profiles of a PNG that are too large decompressed
MAGIC = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"BM": "BMP"}
READ = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "DIB", "JPEG2000", "AVIF")


class UnreadablePicture(UserError):
    """A file that is no image, a broken one, or one whose pixels have no defined reading."""

    def __init__(self, path: Path, reason: str, *further: int, in_file: bool = True) -> None:
        """``reason`` says in a few words what is wrong with the file, or without ``in_file`` with the drive."""
        super().__init__(path, reason, *further)
        self.path, self.reason, self.in_file = path, reason, in_file

    def __str__(self) -> str:
        """The sentence for the user."""
        return f"'{self.path}' cannot be read as an image ({self.reason}){self.advice('repair, convert or remove it')}."

    def advice(self, usual: str) -> str:
        """What to do: ``usual``, unless the reason says it, or lies in the drive and not in the file."""
        return f"; {usual}" if self.in_file and ";" not in self.reason else ""


class UndefinedPixels(ValueError):
    """A sound file whose values have no defined reading."""


class NoFile(ValueError):
    """A folder, a pipe or a device."""


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that are read, by Pillow's names, as far as this Pillow has them.

    Not all that Pillow knows: some of its readers start other programs, such as Ghostscript for PostScript, or are for
    files that nobody keeps photographs in.
    """
    Image.init()
    return tuple(name for name in READ if name in Image.OPEN)


def require_file(path: Path) -> None:
    """Refuse what is there but no file: opening a pipe that nobody writes to would wait for ever.

    Raises:
        NoFile: says so.
    """
    if path.exists() and not path.is_file():
        raise NoFile("it is a folder" if path.is_dir() else "it is a pipe or a device, not a file")


class _Raster(NamedTuple):
    """Upright pixels: an image of mode L, LA, RGB or RGBA, or a uint16 array [H, W, 1…4] where there are 16 bits."""

    pixels: Image.Image | np.ndarray
    metadata: Metadata
    format: str
    notes: list[str]


def read_picture(path: Path) -> Picture:
    """Read one picture with everything that writing the same kind of file again needs.

    Raises:
        UnreadablePicture: missing, empty, truncated, no image, more pixels than Pillow accepts as safe, or
            values without a known range (floating point, 32-bit integers).
    """
    raster = guarded(path, lambda source: _decode(source, whole=True))
    values = np.asarray(raster.pixels)
    values = values[..., None] if values.ndim == 2 else values
    has_alpha = values.shape[2] % 2 == 0
    alpha = np.array(values[..., -1]) if has_alpha else None
    pixels = np.array(values[..., :-1] if has_alpha else values)
    name = SAME_KIND.get(raster.format, raster.format)
    if name == "BMP" and alpha is not None and not alpha.any():
        has_alpha, alpha = False, None  # unused bytes, which no program means as an invisible picture
    if name not in SUFFIXES or (has_alpha and name not in ALPHA_FORMATS):
        raster.notes.append(f"{name} is written as PNG")
        name = "PNG"
    metadata = replace(raster.metadata, icc=fitting_icc(raster.metadata.icc, pixels.shape[2]))
    suffix = path.suffix if path.suffix.lower() in SUFFIXES[name] else SUFFIXES[name][0]
    return Picture(pixels, alpha, name, suffix, metadata, tuple(raster.notes))


def read_eight_bit(path: Path, channels: int = 3) -> Image.Image:
    """Read the pixels alone, at 8 bit, without alpha: as :func:`read_picture` defines them, and faster.

    Returns:
        An image of mode ``L`` (one channel, BT.601 luma of color) or ``RGB`` (three).

    Raises:
        UnreadablePicture: as for :func:`read_picture`.
    """
    pixels = guarded(path, lambda source: _decode(source, whole=False)).pixels
    if isinstance(pixels, np.ndarray):
        colors = to_eight_bit(pixels[..., :-1] if pixels.shape[2] % 2 == 0 else pixels)
        pixels = Image.fromarray(np.ascontiguousarray(colors[..., 0] if colors.shape[2] == 1 else colors))
    return pixels if pixels.mode == MODES[channels] else pixels.convert(MODES[channels])


def picture_size(path: Path) -> Size:
    """Upright width and height of an image, from its header alone.

    Raises:
        UnreadablePicture: the file cannot be opened as an image.
    """
    return guarded(path, _header_size)


def _header_size(source: Source) -> Size:
    with Image.open(source, formats=formats()) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # whose size is upright already in newer Pillows
            width = image.tag_v2[TiffImagePlugin.IMAGEWIDTH]
            height = image.tag_v2[TiffImagePlugin.IMAGELENGTH]
        return (height, width) if _orientation(image) in QUARTER_TURNS else (width, height)


def _orientation(image: Image.Image) -> int:
    return orientation_in(image.info, image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else None)


def _decode(source: Source, *, whole: bool) -> _Raster:
    """Decode one file; only with ``whole`` are metadata and transparency looked at."""
    with Image.open(source, formats=formats()) as image:
        raw_mode = _raw_mode(image)
        _check(image, raw_mode)
        notes = _losses(image) if whole else []
        if isinstance(source, io.BytesIO):
            notes.append("texts or profiles above 1 MB are left out")
        kind = image.format or ""
        if raw_mode == DEEP_GRAY_ALPHA:
            _set_raw_mode(image, "RGBA")
        # Newer Pillows turn a TIFF upright while they decode it; a PNG's EXIF may come after its pixels.
        before = _orientation(image) if image.format == "TIFF" else 1
        image.load()
        orientation = _orientation(image)
        metadata = read_metadata(image, source, max(before, orientation)) if whole else Metadata()
        upright = image.transpose(TURNS[orientation]) if orientation in TURNS else image
        key = image.info.get("transparency") if whole else None
        pixels: Image.Image | np.ndarray
        if raw_mode in LOWER_BYTES:
            pixels = _with_key(_joined(np.asarray(upright), _lower_bytes(source, LOWER_BYTES[raw_mode])), key)
        elif raw_mode == DEEP_GRAY_ALPHA:
            pair = np.asarray(upright)
            pixels = _joined(pair[..., 0::2], pair[..., 1::2])
        elif image.mode in DEEP_GRAY or image.mode == "I":
            white_is_zero = image.format == "TIFF" and _tiff_tag(image, TIFF_PHOTOMETRIC) == TIFF_WHITE_IS_ZERO
            pixels = _with_key(_deep_gray(np.asarray(upright), white_is_zero=white_is_zero), key)
        else:
            pixels = _eight_bit(upright, raw_mode, key, notes)
        return _Raster(pixels, metadata, kind, notes)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the first block of pixels is stored, in Pillow's words; empty where Pillow does not say."""
    if not image.tile:
        return ""
    arguments = image.tile[0].args
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _set_raw_mode(image: ImageFile.ImageFile, raw_mode: str) -> None:
    image.tile = [
        block._replace(args=(raw_mode, *block.args[1:]) if isinstance(block.args, tuple) else raw_mode)
        for block in image.tile
    ]


def _check(image: Image.Image, raw_mode: str) -> None:
    """Refuse pixels without a defined reading.

    Raises:
        UndefinedPixels: says what they are and what to do.
    """
    if image.mode == "F":
        raise UndefinedPixels("floating-point pixels have no known range; save it with 8 or 16 bit per channel")
    if image.mode == "I" and image.format not in WIDE_16_BIT_FORMATS:
        raise UndefinedPixels("32-bit or signed integers have no known range; save it with 8 or 16 bit per channel")
    if image.mode in ("LAB", "HSV"):
        raise UndefinedPixels(f"its colors are {image.mode}; save it as RGB")
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    bits = image.tag_v2.get(TIFF_BITS, (1,))
    if image.tag_v2.get(TIFF_SAMPLES, 1) > MOST_CHANNELS:
        raise UndefinedPixels(
            f"it has {image.tag_v2[TIFF_SAMPLES]} channels; save it as gray or RGB, with or without alpha"
        )
    if max(bits) not in (1, 2, 4, 8, 16):
        raise UndefinedPixels(f"it has {max(bits)} bits per channel; save it with 8 or 16")
    if max(bits) == 16 and image.mode != "CMYK":
        if image.tag_v2.get(TIFF_PLANES) == TIFF_SEPARATE_PLANES and len(bits) > 1:
            raise UndefinedPixels("its 16-bit channels lie in separate planes; save it with interleaved channels")
        if raw_mode.startswith(PREMULTIPLIED_16_BIT):
            raise UndefinedPixels("its 16-bit colors are multiplied with alpha; save it with unassociated alpha")


def _losses(image: ImageFile.ImageFile) -> list[str]:
    """What of an opened file is not even read."""
    losses = []
    count = int(getattr(image, "n_frames", 1))
    if count > 1:
        losses.append(f"only the first of {count} frames is used")
    if isinstance(image, TiffImagePlugin.TiffImageFile) and TIFF_UNSPECIFIED in image.tag_v2.get(TIFF_EXTRA, ()):
        losses.append("its last channel is left out, because the file does not say that it is alpha")
    arguments = image.tile[0].args if image.tile else None
    maximum = arguments[-1] if image.format == "PPM" and isinstance(arguments, tuple) else 0
    if image.mode == "RGB" and isinstance(maximum, int) and maximum > np.iinfo(np.uint8).max:
        losses.append("its colors are read at 8 bit")
    return losses


def _lower_bytes(source: Source, raw_mode: str) -> np.ndarray:
    with Image.open(source, formats=formats()) as image:
        _set_raw_mode(image, raw_mode)
        image.load()
        orientation = _orientation(image)
        return np.asarray(image.transpose(TURNS[orientation]) if orientation in TURNS else image)


def _joined(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    return (upper.astype(np.uint16) << 8) | lower


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    return image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def _deep_gray(values: np.ndarray, *, white_is_zero: bool) -> np.ndarray:
    if values.min() < 0 or values.max() > MAX_16_BIT:
        raise UndefinedPixels("its integer values exceed 16 bit; save it with 8 or 16 bit per channel")
    values = values.astype(np.uint16)[..., None]
    return MAX_16_BIT - values if white_is_zero else values


def _with_key(values: np.ndarray, key: Any) -> np.ndarray:
    """``values`` [H, W, 1 or 3] with an alpha of 0 where they are the one transparent color ``key``."""
    if not isinstance(key, (int, tuple)):
        return values
    opaque = (values != np.asarray(key)).any(axis=2, keepdims=True)
    return np.concatenate([values, opaque.astype(values.dtype) * values.dtype.type(np.iinfo(values.dtype).max)], axis=2)


def _eight_bit(image: Image.Image, raw_mode: str, key: Any, notes: list[str]) -> Image.Image:
    """An 8-bit image of mode L, LA, RGB or RGBA of an upright image of any mode that :func:`_check` lets pass."""
    if image.mode in PALETTE_MODES:
        notes.append("its palette becomes RGB")
        return image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    if image.mode == "CMYK":
        notes.append("CMYK becomes sRGB")
        return _srgb(image)
    plain = image.convert(PLAIN_MODES[image.mode]) if image.mode in PLAIN_MODES else image
    if key is None or plain.mode not in ("L", "RGB"):
        return plain
    if isinstance(key, int) and raw_mode in ("L;2", "L;4"):  # Pillow scales the pixels but not the key
        key = key * 255 // (2 ** int(raw_mode[-1]) - 1)
    values = np.asarray(plain)
    return Image.fromarray(_with_key(values[..., None] if values.ndim == 2 else values, key))


def _srgb(image: Image.Image) -> Image.Image:
    """A CMYK image in sRGB: by its own profile, or as plain inks where it has none or a broken one."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, ImportError, OSError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def guarded(path: Path, read: Callable[[Source], T]) -> T:
    """Return ``read(path)``; whatever it raises becomes an :class:`UnreadablePicture` that says why.

    If it is only texts or profiles of a PNG that are too large, ``read`` gets the content without them.
    """
    try:
        require_file(path)
        try:
            for attempt in attempts():
                with attempt:
                    return read(path)
            raise AssertionError("the last attempt returns or raises")
        except ValueError as error:
            if TOO_MUCH_TEXT not in str(error):
                raise
            return read(io.BytesIO(without_large_texts(path.read_bytes())))
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        in_file = not (isinstance(error, OSError) and error.errno)
        raise UnreadablePicture(path, _reason(path, error), in_file=in_file) from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "it has more pixels than Pillow accepts as safe; cut it into smaller images"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(4)
        if not start:
            return "the file is empty"
        kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
        if kind == "TIFF":
            return "the TIFF file is damaged or of an unsupported kind; save it as gray or RGB of 8 or 16 bit integers"
        if kind:
            return f"the {kind} file is damaged, or of a kind that Pillow does not read"
        return "its content is no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, (UndefinedPixels, NoFile)):
        return str(error)
    return f"it is damaged: {str(error).rstrip('.') or type(error).__name__}"
