"""PNG files beyond Pillow: 16 bits of every kind, and chunks as they were in another file (PNG specification, W3C)."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_OF_HEADER = len(SIGNATURE) + 25  # length, type, 13 bytes and checksum of IHDR
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels, alpha included
FILTER_UP = 2
COMPRESSION_LEVEL = 6
TEXTS = (b"zTXt", b"iTXt", b"tEXt", b"iCCP")
LARGEST_TEXT, MOST_TEXT = 1 << 20, 64 << 20  # bytes, of one and of all together, as Pillow accepts them


def encode_16_bit(values: np.ndarray) -> bytes:
    """A PNG file of a uint16 array [H, W, C]: gray, gray and alpha, RGB, or RGB and alpha."""
    height, width, channels = values.shape
    rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])  # bytes wrap around, as the filter wants it
    header = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[channels], 0, 0, 0)
    pixels = zlib.compress(filtered.data, COMPRESSION_LEVEL)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk: length, type, data and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def icc_chunk(profile: bytes) -> bytes:
    """The iCCP chunk of an ICC profile."""
    return chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))


def xmp_chunk(xmp: bytes) -> bytes:
    """The iTXt chunk of an XMP packet, uncompressed."""
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)


def without_large_texts(file: bytes) -> bytes:
    """``file`` without the texts and profiles that become too large when they are decompressed."""
    kept, total = [file[: len(SIGNATURE)]], 0
    start = len(SIGNATURE)
    while start < len(file):
        (length,) = struct.unpack_from(">I", file, start) if start + 8 <= len(file) else (0,)
        end = start + 12 + length
        kind, data = file[start + 4 : start + 8], file[start + 8 : end - 4]
        size = _expanded(kind, data) if kind in TEXTS else 0
        total += size
        if size <= LARGEST_TEXT and total <= MOST_TEXT:
            kept.append(file[start:end])
        start = end
    return b"".join(kept)


def _expanded(kind: bytes, data: bytes) -> int:
    """Bytes that a text or profile takes decompressed, at most one more than the largest allowed."""
    _, _, rest = data.partition(b"\0")
    compressed = kind != b"tEXt" and not (kind == b"iTXt" and rest[:1] != b"\1")
    packed = rest[1:] if kind != b"iTXt" else rest[2:].split(b"\0", 2)[-1]
    try:
        return len(zlib.decompressobj().decompress(packed, LARGEST_TEXT + 1)) if compressed else len(data)
    except zlib.error:
        return len(data)


def with_chunks(file: bytes, chunks: list[bytes]) -> bytes:
    """``file`` with further chunks directly after its header, before palette and pixels."""
    return file[:END_OF_HEADER] + b"".join(chunks) + file[END_OF_HEADER:]
