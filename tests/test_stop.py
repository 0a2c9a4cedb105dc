"""What goes wrong while a training runs: it goes on, or ends with one sentence and everything saved that can be."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from options.schema import duration
from tests.small_run import Run, at_step
from util.engine import stop as interrupt_module
from util.engine.stop import Deadline, Interrupt
from util.errors import EXIT_TERMINATED, EXIT_TIME_LIMIT, EXIT_USER_ERROR, STOP_SIGNALS, Terminated, entry_point
from util.images import save_png


@pytest.fixture
def run(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, dataset, capsys)


# ---- memory, disks, images, workers ----


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])  # fmt: skip
def test_out_of_memory_says_what_to_reduce(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def happen() -> None:
        raise error

    at_step(monkeypatch, 2, happen)
    code, lines = run("--save_latest_freq", "1")
    assert code == EXIT_USER_ERROR and lines[-1].startswith("error: out of memory: a step with 1 images of 32×32")
    assert "--batch_size" in lines[-1] and "--crop_size" in lines[-1]
    assert run.images_saved == 2


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_the_page_but_not_the_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: monkeypatch.setattr("util.trackers.page.save_png", full))
    code, lines = run("--update_html_freq", "1", epochs=1)
    assert code == 0 and run.images_saved == 4
    assert sum("WebPage is switched off" in line for line in lines) >= 1
    assert save_png is not full


def test_a_full_disk_at_the_tables_costs_them_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: monkeypatch.setattr("util.trackers.csv_files.CsvFiles._write_log", full))
    code, lines = run("--no_html", epochs=1)
    assert code == 0 and run.images_saved == 4
    assert sum("CsvFiles is switched off" in line for line in lines) == 1


def test_a_full_disk_at_a_save_ends_with_the_state_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 3, lambda: monkeypatch.setattr(os, "fsync", full))
    code, lines = run("--save_latest_freq", "2", "--no_html", epochs=1)
    assert code == EXIT_USER_ERROR
    assert "training_state.pth: cannot be written (No space left on device)" in lines[-1]
    assert run.images_saved == 2
    monkeypatch.undo()
    assert run("--continue_train", epochs=1)[0] == 0


def test_a_deleted_folder_costs_no_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: shutil.rmtree(run.folder))
    code, lines = run("--no_html", epochs=1)
    assert code == 0 and any("was deleted; it is made again" in line for line in lines)
    assert run.images_saved == 4 and (run.folder / "options.yaml").is_file()
    assert run("--continue_train", "--no_html", epochs=2)[0] == 0


@pytest.mark.parametrize("harm", ["deleted", "cut off"])
def test_an_image_that_breaks_between_epochs(run: Run, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    path = run.dataset / "trainA" / "rainy_1.png"

    def happen() -> None:
        path.write_bytes(path.read_bytes()[:100])
        if harm == "deleted":
            path.unlink()

    at_step(monkeypatch, 3, happen)
    code, lines = run("--cache", "none", "--no_html")
    assert code == EXIT_USER_ERROR and "rainy_1.png" in lines[-1] and "--skip_bad" in lines[-1]
    assert run.images_saved >= 4  # everything that was trained
    picture = np.zeros((36, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    assert run("--continue_train", "--no_html")[0] == 0


def test_a_server_of_plots_that_dies_costs_no_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts, and is gone when the first plot arrives: nobody waits for it."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        at_step(monkeypatch, 1, server.close)
        flags = ("--display_id", "1", "--display_server", "http://localhost", "--display_port", str(port))
        code, _ = run(*flags, "--display_freq", "1", "--no_html", epochs=1)
    assert code == 0 and run.images_saved == 4


def test_with_the_cache_a_broken_image_is_not_even_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 4, lambda: shutil.rmtree(run.dataset / "trainA"))
    assert run("--no_html", "--serial_batches")[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_worker_is_one_sentence_and_costs_no_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def happen() -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, signal.SIGKILL)

    at_step(monkeypatch, 2, happen)
    code, lines = run("--num_threads", "1", "--no_html", "--cache", "none", epochs=9)
    assert code == EXIT_USER_ERROR
    assert lines[-1].startswith("error: a DataLoader worker was killed, probably out of memory")
    assert "--num_threads" in lines[-1]
    assert run.images_saved >= 3


# ---- signals and time ----


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_finishes_the_step_and_says_how_to_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    code, lines = run("--no_html")
    assert code == 128 + number and run.images_saved == 3
    assert "--continue_train" in lines[-1]
    assert not (run.folder / "run.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once_with_the_last_state(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def happen() -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    at_step(monkeypatch, 3, happen)
    code, lines = run("--no_html", "--save_latest_freq", "2")
    assert code == 128 + number and lines[-1] == "interrupted"
    assert run.images_saved == 2
    assert not (run.folder / "run.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_terminal_that_closes_may_say_so_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    at_step(monkeypatch, 2, twice)
    code, lines = run("--no_html")
    assert code == 128 + number and run.images_saved == 3
    assert "--continue_train" in lines[-1]


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_that_was_ignored_stays_ignored(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
        assert run("--no_html", epochs=1)[0] == 0 and run.images_saved == 4
    finally:
        signal.signal(number, before)


def test_the_limit_of_time_stops_saves_and_goes_on(run: Run) -> None:
    code, lines = run("--time_limit", "0.000001", "--no_html")
    assert code == EXIT_TIME_LIMIT and run.images_saved == 1 and "--continue_train" in lines[-1]
    assert run("--continue_train", "--no_html", "--time_limit", "1:00")[0] == 0
    assert run.images_saved == 12


def test_a_deadline_leaves_room_for_a_step_and_a_save(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(interrupt_module.time, "monotonic", lambda: now)
    deadline = Deadline(10000.0)  # of which a minute is spare
    deadline.observe("step", 30.0)
    deadline.observe("save", 10.0)
    deadline.observe("step", 20.0)
    now = 11000.0 - 101.0
    assert not deadline.reached
    now += 2.0
    assert deadline.reached and Interrupt(deadline).requested


def test_a_clock_that_jumps_moves_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(3600.0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    assert not deadline.reached


def test_a_clock_that_runs_backwards_disturbs_no_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    backwards = itertools.count(time.time(), -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(backwards))
    assert run("--time_limit", "1:00", "--save_latest_freq", "1", "--update_html_freq", "1", epochs=1)[0] == 0
    assert run("--continue_train", "--time_limit", "1:00", epochs=2)[0] == 0
    assert run.images_saved == 8


@pytest.mark.parametrize(("text", "hours"), [("11:30", 11.5), ("0:06", 0.1), ("24", 24.0), ("0.5", 0.5)])
def test_a_limit_of_time_is_hours_or_hours_and_minutes(text: str, hours: float) -> None:
    assert duration(text) == pytest.approx(hours)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1:60", ":30", "soon", "", "0:00"])
def test_other_limits_of_time_are_refused(run: Run, text: str) -> None:
    code, lines = run("--time_limit", text)
    assert code == EXIT_USER_ERROR and "--time_limit" in lines[-1]


def test_terminated_at_once_has_the_code_of_its_signal() -> None:
    @entry_point
    def main(argv: Any) -> int:
        raise Terminated

    assert main() == EXIT_TERMINATED


def test_training_draws_from_torchs_generator_alone(run: Run) -> None:
    """Whose seed every step sets, so there is no state of a generator to keep."""
    import random

    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert run("--no_html", epochs=1, model="cycle_gan")[0] == 0
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
