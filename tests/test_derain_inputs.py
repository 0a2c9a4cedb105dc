"""What --input finds, and that no result ever lands on an input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from data.derain.inputs import find_inputs, give_places, input_name
from util.errors import UserError


def save(path: Path, size: tuple[int, int] = (5, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path)
    return path


def test_a_folder_is_searched_with_its_sub_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "deep/er/c.bmp", ".hidden/d.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    inputs = find_inputs(tmp_path, not_below=tmp_path / "results")
    assert [file.name for file in inputs.files] == ["a.JPG", "b.png", "deep/er/c.bmp"]
    assert not inputs.is_video


def test_results_of_an_earlier_call_are_no_inputs(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "out" / "a.png")
    assert [file.name for file in find_inputs(tmp_path, not_below=tmp_path / "out").files] == ["a.png"]


def test_a_folder_inside_the_results_can_be_an_input(tmp_path: Path) -> None:
    save(tmp_path / "out" / "again" / "a.png")
    found = find_inputs(tmp_path / "out" / "again", not_below=tmp_path / "out")
    assert [file.name for file in found.files] == ["a.png"]


def test_a_single_image(tmp_path: Path) -> None:
    inputs = find_inputs(save(tmp_path / "a.png", (7, 3)), not_below=tmp_path / "out")
    (job,) = give_places(inputs, tmp_path / "out")
    assert (job.name, job.target, job.size) == ("a.png", tmp_path / "out" / "a.png", (7, 3))


def test_a_video_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "drive.MP4").write_bytes(b"")
    assert find_inputs(tmp_path / "drive.MP4", not_below=tmp_path / "out").is_video


@pytest.mark.parametrize(
    ("made", "asked", "says"),
    [
        ("rainy/a.png", "rainz", "did you mean 'rainy'"),
        ("rainy/notes.txt", "rainy/notes.txt", "neither an image"),
        ("rainy/notes.txt", "rainy", "holds no image"),
    ],
)
def test_what_is_no_input_is_one_sentence(tmp_path: Path, made: str, asked: str, says: str) -> None:
    (tmp_path / made).parent.mkdir()
    (tmp_path / made).write_text("x")
    with pytest.raises(UserError, match=says):
        find_inputs(tmp_path / asked, not_below=tmp_path / "out")


def test_a_file_that_is_no_image_is_named_before_any_work(tmp_path: Path) -> None:
    save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not an image")
    with pytest.raises(UserError, match=r"bad\.png.*--skip_bad"):
        find_inputs(tmp_path, not_below=tmp_path / "out")
    found = find_inputs(tmp_path, not_below=tmp_path / "out", skip_bad=True)
    assert [file.name for file in found.files] == ["good.png"]


def test_sub_folders_are_kept(tmp_path: Path) -> None:
    save(tmp_path / "in" / "x" / "a.png")
    (job,) = give_places(find_inputs(tmp_path / "in", not_below=tmp_path / "out"), tmp_path / "out")
    assert job.target == tmp_path / "out" / "x" / "a.png"


def test_the_result_of_one_file_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    inputs = find_inputs(save(tmp_path / "a.png"), not_below=tmp_path / "clean.png")
    assert give_places(inputs, tmp_path / "clean.png")[0].target == tmp_path / "clean.png"


def test_the_inputs_folder_is_no_output(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    inputs = find_inputs(tmp_path, not_below=tmp_path)
    with pytest.raises(UserError, match="would replace an input"):
        give_places(inputs, tmp_path)


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symbolic links")
def test_a_link_to_the_inputs_is_no_output(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "out").symlink_to(tmp_path / "in")
    inputs = find_inputs(tmp_path / "in", not_below=tmp_path / "elsewhere")
    with pytest.raises(UserError, match="would replace an input"):
        give_places(inputs, tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symbolic links")
def test_results_stay_in_the_output_folder(tmp_path: Path) -> None:
    save(tmp_path / "in" / "x" / "a.png")
    (tmp_path / "away").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path / "away")
    with pytest.raises(UserError, match="does not name a file inside"):
        give_places(find_inputs(tmp_path / "in", not_below=tmp_path / "out"), tmp_path / "out")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        give_places(find_inputs(tmp_path / "in", not_below=tmp_path / "out"), tmp_path / "out")


def test_results_are_filed_under_the_inputs_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "holiday").mkdir()
    monkeypatch.chdir(tmp_path / "holiday")
    assert input_name(Path()) == "holiday"
    assert input_name(save(tmp_path / "street.one.jpg")) == "street.one"
