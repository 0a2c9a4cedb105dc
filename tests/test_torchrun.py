"""The real command: torchrun with two processes of train.py on the CPU, stopped and killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import small_model_flags, write_rain_dataset

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(os.name == "nt", reason="needs signals")]

ROOT = Path(__file__).resolve().parents[1]
SECONDS_TO_END = 60.0  # torchrun itself gives processes half of that
SECONDS_TO_START = 180.0


class Launched:
    """``torchrun --nproc_per_node=2 train.py`` with some flags; what it says goes to a file."""

    def __init__(self, folder: Path, *flags: str) -> None:
        launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
        self._log = folder / f"{len(list(folder.glob('*.log')))}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self._log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *launch, "train.py", "--checkpoints_dir", str(folder), "--name", "run", *flags],
                cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(SECONDS_TO_END)

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + SECONDS_TO_START
        while text not in self.said:
            assert self.process.poll() is None and time.monotonic() < end, self.said
            time.sleep(0.05)

    def ranks(self) -> dict[int, int]:
        """The processes by rank."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    variables = (entry / "environ").read_bytes().split(b"\0")
                    found[int(next(each[5:] for each in variables if each.startswith(b"RANK=")))] = int(entry.name)
            except (OSError, StopIteration):
                continue
        return found


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    data = write_rain_dataset(tmp_path / "data", train_images=6)
    own = ["--dataroot", str(data), "--n_epochs", "200", "--n_epochs_decay", "0", "--batch_size", "2", "--no_html"]
    return [*small_model_flags("cut"), *own, "--num_threads", "1", "--save_latest_freq", "8", "--val_freq", "0"]


def images_saved(folder: Path) -> int:
    state: Any = torch.load(folder / "run" / "training_state.pth", weights_only=True)
    return int(state["position"]["total_images"])


def go_on(folder: Path) -> None:
    """Resume for one more epoch than there is, by the same command."""
    before = images_saved(folder)
    epochs = str(before // 7 + 1)  # of seven images
    with Launched(folder, "--continue_train", "--n_epochs", epochs) as launched:
        assert launched.process.wait(SECONDS_TO_START) == 0, launched.said
        assert "continuing" in launched.said and "finished; test with" in launched.said
        assert "rank 1" not in launched.said
    assert images_saved(folder) == 7 * int(epochs) > before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_saves_and_the_run_goes_on(
    tmp_path: Path, flags: list[str], number: signal.Signals
) -> None:
    with Launched(tmp_path, *flags) as launched:
        launched.wait_for("epoch 3/200")
        launched.process.send_signal(number)
        assert launched.process.wait(SECONDS_TO_END) != 0
        assert f"{number.name}: finishing this step and saving" in launched.said
        assert "stopped and saved; go on with" in launched.said
        assert len(re.findall(r"^epoch 1/200 done", launched.said, flags=re.MULTILINE)) == 1
    assert images_saved(tmp_path) >= 14
    go_on(tmp_path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_the_other_of_a_killed_process_ends_in_time_and_the_run_goes_on(
    tmp_path: Path, flags: list[str], rank: int
) -> None:
    with Launched(tmp_path, *flags) as launched:
        launched.wait_for("epoch 3/200")
        os.kill(launched.ranks()[rank], signal.SIGKILL)
        assert launched.process.wait(SECONDS_TO_END) != 0
        said = launched.said
    survivor = "error: rank 1: another process" if rank == 0 else "error: another process"
    assert survivor in said and "--continue_train" in said, said
    go_on(tmp_path)
