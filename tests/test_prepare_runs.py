"""One run, a second one, an interrupted one; the manifest and the command."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import yaml

from data.published import Request, Share, prepare, writing
from data.published.archives import DamagedSource
from data.published.layouts import Expected, FolderPairs, Rain100L
from tests import preparation_miniatures as mini
from util.errors import UserError
from util.staging import Staging

LAYOUT = Rain100L(expected=Expected(train=(6,), test=(3,)))
PACKERS = {"folder": mini.as_folder, "zip": mini.as_zip, "tar": mini.as_tar}


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of everything below ``folder``."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return mini.as_zip(tmp_path / "light.zip", mini.rain100_authors())


def test_the_manifest_tells_everything(tmp_path: Path, source: Path) -> None:
    prepared = prepare("rain100l", LAYOUT, [source], tmp_path / "out", Request(val=Share(2)))
    manifest = yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text(encoding="utf-8"))
    assert manifest["dataset"] == "rain100l"
    assert manifest["sources"][0]["name"] == "light.zip"
    assert manifest["counts"] == {"trainA": 2, "trainB": 2, "valA": 2, "valB": 2, "testA": 3, "testB": 3}
    assert manifest["scenes"] == {"trainA": 2, "trainB": 2, "val": 2, "test": 3}
    assert manifest["rule"].endswith(Rain100L.rule_text)
    assert manifest["options"]["val"] == 2
    assert manifest["seed"] is None
    assert manifest["incomplete"] == []
    assert manifest["files"]["number"] == 14
    assert manifest["files"]["sha256"] == prepared.sha256


def test_the_hash_is_that_of_the_checksums_of_all_files(tmp_path: Path, source: Path) -> None:
    prepared = prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    images = (tmp_path / "out").rglob("*.png")
    lines = sorted(
        (path.relative_to(tmp_path / "out").as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in images
    )
    text = "".join(f"{digest}  {name}\n" for name, digest in lines)
    assert (tmp_path / "out" / "files.sha256").read_text(encoding="utf-8") == text
    assert prepared.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("pack", list(PACKERS))
def test_an_exact_repeat_however_it_is_packed(tmp_path: Path, source: Path, pack: str) -> None:
    other = PACKERS[pack](tmp_path / "elsewhere", mini.rain100_authors())
    first = prepare("rain100l", LAYOUT, [source], tmp_path / "a")
    second = prepare("rain100l", LAYOUT, [other], tmp_path / "b")
    assert first.sha256 == second.sha256
    assert {k: v for k, v in contents(tmp_path / "a").items() if k != "dataset.yaml"} == {
        k: v for k, v in contents(tmp_path / "b").items() if k != "dataset.yaml"
    }


@pytest.mark.parametrize("pack", list(PACKERS))
def test_a_second_run_changes_nothing(tmp_path: Path, pack: str) -> None:
    source = PACKERS[pack](tmp_path / "source", mini.rain100_authors())
    first = prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    before = snapshot(tmp_path)
    second = prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    assert (first.changed, second.changed) == (True, False)
    assert (second.counts, second.sha256, second.notes) == (first.counts, first.sha256, first.notes)
    assert snapshot(tmp_path) == before


def test_sources_are_never_changed(tmp_path: Path) -> None:
    source = mini.as_folder(tmp_path / "source", mini.rain100_authors())
    before, bytes_before = snapshot(source), contents(source)
    prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    assert (snapshot(source), contents(source)) == (before, bytes_before)


def test_unpacked_files_are_linked_unless_copies_are_wanted(tmp_path: Path) -> None:
    source = mini.as_folder(tmp_path / "source", mini.rain100_authors())
    original = source / "rain_data_test_Light" / "norain" / "norain-2.png"
    prepare("rain100l", LAYOUT, [source], tmp_path / "linked")
    prepare("rain100l", LAYOUT, [source], tmp_path / "copied", Request(copy=True))
    assert original.samefile(tmp_path / "linked" / "testB" / "0002.png")
    assert not original.samefile(tmp_path / "copied" / "testB" / "0002.png")


def test_file_systems_without_links_get_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError("cross-device link")

    source = mini.as_folder(tmp_path / "source", mini.rain100_authors())
    with_links = prepare("rain100l", LAYOUT, [source], tmp_path / "a")
    monkeypatch.setattr(os, "link", refuse)
    assert prepare("rain100l", LAYOUT, [source], tmp_path / "b").sha256 == with_links.sha256


class Interrupting:
    """Stands in for ``Stage.note`` and interrupts after some files."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.written: list[str] = []
        self.note = writing.Stage.note

    def __get__(self, stage, owner):
        def note(journal, written) -> None:
            self.note(stage, journal, written)
            self.written.append(written.path)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        return note


@pytest.mark.parametrize("pack", list(PACKERS))
def test_an_interrupted_run_goes_on_and_leaves_nothing_that_looks_finished(
    tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PACKERS[pack](tmp_path / "source", mini.rain100_authors())
    whole = prepare("rain100l", LAYOUT, [source], tmp_path / "whole")
    first, second = Interrupting(after=5), Interrupting(after=-1)
    monkeypatch.setattr(writing.Stage, "note", first)
    with pytest.raises(KeyboardInterrupt):
        prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    finished = {path: snapshot(tmp_path / ".out.partial")[path] for path in first.written}
    monkeypatch.setattr(writing.Stage, "note", second)
    resumed = prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    assert len(first.written) == 5
    assert not set(first.written) & set(second.written)
    assert resumed.sha256 == whole.sha256
    assert {path: snapshot(tmp_path / "out")[path] for path in finished} == finished
    assert not (tmp_path / ".out.partial").exists()


def test_a_file_that_was_lost_or_cut_since_is_written_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare("rain100l", LAYOUT, [source], tmp_path / "whole")
    first = Interrupting(after=5)
    with monkeypatch.context() as patch:
        patch.setattr(writing.Stage, "note", first)
        with pytest.raises(KeyboardInterrupt):
            prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    stage = tmp_path / ".out.partial"
    (stage / first.written[0]).unlink()
    (stage / first.written[1]).write_bytes(b"half")
    journal = stage / ".journal"
    journal.write_text(journal.read_text(encoding="utf-8")[:-20], encoding="utf-8")  # power failed while writing
    assert prepare("rain100l", LAYOUT, [source], tmp_path / "out").sha256 == whole.sha256


def test_what_an_interrupted_run_left_of_another_source_is_not_used(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare("rain100l", LAYOUT, [source], tmp_path / "whole")
    other = mini.as_zip(tmp_path / "other.zip", {k: v + b"." for k, v in mini.rain100_authors().items()})
    with monkeypatch.context() as patch:
        patch.setattr(writing.Stage, "note", Interrupting(after=5))
        with pytest.raises(KeyboardInterrupt):
            prepare("rain100l", LAYOUT, [other], tmp_path / "out")
    assert prepare("rain100l", LAYOUT, [source], tmp_path / "out").sha256 == whole.sha256


def test_damage_on_the_way_leaves_nothing(tmp_path: Path, source: Path) -> None:
    rainy = mini.rainy("t2")
    source.write_bytes(source.read_bytes().replace(rainy, rainy[:-9] + b"X" + rainy[-8:]))
    with pytest.raises(DamagedSource, match=r"light\.zip.*norain-2x2.png"):
        prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["light.zip"]


def test_a_clean_image_that_is_none_is_named(tmp_path: Path) -> None:
    files = mini.rain100_authors() | {"rain_data_test_Light/norain/norain-2.png": b"not an image"}
    with pytest.raises(UserError, match=r"test_Light/norain/norain-2\.png' cannot be read as an image"):
        prepare("rain100l", LAYOUT, [mini.as_zip(tmp_path / "a.zip", files)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_empty_files_are_named(tmp_path: Path) -> None:
    files = mini.rain100_authors() | {"rain_data_test_Light/rain/X2/norain-2x2.png": b""}
    with pytest.raises(UserError, match=r"1 file\(s\) are empty \('a/rain_data_test_Light/rain/X2/norain-2x2.png'\)"):
        prepare("rain100l", LAYOUT, [mini.as_zip(tmp_path / "a.zip", files)], tmp_path / "out")


def test_a_folder_with_something_else_is_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="something else"):
        prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.txt": b"mine"}


def test_an_empty_folder_is_used(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").mkdir()
    assert prepare("rain100l", LAYOUT, [source], tmp_path / "out").counts["testA"] == 3


def test_other_options_do_not_overwrite(tmp_path: Path, source: Path) -> None:
    prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="was made from other images or options"):
        prepare("rain100l", LAYOUT, [source], tmp_path / "out", Request(val=Share(1)))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("change", ["delete", "shorten"])
def test_a_result_that_was_changed_is_reported(tmp_path: Path, source: Path, change: str) -> None:
    prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    path = tmp_path / "out" / "testA" / "0002.png"
    path.unlink() if change == "delete" else path.write_bytes(b"x")
    with pytest.raises(UserError, match="is damaged: files are missing or have other sizes"):
        prepare("rain100l", LAYOUT, [source], tmp_path / "out")


@pytest.mark.parametrize("out", ["source", "source/out", "."])
def test_out_and_source_stay_apart(tmp_path: Path, out: str) -> None:
    source = mini.as_folder(tmp_path / "source", mini.rain100_authors())
    with pytest.raises(UserError, match="is inside --source"):
        prepare("rain100l", LAYOUT, [source], tmp_path / out)


def test_names_that_would_collide_are_named(tmp_path: Path) -> None:
    files = {f"{side}/{name}.png": mini.picture(side + name) for side in ("rain", "clean") for name in "1AZa"}
    with pytest.raises(UserError, match=r"mine/rain/A\.png' and 'mine/rain/a\.png' would both become"):
        source = mini.as_zip(tmp_path / "mine.zip", files)
        prepare("folder-pairs", FolderPairs(test=Share(1)), [source], tmp_path / "out")


def test_a_full_disk_is_foreseen(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0))
    with pytest.raises(UserError, match=r"GB are to be written, but only 0\.0 GB are free"):
        prepare("rain100l", LAYOUT, [source], tmp_path / "out")


@pytest.mark.parametrize("out", [".", ".."])
def test_out_needs_a_name(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match="name a new folder"):
        prepare("rain100l", LAYOUT, [source], Path(out))


def test_names_that_some_systems_forbid_are_named(tmp_path: Path) -> None:
    files = {f"{side}/{name}.png": mini.picture(name) for side in ("rain", "clean") for name in ("a:b", "c", "d")}
    with pytest.raises(UserError, match=r"mine/rain/a:b\.png' has a name"):
        prepare("folder-pairs", FolderPairs(), [mini.as_zip(tmp_path / "mine.zip", files)], tmp_path / "out")


def test_a_second_process_with_the_same_out_is_refused(tmp_path: Path, source: Path) -> None:
    with (
        Staging(tmp_path / "out", "--out", resume=True),
        pytest.raises(UserError, match=r"--out .*out: process .* is writing there"),
    ):
        prepare("rain100l", LAYOUT, [source], tmp_path / "out")
    assert prepare("rain100l", LAYOUT, [source], tmp_path / "out").changed


def test_names_pair_in_whatever_unicode_form(tmp_path: Path) -> None:
    files = {
        f"{side}/Stra\u00dfe_{letter}{number}.png": mini.picture(f"{side}{number}")
        for side, letter in (("rain", "u\u0308"), ("clean", "\u00fc"))
        for number in range(4)
    }
    prepared = prepare("folder-pairs", FolderPairs(), [mini.as_folder(tmp_path / "mine", files)], tmp_path / "out")
    assert (prepared.counts["testA"], prepared.counts["testB"]) == (1, 1)
