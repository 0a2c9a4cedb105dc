"""Several processes train as one would: gloo on the CPU, in forks that are told what torchrun tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import small_model_flags, write_rain_dataset
from tests.ranks_runner import in_float64, training

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

EXACT = {
    "cut": ("--num_patches", "64"),
    "cycle_gan": ("--pool_size", "2"),
    "cclgan": ("--lambda_inter", "0", "--lambda_intra", "0", "--ema", "0.5", "--clip_grad", "0.1"),
}
"""Everything but losses that are no means over the images of a batch. Locations and pools draw at random."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rain_dataset(tmp_path_factory.mktemp("ranks"), train_images=2)


def flags(data: Path, checkpoints: Path, name: str, model: str, *more: str) -> list[str]:
    where = ["--dataroot", str(data), "--name", name, "--checkpoints_dir", str(checkpoints)]
    length = ["--n_epochs", "2", "--n_epochs_decay", "0", "--print_freq", "1", "--val_freq", "0"]
    return [*where, *small_model_flags(model), *length, "--load_size", "24", "--crop_size", "24", "--no_html", *more]


def train(log: Path, command: list[str], count: int, **rest: Any) -> list[str]:
    with training(log, command, count, **rest) as ranks:
        codes = ranks.codes()
        assert codes == [0] * count, ranks.outputs
        return ranks.outputs


def state_of(run: Path) -> Any:
    return torch.load(run / "training_state.pth", weights_only=True)


def tensors(content: Any) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content.double()]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [tensor for part in parts for tensor in tensors(part)]


@pytest.mark.parametrize("model", EXACT)
def test_two_processes_train_what_one_does(tmp_path: Path, data: Path, model: str) -> None:
    """Three images an epoch in batches of two: every epoch ends with a batch of which the second process has nothing."""
    for count in (1, 2):
        command = flags(data, tmp_path, str(count), model, "--batch_size", "2", *EXACT[model])
        train(tmp_path / f"{count}", command, count, prepare=in_float64)
    one, two = (state_of(tmp_path / name) for name in ("1", "2"))
    assert one["position"]["total_images"] == two["position"]["total_images"] == 6
    for part in ("nets", "optimizers", "stepper", "model"):
        pairs = list(zip(tensors(one[part]), tensors(two[part]), strict=True))
        assert pairs or part in ("model", "stepper")
        worst = max((float((a - b).abs().max()) for a, b in pairs), default=0.0)
        print(model, part, worst)
        assert worst < 1e-9, part
