"""Files are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from util.errors import UserError
from util.files import write_atomically, write_text_atomically

POSIX_ONLY = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX file system")
WRITERS = pytest.mark.parametrize("write", [lambda path: write_atomically(path, b"new"),
                                            lambda path: write_text_atomically(path, "new")],
                                  ids=["bytes", "text"])  # fmt: skip
Write = Callable[[Path], None]


@WRITERS
def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a" / "b" / "file")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


@WRITERS
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"a\.txt.*No space left"):
        write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@WRITERS
def test_a_folder_in_the_way_is_named_and_nothing_is_left(tmp_path: Path, write: Write) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(UserError, match=r"file: cannot be written"):
        write(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@WRITERS
def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path, write: Write) -> None:
    (tmp_path / "results").write_text("not a folder", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "results" / "file")


def test_text_is_utf_8_with_its_line_ends_and_lone_surrogates_escaped(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "file", "雨\nname\udcff\r\n")
    assert (tmp_path / "file").read_bytes() == "雨\nname\\udcff\r\n".encode()


@POSIX_ONLY
def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_atomically(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
