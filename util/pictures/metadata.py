"""What a file says about its pixels, brought into the state that fits the upright picture."""

from __future__ import annotations

import contextlib
import io
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, JpegImagePlugin, TiffImagePlugin

from util.pictures.picture import Metadata

Source: TypeAlias = "Path | io.BytesIO"
"""A picture's file, or its content."""

Info: TypeAlias = "dict[str | tuple[int, int], Any]"
"""What Pillow keeps besides the pixels."""

EXIF_PREFIX = b"Exif\0\0"  # before the TIFF structure, in JPEG files and in Pillow's info
XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))([0-9])')
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height

EXIF_ORIENTATION, EXIF_SUB_IFD, EXIF_WIDTH, EXIF_HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
EXIF_SHORT, EXIF_LONG = 3, 4  # types of an entry
EXIF_INTEGERS = {1: "B", EXIF_SHORT: "H", EXIF_LONG: "I", 6: "b", 8: "h", 9: "i"}
ENTRY_BYTES = 12

PNG_SIGNATURE_BYTES = 8
KEPT_CHUNKS = (b"cHRM", b"cICP", b"gAMA", b"sRGB", b"mDCV", b"cLLI", b"pHYs", b"tEXt", b"zTXt", b"iTXt")
RAW_PROFILE = b"Raw profile type"  # how ImageMagick hides EXIF, IPTC and XMP in text
XMP_KEYWORD = b"XML:com.adobe.xmp"
PNG_RAW_EXIF = "Raw profile type exif"

# Of a TIFF's own tags those that describe the photograph, not the layout of the file.
KEPT_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 318, 319, 33432)
TIFF_EXIF, TIFF_GPS, TIFF_COMPRESSION = 34665, 34853, 259
TIFF_UNCOMPRESSED = 1
TIFF_DESCRIPTION = 270
LAYOUT_DESCRIPTIONS = ('{"shape"', "ImageJ=", "<?xml")  # programs' notes of how the file is laid out

SHORTEST_ICC = 128  # bytes of a profile's header
ICC_SPACE = slice(16, 20)  # where it names the color space of the pixels
ICC_SPACES = {1: b"GRAY", 3: b"RGB "}

LOSSY_WEBP_QUALITY = 90  # a WebP file does not tell with what quality it was written
FULL_COLOR = 0  # Pillow's number for JPEG without chroma subsampling


def orientation_in(info: Info, tags: Mapping[int, Any] | None) -> int:
    """EXIF's orientation, 1 … 8, from what Pillow keeps of a file, and of a TIFF from its ``tags``; 1 if there is none.

    Pillow reads, and writes, all of EXIF to turn a picture, which fails for any other odd entry.
    """
    exif = info.get("exif") or _raw_profile_exif(info)
    found: Any = None
    if tags is not None:
        found = tags.get(EXIF_ORIENTATION)
    elif isinstance(exif, bytes):
        found = _exif_orientation(exif)
    if found is None and (said := XMP_ORIENTATION.search(_raw_xmp(info) or b"")):
        found = int(said[2])
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _exif_orientation(exif: bytes) -> int | None:
    """The value of EXIF's entry, whichever integer type it has."""
    found = _first_directory(exif)
    if found is None or EXIF_ORIENTATION not in found[2]:
        return None
    data, order, entries = found
    start = entries[EXIF_ORIENTATION] + 2
    (kind,) = struct.unpack_from(f"{order}H", data, start)
    return int(struct.unpack_from(order + EXIF_INTEGERS.get(kind, "H"), data, start + 6)[0])


def _first_directory(exif: bytes) -> tuple[bytearray, str, dict[int, int]] | None:
    """EXIF without prefix, its byte order and the positions of its first entries; None if it cannot be followed."""
    data = bytearray(exif[len(EXIF_PREFIX) :] if exif.startswith(EXIF_PREFIX) else exif)
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    with contextlib.suppress(struct.error):
        if order is not None:
            return data, order, _entries(data, order, struct.unpack_from(f"{order}I", data, 4)[0])
    return None


def read_metadata(image: Image.Image, source: Source, orientation: int) -> Metadata:
    """The metadata of an opened and decoded image, before it is turned upright from EXIF's ``orientation``.

    What is broken in itself (EXIF that ends too early, a profile that is no profile) is left out.
    """
    info = image.info
    quarter_turn = orientation in QUARTER_TURNS
    exif = info.get("exif")
    chunks = png_chunks(source) if image.format == "PNG" else ()
    if not isinstance(exif, bytes):
        exif = _raw_profile_exif(info) if image.format == "PNG" else None
    return Metadata(
        exif=upright_exif(exif, quarter_turn=quarter_turn) if exif else None,
        icc=info["icc_profile"] if isinstance(info.get("icc_profile"), bytes) else None,
        xmp=_xmp(info),
        dpi=None if image.format == "PNG" else _dpi(info),  # a PNG's is in its chunks
        chunks=tuple(chunks),
        tags=_tiff_tags(image, quarter_turn=quarter_turn) if isinstance(image, TiffImagePlugin.TiffImageFile) else {},
        encoding=_encoding(image, source),
    )


def fitting_icc(profile: bytes | None, channels: int) -> bytes | None:
    """``profile`` if it describes pixels of that many channels (1 or 3), else None."""
    if profile is None or len(profile) < SHORTEST_ICC or profile[ICC_SPACE] != ICC_SPACES[channels]:
        return None
    return profile


def upright_exif(data: bytes, *, quarter_turn: bool = False) -> bytes | None:
    """EXIF of the same picture turned upright: orientation 1, sizes swapped after a quarter turn, no thumbnail.

    Everything else stays byte for byte where it is, because makers' notes refer to places in the whole.

    Args:
        data: a TIFF structure, with or without JPEG's ``Exif`` prefix.

    Returns:
        The TIFF structure without prefix, or None if it cannot be followed.
    """
    found = _first_directory(data)
    if found is None:
        return None
    exif, order, first = found
    try:
        if EXIF_ORIENTATION in first:
            struct.pack_into(f"{order}HIHH", exif, first[EXIF_ORIENTATION] + 2, EXIF_SHORT, 1, 1, 0)
        struct.pack_into(f"{order}I", exif, first[-1], 0)  # the link to the thumbnail
        if quarter_turn and EXIF_SUB_IFD in first:
            start = struct.unpack_from(f"{order}I", exif, first[EXIF_SUB_IFD] + 8)[0]
            _swap(exif, _entries(exif, order, start))
    except struct.error:
        return None
    return bytes(exif)


def _entries(exif: bytearray, order: str, start: int) -> dict[int, int]:
    """Position of each tag's entry in the directory at ``start``; under -1, that of the link to the next one."""
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    end = start + 2 + count * ENTRY_BYTES
    struct.unpack_from(f"{order}I", exif, end)  # fails if the directory is not there
    positions = range(start + 2, end, ENTRY_BYTES)
    return {struct.unpack_from(f"{order}H", exif, position)[0]: position for position in positions} | {-1: end}


def _swap(exif: bytearray, entries: dict[int, int]) -> None:
    if EXIF_WIDTH in entries and EXIF_HEIGHT in entries:
        width, height = (slice(entries[tag] + 2, entries[tag] + ENTRY_BYTES) for tag in (EXIF_WIDTH, EXIF_HEIGHT))
        exif[width], exif[height] = exif[height], exif[width]


def upright_xmp(xmp: bytes) -> bytes:
    """XMP that says orientation 1 where it said another."""
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _xmp(info: Info) -> bytes | None:
    found = _raw_xmp(info)
    return None if found is None else upright_xmp(found)


def _raw_xmp(info: Info) -> bytes | None:
    found = info.get("xmp") or info.get(XMP_KEYWORD.decode())
    if isinstance(found, str):
        found = found.encode("utf-8", errors="surrogateescape")
    return found if isinstance(found, bytes) else None


def _dpi(info: Info) -> tuple[float, float] | None:
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        across, down = (float(value) for value in info["dpi"]) if "dpi" in info else (0.0, 0.0)
        return (across, down) if min(across, down) > 0 else None
    return None


def _raw_profile_exif(info: Info) -> bytes | None:
    with contextlib.suppress(KeyError, ValueError):
        return bytes.fromhex("".join(info[PNG_RAW_EXIF].split("\n")[3:]))
    return None


def png_chunks(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of a PNG's chunks that stay true for other pixels in the same color space."""
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source.getvalue()) as file:
        file.seek(PNG_SIGNATURE_BYTES)
        while len(head := file.read(8)) == len(b"\0\0\0\0IDAT"):
            length, kind = struct.unpack(">I4s", head)
            if kind not in KEPT_CHUNKS:
                file.seek(length + 4, 1)
                continue
            data = file.read(length)
            file.seek(4, 1)
            if not data.startswith((RAW_PROFILE, XMP_KEYWORD)):
                yield kind, data


def _tiff_tags(image: TiffImagePlugin.TiffImageFile, *, quarter_turn: bool) -> dict[int, Any]:
    tags: dict[int, Any] = {tag: image.tag_v2[tag] for tag in KEPT_TAGS if tag in image.tag_v2}
    if str(tags.get(TIFF_DESCRIPTION, "")).startswith(LAYOUT_DESCRIPTIONS):
        del tags[TIFF_DESCRIPTION]
    exif = image.getexif()
    for pointer in (TIFF_EXIF, TIFF_GPS):
        if directory := dict(exif.get_ifd(pointer)):
            tags[pointer] = directory
    directory = tags.get(TIFF_EXIF, {})
    if quarter_turn and EXIF_WIDTH in directory and EXIF_HEIGHT in directory:
        directory[EXIF_WIDTH], directory[EXIF_HEIGHT] = directory[EXIF_HEIGHT], directory[EXIF_WIDTH]
    return tags


def _encoding(image: Image.Image, source: Source) -> dict[str, Any]:
    """Options for Pillow's encoder (for TIFF, of our own) that come near how the file was written."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        sampling = JpegImagePlugin.get_sampling(image)
        found = {
            "qtables": [list(table) for table in image.quantization.values()],
            "subsampling": FULL_COLOR if sampling < 0 else sampling,
            "progressive": bool(image.info.get("progressive")),
        }
        comment = image.info.get("comment")
        return {**found, "comment": comment} if isinstance(comment, bytes) else found
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return {"compressed": image.tag_v2.get(TIFF_COMPRESSION, TIFF_UNCOMPRESSED) != TIFF_UNCOMPRESSED}
    if image.format == "WEBP" and isinstance(source, Path):
        return {"lossless": _lossless_webp(source)}
    return {}


def _lossless_webp(path: Path) -> bool:
    """Whether the first frame of a WebP file is coded without loss."""
    with path.open("rb") as file:
        file.seek(12)  # RIFF, length, WEBP
        while len(head := file.read(8)) == len(b"VP8L\0\0\0\0"):
            kind, length = struct.unpack("<4sI", head)
            if kind in (b"VP8L", b"VP8 "):
                return kind == b"VP8L"
            file.seek(16 if kind == b"ANMF" else length + length % 2, 1)  # a frame's head, or the whole chunk
    return False
