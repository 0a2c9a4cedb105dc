"""Worker processes and signals: a stopped training saves in peace, and nobody is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from data.datasets import TrainingDataset
from data.loader import TrainingLoader
from data.sampler import SampleKey
from tests.conftest import small_model_flags, write_rain_dataset
from util.errors import STOP_SIGNALS

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 90  # seconds; generous, for machines with much else to do

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs process groups")

LOADER = """
import os, signal, sys, time
import torch
from data.datasets import TrainingDataset
from data.loader import TrainingLoader

class Zeros(TrainingDataset):
    def __init__(self): pass
    def __len__(self): return 1000
    def __getitem__(self, key): return {"A": torch.zeros(1, 4, 4)}

loader = TrainingLoader(Zeros(), batch_size=1, seed=0, num_threads=2)
batches = loader.epoch(1)
next(batches)
"""
ENDINGS = {
    "normally": ("", 0),
    "by an exception": ("raise RuntimeError('a bug')", 1),
    "by sys.exit while the batches are held": ("sys.exit(3)", 3),
    "after the loader was deleted": ("del batches, loader\nimport multiprocessing\n"
                                     "assert not multiprocessing.active_children()", 0),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "terminated without a handler": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "after SIGTERM and SIGINT to all, which it ignores": (
        "for number in (signal.SIGTERM, signal.SIGINT):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "    os.killpg(0, number)\n"
        "for _ in range(50): next(batches)\n", 0),
}  # fmt: skip


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """A process in a group of its own, all of whose children hold its output open."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Output and errors, which end when the last process of the group ends; kills what is left over."""
    try:
        return process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("processes were left behind")


class Zeros(TrainingDataset):
    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 100

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        return {"A": torch.zeros(1, 4, 4)}


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_worker_serves_on_after_a_signal(number: signal.Signals) -> None:
    others = multiprocessing.active_children()
    loader = TrainingLoader(Zeros(), batch_size=1, seed=0, num_threads=1)
    batches = loader.epoch(1)
    (worker,) = set(multiprocessing.active_children()) - set(others)
    os.kill(worker.pid or 0, number)
    assert len(list(batches)) == 100
    assert worker.is_alive()
    del loader, batches
    assert not worker.is_alive()


@pytest.mark.heavy
@pytest.mark.parametrize("ending", ENDINGS)
def test_workers_end_with_the_main_process(tmp_path: Path, ending: str) -> None:
    code, expected = ENDINGS[ending]
    (tmp_path / "main.py").write_text(LOADER + code, encoding="utf-8")
    process = start([sys.executable, "main.py"], tmp_path)
    _, errors = wait(process)
    assert process.returncode == expected
    assert "killed by signal" not in errors and "KeyboardInterrupt" not in errors


@pytest.mark.heavy
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_to_the_whole_group_stops_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    write_rain_dataset(tmp_path / "data")
    flags = [*small_model_flags("cut"), "--num_threads", "2", "--print_freq", "1", "--n_epochs", "10000", "--no_html"]
    where = ["--dataroot", "data", "--name", "run"]
    process = start([sys.executable, str(ROOT / "train.py"), *where, *flags], tmp_path)
    losses = tmp_path / "checkpoints" / "run" / "losses.csv"
    deadline = time.monotonic() + TIME_LIMIT
    while not (losses.is_file() and losses.read_text().count("\n") > 2):
        assert process.poll() is None and time.monotonic() < deadline, wait(process)
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, errors = wait(process)
    assert process.returncode == 128 + number, errors
    assert (tmp_path / "checkpoints" / "run" / "training_state.pth").is_file()
    assert "Traceback" not in errors
    assert errors.count("finishing this step") == 1


@pytest.mark.heavy
def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    write_rain_dataset(tmp_path / "data")
    flags = [*small_model_flags("cut"), "--num_threads", "0", "--n_epochs", "9", "--n_epochs_decay", "0", "--no_html"]
    program = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    where = ["--dataroot", "data", "--name", "run"]
    process = start([sys.executable, "-c", program, sys.executable, str(ROOT / "train.py"), *where, *flags], tmp_path)
    losses = tmp_path / "checkpoints" / "run" / "losses.csv"
    while process.poll() is None and not losses.is_file():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGHUP)
    _, errors = wait(process)
    assert process.returncode == 0, errors
