"""Two processes on one run: the second is refused, and what a dead one left means nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train as train_program
from tests.conftest import small_model_flags
from util.engine.checkpoint import LOCK_FILE, Checkpointer
from util.errors import EXIT_USER_ERROR, UserError
from util.files import CannotWrite
from util.lock import Lock, owner_of

ROOT = Path(__file__).resolve().parents[1]


def lock_of(folder: Path) -> Lock:
    return Lock(folder / LOCK_FILE, "it is being trained by {owner}; wait.")


def test_the_second_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    first, second = lock_of(tmp_path), lock_of(tmp_path)
    first.acquire()
    for _ in range(2):
        with pytest.raises(UserError, match=rf"trained by process {os.getpid()} on .*, since .*; wait"):
            second.acquire()
    second.release()  # which it does not hold
    assert owner_of(tmp_path / LOCK_FILE).startswith(f"process {os.getpid()} on ")
    first.release()
    assert list(tmp_path.iterdir()) == [] and owner_of(tmp_path / LOCK_FILE) == ""
    second.acquire()
    second.release()


HOLDS = """
import os, sys, time
from pathlib import Path
from util.lock import Lock
lock = Lock(Path(sys.argv[1]), "{owner}")
lock.acquire()
if os.fork() == 0:
    os.setsid()
    time.sleep(60)  # a worker that outlives it
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_no_lock_not_even_through_its_workers(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path / LOCK_FILE)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {process.pid} on"):
            lock_of(tmp_path).acquire()
        process.kill()
        process.wait()
        time.sleep(1)  # a worker that was just forked has still to close its copy
        lock = lock_of(tmp_path)
        lock.acquire()
        assert f"process {os.getpid()} " in (tmp_path / LOCK_FILE).read_text()
        lock.release()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\0", b'{"pid": 1}'])
def test_a_file_without_a_holder_means_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    assert owner_of(tmp_path / LOCK_FILE) == ""
    lock_of(tmp_path).acquire()


def test_whoever_was_taken_over_stops_before_it_overwrites(tmp_path: Path) -> None:
    first, second = lock_of(tmp_path), lock_of(tmp_path)
    first.acquire()
    (tmp_path / LOCK_FILE).unlink()
    first.check()  # a file that was deleted is made again
    first.check()
    (tmp_path / LOCK_FILE).unlink()
    second.acquire()
    with pytest.raises(CannotWrite, match="trained by process"):
        first.check()
    first.release()
    assert (tmp_path / LOCK_FILE).is_file()  # the other one's
    second.check()


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(file: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("util.lock._lock", unknown)
    lock_of(tmp_path).acquire()
    assert "has no locks" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_many_at_the_same_moment_one_gets_it(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 2
            try:
                lock = lock_of(tmp_path)
                lock.acquire()
                time.sleep(1)
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
    with Checkpointer(folder) as other:
        other.claim()
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
        capsys.readouterr()
        assert train_program.main([*where, *short, "--n_epochs", "2", *flags]) == EXIT_USER_ERROR
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {folder} is being trained by process")
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()} == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["run"]
    assert train_program.main([*where, *short, "--n_epochs", "2", *flags]) == 0
    assert not (folder / LOCK_FILE).exists()
