"""Two processes on one run: the second is refused, and what a dead one left is recognised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import train as train_program
from tests.conftest import small_model_flags
from util.engine import lock, process
from util.engine.lock import LOCK_FILE, SILENCE_SECONDS, RunLock
from util.engine.run_folder import RunFolder
from util.errors import EXIT_USER_ERROR, UserError

ROOT = Path(__file__).resolve().parents[1]


def left_behind(folder: Path, **changes: Any) -> Path:
    """The lock of a process that was killed, changed."""
    first = RunLock(folder)
    first.acquire()
    content = (folder / LOCK_FILE).read_text()
    first.release()
    (folder / LOCK_FILE).write_text(json.dumps({**json.loads(content), **changes}))
    return folder / LOCK_FILE


def ended_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_the_second_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    with pytest.raises(UserError, match=rf"trained by process {os.getpid()} on .*; wait for it, stop it, or use"):
        second.acquire()
    second.release()  # which it does not hold
    assert (tmp_path / LOCK_FILE).is_file()
    first.release()
    assert list(tmp_path.iterdir()) == []
    second.acquire()
    second.release()


def test_a_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    left_behind(tmp_path, pid=ended_process())
    RunLock(tmp_path).acquire()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="the system does not tell when a process began")
def test_a_later_process_of_the_same_number_does_not_count(tmp_path: Path) -> None:
    left_behind(tmp_path, process_start="1")
    RunLock(tmp_path).acquire()


@pytest.mark.parametrize(("seconds", "free"), [(0, False), (SILENCE_SECONDS / 2, False), (SILENCE_SECONDS + 9, True)])
def test_a_process_on_another_machine_counts_while_it_shows_signs_of_life(
    tmp_path: Path, seconds: float, free: bool
) -> None:
    path = left_behind(tmp_path, host="elsewhere", machine="elsewhere", pid=ended_process())
    then = time.time() - seconds
    os.utime(path, (then, then))
    if free:
        RunLock(tmp_path).acquire()
        return
    with pytest.raises(UserError, match=r"on elsewhere, .* sign of life \d+ s ago; stop it there"):
        RunLock(tmp_path).acquire()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_file_that_says_nothing_is_removed_once_it_is_old(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    then = time.time() - 60
    os.utime(tmp_path / LOCK_FILE, (then, then))
    RunLock(tmp_path).acquire()


def test_a_file_that_says_nothing_is_removed_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_BEING_WRITTEN_SECONDS", 0.2)
    (tmp_path / LOCK_FILE).touch()
    tomorrow = time.time() + 86400
    os.utime(tmp_path / LOCK_FILE, (tomorrow, tomorrow))
    RunLock(tmp_path).acquire()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_signs_of_life_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SIGN_OF_LIFE_SECONDS", 0.01)
    held = RunLock(tmp_path)
    held.acquire()
    os.utime(tmp_path / LOCK_FILE, (0, 0))
    deadline = time.monotonic() + 30
    while (tmp_path / LOCK_FILE).stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    held.release()


def test_whoever_was_taken_over_stops_before_it_overwrites(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    first.acquire()
    (tmp_path / LOCK_FILE).unlink()
    first.check()  # a file that was deleted is made again
    first.check()
    left_behind_by_other = json.loads((tmp_path / LOCK_FILE).read_text()) | {"token": "other", "pid": 1}
    (tmp_path / LOCK_FILE).write_text(json.dumps(left_behind_by_other))
    with pytest.raises(UserError, match="now trained by process 1"):
        first.check()
    first.release()
    assert (tmp_path / LOCK_FILE).is_file()  # the other one's


def test_processes_are_told_apart() -> None:
    assert process.is_alive(os.getpid()) and not process.is_alive(ended_process())
    sleeping = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.is_alive(sleeping.pid)
    sleeping.communicate(b"\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_many_that_find_a_leftover_one_gets_it(tmp_path: Path) -> None:
    left_behind(tmp_path, pid=ended_process())
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 2
            try:
                RunLock(tmp_path).acquire()
                time.sleep(3)
                code = 0
            except UserError:
                code = 1
            finally:
                os._exit(code)
        children.append(child)
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("flags", [(), ("--continue_train",)], ids=["fresh", "resumed"])
def test_a_training_leaves_a_run_alone_that_another_one_holds(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    short = [*small_model_flags("cut"), "--no_html", "--max_dataset_size", "1", "--n_epochs_decay", "0"]
    assert train_program.main([*where, *short, "--n_epochs", "1"]) == 0
    folder = tmp_path / "checkpoints" / "run"
    assert not (folder / LOCK_FILE).exists()
    with RunFolder(folder) as other:
        other.claim()
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
        capsys.readouterr()
        assert train_program.main([*where, *short, "--n_epochs", "2", *flags]) == EXIT_USER_ERROR
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {folder} is being trained by process")
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()} == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["run"]
    assert train_program.main([*where, *short, "--n_epochs", "2", *flags]) == 0
    assert not (folder / LOCK_FILE).exists()
