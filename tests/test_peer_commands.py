"""Peer methods by the user's own commands: train on batches of three, resume, test on images of odd sizes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import test as test_program
import train as train_program
from tests.conftest import QUIET, TEST_SIZES

SMALL = {
    "csud": ("--ngf", "4", "--ndf", "4", "--nafnet_blocks", "1,1,1", "--crop_size", "32", "--lambda_VGG", "0"),
    "derain_cyclegan": ("--ngf", "4", "--ndf", "4", "--load_size", "64", "--crop_size", "64", "--lambda_VGG", "0"),
    "jorder_e": ("--ngf", "4", "--crop_size", "16"),
    "syn2real": ("--ngf", "6", "--crop_size", "16", "--lambda_VGG", "0"),
    "udgnet": ("--ngf", "4", "--ndf", "4", "--udg_blocks", "1", "--angle_epochs", "1", "--preprocess",
               "resize_and_crop", "--load_size", "128", "--crop_size", "128"),
}  # fmt: skip
TERMS = {
    "csud": {"GAN", "gray", "self_T", "L1", "SSIM", "self_G", "D_real", "D_fake"},
    "derain_cyclegan": {"G_A", "G_B", "A", "B", "empty", "rain", "D_A", "D_B"},
    "jorder_e": {"L1", "L1_first", "mask", "level"},
    "syn2real": {"L1", "GP"},
    "udgnet": {"angle", "fidelity", "direction", "near", "TV", "G_GAN", "D_real", "D_fake"},
}
PAIRED = ("jorder_e", "syn2real")


FAST = ("syn2real",)  # which has stages, state, three streams and pairs


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=() if name in FAST else pytest.mark.heavy) for name in SMALL]
)
def test_it_trains_resumes_and_is_tested(model: str, dataset: Path, tmp_path: Path) -> None:
    if model in PAIRED:
        (dataset / "trainA").rename(dataset / "trainU")
        shutil.copytree(dataset / "trainB", dataset / "trainA")
    run = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "c")]
    flags = ["--model", model, *SMALL[model], *QUIET, "--batch_size", "3", "--print_freq", "1", "--no_html"]
    epochs = ["--n_epochs_decay", "0", "--val_freq", "0", "--max_dataset_size", "3"]
    assert train_program.main([*run, *flags, *epochs, "--n_epochs", "1"]) == 0
    assert train_program.main([*run, "--continue_train", "--gpu_ids", "-1", "--n_epochs", "2"]) == 0
    with (tmp_path / "c" / "run" / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and TERMS[model] <= rows[-1].keys()
    assert all(np.isfinite(float(row[name] or 0)) for row in rows for name in TERMS[model])
    assert test_program.main([*run, "--results_dir", str(tmp_path / "results"), "--gpu_ids", "-1"]) == 0
    pictures = sorted((tmp_path / "results" / "run" / "test_latest" / "images" / "fake_B").iterdir())
    assert [Image.open(picture).size for picture in pictures] == list(TEST_SIZES)
