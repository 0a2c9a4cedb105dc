"""Methods that are no image translation between two unpaired domains, as plugins: each is one file in tests/methods."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import test as test_program
import train as train_program
from tests.conftest import small_model_flags
from tests.small_run import state_of, tensors
from util.engine.stop import Interrupt
from util.errors import EXIT_INTERRUPTED
from util.trackers.csv_files import read_table

FOLDER = Path(__file__).resolve().parent / "methods"
SHORT = ("--n_epochs", "2", "--n_epochs_decay", "0", "--print_freq", "1", "--val_freq", "0", "--no_html")
FLAGS = (*SHORT, "--batch_size", "2", "--lr", "1e-3")
PHASES = {
    "supervised": {"G": 4},
    "semi_supervised": {"labeled": 2, "unlabeled": 2, "D": 2},
    "self_supervised": {"G": 4},
}
"""How often the optimizer of each phase steps in two epochs of three images in batches of two."""


@pytest.fixture
def photos(dataset: Path) -> Path:
    """Pairs in trainA and trainB, and unlabeled photos in trainU."""
    (dataset / "trainA").rename(dataset / "trainU")
    for file in (dataset / "trainB").iterdir():
        if file.stem == "clean_3":
            file.unlink()
    shutil.copytree(dataset / "trainB", dataset / "trainA")
    return dataset


def train(method: str, photos: Path, checkpoints: Path, name: str, *more: str) -> int:
    where = ["--plugin", str(FOLDER / f"{method}.py"), "--dataroot", str(photos), "--checkpoints_dir", str(checkpoints)]
    single = ["--dataset_mode", "single"] if method == "self_supervised" else []
    return train_program.main([*where, *small_model_flags(method), *single, *FLAGS, "--name", name, *more])


@pytest.mark.parametrize("method", PHASES)
def test_it_trains_by_its_own_rules_resumes_bit_exactly_and_is_tested(
    method: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(method, photos, tmp_path, "whole") == 0
    whole = state_of(tmp_path / "whole")
    for name, count in PHASES[method].items():
        steps = {int(each["step"]) for each in whole["optimizers"][name]["state"].values() if "step" in each}
        assert steps in ({count}, set()), name  # SGD does not count
    assert len(read_table(tmp_path / "whole" / "losses.csv")) == 4

    class InterruptAfterTheFirstStep(Interrupt):
        requested = True  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr("util.engine.loop.Interrupt", InterruptAfterTheFirstStep)
        assert train(method, photos, tmp_path, "parts") == EXIT_INTERRUPTED
    assert state_of(tmp_path / "parts")["position"]["images_in_epoch"] == 2
    assert train(method, photos, tmp_path, "parts", "--continue_train") == 0
    parts = state_of(tmp_path / "parts")
    for part in ("nets", "optimizers"):
        for one, other in zip(tensors(whole[part]), tensors(parts[part]), strict=True):
            assert torch.equal(one, other)
    losses = [(tmp_path / name / "losses.csv").read_text(encoding="utf-8") for name in ("whole", "parts")]
    assert losses[0] == losses[1]

    where = ["--plugin", str(FOLDER / f"{method}.py"), "--dataroot", str(photos), "--checkpoints_dir", str(tmp_path)]
    assert not test_program.main(
        [*where, "--name", "whole", "--results_dir", str(tmp_path / "results"), "--gpu_ids", "-1"]
    )


def rates(run: Path) -> dict[str, list[float]]:
    return {name: [group["lr"] for group in each["param_groups"]] for name, each in state_of(run)["optimizers"].items()}


def test_optimizers_and_learning_rates_are_the_methods(photos: Path, tmp_path: Path) -> None:
    train("semi_supervised", photos, tmp_path, "semi")
    assert rates(tmp_path / "semi") == {"labeled": [1e-3, 5e-4], "unlabeled": [5e-4], "D": [1e-3]}
    optimizers = state_of(tmp_path / "semi")["optimizers"]
    assert optimizers["labeled"]["param_groups"][0]["weight_decay"] == 0.01
    assert optimizers["D"]["param_groups"][0]["momentum"] == 0.9


def test_a_schedule_by_step_warms_up_and_falls_within_epochs(photos: Path, tmp_path: Path) -> None:
    """Half a cosine over four steps, of which the first has half of its rate."""
    train("supervised", photos, tmp_path, "run")
    found = [row["learning_rate"] for row in read_table(tmp_path / "run" / "losses.csv")]
    assert found == pytest.approx([0.5e-3, 1e-3 * (1 + 2**-0.5) / 2, 0.5e-3, 1e-3 * (1 - 2**-0.5) / 2])
