"""Every kind of image file has one defined reading and is written back as what it was: util/pictures."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
from PIL import Image

from util.errors import UserError
from util.pictures import Picture, read_eight_bit, read_picture, write_picture
from util.pictures.encoding import encode
from util.pictures.png import encode_16_bit

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by number of channels


def noise(channels: int, dtype: type = np.uint8, height: int = 5, width: int = 7) -> np.ndarray:
    values = np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_by_hand(values: np.ndarray, key: bytes = b"") -> bytes:
    """A 16-bit PNG with the filter Sub, written from the specification."""
    height, width, channels = values.shape
    lines = []
    for row in values:
        line = row.astype(">u2").tobytes()
        step = 2 * channels
        lines.append(b"\1" + bytes((b - (line[i - step] if i >= step else 0)) % 256 for i, b in enumerate(line)))
    header = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[channels], 0, 0, 0)
    transparent = chunk(b"tRNS", key) if key else b""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparent + pixels + chunk(b"IEND", b"")


def chunks(png: bytes) -> dict[bytes, bytes]:
    found, position = {}, 8
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        found[kind] = png[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", png, position + 8 + length)[0] == zlib.crc32(kind + found[kind])
        position += 12 + length
    return found


def together(picture: Picture) -> np.ndarray:
    return picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> Path:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def rewritten(path: Path) -> Path:
    """What becomes of a file whose pixels go through a tensor and back."""
    picture = read_picture(path)
    copy = path.with_name(f"copy{picture.suffix}")
    write_picture(picture.with_tensor(picture.tensor()), copy)
    return copy


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_read_with_all_bits(tmp_path: Path, channels: int) -> None:
    values = noise(channels, np.uint16)
    (tmp_path / "a.png").write_bytes(png_by_hand(values))
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(together(picture), values)
    assert (picture.bits, picture.format, picture.size) == (16, "PNG", (7, 5))


def test_the_transparent_color_of_a_16_bit_png_is_alpha(tmp_path: Path) -> None:
    values = noise(3, np.uint16)
    values[0, 0] = values[2, 3] = (1, 258, 65535)
    values[1, 1] = (0, 258, 65535)  # the same upper bytes
    (tmp_path / "a.png").write_bytes(png_by_hand(values, struct.pack(">HHH", 1, 258, 65535)))
    alpha = read_picture(tmp_path / "a.png").alpha
    assert alpha is not None and alpha.dtype == np.uint16
    assert np.argwhere(alpha == 0).tolist() == [[0, 0], [2, 3]] and alpha.max() == 65535


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_our_16_bit_png_follows_the_specification(channels: int) -> None:
    values = noise(channels, np.uint16)
    found = chunks(encode_16_bit(values))
    assert found[b"IHDR"] == struct.pack(">IIBBBBB", 7, 5, 16, COLOR_TYPES[channels], 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(5, -1)
    assert (lines[:, 0] == 2).all()  # the filter Up: differences to the line above, modulo 256
    stored = np.cumsum(lines[:, 1:], axis=0, dtype=np.uint8).astype(np.int64)
    np.testing.assert_array_equal((stored[:, 0::2] * 256 + stored[:, 1::2]).reshape(values.shape), values)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_is_read_as_tifffile_wrote_it_and_the_other_way_round(
    tmp_path: Path, channels: int, dtype: type, order: Literal["<", ">"], compression: str | None
) -> None:
    values = noise(channels, dtype)
    kind = "minisblack" if channels == 1 else "rgb"
    extra = ["unassalpha"] if channels == 4 else None
    plain = values[..., 0] if channels == 1 else values
    tifffile.imwrite(
        tmp_path / "a.tif", plain, photometric=kind, byteorder=order, compression=compression, extrasamples=extra
    )
    np.testing.assert_array_equal(together(read_picture(tmp_path / "a.tif")), values)
    with tifffile.TiffFile(rewritten(tmp_path / "a.tif")) as file:
        page = file.pages[0].aspage()
        assert (page.compression == 1) == (compression is None)
        np.testing.assert_array_equal(page.asarray(), plain)


def test_white_is_zero_is_turned_round(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1, 65535]], np.uint16), photometric="miniswhite", byteorder="<")
    assert read_picture(tmp_path / "a.tif").pixels[0, :, 0].tolist() == [65535, 65534, 0]


@pytest.mark.parametrize(
    ("name", "channels"),
    [(f"a{suffix}", channels) for suffix in (".png", ".tiff") for channels in (1, 2, 3, 4)]
    + [("a.bmp", 1), ("a.bmp", 3), ("a.ppm", 3), ("a.pgm", 1), ("A.PNG", 3), ("a.webp", 3), ("a.webp", 4)],
)
def test_8_bit_files_come_back_as_they_were(tmp_path: Path, name: str, channels: int) -> None:
    values = noise(channels)
    if channels == 4:
        values[:2, :, 3] = 0  # transparent, and with colors below
    lossless = {"lossless": True, "exact": True} if name == "a.webp" else {}
    path = saved(tmp_path, name, Image.fromarray(values[..., 0] if channels == 1 else values), **lossless)
    copy = rewritten(path)
    assert copy.suffix == path.suffix
    with Image.open(path) as before, Image.open(copy) as after:
        assert (after.format, after.mode) == (before.format, before.mode)
        np.testing.assert_array_equal(np.asarray(after).reshape(values.shape), values)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".ppm", ".gif"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_one_pixel_is_enough(tmp_path: Path, suffix: str, mode: str) -> None:
    path = saved(tmp_path, f"a{suffix}", Image.new(mode, (1, 1), "white"))
    assert read_picture(rewritten(path)).pixels.min() > 250


def test_a_jpeg_keeps_its_quality_and_subsampling(tmp_path: Path) -> None:
    smooth = Image.fromarray(noise(3, height=12, width=16)).resize((160, 120), Image.Resampling.BICUBIC)
    for options in ({"quality": 71, "subsampling": 2}, {"quality": 93, "subsampling": 0, "progressive": True}):
        path = saved(tmp_path, "a.JPG", smooth, **options)
        copy = rewritten(path)
        with Image.open(path) as before, Image.open(copy) as after:
            assert after.quantization == before.quantization  # type: ignore[attr-defined]
            assert after.layer == before.layer and ("progressive" in after.info) == ("progressive" in options)  # type: ignore[attr-defined]
        assert copy.suffix == ".JPG"
        assert abs(copy.stat().st_size / path.stat().st_size - 1) < 0.02


def test_a_gray_jpeg_stays_gray(tmp_path: Path) -> None:
    copy = rewritten(saved(tmp_path, "a.jpg", Image.fromarray(noise(1)[..., 0])))
    assert Image.open(copy).mode == "L"


def test_a_palette_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    opaque = read_picture(saved(tmp_path, "a.png", image))
    assert opaque.pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]] and opaque.alpha is None
    assert opaque.notes == ("its palette becomes RGB",)
    clear = read_picture(saved(tmp_path, "b.png", image, transparency=bytes([0, 255])))
    assert clear.alpha is not None and clear.alpha.tolist() == [[0, 255]]
    assert clear.pixels.tolist() == opaque.pixels.tolist()


def test_one_bit_becomes_gray(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(np.array([[False, True]])))
    picture = read_picture(path)
    assert picture.pixels[..., 0].tolist() == [[0, 255]] and picture.channels == 1
    assert Image.open(rewritten(path)).mode == "L"


def test_the_transparent_gray_of_a_2_bit_png_is_alpha(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes([0, 0b00011011])))
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", b"\0\2") + pixels + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(file)
    assert together(read_picture(tmp_path / "a.png")).tolist() == [[[0, 255], [85, 255], [170, 0], [255, 255]]]


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_without_profile_is_mixed_from_plain_inks(tmp_path: Path, suffix: str) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = read_picture(saved(tmp_path, f"a{suffix}", inks))
    assert np.abs(picture.pixels - np.array([0, 255, 255])).max() <= 2  # coding loss of JPEG
    assert picture.suffix == suffix and picture.notes == ("CMYK becomes sRGB",)


@pytest.mark.parametrize(
    ("suffix", "written"), [(".gif", ".png"), (".png", ".png"), (".webp", ".webp"), (".tif", ".tif")]
)
def test_the_first_frame_is_used_and_that_is_said(tmp_path: Path, suffix: str, written: str) -> None:
    frames = [Image.new("RGB", (4, 3), color) for color in ("red", "blue", "lime")]
    lossless = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path, f"a{suffix}", frames[0], save_all=True, append_images=frames[1:], **lossless)
    picture = read_picture(path)
    assert (picture.pixels == (255, 0, 0)).all()
    assert picture.notes[0] == "only the first of 3 frames is used" and picture.suffix == written
    assert getattr(Image.open(rewritten(path)), "n_frames", 1) == 1


def test_the_content_tells_the_format_and_the_suffix_follows(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.new("RGB", (4, 3)), format="JPEG")
    assert (read_picture(path).format, read_picture(path).suffix) == ("JPEG", ".jpg")


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 3), ("P", 3), ("1", 1)])
def test_training_reads_the_same_pixels(tmp_path: Path, mode: str, channels: int) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(noise(4)).convert(mode))
    np.testing.assert_array_equal(
        np.asarray(read_eight_bit(path, channels)).reshape(5, 7, channels), read_picture(path).pixels
    )


def test_training_rounds_16_bit_color(tmp_path: Path) -> None:
    values = noise(4, np.uint16)
    (tmp_path / "a.png").write_bytes(png_by_hand(values))
    np.testing.assert_array_equal(
        np.asarray(read_eight_bit(tmp_path / "a.png")), np.rint(values[..., :3] / 65535 * 255)
    )


@pytest.mark.parametrize(("alpha", "kept"), [(0, False), (200, True)])
def test_a_bmp_that_is_wholly_transparent_is_opaque(tmp_path: Path, alpha: int, kept: bool) -> None:
    """32-bit BMP files whose fourth byte no program wrote."""
    values = np.dstack([noise(3), np.full((5, 7), alpha, np.uint8)])
    head = struct.pack("<IiiHHIIiiII", 108, 7, -5, 1, 32, 3, values.nbytes, 0, 0, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    start = struct.pack("<2sIHHI", b"BM", 14 + 108 + values.nbytes, 0, 0, 14 + 108)
    (tmp_path / "a.bmp").write_bytes(start + head + masks + values[..., [2, 1, 0, 3]].tobytes())
    picture = read_picture(tmp_path / "a.bmp")
    assert np.array_equal(picture.pixels, values[..., :3])
    assert (picture.alpha is not None) == kept
    assert picture.format == ("PNG" if kept else "BMP")


def test_another_format_takes_what_it_can_hold() -> None:
    deep = Picture(noise(3, np.uint16), alpha=noise(1, np.uint16)[..., 0])
    jpeg = deep.in_format("JPEG")
    assert jpeg.bits == 8 and jpeg.alpha is None and jpeg.suffix == ".jpg" and len(jpeg.notes) == 2
    with Image.open(io.BytesIO(encode(jpeg))) as decoded:
        assert (decoded.format, decoded.mode, decoded.size) == ("JPEG", "RGB", (7, 5))
    tiff = tifffile.imread(io.BytesIO(encode(deep.in_format("TIFF"))))
    np.testing.assert_array_equal(tiff, together(deep))


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_picture(Picture(noise(3)), tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot be written as WEBP"):
        write_picture(Picture(np.zeros((1, 16384, 3), np.uint8), format="WEBP"), tmp_path / "b.webp")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
