"""The methods that the paper compares with, by the user's own commands: they train, resume bit-exactly, are tested."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_program
import train as train_program
from models import MODELS, create_model
from models.networks import describe_state
from options.parse import parse_train
from tests.conftest import TEST_SIZES, small_model_flags
from tests.small_run import state_of, tensors
from util.engine.schedule import Progress
from util.engine.step import Stepper
from util.engine.stop import Interrupt
from util.errors import EXIT_INTERRUPTED
from util.streams import PAIRED
from util.trackers.csv_files import read_table

METHODS: dict[str, tuple[str, ...]] = {
    "ddn": (),
    "rescan": ("--stages", "2", "--ngf", "8"),
    "ssir": (),
    "dcdgan": ("--num_patches", "16"),
    "nlcl": (),
    "jrgr": ("--pretrain_epochs", "1", "--netG", "unet_128"),
}
"""Flags that make them small."""
SHORT = ("--n_epochs", "2", "--n_epochs_decay", "0", "--print_freq", "1", "--val_freq", "0", "--no_html")


@pytest.fixture
def folder(dataset: Path) -> Path:
    """Pairs in pairs/trainA and pairs/trainB, photographs in pairs/trainU, and beside them unpaired folders."""
    pairs = dataset / "pairs"
    shutil.copytree(dataset / "trainB", pairs / "trainB")
    (pairs / "trainB" / "clean_3.png").unlink()
    shutil.copytree(pairs / "trainB", pairs / "trainA")
    shutil.copytree(dataset / "trainA", pairs / "trainU")
    for part in ("testA", "testB"):
        shutil.copytree(dataset / part, pairs / part)
    return dataset


def flags(method: str, folder: Path) -> list[str]:
    takes_pairs = MODELS.get(method).streams[:2] == PAIRED
    dataroot = folder / "pairs" if takes_pairs else folder
    return ["--dataroot", str(dataroot), *small_model_flags(method), *METHODS[method]]


def train(method: str, folder: Path, checkpoints: Path, name: str, *more: str) -> int:
    return train_program.main(
        [
            *flags(method, folder),
            *SHORT,
            "--batch_size",
            "2",
            "--checkpoints_dir",
            str(checkpoints),
            "--name",
            name,
            *more,
        ]
    )


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_resumes_bit_exactly_and_is_tested_at_odd_sizes(
    method: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(method, folder, tmp_path, "whole") == 0
    rows = read_table(tmp_path / "whole" / "losses.csv")
    assert len(rows) == 4
    assert all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))

    class InterruptAfterTheFirstStep(Interrupt):
        requested = True  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr("util.engine.loop.Interrupt", InterruptAfterTheFirstStep)
        assert train(method, folder, tmp_path, "parts") == EXIT_INTERRUPTED
    assert train(method, folder, tmp_path, "parts", "--continue_train") == 0
    whole, parts = (state_of(tmp_path / name) for name in ("whole", "parts"))
    for part in ("nets", "optimizers", "model"):
        for one, other in zip(tensors(whole[part]), tensors(parts[part]), strict=True):
            assert torch.equal(one, other), part

    where = ["--dataroot", str(folder), "--checkpoints_dir", str(tmp_path), "--name", "whole"]
    assert not test_program.main([*where, "--results_dir", str(tmp_path / "results"), "--gpu_ids", "-1"])
    images = tmp_path / "results" / "whole" / "test_latest" / "images" / "fake_B"
    assert [Image.open(images / f"scene_{i}.png").size for i in range(len(TEST_SIZES))] == list(TEST_SIZES)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_changes_all_its_networks(method: str, count: int, folder: Path) -> None:
    opt = parse_train([*flags(method, folder), *SHORT])
    torch.manual_seed(0)
    model = create_model(opt, training=True)
    stepper = Stepper(model, device=torch.device("cpu"), precision="fp32", learning_rate=opt.lr,
                      betas=(opt.beta1, opt.beta2), seed=0)  # fmt: skip
    before = {name: parameter.clone() for name, parameter in model.nets.named_parameters()}
    batch = {stream.name: torch.rand(count, 3, 32, 32) * 2 - 1 for stream in model.streams}
    place = Progress(total_steps=2, epoch=2, total_epochs=2)  # JRGR's first epoch is its pre-training
    model.on_epoch(place)
    result = stepper.step(batch, place, want_visuals=True)
    assert all(value.isfinite() for value in result.losses.values())
    assert all(image.shape == (count, 3, 32, 32) for image in result.visuals.values())
    changed = {name.split(".")[0] for name, value in model.nets.named_parameters() if not value.equal(before[name])}
    assert changed == set(model.nets)


@pytest.mark.parametrize("method", ["ddn", "rescan", "ssir"])
def test_a_file_tells_which_method_it_is_of(method: str, folder: Path) -> None:
    opt = parse_train([*flags(method, folder), "--ngf", "8"])
    state = create_model(opt, training=False).nets["G"].state_dict()
    assert describe_state(state) == {"--model": method, "--ngf": "8", "--input_nc": "3"}
