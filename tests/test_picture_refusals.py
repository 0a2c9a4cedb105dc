"""Files without a defined reading are refused, each in one sentence that names the file and what is wrong with it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from util.pictures import UnreadablePicture, picture_size, read_picture


def noise(channels: int, dtype: type = np.uint8, height: int = 5, width: int = 7) -> np.ndarray:
    values = np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> Path:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def test_a_long_panorama_is_no_bomb(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.new("L", (20_000, 500)))
    assert picture_size(path) == read_picture(path).size == (20_000, 500)


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(UnreadablePicture, match="more pixels than Pillow accepts as safe"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(UnreadablePicture, match="more pixels than Pillow accepts as safe"):
        picture_size(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        (np.zeros((4, 4), np.float32), {}, "floating-point"),
        (np.zeros((4, 4), np.int16), {}, "signed integers"),
        (np.zeros((4, 4, 5), np.uint8), {"photometric": "rgb", "planarconfig": "contig"}, "5 channels"),
        (np.zeros((4, 4, 3), np.float32), {"photometric": "rgb"}, "unsupported kind"),
        (np.zeros((3, 4, 4), np.uint16), {"photometric": "rgb", "planarconfig": "separate"}, "separate planes"),
        (np.zeros((4, 4, 4), np.uint16), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, "multiplied"),
    ],
)
def test_tiff_without_a_defined_reading_is_refused(
    tmp_path: Path, values: np.ndarray, options: dict, reason: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(UnreadablePicture, match=rf"a\.tif' cannot be read as an image \(.*{reason}"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".gif"])
@pytest.mark.parametrize("kept", [0, 3, 20, 0.5])
def test_truncated_files_are_refused_in_one_sentence(tmp_path: Path, suffix: str, kept: float) -> None:
    path = saved(tmp_path, f"a{suffix}", Image.fromarray(noise(3, height=64, width=64)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept >= 3 else kept * len(whole))])
    with pytest.raises(UnreadablePicture) as caught:
        read_picture(path)
    assert str(caught.value).startswith(f"'{path}' cannot be read as an image (") and "\n" not in str(caught.value)
