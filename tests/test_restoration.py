"""The restoration method: its losses against slow formulas, its step, and trainings on pairs and on drawn rain."""

from __future__ import annotations

import cmath
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import test as test_program
import train as train_program
from data.creation import create_training_loader
from models import create_model
from models.losses import restoration
from models.restoration_model import RestorationModel
from options.parse import parse_train
from tests.conftest import QUIET
from util.engine.schedule import Progress
from util.errors import UserError

SMALL = [
    "--model",
    "restoration",
    "--ngf",
    "4",
    "--nafnet_blocks",
    "1,1,1",
    "--batch_size",
    "2",
    "--crop_size",
    "32",
    *QUIET,
]
WEIGHTS = {"L1": "lambda_L1", "PSNR": "lambda_PSNR", "SSIM": "lambda_SSIM", "FFT": "lambda_FFT", "gray": "lambda_gray"}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.rand(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64)


# Losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_charbonnier_is_a_mean_over_all_values(epsilon: float) -> None:
    a, b = pair(2, 3, 4, 5)
    errors = [
        math.sqrt((x - y) ** 2 + epsilon**2) for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    ]
    assert restoration.charbonnier(a, b, epsilon).item() == pytest.approx(sum(errors) / len(errors))


@pytest.mark.parametrize("loss", ["charbonnier", "psnr", "ssim", "frequency", "channel_difference"])
def test_losses_are_computed_in_float32_under_autocast(loss: str) -> None:
    clean = torch.rand(1, 3, 32, 32)
    restored = (clean + 0.01 * torch.randn_like(clean)).clamp(0, 1)
    expected = getattr(restoration, loss)(restored, clean)
    with torch.autocast("cpu", torch.bfloat16):
        found = getattr(restoration, loss)(restored, clean)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_psnr_is_averaged_over_the_images_in_db() -> None:
    target = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    restored = target.clone()
    restored[0] += 0.1  # 20 dB
    restored[1] += 0.01  # 40 dB
    expected = -(20 - 10 * math.log10(1 + 1e-3) + 40 - 10 * math.log10(1.1)) / 2
    assert restoration.psnr(restored, target).item() == pytest.approx(expected)


def test_ssim_is_that_of_scikit_image() -> None:
    a, b = pair(2, 3, 20, 17)
    b = 0.5 * a + 0.5 * b
    settings: dict[str, Any] = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1.0,
    }
    maps = [
        structural_similarity(x.numpy(), y.numpy(), full=True, **settings)[1][5:-5, 5:-5]
        for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)
    ]
    assert restoration.ssim(a, b).item() == pytest.approx(1 - np.mean(maps), abs=1e-7)


def test_ssim_is_as_exact_under_bfloat16() -> None:
    a = torch.rand(1, 3, 16, 16)
    b = (a + 0.01 * torch.rand(1, 3, 16, 16)).clamp(0, 1)
    expected = restoration.ssim(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(restoration.ssim(a, b), expected)


def test_ssim_needs_room_for_its_window() -> None:
    with pytest.raises(ValueError, match="11 × 11"):
        restoration.ssim(*pair(1, 3, 10, 20))


def test_frequency_is_the_distance_of_the_fourier_transforms() -> None:
    a, b = pair(1, 1, 3, 4)
    error = (a - b)[0, 0].tolist()
    values = []
    for v in range(3):
        for u in range(3):  # the other half of the spectrum is its mirror image
            total = sum(
                error[y][x] * cmath.exp(-2j * math.pi * (v * y / 3 + u * x / 4)) for y in range(3) for x in range(4)
            )
            values += [abs(total.real) / math.sqrt(12), abs(total.imag) / math.sqrt(12)]
    assert restoration.frequency(a, b).item() == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_channel_difference_is_of_what_was_removed() -> None:
    source, restored = pair(1, 3, 4, 4)
    red, green, blue = (source - restored)[0].unbind()
    expected = ((red - green).abs() + (green - blue).abs() + (blue - red).abs()).mean().item()
    assert restoration.channel_difference(restored, source).item() == pytest.approx(expected)
    gray = source - torch.rand(1, 1, 4, 4, dtype=torch.float64)
    assert restoration.channel_difference(gray, source).item() == pytest.approx(0, abs=1e-12)


# The method --------------------------------------------------------------------------------------


def model_of(dataset: Path, *flags: str) -> Any:
    return create_model(parse_train(["--dataroot", str(dataset), *SMALL, *flags]), training=True)


def batch_of(count: int) -> Any:
    return {name: torch.rand(count, 3, 16, 16) * 2 - 1 for name in "AB"}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_term_comes_with_its_weight_and_goes_with_it(name: str, dataset: Path) -> None:
    off = [part for flag in WEIGHTS.values() if flag != WEIGHTS[name] for part in (f"--{flag}", "0")]
    model = model_of(dataset, *off, f"--{WEIGHTS[name]}", "3")
    x = model.forward(batch_of(2))
    (phase,) = model.phases
    source, target, restored = ((image + 1) / 2 for image in (x.real_A, x.real_B, x.fake_B))
    expected = {
        "L1": lambda: restoration.charbonnier(restored, target),
        "PSNR": lambda: restoration.psnr(restored, target),
        "SSIM": lambda: restoration.ssim(restored, target),
        "FFT": lambda: restoration.frequency(restored, target),
        "gray": lambda: restoration.channel_difference(restored, source),
    }
    losses = phase.losses(x)
    assert set(losses) == {name}
    torch.testing.assert_close(losses[name], 3 * expected[name]())


def test_all_weights_zero_is_an_error(dataset: Path) -> None:
    with pytest.raises(UserError, match="--lambda_L1"):
        model_of(dataset, *(part for flag in WEIGHTS.values() for part in (f"--{flag}", "0")))


def test_clean_share_puts_clean_images_on_both_sides(dataset: Path) -> None:
    batch = batch_of(200)
    x = model_of(dataset, "--clean_share", "0.25").forward(batch)
    clean = (x.real_A == batch["B"]).flatten(1).all(1)
    assert torch.equal(x.real_A[~clean], batch["A"][~clean])
    assert 0.15 < clean.double().mean() < 0.35


@pytest.mark.parametrize("mode", ["aligned", "rain"])
def test_a_training_runs_and_its_model_tests(mode: str, dataset: Path, tmp_path: Path) -> None:
    if mode == "aligned":
        shutil.rmtree(dataset / "trainA")
        shutil.copytree(dataset / "trainB", dataset / "trainA")
    run = ["--dataroot", str(dataset), "--name", "r", "--checkpoints_dir", str(tmp_path / "c")]
    flags = [*SMALL, "--dataset_mode", mode, "--n_epochs", "1", "--n_epochs_decay", "0", "--no_html"]
    assert train_program.main([*run, *flags]) == 0
    assert (tmp_path / "c" / "r" / "latest_net_G.pth").is_file()
    assert test_program.main([*run, "--results_dir", str(tmp_path / "results")]) == 0


def test_rain_is_drawn_anew_in_every_epoch_and_the_same_in_every_run(dataset: Path) -> None:
    def batches(epoch: int) -> list[Any]:
        opt = parse_train(["--dataroot", str(dataset), *SMALL, "--dataset_mode", "rain"])
        return list(create_training_loader(opt, RestorationModel.streams).epoch(epoch))

    once, again, later = batches(1), batches(1), batches(2)
    for first, second in zip(once, again, strict=True):
        assert torch.equal(first["A"], second["A"]) and torch.equal(first["B"], second["B"])
    assert not torch.equal(once[0]["A"], later[0]["A"])
    assert all(path.rsplit("/", 2)[1] == "trainB" for path in once[0]["A_paths"])


def test_rain_needs_color_images(dataset: Path) -> None:
    opt = parse_train(
        ["--dataroot", str(dataset), *SMALL, "--dataset_mode", "rain", "--input_nc", "1", "--output_nc", "1"]
    )
    with pytest.raises(UserError, match="--input_nc 3"):
        create_training_loader(opt, RestorationModel.streams)


def test_the_rate_rises_and_falls_by_steps_under_adamw(dataset: Path) -> None:
    (phase,) = model_of(dataset, "--lr_warmup", "10").phases
    rates = [phase.schedule.factor(Progress(step=step, total_steps=100)) for step in (0, 4, 9, 50, 100)]
    cosines = [(1 + math.cos(math.pi * step / 100)) / 2 for step in (0, 4, 9, 50, 100)]
    assert rates == pytest.approx([0.1 * cosines[0], 0.5 * cosines[1], *cosines[2:]])
    optimizer = phase.optimizer([{"params": [torch.zeros(1, requires_grad=True)]}])
    settings = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (settings["lr"], settings["betas"], settings["weight_decay"]) == (1e-3, (0.9, 0.9), 1e-4)
    assert model_of(dataset, "--lr_policy", "linear").phases[0].schedule is None


def test_stages_share_one_fall_of_the_rate(dataset: Path) -> None:
    (stage,) = model_of(dataset, "--lr_horizon", "40", "--lr_warmup", "1").phases
    (whole,) = model_of(dataset, "--lr_warmup", "1").phases
    for epoch in (0, 7, 19):
        within = Progress(step=5 * epoch, total_steps=100, total_epochs=20)
        of_all = Progress(step=5 * epoch, total_steps=200, total_epochs=40)
        assert stage.schedule.factor(within) == pytest.approx(whole.schedule.factor(of_all))


@pytest.mark.parametrize("size", [3, 10])
def test_an_epoch_has_the_size_asked_for_and_takes_photographs_in_turn(size: int, dataset: Path) -> None:
    opt = parse_train(["--dataroot", str(dataset), *SMALL, "--dataset_mode", "rain", "--epoch_size", str(size)])
    loader = create_training_loader(opt, RestorationModel.streams)
    epochs = [[Path(path).name for batch in loader.epoch(n) for path in batch["A_paths"]] for n in range(1, 9)]
    assert {len(names) for names in epochs} == {size} == {loader.images_per_epoch}
    photographs = {path.name for path in (dataset / "trainB").iterdir()}
    for names in epochs:
        assert all(abs(names.count(name) - size / len(photographs)) < 1 for name in photographs)
    assert set().union(*epochs) == photographs
