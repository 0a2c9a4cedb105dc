"""A folder appears whole or not at all, whatever else happens at the time."""

from __future__ import annotations

import errno
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from util.errors import UserError
from util.files import CannotWrite
from util.staging import Staging

Pauses = list[float]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pauses]:
    found: Pauses = []
    monkeypatch.setattr("util.files.time.sleep", found.append)
    yield found


def write(place: Path, text: str) -> None:
    with Staging(place, "--out") as staging:
        (staging.folder / "a.txt").write_text(text, encoding="utf-8")
        staging.publish()


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir())


def content(place: Path) -> str:
    return (place / "a.txt").read_text(encoding="utf-8")


def refuse_renames(numbers: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let renames of these numbers fail, as a program that has a file open makes them on Windows."""
    real, calls = Path.replace, []

    def refusing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) in numbers:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refusing)


def test_a_new_folder_replaces_the_old_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "out"
    for text in ("one", "two"):
        write(place, text)
        assert (content(place), names(place)) == (text, ["out"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("mine."), OSError(errno.ENOSPC, "No space left")])
def test_what_was_there_stays_until_all_is_done(tmp_path: Path, error: BaseException) -> None:
    place = tmp_path / "out"
    write(place, "old")
    with (
        pytest.raises(CannotWrite if isinstance(error, OSError) else type(error)),
        Staging(place, "--out") as staging,
    ):
        (staging.folder / "a.txt").write_text("new", encoding="utf-8")
        raise error
    assert (content(place), names(place)) == ("old", ["out"])


def test_a_folder_that_is_held_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: Pauses
) -> None:
    place = tmp_path / "out"
    write(place, "old")
    refuse_renames({1, 3, 4}, monkeypatch)
    write(place, "new")
    assert (content(place), names(place), len(pauses)) == ("new", ["out"], 3)


@pytest.mark.parametrize("first", [1, 2])
def test_what_is_finished_is_kept_where_it_cannot_be_put_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    place = tmp_path / "out"
    write(place, "old")
    refuse_renames(set(range(first, first + 6)), monkeypatch)
    with pytest.raises(CannotWrite, match=r"--out .*out: cannot be replaced \(Permission denied\)") as caught:
        write(place, "new")
    (kept,) = tmp_path.glob("out.finished-*")
    assert str(kept) in str(caught.value)
    assert (content(place), content(kept)) == ("old", "new")
    write(place, "newer")
    assert content(kept) == "new", "the next process must not throw it away"


def test_what_a_killed_process_left_is_put_back_or_removed(tmp_path: Path) -> None:
    place = tmp_path / "out"
    write(place, "old")
    place.rename(tmp_path / ".out.previous")
    (tmp_path / ".out.0123abcd.partial").mkdir()
    (tmp_path / ".out.other.0123abcd.partial").mkdir()  # of a place called out.other
    with Staging(place, "--out"):
        assert content(place) == "old"
    assert names(place) == [".out.other.0123abcd.partial", "out"]


def test_unfinished_work_stays_only_for_who_resumes_it(tmp_path: Path) -> None:
    place = tmp_path / "out"
    for expected in ([], ["half"]):
        with pytest.raises(KeyboardInterrupt), Staging(place, "--out", resume=True) as staging:
            assert [path.name for path in staging.folder.iterdir()] == expected
            (staging.folder / "half").touch()
            raise KeyboardInterrupt
    with Staging(place, "--out", resume=True) as staging:
        staging.discard()
    assert not list(tmp_path.iterdir())


def test_a_second_one_for_the_same_place_is_refused(tmp_path: Path) -> None:
    with Staging(tmp_path / "out", "--out") as first:
        with pytest.raises(UserError, match=r"--out .*out: process \d+ on .* is writing there; wait for it"):
            write(tmp_path / "out", "second")
        write(tmp_path / "other", "elsewhere")
        (first.folder / "a.txt").write_text("first", encoding="utf-8")
        first.publish()
    assert content(tmp_path / "out") == "first"


def _publish(place: Path, number: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        with Staging(place, "--out") as staging:
            for name in range(20):
                (staging.folder / f"{name}").write_text(str(number), encoding="utf-8")
            staging.publish()
    except UserError:
        pass


def test_folders_of_several_processes_never_mix(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [context.Process(target=_publish, args=(tmp_path / "out", number, barrier)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    written = {path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
    assert len(written) == 1 and len(list((tmp_path / "out").iterdir())) == 20
    assert names(tmp_path / "out") == ["out"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "out", "old")
    try:
        (tmp_path / "out").symlink_to(tmp_path / "disk" / "out", target_is_directory=True)
    except OSError:
        pytest.skip("this system does not allow symbolic links")
    write(tmp_path / "out", "new")
    assert (tmp_path / "out").is_symlink() and content(tmp_path / "disk" / "out") == "new"


def test_a_file_in_the_place_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"--out .*out: is not a folder"), Staging(tmp_path / "out", "--out"):
        pytest.fail("it went on")
    assert names(tmp_path / "out") == ["out"]
