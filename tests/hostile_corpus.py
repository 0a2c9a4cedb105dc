"""A corpus of hostile files, made on the fly: more than 400 of them, none stored.

Each is one file (or something that is no file but has a file's name) in a folder of its own, so that names cannot
collide, and says what a program may do with it.
"""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

Make = Callable[[Path], None]
"""Makes the thing at a path; raises OSError where a system does not have such things."""

SIDE = (24, 20)
LONGEST_NAME = 255  # bytes
CUTS = (0, 1, 2, 4, 9, 26, 0.2, 0.5, 0.8, -1)  # what is left: bytes, a share, or all but the last ones
FLIPS = (0.01, 0.05, 0.2, 0.5, 0.8)


@dataclass(frozen=True)
class Hostile:
    """One of them.

    ``name`` is the name of the file, ``kind`` the group it is of. ``picture``: whether it holds a picture that a
    program should take; None where both are right, as with a flipped bit. ``listed``: whether looking through a folder
    finds it at all; what is no file, and what is hidden, is passed over.
    """

    kind: str
    name: str
    make: Make
    picture: bool | None = False
    listed: bool = True


def content(data: bytes) -> Make:
    """A file of these bytes."""

    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def noise(height: int = SIDE[1], width: int = SIDE[0], channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Random values over the whole range of the type."""
    values = np.random.default_rng(5).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: object) -> bytes:
    """A TIFF file of these values."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, data: bytes = b"", depth: int = 8, color: int = 2) -> bytes:
    """A PNG file that announces this size and has these chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(data) if data else b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


PHOTO = Image.fromarray(noise())
PNG = encoded(PHOTO, "PNG")
JPEG = encoded(PHOTO, "JPEG")
ROWS = b"".join(b"\0" + row.tobytes() for row in noise())  # as PNG filters nothing

WHOLE: dict[str, bytes] = {
    "rgb.png": PNG,
    "deep.png": png(*SIDE, data=b"".join(b"\0" + row.tobytes() for row in noise(dtype=np.uint16)), depth=16),
    "photo.jpg": JPEG,
    "progressive.jpeg": encoded(PHOTO, "JPEG", progressive=True),
    "plain.tif": encoded(PHOTO, "TIFF"),
    "packed.tiff": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "photo.bmp": encoded(PHOTO, "BMP"),
    "photo.gif": encoded(PHOTO, "GIF"),
    "lossy.webp": encoded(PHOTO, "WEBP"),
    "lossless.webp": encoded(PHOTO, "WEBP", lossless=True),
    "photo.ppm": encoded(PHOTO, "PPM"),
    "gray.pgm": encoded(PHOTO.convert("L"), "PPM"),
}


def truncated() -> Iterator[Hostile]:
    """Every kind of file, cut off at many places."""
    for name, whole in WHOLE.items():
        for cut in CUTS:
            left = int(len(whole) * cut) if isinstance(cut, float) else cut
            # Without its last byte some a decoder has all the pixels it wants.
            yield Hostile("truncated", name, content(whole[:left]), picture=None if cut == -1 else False)


def flipped() -> Iterator[Hostile]:
    """Every kind of file with one bit flipped."""
    for name, whole in WHOLE.items():
        for place in FLIPS:
            data = bytearray(whole)
            data[int(len(data) * place)] ^= 0x20
            yield Hostile("bit flipped", name, content(bytes(data)), picture=None)


def zipped(name: str = "photo.png") -> bytes:
    """An archive of one picture."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, PNG)
    return buffer.getvalue()


def misnamed() -> Iterator[Hostile]:
    """Files whose names say that they are something else."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 20\n%%EndComments\n(executed) (w) file closefile\n"
    foreign = {
        "text.png": b"this is text, and no picture\n",
        "page.png": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        "not_found.jpg": b"<html><head><title>404 Not Found</title></head></html>",
        "archive.png": zipped(),
        "film.png": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(200),
        "paper.jpg": b"%PDF-1.4\n1 0 obj <</JavaScript (x)>> endobj",
        "encapsulated.png": postscript,
        "of_dos.tif": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(postscript)) + bytes(20) + postscript,
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "billion_laughs.png": b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><l>&b;</l>",
        "program.jpg": b"\x7fELF\x02\x01\x01" + bytes(60),
        "windows.bmp": b"MZ\x90\0" + bytes(60),
        "script.png": b"#!/bin/sh\ntouch executed\n",
        "pickle.png": b"cposix\nsystem\n(S'touch executed'\ntR.",
        "gzip.png": b"\x1f\x8b\x08\0" + bytes(30),
        "zeros.png": bytes(4096),
        "ones.jpg": b"\xff" * 4096,
        "lfs.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "metafile.bmp": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
        "film.tif": b"\0\0\1\xb3" + bytes(60),
        "icon.png": encoded(PHOTO, "ICO"),
        "targa.jpg": encoded(PHOTO, "TGA"),
        "photoshop.png": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 20, 24, 8, 3) + bytes(40),
        "paper_of_ours.png": encoded(PHOTO, "PDF"),
    }
    for name, data in foreign.items():
        yield Hostile("of another kind", name, content(data))
    sound = {"jpeg.png": JPEG, "png.jpg": PNG, "webp.tif": WHOLE["lossy.webp"], "tiff.gif": WHOLE["plain.tif"]}
    for name, data in sound.items():
        yield Hostile("of another kind", name, content(data), picture=True)


def announced() -> Iterator[Hostile]:
    """Headers that promise more, or less, than can be."""
    jpeg_size = JPEG.index(b"\xff\xc0") + 5
    tif = WHOLE["plain.tif"]
    frame = struct.pack("<H", 10)  # a GIF's or BMP's small number
    bombs = {
        "square.png": png(60_000, 60_000),
        "largest.png": png(2**31 - 1, 2**31 - 1),
        "beyond.png": png(2**32 - 1, 2**32 - 1),
        "long.png": png(2**31 - 1, 1),
        "just_legal_and_empty.png": png(13_000, 13_000),
        "nothing.png": png(0, 0),
        "flat.png": png(0, 5),
        "strange_depth.png": png(*SIDE, depth=7),
        "strange_color.png": png(*SIDE, color=9),
        "little_data.png": png(200, 200, data=bytes(10)),
        "text_bomb.png": png(*SIDE, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000), 9)), data=ROWS),
        "no_palette.png": png(*SIDE, data=ROWS, color=3),
        "wide.jpg": JPEG[:jpeg_size] + b"\xff\xff\xff\xff" + JPEG[jpeg_size + 4 :],
        "no_height.jpg": JPEG[:jpeg_size] + b"\0\0\0\x18" + JPEG[jpeg_size + 4 :],
        "wide.gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
        "nothing.gif": b"GIF89a\0\0\0\0\0\0\0;",
        "only_header.gif": b"GIF89a" + frame * 2 + b"\0\0\0;",
        "huge.bmp": WHOLE["photo.bmp"][:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + WHOLE["photo.bmp"][26:],
        "negative.bmp": WHOLE["photo.bmp"][:18] + struct.pack("<ii", -5, -(2**31)) + WHOLE["photo.bmp"][26:],
        "nothing.bmp": WHOLE["photo.bmp"][:18] + struct.pack("<ii", 0, 0) + WHOLE["photo.bmp"][26:],
        "huge.ppm": b"P6 99999999 99999999 255\n\0\0\0",
        "endless_number.ppm": b"P6 " + b"9" * 5000 + b" 1 255\n",
        "no_values.pgm": b"P5 4 4 0\n" + bytes(16),
        "endless_values.pgm": b"P5 4 4 99999999\n" + bytes(64),
        "negative.pgm": b"P5 -4 4 255\n" + bytes(16),
        "comment_without_end.pgm": b"P5 #" + b"x" * 100_000,
        "huge.tif": tif[:4] + struct.pack("<I", 8) + struct.pack("<H", 2) + struct.pack("<HHII", 256, 4, 1, 2**32 - 1)
        + struct.pack("<HHII", 257, 4, 1, 2**32 - 1) + struct.pack("<I", 0),
        "directory_loop.tif": b"II*\0" + struct.pack("<IHI", 8, 0, 8),
        "directory_outside.tif": b"II*\0" + struct.pack("<I", 2**32 - 1),
        "endless_directory.tif": b"II*\0" + struct.pack("<IH", 8, 65_535) + bytes(50),
        "huge_tag.tif": b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 270, 2, 2**32 - 1, 8) + bytes(4),
        "header.webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        "huge.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(30),
    }  # fmt: skip
    for name, data in bombs.items():
        # An oversized text chunk is dropped; the pixels are read.
        yield Hostile("false announcement", name, content(data), picture=name == "text_bomb.png")
    odd = {
        "profile_bomb.png": png(*SIDE, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(70_000_000), 9)), data=ROWS),
        "broken_profile.jpg": encoded(PHOTO, "JPEG", icc_profile=b"no profile"),
        "too_much_data.png": png(*SIDE, data=ROWS + bytes(50_000_000)),
        "transparency_without_end.png": png(*SIDE, chunk(b"tRNS", bytes(5000)), data=ROWS),
        "animation_without_frames.png": png(*SIDE, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), data=ROWS),
        "broken_exif.jpg": encoded(PHOTO, "JPEG", exif=b"Exif\0\0no exif"),
        "exif_loop.jpg": encoded(PHOTO, "JPEG", exif=b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 8)),
        "turned_by_9.jpg": encoded(PHOTO, "JPEG", exif=_orientation(3, 9)),
        "turned_by_text.jpg": encoded(PHOTO, "JPEG", exif=_orientation(2, 65)),
        "turned_by_much.jpg": encoded(PHOTO, "JPEG", exif=_orientation(4, 2**32 - 1)),
        "comment.jpg": JPEG[:2] + b"\xff\xfe\xff\xff" + bytes(65_533) + JPEG[2:],
        "wrong_checksum.png": PNG[:30] + b"\0" + PNG[31:],
        "many_directories.tif": _chain(WHOLE["plain.tif"], 3000),
        "back_to_the_first.tif": _chain(WHOLE["plain.tif"], 0),
    }
    for name, data in odd.items():
        yield Hostile("odd metadata", name, content(data), picture=None)


def _orientation(kind: int, value: int) -> bytes:
    """EXIF with an orientation of this type and value."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 274, kind, 1, value) + struct.pack("<I", 0)


def _chain(whole: bytes, count: int) -> bytes:
    """A TIFF whose directory is followed by ``count`` empty ones, or by itself if 0."""
    first = struct.unpack_from("<I", whole, 4)[0]
    entries = struct.unpack_from("<H", whole, first)[0]
    data, link = bytearray(whole), first + 2 + 12 * entries
    struct.pack_into("<I", data, link, first if count == 0 else len(whole))
    for number in range(count):
        data += struct.pack("<HI", 0, len(whole) + 6 * (number + 1) if number + 1 < count else 0)
    return bytes(data)


def unusual() -> Iterator[Hostile]:
    """Sound files of kinds that one does not expect."""
    rgba = Image.fromarray(np.dstack([noise(), noise(channels=1)]))
    palette, gray = PHOTO.quantize(8), PHOTO.convert("L")
    frames = {"save_all": True, "append_images": [gray.convert("RGB")] * 3, "duration": 100}
    good = {
        "inks.jpg": encoded(PHOTO.convert("CMYK"), "JPEG"),
        "inks.tif": encoded(PHOTO.convert("CMYK"), "TIFF"),
        "deep.png": WHOLE["deep.png"],
        "deep_gray.png": encoded(Image.fromarray(noise(channels=1, dtype=np.uint16)[..., 0]), "PNG"),
        "deep.tif": tiff(noise(dtype=np.uint16), photometric="rgb"),
        "transparent_palette.png": encoded(palette, "PNG", transparency=0),
        "transparent_palette.gif": encoded(palette, "GIF", transparency=0),
        "half_transparent.png": encoded(palette, "PNG", transparency=bytes(range(0, 255, 32))),
        "transparent_color.png": encoded(PHOTO, "PNG", transparency=(1, 2, 3)),
        "with_alpha.png": encoded(rgba, "PNG"),
        "gray_with_alpha.png": encoded(gray.convert("LA"), "PNG"),
        "two_levels.png": encoded(gray.convert("1"), "PNG"),
        "fax.tif": encoded(gray.convert("1"), "TIFF", compression="group4"),
        "brightness_and_color.jpg": encoded(PHOTO.convert("YCbCr"), "JPEG"),
        "animated.gif": encoded(PHOTO, "GIF", **frames),
        "animated.png": encoded(PHOTO, "PNG", **frames),
        "animated.webp": encoded(PHOTO, "WEBP", **frames),
        "pages.tif": encoded(PHOTO, "TIFF", **frames),
        "stereo.jpg": encoded(PHOTO, "MPO", **frames),
        "one_pixel.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "column.png": encoded(Image.new("RGB", (1, 300)), "PNG"),
        "row.jpg": encoded(Image.new("RGB", (300, 1)), "JPEG"),
        "turned.jpg": encoded(PHOTO, "JPEG", exif=_orientation(3, 6)),
        "text_values.ppm": b"P3 2 2 255\n" + b"1 2 3 " * 4,
        "bitmap.pgm": b"P4 8 2\n\xaa\x55",
    }
    for name, data in good.items():
        yield Hostile("unusual", name, content(data), picture=True)
    bad = {
        "floating.tif": tiff(np.zeros((8, 8), np.float32)),
        "signed.tif": tiff(np.zeros((8, 8), np.int32)),
        "many_channels.tif": tiff(np.zeros((8, 8, 7), np.uint8), photometric="minisblack", planarconfig="contig"),
        "laboratory.tif": encoded(PHOTO.convert("LAB"), "TIFF"),
    }
    for name, data in bad.items():
        yield Hostile("unusual", name, content(data))


NAMES = (
    "line\nbreak", "error: all is well.\nerror: fake", "carriage\rreturn", "tab\tulator", "bell\a", "escape\x1b[31mred",
    "\x01\x02", "delete\x7f", "'single'", '"double"', "`touch executed`", "$(touch executed)", "; touch executed",
    "| cat", "a & b", "-rf", "--help", "--input=x", "a..b", "back\\slash", "x\\..\\..\\out", "%2e%2e%2fout",
    "%s%n%d", "{0}{name}", "<script>alert(1)<script>", "&amp;", "con", "nul", "aux.b", "trailing dot.", " leading",
    "trailing ", "C:drive", "*", "?", "[a-z]", "#1", "~", "$HOME", "a=b", "@file", "ünïcödé", "u\u0308",
    "雨", "🌧", "rtl\u202egnp", "zero\u200bwidth", "\ufeffbom", "\u2028line", "x.png", "x.tar.gz", "1e999", "NaN",
)  # fmt: skip


def named() -> Iterator[Hostile]:
    """Good pictures and rubbish under names that nobody should give."""
    undecodable = os.fsdecode(b"undecodable \xff\xfe") if os.name != "nt" else "undecodable"
    longest = "n" * (LONGEST_NAME - len(".png"))
    wide = "雨" * ((LONGEST_NAME - len(".png")) // 3)
    for stem in (*NAMES, undecodable, longest, wide):
        yield Hostile("named", f"{stem}.png", content(PNG), picture=True)
        yield Hostile("named", f"{stem}.png", content(b"rubbish"))
    for name in ("UPPER.PNG", "Mixed.JpEg"):
        yield Hostile("named", name, content(PNG), picture=True)
    for name in (".png", ".hidden.png", ".. out.png", "...png", "no_extension", "png", "x.png ", "x.png\n"):
        yield Hostile("named", name, content(PNG), picture=True, listed=False)
    yield Hostile("named", longest[:-1] + ".jpeg", content(JPEG), picture=True)
    yield Hostile("named", longest[:-1] + ".tiff", content(WHOLE["plain.tif"]), picture=True)
    yield Hostile("named", longest + ".gif", content(WHOLE["photo.gif"]), picture=True)


def _link(target: str) -> Make:
    return lambda path: path.symlink_to(target)


def _fifo(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        raise OSError("no such things here")
    os.mkfifo(path)


def _linked_fifo(path: Path) -> None:
    _fifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def _device(path: Path) -> None:
    if not hasattr(os, "mknod"):
        raise OSError("no such things here")
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def _socket(path: Path) -> None:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("no such things here")
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def _folder_of_pictures(path: Path) -> None:
    path.mkdir()
    (path / "inside.png").write_bytes(PNG)
    (path / "itself.png").symlink_to(".")
    (path / "above").symlink_to("..")


def _link_out(path: Path) -> None:
    outside = path.parents[2] / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "good.png").write_bytes(PNG)
    path.symlink_to(outside / "good.png")


def _two_links(path: Path) -> None:
    path.symlink_to(".other.png")
    path.with_name(".other.png").symlink_to(path.name)


def special() -> Iterator[Hostile]:
    """What is no file, or leads elsewhere."""
    links = {
        "dangling.png": "nowhere.png",
        "itself.png": "itself.png",
        "behind_a_file.png": "/etc/hostname/x",
        "passwords.png": "/etc/passwd",
        "out_of_reach.png": "../../../../../../../../nowhere.png",
        "endless.png": "/dev/zero",
        "noise.png": "/dev/urandom",
        "nothing.png": "/dev/null",
        "console.png": "/dev/stdin",
        "memory.png": "/proc/self/mem",
        "secrets.jpg": "/proc/self/environ",
        "too_long.png": "n" * 4000,
    }
    for name, target in links.items():
        yield Hostile("special", name, _link(target))
    yield Hostile("special", "two_links.png", _two_links)
    yield Hostile("special", "linked_pipe.png", _linked_fifo)
    yield Hostile("special", "out.png", _link_out, picture=True)
    yield Hostile("special", "pipe.png", _fifo, listed=False)
    yield Hostile("special", "device.png", _device, listed=False)
    yield Hostile("special", "socket.png", _socket, listed=False)
    yield Hostile("special", "folder.png", lambda path: path.mkdir(), listed=False)
    yield Hostile("special", "full_folder.png", _folder_of_pictures, picture=True)
    yield Hostile("special", "root.png", _link("/proc/self/task"), picture=False, listed=False)


def corpus() -> list[Hostile]:
    """All of them, always in the same order."""
    groups = (truncated, flipped, misnamed, announced, unusual, named, special)
    return [hostile for group in groups for hostile in group()]


@dataclass(frozen=True)
class Placed:
    """One of them on the disk."""

    hostile: Hostile
    path: Path


def place(folder: Path, what: list[Hostile], *, inside: str = "") -> list[Placed]:
    """Make them below ``folder``, each in a folder of its own (or the one ``inside`` it).

    What this system does not have is left out.
    """
    placed = []
    for number, hostile in enumerate(what):
        path = folder / f"{number:03d}" / inside / hostile.name
        path.parent.mkdir(parents=True)
        try:
            hostile.make(path)
        except (OSError, ValueError):
            continue
        placed.append(Placed(hostile, path))
    return placed
