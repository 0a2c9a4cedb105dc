"""A training that is killed again and again ends, bit for bit, where an uninterrupted one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import small_model_flags, write_rain_dataset
from tests.test_any_instant import differences
from util.engine.records import BEST_FILE

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

OF_THE_MOMENT = {"options", "versions"}  # of a state; the name of the run is among the options


def train_under_fire(folder: Path, name: str, flags: list[str], *, kills: int, seed: int = 0) -> dict[str, Any]:
    """Train ``name`` with so many kills; what :mod:`tests.chaos_runner` says of it."""
    where = ["--dataroot", str(folder / "data"), "--name", name, "--checkpoints_dir", str(folder / "checkpoints")]
    task = {"folder": str(folder), "name": name, "flags": [*where, *flags], "kills": kills, "seed": seed}
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos_runner", json.dumps(task)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = (folder / f"{name}.log").read_text(errors="replace")
    assert done.returncode == 0, done.stderr + log
    assert "Traceback" not in log, log
    result = json.loads(done.stdout.splitlines()[-1])
    print(name, result)
    return result


def compare(folder: Path, whole: str, parts: str) -> None:
    runs = [folder / "checkpoints" / name for name in (whole, parts)]
    states = [torch.load(run / "training_state.pth", weights_only=True) for run in runs]
    kept = [{key: value for key, value in state.items() if key not in OF_THE_MOMENT} for state in states]
    assert differences(kept[0], kept[1]) == []
    for name in ("losses.csv", "metrics.csv", BEST_FILE):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes(), name
    names = [sorted(path.name for path in run.glob("*_net_*.pth")) for run in runs]
    assert names[0] == names[1]
    for name in names[0]:
        nets = [torch.load(run / name, weights_only=True) for run in runs]
        assert differences(*nets) == [], name
    assert [path.name for path in runs[1].iterdir() if path.name.startswith(".") or path.suffix == ".lock"] == []


def chaos(tmp_path: Path, model: str, *, epochs: int, kills: int) -> None:
    data = write_rain_dataset(tmp_path / "data")
    for domain in "AB":
        shutil.copytree(data / f"test{domain}", data / f"val{domain}")
    flags = [*small_model_flags(model), "--n_epochs", str(epochs), "--n_epochs_decay", "0", "--num_threads", "1"]
    flags += ["--print_freq", "1", "--save_latest_freq", "2", "--save_epoch_freq", "3", "--keep", "2"]
    flags += ["--val_freq", "4", "--update_html_freq", "8", "--pool_size", "3"]
    assert train_under_fire(tmp_path, "whole", flags, kills=0)["code"] == 0
    result = train_under_fire(tmp_path, "parts", flags, kills=kills)
    assert result["code"] == 0 and result["wrong"] == []
    assert sum(result["kills"].values()) >= kills
    compare(tmp_path, "whole", "parts")


@pytest.mark.heavy  # where a kill falls depends on the machine; test_any_instant.py takes all instants in turn
def test_a_run_that_is_killed_a_few_times_loses_nothing(tmp_path: Path) -> None:
    chaos(tmp_path, "cut", epochs=2, kills=3)


@pytest.mark.heavy
@pytest.mark.parametrize("model", ["cclgan", "cut", "cycle_gan"])
def test_sixty_steps_and_thirty_kills_lose_nothing(tmp_path: Path, model: str) -> None:
    chaos(tmp_path, model, epochs=16, kills=30)
