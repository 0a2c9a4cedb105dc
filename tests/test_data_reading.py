"""Reading image files: upright, 8 bit, and one sentence for each kind of broken file."""

from __future__ import annotations

import errno
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from data import files
from data.files import ImageFile, UnreadableImage, check_readable
from util.errors import UserError
from util.pictures import UnreadablePicture, picture_size, read_eight_bit


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def reason(path: Path) -> str:
    with pytest.raises(UnreadablePicture) as caught:
        read_eight_bit(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    shown = noise(4, 6)
    stored = {  # what a camera held in that orientation stores, by the definition of the EXIF tag
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.transpose(1, 0, 2),
        6: np.rot90(shown, 1),
        7: shown[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(shown, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_eight_bit(path)), shown)
    assert picture_size(path) == (6, 4)


def test_16_bit_gray_is_scaled_with_rounding(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    expected = np.rint(values / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(read_eight_bit(tmp_path / "deep.png", 1)), expected)
    np.testing.assert_array_equal(np.asarray(read_eight_bit(tmp_path / "deep.png", 3))[..., 2], expected)


def test_alpha_is_dropped_and_the_color_kept(tmp_path: Path) -> None:
    pixels = noise(3, 5, 4)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(np.asarray(read_eight_bit(tmp_path / "alpha.png")), pixels[..., :3])


def test_palette_with_transparency_is_looked_up(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "palette.png", transparency=bytes([0, 255]))
    assert np.asarray(read_eight_bit(tmp_path / "palette.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert not recwarn.list


@pytest.mark.parametrize(("mode", "suffix"), [("1", ".png"), ("L", ".png"), ("LA", ".png"), ("CMYK", ".tif")])
def test_other_modes_become_rgb_and_gray(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    Image.fromarray(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8)).convert(mode).save(path)
    assert np.asarray(read_eight_bit(path, 3)).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert np.asarray(read_eight_bit(path, 1)).tolist() == [[0, 255]]


def test_broken_files_are_named_with_their_fault(tmp_path: Path) -> None:
    empty, text, half = (tmp_path / name for name in ("empty.png", "text.png", "half.jpg"))
    empty.touch()
    text.write_text("no image", encoding="utf-8")
    Image.fromarray(noise(64, 64)).save(half)
    half.write_bytes(half.read_bytes()[:1500])
    assert reason(empty) == "the file is empty"
    assert reason(text) == "its content is no known image format"
    assert "truncated" in reason(half)
    assert reason(tmp_path / "gone.png") == "no such file or directory"


def test_values_without_a_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5]], dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.array([[70000]], dtype=np.int32)).save(tmp_path / "int.tif")
    assert "floating-point" in reason(tmp_path / "float.tif")
    assert "16 bit" in reason(tmp_path / "int.tif")


def test_decompression_bomb_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (30, 30)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert "more pixels than Pillow accepts" in reason(tmp_path / "bomb.png")


def folder(tmp_path: Path) -> list[tuple[ImageFile, ...]]:
    """Three images, of which the second is cut short, so that only decoding shows it, and the third is text."""
    for name in ("a.png", "b.png"):
        Image.fromarray(noise(40, 40)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:2000])
    (tmp_path / "c.png").write_text("no image", encoding="utf-8")
    return [(ImageFile(tmp_path / name, name),) for name in ("a.png", "b.png", "c.png")]


def test_check_stops_at_bad_files_and_counts_them(tmp_path: Path) -> None:
    units = folder(tmp_path)
    with pytest.raises(UserError, match=r"c\.png.*no known image format\);"):
        check_readable(units, skip_bad=False)
    with pytest.raises(UserError, match=r"b\.png.*and so it is with 1 more;"):
        check_readable(units, skip_bad=False, decode=True)


def test_skip_bad_leaves_them_out_and_names_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        checked = check_readable(folder(tmp_path), skip_bad=True, decode=True)
    assert [unit[0].name for unit in checked.units] == ["a.png"]
    assert checked.sizes == {tmp_path / "a.png": (40, 40)}
    assert [Path(error.path).name for error in checked.skipped] == ["b.png", "c.png"]
    assert [record.getMessage().count(".png'") for record in caplog.records] == [1, 1]


def test_skip_bad_does_not_accept_an_empty_rest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is left"):
        check_readable(folder(tmp_path)[1:], skip_bad=True, decode=True)


def test_a_pair_with_one_bad_image_is_left_out_whole(tmp_path: Path) -> None:
    (a,), (b,), _ = folder(tmp_path)
    assert check_readable([(a, a), (a, b)], skip_bad=True, decode=True).units == [(a, a)]


def test_the_error_survives_pickling() -> None:
    error = UnreadableImage(Path("a.png"), "broken", 2)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


@pytest.mark.parametrize("times", [2, 99])
def test_a_network_drive_that_stumbles_is_asked_again_and_never_called_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    left, real = [times], Image.open

    def stumbling(*arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **more)

    monkeypatch.setattr("util.files.time.sleep", lambda _: None)
    monkeypatch.setattr(Image, "open", stumbling)
    units = [(ImageFile(tmp_path / "a.png", "a.png"),)]
    if times == 2:
        assert check_readable(units, skip_bad=False).sizes == {tmp_path / "a.png": (4, 4)}
        return
    with pytest.raises(UnreadableImage, match=r"\(input/output error\); pass --skip_bad") as caught:
        check_readable(units, skip_bad=False)
    assert "repair" not in str(caught.value)


def test_a_long_look_at_many_files_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
    for name, value in (("MANY", 2), ("PAUSE", -1.0), ("AT_ONCE", 2)):
        monkeypatch.setattr(files, name, value)
    caplog.set_level("INFO")
    check_readable([(ImageFile(path, path.name),) for path in tmp_path.iterdir()], skip_bad=False)
    assert caplog.messages == ["looking at 3 files", "looked at 2 of 3 files"]
