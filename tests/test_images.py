"""Saved images are rounded, and stay inside their folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from util.errors import UserError
from util.files import safe_child
from util.images import read_rgb, save_png, to_uint8

AWKWARD_NAMES = ['it\'s 100% "wet" #1 & more.png', "雨 pluie é.png", "sub folder/a b.png"]
POSIX_ONLY = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX file system")


def every_level() -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_every_level_survives_the_way_through_a_tensor() -> None:
    levels = torch.from_numpy(every_level()).float()
    assert np.array_equal(to_uint8(((levels / 255 - 0.5) / 0.5).expand(3, -1, -1))[..., 1], every_level())


def test_values_go_to_the_nearest_level() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = (image.double().permute(1, 2, 0).numpy() + 1) * 127.5
    rounded, truncated = to_uint8(image).astype(np.float64), np.floor(exact)
    assert np.abs(rounded - exact).max() <= 0.5 + 1e-4
    assert np.mean((rounded - exact) ** 2) < 0.3 * np.mean((truncated - exact) ** 2)  # 1/12 against 1/3


def test_values_out_of_range_are_clamped_and_nan_is_black() -> None:
    image = torch.tensor([-5.0, 5.0, float("inf"), float("-inf"), float("nan")]).view(1, 1, 5)
    assert to_uint8(image)[0, :, 0].tolist() == [0, 255, 255, 0, 0]


def test_the_array_is_height_width_channels() -> None:
    image = torch.full((1, 3, 2, 5), -1.0)
    image[0, 2, 1, 4] = 1.0
    array = to_uint8(image)
    assert array.shape == (2, 5, 3)
    assert np.argwhere(array).tolist() == [[1, 4, 2]]


def test_gray_is_repeated() -> None:
    array = to_uint8(torch.linspace(-1, 1, 12).view(1, 3, 4))
    assert array.shape == (3, 4, 3)
    assert (array == array[..., :1]).all()


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (4, 4), (2, 4, 4), (0, 3, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one image"):
        to_uint8(torch.zeros(shape))


@pytest.mark.parametrize("name", [pytest.param(AWKWARD_NAMES[0], marks=POSIX_ONLY), *AWKWARD_NAMES[1:]])
def test_png_files_give_the_saved_pixels_back_under_any_name(tmp_path: Path, name: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = safe_child(tmp_path, name)
    save_png(array, path)
    assert path == tmp_path / name
    assert np.array_equal(np.asarray(Image.open(path)), array)


def test_gray_files_are_read_as_rgb(tmp_path: Path) -> None:
    save_png(every_level(), tmp_path / "gray.png")
    assert np.array_equal(read_rgb(tmp_path / "gray.png"), np.dstack([every_level()] * 3))


def test_photos_are_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "turned.png"), np.rot90(array, -1))


def test_only_8_bit_arrays_are_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8"):
        save_png(np.zeros((4, 4, 3)), tmp_path / "a.png")


def test_a_folder_in_the_way_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png: cannot be written"):
        save_png(every_level(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_file_where_a_folder_should_be_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("not a folder", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        save_png(every_level(), tmp_path / "results" / "a.png")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_images_are_user_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png' cannot be read"):
        read_rgb(tmp_path / "broken.png")


def test_a_truncated_image_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    save_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"half\.png' cannot be read"):
        read_rgb(path)


def test_a_missing_image_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.png.*no such file"):
        read_rgb(tmp_path / "gone.png")


def test_16_bit_images_are_rounded_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 128, 129, 40000, 65406, 65407]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert read_rgb(tmp_path / "deep.png")[..., 1].tolist() == np.rint(levels / 65535 * 255).tolist()


@pytest.mark.parametrize("name", ["", ".", "..", "../out.png", "a/../../out.png", "a\0b.png"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="does not name a file inside"):
        safe_child(tmp_path / "results", name)


def test_absolute_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not name a file inside"):
        safe_child(tmp_path / "results", str(tmp_path / "out.png"))


def test_a_neighbor_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not name a file inside"):
        safe_child(tmp_path / "results", "../results2/out.png")


@POSIX_ONLY
def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="does not name a file inside"):
        safe_child(tmp_path / "results", "link/out.png")


def test_relative_folders_stay_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert safe_child(Path("results"), "a/b/../c.png") == Path("results/a/c.png")
