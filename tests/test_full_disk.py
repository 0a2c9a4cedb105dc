"""A disk that is full, or fails, from any operation of a training on: what was saved stays whole, and goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import train as train_program
from tests.conftest import small_model_flags, write_rain_dataset
from tests.disk_operations import operations
from tests.test_any_instant import differences, state_of
from util.engine.weights import is_damaged
from util.errors import EXIT_USER_ERROR

RUN = "run"
EVERY = 45  # operations between two that fail, in the usual run
ROOM = 2_000_000  # bytes of a real disk, which a few saves fill


class Trainings:
    """One epoch is trained; then each of many copies trains another one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, write_rain_dataset(folder / "data", train_images=1)
        for domain in "AB":
            shutil.copytree(self.data / f"test{domain}", self.data / f"val{domain}")
            (self.data / f"val{domain}" / "scene_1.png").unlink()

    def begin(self, checkpoints: Path, *flags: str) -> int:
        small = [*small_model_flags("cut"), "--lambda_NCE", "0", "--ngf", "1", "--ndf", "1", "--max_dataset_size", "1"]
        often = ["--print_freq", "1", "--val_freq", "1", "--save_epoch_freq", "1", "--keep", "1", "--no_html"]
        where = ["--dataroot", str(self.data), "--name", RUN, "--checkpoints_dir", str(checkpoints)]
        return train_program.main([*where, *small, *often, "--n_epochs", "1", "--n_epochs_decay", "0", *flags])

    def go_on(self, checkpoints: Path) -> int:
        return train_program.main(
            ["--name", RUN, "--checkpoints_dir", str(checkpoints), "--continue_train", "--n_epochs", "2"]
        )


def check_whole(run: Path) -> None:
    for path in run.glob("[!.]*.pth"):
        assert not is_damaged(path), path
    assert not list(run.glob(".*.tmp")), "a temporary file is left"


CASES = [
    pytest.param(errno.ENOSPC, EVERY, id="full, some"),
    pytest.param(errno.ENOSPC, 1, id="full, all", marks=pytest.mark.heavy),
    pytest.param(errno.EROFS, 1, id="read-only, all", marks=pytest.mark.heavy),
    pytest.param(errno.EIO, 1, id="broken, all", marks=pytest.mark.heavy),
]


@pytest.mark.parametrize(("number", "every"), CASES)
def test_a_disk_that_fails_from_any_operation_on_costs_no_saved_state(
    tmp_path: Path, number: int, every: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("util.files._PAUSES", (0.0,))
    trainings = Trainings(tmp_path)
    assert trainings.begin(tmp_path / "first") == 0
    shutil.copytree(tmp_path / "first", tmp_path / "whole")
    with operations(lambda name, count: None) as done:
        assert trainings.go_on(tmp_path / "whole") == 0
    expected, codes = state_of(tmp_path / "whole" / RUN), set()
    for fatal in range(1, len(done) + 1, every):
        here = tmp_path / str(fatal)
        shutil.copytree(tmp_path / "first", here)

        def fail(name: str, count: int, fatal: int = fatal) -> None:
            if count >= fatal:
                raise OSError(number, os.strerror(number))

        capsys.readouterr()
        with operations(fail):
            codes.add(trainings.go_on(here))
        assert sum(line.startswith("error: ") for line in capsys.readouterr().err.splitlines()) <= 1
        check_whole(here / RUN)
        assert trainings.go_on(here) == 0
        check_whole(here / RUN)
        assert differences(expected, state_of(here / RUN)) == [], fatal
        shutil.rmtree(here)
    assert EXIT_USER_ERROR in codes and codes <= {0, EXIT_USER_ERROR}


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A real file system with so much room, where this process may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.heavy
def test_a_real_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However much room there is, from too little for the first save to enough for all."""
    trainings = Trainings(tmp_path)
    codes = []
    for number, size in enumerate(range(4096, ROOM, ROOM // 24)):
        with small_disk(tmp_path / f"disk{number}", size) as disk:
            codes.append(trainings.begin(disk))
            if (disk / RUN / "training_state.pth").is_file():
                check_whole(disk / RUN)
                codes.append(trainings.go_on(disk))
                check_whole(disk / RUN)
                subprocess.run(["mount", "-o", f"remount,size={10 * ROOM}", str(disk)], check=True)
                assert trainings.go_on(disk) == 0
                check_whole(disk / RUN)
            assert "Traceback" not in capsys.readouterr().err
    assert set(codes) == {0, EXIT_USER_ERROR}
