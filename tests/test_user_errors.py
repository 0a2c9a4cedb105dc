"""Mistakes through the two programs: one sentence, exit code 2, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

import test as test_program
import train as train_program
from models.networks import create_generator
from tests.conftest import small_model_flags
from util.engine.weights import save_nets

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def train(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> object:
    """``train(flags…)`` expects a refusal and returns its sentence."""

    def run(*flags: str, model: str = "cut", dataroot: Path = dataset) -> str:
        where = ["--dataroot", str(dataroot), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
        assert train_program.main([*where, *small_model_flags(model), *flags]) == 2
        assert not (tmp_path / "checkpoints").exists(), "something was written"
        return sentence(capsys)

    return run


@pytest.fixture
def test(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> object:
    """``test(flags…)`` likewise, with a ResNet-6 of 4 channels in place."""
    run_folder = tmp_path / "checkpoints" / "run"
    run_folder.mkdir(parents=True)
    save_nets({"G": create_generator("resnet_6blocks", 3, 3, 4)}, run_folder, "latest")

    def run(*flags: str) -> str:
        where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
        small = ["--model", "cut", "--netG", "resnet_6blocks", "--ngf", "4", "--gpu_ids", "-1"]
        assert test_program.main([*where, "--results_dir", str(tmp_path / "results"), *small, *flags]) == 2
        assert not list((tmp_path / "results").rglob("*.*")), "something was written"
        return sentence(capsys)

    return run


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of the refusal."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].endswith("."), lines[0]
    return lines[0]


def test_a_dataroot_that_does_not_exist(train, tmp_path: Path) -> None:
    assert "datta" in train(dataroot=tmp_path / "datta")


def test_a_dataroot_that_is_already_a_side(train, dataset: Path) -> None:
    message = train(dataroot=dataset / "trainA")
    assert "trainA" in message and "--dataroot" in message


def test_a_missing_side(train, dataset: Path) -> None:
    (dataset / "trainB").rename(dataset / "clean")
    assert "trainB" in train()


def test_an_empty_side(train, dataset: Path) -> None:
    for file in (dataset / "trainB").iterdir():
        file.unlink()
    assert "trainB" in train()


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_image_is_named(train, dataset: Path, content: bytes) -> None:
    (dataset / "trainA" / "bad.png").write_bytes(content)
    assert "bad.png" in train()


def test_skip_bad_goes_on_without_it(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "trainA" / "bad.png").write_bytes(b"")
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    flags = [*small_model_flags("cut"), "--skip_bad", "--n_epochs", "1", "--n_epochs_decay", "0", "--no_html"]
    assert train_program.main([*where, *flags]) == 0
    assert "bad.png" in capsys.readouterr().err


def test_an_unreadable_test_image_is_named_before_anything_is_written(test, dataset: Path) -> None:
    whole = (dataset / "testA" / "scene_1.png").read_bytes()
    (dataset / "testA" / "scene_1.png").write_bytes(whole[: len(whole) // 2])
    assert "scene_1.png" in test()


def test_a_crop_larger_than_an_image(train) -> None:
    message = train("--preprocess", "crop", "--crop_size", "64")
    assert "64" in message and "40" in message


def test_a_crop_too_small_for_the_discriminator(train) -> None:
    assert "--crop_size 8" in train("--crop_size", "8")


def test_an_unknown_model_gets_a_suggestion(train) -> None:
    message = train("--model", "cyclgan")
    assert "cyclgan" in message and "did you mean" in message


def test_an_unknown_flag_gets_a_suggestion(train) -> None:
    message = train("--lambda_NEC", "2")
    assert "--lambda_NEC" in message and "lambda_NCE" in message


def test_a_flag_of_another_model_is_told_apart(train) -> None:
    assert "cycle_gan" in train("--lambda_A", "2")


def test_a_layer_that_does_not_exist(train) -> None:
    message = train("--nce_layers", "down1,down9")
    assert "down9" in message


def test_training_on_one_domain(train) -> None:
    assert "--dataset_mode single" in train("--dataset_mode", "single")


def test_all_losses_off(train) -> None:
    assert "--lambda_GAN" in train("--lambda_GAN", "0", "--lambda_NCE", "0")


def test_a_residual_generator_between_gray_and_color(train) -> None:
    assert "--residual" in train("--residual", "--input_nc", "1")


def test_clip_weights_that_cannot_be_had_name_the_three_ways_out(train, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to download\nwith a long trace")

    monkeypatch.setattr(open_clip, "create_model", no_network)
    message = train("--semantic_encoder", "clip", model="cclgan")
    for way_out in ("--clip_pretrained FILE", "--semantic_encoder efficientnet_lite0", "--lambda_intra 0"):
        assert way_out in message


def test_a_clip_model_that_does_not_exist(train) -> None:
    assert "--clip_model ViT-Z" in train("--semantic_encoder", "clip", "--clip_model", "ViT-Z", model="cclgan")


def test_an_output_folder_that_cannot_be_made(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "file")]
    assert train_program.main([*where, *small_model_flags("cut")]) == 2
    assert "--checkpoints_dir" in sentence(capsys)


def test_a_results_folder_that_cannot_be_made(test, tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "--results_dir" in test("--results_dir", str(tmp_path / "file"))


def test_a_run_that_does_not_exist(test) -> None:
    assert "other" in test("--name", "other")


def test_a_checkpoint_of_another_architecture(test) -> None:
    assert "--netG is resnet_6blocks in the file" in test("--netG", "resnet_9blocks")


def test_an_epoch_that_was_not_saved(test) -> None:
    assert "--epoch 7" in test("--epoch", "7")


def test_test_pairs_of_different_size(test, dataset: Path) -> None:
    Image.new("RGB", (9, 9)).save(dataset / "testB" / "scene_0.png")
    message = test()
    assert "scene_0.png" in message and "9" in message


def test_test_pairs_that_match_only_in_part(test, dataset: Path) -> None:
    (dataset / "testB" / "scene_0.png").rename(dataset / "testB" / "other.png")
    message = test()
    assert "scene_0" in message and "--eval_pairs no" in message


def test_continuing_a_run_that_does_not_exist(train) -> None:
    assert "run" in train("--continue_train")


def test_continuing_from_another_epoch_than_the_run_is_at(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    flags = [*small_model_flags("cut"), "--n_epochs", "1", "--n_epochs_decay", "1", "--no_html"]
    assert train_program.main([*where, *flags, "--save_epoch_freq", "1"]) == 0
    losses = (tmp_path / "checkpoints" / "run" / "losses.csv").read_bytes()
    capsys.readouterr()
    assert train_program.main([*where, *flags, "--continue_train", "--epoch", "1"]) == 2
    assert "--epoch 1" in sentence(capsys)
    assert (tmp_path / "checkpoints" / "run" / "losses.csv").read_bytes() == losses


def test_a_damaged_training_state(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    flags = [*small_model_flags("cut"), "--n_epochs", "1", "--n_epochs_decay", "0", "--no_html"]
    assert train_program.main([*where, *flags]) == 0
    state = tmp_path / "checkpoints" / "run" / "training_state.pth"
    state.write_bytes(state.read_bytes()[:1000])
    capsys.readouterr()
    assert train_program.main([*where, *flags, "--continue_train"]) == 2
    assert "training_state.pth" in sentence(capsys)


@pytest.mark.parametrize("program", ["train.py", "test.py"])
def test_the_programs_themselves_exit_with_2_and_no_traceback(program: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / program), "--dataroot", "nowhere", "--name", "none", "--no_such_flag"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    flags = [*small_model_flags("cut"), "--no_html", "--n_epochs_decay", "0", "--print_freq", "1"]
    assert train_program.main([*where, *flags, "--n_epochs", "1"]) == 0
    state = tmp_path / "checkpoints" / "run" / "training_state.pth"
    before = state.read_bytes()
    capsys.readouterr()
    assert train_program.main([*where, *flags, "--continue_train", "--n_epochs", "9", "--lr", "1e30"]) == 2
    assert "lower --lr" in sentence(capsys)
    assert state.read_bytes() == before


def test_an_image_that_vanishes_costs_no_training(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from util.engine.schedule import Progress
    from util.engine.step import Stepper

    step = Stepper.step

    def step_and_delete(self: Stepper, batch: Any, progress: Progress, **rest: bool) -> object:
        if progress.images == 3:
            for file in (dataset / "trainA").iterdir():
                file.unlink()
        return step(self, batch, progress, **rest)

    monkeypatch.setattr(Stepper, "step", step_and_delete)
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    flags = [*small_model_flags("cut"), "--no_html", "--cache", "none", "--n_epochs", "9", "--n_epochs_decay", "0"]
    assert train_program.main([*where, *flags]) == 2
    assert "rainy_" in sentence(capsys)
    state = torch.load(tmp_path / "checkpoints" / "run" / "training_state.pth", weights_only=True)
    assert state["position"]["total_images"] == 4


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--model", "cycle_gan"), "D_A"),
        (("--ngf", "8"), "--ngf"),
        (("--lambda_NCE", "0"), "F"),
    ],
)
def test_continuing_with_other_networks_names_them(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], named: str
) -> None:
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    small = [*small_model_flags("cut"), "--no_html", "--n_epochs", "1", "--n_epochs_decay", "1"]
    assert train_program.main([*where, *small, "--max_dataset_size", "1"]) == 0
    capsys.readouterr()
    assert train_program.main([*where, "--continue_train", "--display_id", "0", *flags]) == 2
    assert named in sentence(capsys)


@pytest.mark.parametrize("content", [[1, 2], {"format": 99}, torch.zeros(3)], ids=["list", "other format", "tensor"])
def test_something_else_as_training_state(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], content: object
) -> None:
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    (tmp_path / "checkpoints" / "run").mkdir(parents=True)
    torch.save(content, tmp_path / "checkpoints" / "run" / "training_state.pth")
    assert train_program.main([*where, *small_model_flags("cut"), "--continue_train"]) == 2
    assert "training_state.pth" in sentence(capsys)


def test_images_too_small_for_the_discriminator_without_a_crop(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    flags = [*small_model_flags("cut"), "--preprocess", "scale_width", "--load_size", "16"]
    assert train_program.main([*where, *flags]) == 2
    assert "too small for the discriminator" in sentence(capsys)


@pytest.mark.parametrize(
    "flags", [("--intra_negatives", "fake", "--intra_beta", "0"), ("--inter_positives", "fake", "--inter_gamma", "0")]
)
def test_terms_without_anything_to_compare(train, flags: tuple[str, ...]) -> None:
    assert flags[2] in train(*flags, model="cclgan")


def test_layers_of_another_generator_name_the_flag(train) -> None:
    assert "--nce_layers" in train("--netG", "unet_128", "--load_size", "128", "--crop_size", "128")
