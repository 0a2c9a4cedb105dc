"""One way to find files: links, junk, hidden files, suffixes, Unicode forms, unreadable folders, and a count."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.derain.inputs import find_inputs
from data.files import find_images
from data.published.archives import open_source
from data.rain.dataset import find_depths
from util import finding
from util.errors import UserError
from util.files import patiently, replace
from util.finding import find_files, same_name
from util.metrics.pairing import read_folder


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system does not allow symbolic links")


def test_finds_sub_folders_and_any_case_in_order_and_ignores_the_rest(tmp_path: Path) -> None:
    names = ("b.PNG", "a.JpG", "sub/deep/c.tiff", "notes.txt", ".hidden.png", ".git/d.png")
    touch(*(tmp_path / name for name in names))
    (tmp_path / "folder.png").mkdir()
    assert list(find_files(tmp_path)) == ["a.JpG", "b.PNG", "sub/deep/c.tiff"]
    assert list(find_files(tmp_path, None)) == ["a.JpG", "b.PNG", "notes.txt", "sub/deep/c.tiff"]


def test_links_are_followed_but_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    touch(root / "a.png", elsewhere / "b.png")
    link(root / "loop", root)
    link(root / "more", elsewhere)
    link(elsewhere / "back", root)
    assert list(find_files(root)) == ["a.png", "more/b.png"]


def test_links_into_the_systems_own_folders_are_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    link(tmp_path / "task", Path("/proc/self/task"))
    touch(tmp_path / "a.png")
    assert list(find_files(tmp_path)) == ["a.png"]
    assert not Path("/proc/self/task").is_dir() or "links to system folders" in caplog.text


def test_a_dangling_link_is_listed_so_that_reading_names_it(tmp_path: Path) -> None:
    link(tmp_path / "gone.png", tmp_path / "nowhere.png")
    assert list(find_files(tmp_path)) == ["gone.png"]


JUNK = ("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "@Recycle/b.jpg", "#recycle/c.jpg", "$RECYCLE.BIN/e.jpg",
        ".@__thumb/d.jpg", "lost+found/f.jpg", "Thumbs/g.jpg", "__MACOSX/h.jpg", "deep/@EADIR/i.jpg")  # fmt: skip


def test_thumbnails_and_trash_of_systems_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "a.jpg", *(tmp_path / name for name in JUNK))
    caplog.set_level(logging.INFO)
    assert list(find_files(tmp_path)) == ["a.jpg"]
    assert "left out what is below '#recycle', '$RECYCLE.BIN', '@EADIR'" in caplog.text


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(*(tmp_path / name for name in ("a.png", "b.HEIC", "s/c.mp4", "d.txt", "README", "Thumbs.db", ".DS_Store")))
    caplog.set_level(logging.INFO)
    find_files(tmp_path)
    assert f"'{tmp_path}': left out 4 files: 1 .heic, 1 .mp4, 1 .txt, 1 without an ending" in caplog.messages


def refuse(folder: Path, error: OSError, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first ``times`` looks into ``folder`` fail."""
    scandir, left = os.scandir, [times]

    def failing(place: Any) -> Any:
        if Path(place) == folder and left[0] > 0:
            left[0] -= 1
            raise error
        return scandir(place)

    monkeypatch.setattr(finding.os, "scandir", failing)


def test_an_unreadable_side_folder_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path / "a.png", tmp_path / "private" / "b.png")
    refuse(tmp_path / "private", PermissionError(errno.EACCES, "Permission denied"), 99, monkeypatch)
    assert list(find_files(tmp_path)) == ["a.png"]
    assert "private' cannot be listed (Permission denied) and is left out" in caplog.text


def test_an_unreadable_folder_itself_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(tmp_path, PermissionError(errno.EACCES, "Permission denied"), 99, monkeypatch)
    with pytest.raises(UserError, match=r"cannot be listed \(Permission denied\); check its permissions"):
        find_files(tmp_path)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    pauses: list[float] = []
    monkeypatch.setattr("util.files.time.sleep", pauses.append)
    yield pauses


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_network_drive_that_stumbles_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: list[float], number: int
) -> None:
    touch(tmp_path / "a.png")
    refuse(tmp_path, OSError(number, "stumbled"), 2, monkeypatch)
    assert list(find_files(tmp_path)) == ["a.png"]
    assert len(no_pauses) == 2


def failing(times: int, error: OSError) -> Any:
    left = [times]

    def action() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return action


def test_patience_ends_after_a_second_or_two(no_pauses: list[float]) -> None:
    with pytest.raises(OSError, match="broken"):
        patiently(failing(99, OSError(errno.EIO, "broken")))
    assert 1 < sum(no_pauses) < 3


def test_only_a_rename_waits_for_a_permission(no_pauses: list[float]) -> None:
    with pytest.raises(PermissionError):
        patiently(failing(1, PermissionError(errno.EACCES, "held")))
    assert not no_pauses
    assert patiently(failing(1, PermissionError(errno.EACCES, "held")), replacing=True) == "done"


def test_a_file_that_is_held_for_a_moment_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: list[float]
) -> None:
    touch(tmp_path / "new", tmp_path / "old")
    held = failing(1, PermissionError(errno.EACCES, "held"))
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (held(), real(self, target))[1])
    replace(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_names_compare_in_composed_form() -> None:
    assert same_name("u\u0308.png") == "\u00fc.png" != "u\u0308.png"


@pytest.mark.parametrize(
    "names",
    [
        lambda folder: [file.name for file in find_images(folder)],
        lambda folder: [f"{name}.png" for name in read_folder(folder, flag="--gt").images],
        lambda folder: [file.name for file in find_inputs(folder, not_below=folder / "out").files],
        lambda folder: [file.name for file in find_depths(folder)],
        lambda folder: sorted(open_source(folder).sizes),
    ],
    ids=["training and test", "evaluate", "--input", "rain", "preparation"],
)
def test_every_command_finds_the_same(tmp_path: Path, names: Any) -> None:
    folder = tmp_path / "photos"
    for name in ("photos/a.png", "photos/@eaDir/a.png/thumb.png", "photos/.hidden.png", "elsewhere/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    link(folder / "night", tmp_path / "elsewhere")
    assert names(folder) == ["a.png", "night/b.png"]
