"""EXIF, color profiles and the like stay with the picture, and stay true: util/pictures."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin, TiffTags

from util.pictures import Metadata, Picture, picture_size, read_picture, write_picture
from util.pictures.metadata import upright_exif
from util.pictures.png import encode_16_bit

SUFFIXES = [".jpg", ".png", ".tif", ".webp"]
XMP = b'<rdf:Description tiff:Orientation="6" dc:title="rain"/>'


def noise(channels: int = 3, dtype: type = np.uint8, height: int = 4, width: int = 6) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def turned(shown: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera held in that orientation stores, by the definition of the EXIF tag."""
    swapped = shown.transpose(1, 0, 2)
    return np.ascontiguousarray(
        {
            1: shown,
            2: shown[:, ::-1],
            3: shown[::-1, ::-1],
            4: shown[::-1],
            5: swapped,
            6: np.rot90(shown, 1),
            7: shown[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(shown, -1),
        }[orientation]
    )


def saved(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def copied(path: Path) -> Path:
    copy = path.with_name(f"copy{path.suffix}")
    write_picture(read_picture(path), copy)
    return copy


def profile(space: bytes) -> bytes:
    """A profile of which only the header matters."""
    return struct.pack(">I", 128) + bytes(12) + space + b"XYZ " + bytes(104)


def gray_for_full_cyan() -> bytes:
    """A CMYK profile (ICC.1, lut8) in which cyan ink is a neutral gray of L* = 50 and no ink is white."""

    def curve(count: int) -> bytes:
        return bytes(range(256)) * count

    corners = bytes(
        value for corner in range(16) for value in ((128 if corner == 8 else 255 if corner == 0 else 0), 128, 128)
    )
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + curve(4) + corners + curve(3)
    tags = [(b"A2B0", lut), (b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061))]
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    return head + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + body


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_pictures_are_upright_and_written_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    shown = noise()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lossless = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path, f"a{suffix}", Image.fromarray(turned(shown, orientation)), exif=exif, **lossless)
    np.testing.assert_array_equal(read_picture(path).pixels, shown)
    assert picture_size(path) == (6, 4)
    with Image.open(copied(path)) as copy:
        assert copy.size == (6, 4) and copy.getexif().get(ExifTags.Base.Orientation, 1) == 1
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(copy)), shown)


@pytest.mark.parametrize("orientation", [2, 6])
def test_16_bit_pictures_are_turned_too(tmp_path: Path, orientation: int) -> None:
    shown = noise(3, np.uint16)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    eight_bit = saved(tmp_path, "b.png", Image.new("L", (1, 1)), exif=data).read_bytes()
    start = eight_bit.index(b"eXIf") - 4
    chunk = eight_bit[start : start + len(data) + 12]
    plain = encode_16_bit(turned(shown, orientation))
    (tmp_path / "a.png").write_bytes(plain[:33] + chunk + plain[33:])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, shown)


def camera_exif(order: str) -> tuple[bytes, dict[str, int]]:
    """EXIF by hand: orientation 6, a maker's note, sizes, a thumbnail; and where some of it lies."""
    ifd0 = struct.pack(f"{order}HHHIHHHHII", 2, 0x0112, 3, 1, 6, 0, 0x8769, 4, 1, 38)
    ifd0 += struct.pack(f"{order}I", 100)  # the thumbnail's directory
    sub = struct.pack(f"{order}HHHII", 3, 0x927C, 7, 8, 84)
    sub += struct.pack(f"{order}HHII", 0xA002, 4, 1, 4032) + struct.pack(f"{order}HHIHH", 0xA003, 3, 1, 3024, 0)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    data = (head + ifd0 + sub).ljust(84, b"\0") + b"MAKER\0\1\2" + bytes(8) + struct.pack(f"{order}H", 0) + b"THUMB"
    return data, {"orientation": 8 + 2 + 8, "link": 8 + 2 + 24, "sizes": 38 + 2 + 12}


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_changes_in_orientation_sizes_and_thumbnail_only(order: str) -> None:
    data, places = camera_exif(order)
    expected = bytearray(data)
    struct.pack_into(f"{order}H", expected, places["orientation"], 1)
    struct.pack_into(f"{order}I", expected, places["link"], 0)
    width = places["sizes"]
    struct.pack_into(f"{order}HHIHH", expected, width, 0xA002, 3, 1, 3024, 0)
    struct.pack_into(f"{order}HHII", expected, width + 12, 0xA003, 4, 1, 4032)
    assert upright_exif(b"Exif\0\0" + data, quarter_turn=True) == bytes(expected)


def test_a_jpeg_from_a_camera_keeps_its_maker_note_in_place(tmp_path: Path) -> None:
    data, _ = camera_exif("<")
    path = saved(tmp_path, "a.jpg", Image.fromarray(noise()), exif=b"Exif\0\0" + data)
    with Image.open(copied(path)) as copy:
        assert copy.size == (4, 6)
        assert copy.info["exif"].index(b"MAKER") == 6 + 84
        assert copy.getexif().get_ifd(ExifTags.IFD.Exif)[0xA002] == 3024


@pytest.mark.parametrize("data", [b"", b"II", b"XX*\0", b"II*\0\xff\xff\0\0", b"MM\0*\0\0\0\x08\xff\xff"])
def test_exif_that_cannot_be_followed_is_left_out(data: bytes) -> None:
    assert upright_exif(data) is None


INTEGERS = {1: "B", 3: "H", 4: "I"}


def odd_exif(chance: random.Random, orientation: int) -> bytes:
    """EXIF with a readable orientation, as one of three integer types, beside one to four entries of any tag and type.

    Their counts may not fit their type, and their values may lie outside of the file.
    """
    order = chance.choice("<>")
    kind = chance.choice([1, 3, 3, 3, 4])
    value = struct.pack(order + INTEGERS[kind], orientation).ljust(4, b"\0")
    entries = {0x0112: struct.pack(f"{order}HHI", 0x0112, kind, 1) + value}
    common = (0x010E, 0x011A, 0x011B, 0x0128, 0x0132, 0x0213, 0x8769, 0x8825, 0xA005, 0xEA1C, chance.randrange(0x10000))
    for tag in chance.sample(common, chance.randint(1, 4)):
        count = chance.choice([0, 1, 1, 2, 3, 7, 1000, 2**31])
        odd = struct.pack(f"{order}HHI", tag, chance.randrange(14), count) + chance.randbytes(4)
        entries.setdefault(tag, odd)
    body = b"".join(entries[tag] for tag in sorted(entries))
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    return b"Exif\0\0" + head + body + struct.pack(f"{order}I", 0) + chance.randbytes(chance.choice([0, 40]))


def test_odd_entries_do_not_hide_the_orientation(tmp_path: Path) -> None:
    shown = np.zeros((24, 40, 3), np.uint8)
    shown[:12, :20] = 255
    upright = 0
    for seed in range(200):
        chance = random.Random(seed)
        orientation = chance.randint(1, 8)
        exif = odd_exif(chance, orientation)
        path = saved(tmp_path, f"{seed}.jpg", Image.fromarray(turned(shown, orientation)), exif=exif, quality=95)
        pixels = read_picture(path).pixels
        copy = read_picture(copied(path)).pixels
        upright += all(p.shape == shown.shape and np.abs(p.astype(int) - shown).mean() < 5 for p in (pixels, copy))
    assert upright >= 190


def test_a_tiff_keeps_its_tags(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[33432] = TiffTags.ASCII
    tags[271], tags[33432] = "Camera", "© me".encode()
    tags.tagtype[34665] = tags.tagtype[34853] = TiffTags.LONG
    tags[34665] = {33434: TiffImagePlugin.IFDRational(1, 125), 37500: b"MAKER\0\1"}
    tags[34853] = {1: "N", 2: (48.0, 8.0, 1.5)}
    path = saved(tmp_path, "a.tif", Image.fromarray(noise()), tiffinfo=tags, dpi=(300, 200))
    with Image.open(copied(path)) as copy:
        exif = copy.getexif()
        assert exif[271] == "Camera" and copy.info["dpi"] == (300, 200)
        assert exif.get_ifd(34665) == {33434: 1 / 125, 37500: b"MAKER\0\1"}
        assert exif.get_ifd(34853) == {1: "N", 2: (48.0, 8.0, 1.5)}
    assert "© me".encode() in (tmp_path / "copy.tif").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_color_profile_stays_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(tmp_path, f"a{suffix}", Image.fromarray(noise()), icc_profile=icc)
    assert Image.open(copied(path)).info["icc_profile"] == icc


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_16_bit_files_carry_a_profile(tmp_path: Path, name: str) -> None:
    icc = profile(b"RGB ")
    write_picture(Picture(noise(3, np.uint16), format=name, metadata=Metadata(icc=icc)), tmp_path / "a")
    with Image.open(tmp_path / "a") as written:
        assert written.info["icc_profile"] == icc
    again = read_picture(tmp_path / "a")
    assert again.metadata.icc == icc and again.bits == 16


@pytest.mark.parametrize(
    ("space", "mode", "kept"), [(b"GRAY", "L", True), (b"GRAY", "RGB", False), (b"RGB ", "L", False)]
)
def test_a_profile_of_another_color_space_goes(tmp_path: Path, space: bytes, mode: str, kept: bool) -> None:
    path = saved(tmp_path, "a.png", Image.new(mode, (2, 2)), icc_profile=profile(space))
    assert (read_picture(path).metadata.icc is not None) == kept


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_is_seen_through_its_profile_which_then_goes(tmp_path: Path, suffix: str) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = read_picture(saved(tmp_path, f"a{suffix}", inks, icc_profile=gray_for_full_cyan()))
    assert np.abs(picture.pixels.astype(int) - 119).max() <= 3  # L* = 50 in sRGB; plain cyan would be 0, 255, 255
    assert picture.metadata.icc is None


def test_a_broken_cmyk_profile_does_no_harm(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tif", Image.new("CMYK", (2, 2), (255, 0, 0, 0)), icc_profile=b"no profile")
    assert read_picture(path).pixels[0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_xmp_stays_and_says_upright(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, f"a{suffix}", Image.fromarray(noise()), xmp=XMP)
    with Image.open(copied(path)) as copy:
        assert copy.info["xmp"] == XMP.replace(b'="6"', b'="1"')
        assert copy.size == (4, 6)


def test_a_png_keeps_what_describes_its_colors_and_its_text(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))
    info.add_text("Author", "me")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    path = saved(tmp_path, "a.png", Image.fromarray(noise()), pnginfo=info, dpi=(300, 300))
    with Image.open(copied(path)) as copy:
        copy.load()
        assert copy.info["gamma"] == 1.0 and copy.info["Author"] == "me"
        assert round(copy.info["dpi"][0]) == 300
        assert 'Orientation="1"' in copy.info["XML:com.adobe.xmp"] and copy.size == (4, 6)


def test_texts_and_profiles_that_are_too_large_are_left_out_with_a_note(tmp_path: Path) -> None:
    values = noise()
    large = PngImagePlugin.PngInfo()
    large.add_text("Comment", "rain " * 300_000, zip=True)
    large.add_text("Author", "somebody")
    for name, options in (
        ("text", {"pnginfo": large}),
        ("profile", {"icc_profile": profile(b"RGB ") + bytes(2_000_000)}),
    ):
        path = saved(tmp_path, f"{name}.png", Image.fromarray(values), **options)
        picture = read_picture(path)
        assert np.array_equal(picture.pixels, values) and picture_size(path) == (6, 4)
        assert picture.notes == ("texts or profiles above 1 MB are left out",)
        assert np.array_equal(read_picture(copied(path)).pixels, values)
        assert read_picture(copied(path)).notes == ()
    assert Image.open(copied(tmp_path / "text.png")).info["Author"] == "somebody"


def test_a_jpeg_keeps_resolution_and_comment(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.jpg", Image.fromarray(noise()), dpi=(240, 240), comment=b"rainy day")
    with Image.open(copied(path)) as copy:
        assert (copy.info["dpi"], copy.info["comment"]) == ((240, 240), b"rainy day")
