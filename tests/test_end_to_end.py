"""Through the user's own commands: train, continue, test, look at the page; and every model at batch 1 and 3."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import test as test_program
import train as train_program
from tests.conftest import TEST_SIZES, small_model_flags
from util.engine import loop as training
from util.engine.stop import Interrupt
from util.errors import EXIT_INTERRUPTED

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "examples" / "simgan_model.py"
METHODS = ["cclgan", "cut", "cycle_gan"]


class Workplace:
    """A user's folder, with the two commands."""

    def __init__(self, folder: Path, dataroot: Path) -> None:
        self.folder, self.dataroot = folder, dataroot
        self.checkpoints, self.results = folder / "checkpoints", folder / "results"

    def train(self, *flags: str, name: str = "run") -> int:
        where = ["--dataroot", str(self.dataroot), "--name", name, "--checkpoints_dir", str(self.checkpoints)]
        return train_program.main([*where, *flags])

    def test(self, *flags: str, name: str = "run") -> int:
        where = ["--dataroot", str(self.dataroot), "--name", name, "--checkpoints_dir", str(self.checkpoints)]
        return test_program.main([*where, "--results_dir", str(self.results), "--gpu_ids", "-1", *flags])

    def run(self, name: str = "run") -> Path:
        return self.checkpoints / name

    def losses(self, name: str = "run") -> list[dict[str, str]]:
        with (self.run(name) / "losses.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def work(tmp_path: Path, dataset: Path) -> Workplace:
    return Workplace(tmp_path, dataset)


ONE_EPOCH = ("--n_epochs", "1", "--n_epochs_decay", "0", "--print_freq", "1")


@pytest.mark.parametrize("batch", ["1", "3"])
@pytest.mark.parametrize("model", METHODS)
def test_every_model_trains_and_changes_all_its_networks(work: Workplace, model: str, batch: str) -> None:
    flags = [*small_model_flags(model), "--batch_size", batch, "--max_dataset_size", str(2 * int(batch))]
    assert work.train(*flags, *ONE_EPOCH, "--no_html") == 0
    rows = work.losses()
    assert len(rows) == 2
    assert all(np.isfinite(float(value)) for row in rows for value in row.values() if value)
    state = torch.load(work.run() / "training_state.pth", weights_only=True)
    for name, optimizer in state["optimizers"].items():
        assert optimizer["state"], name
        assert all(entry["step"] == 2 for entry in optimizer["state"].values())


def test_fastcut_brings_its_own_defaults(work: Workplace) -> None:
    flags = [*small_model_flags("cut"), "--CUT_mode", "fastcut", "--max_dataset_size", "2"]
    assert work.train(*flags, *ONE_EPOCH, "--no_html") == 0
    options = yaml.safe_load((work.run() / "options.yaml").read_text())["resolved"]
    assert (options["lambda_NCE"], options["nce_idt"], options["flip_equivariance"]) == (10.0, False, True)
    assert "NCE_Y" not in work.losses()[0]


def test_a_training_may_start_with_the_networks_of_another(work: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning rate that changes nothing shows where the weights came from."""
    small, still = small_model_flags("cut"), ("--lr", "1e-30", "--max_dataset_size", "1", "--no_html")
    assert work.train(*small, *ONE_EPOCH, "--max_dataset_size", "2", "--no_html", name="first") == 0
    assert work.train(*small, *ONE_EPOCH, *still, "--init_from", "first", "--seed", "7", name="second") == 0
    assert f"starts with G, D, F of {work.run('first')}\n" in capsys.readouterr().err
    for name in ("G", "F", "D"):
        first, second = (work.run(run) / f"latest_net_{name}.pth" for run in ("first", "second"))
        states = [torch.load(file, weights_only=True) for file in (first, second)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    state = torch.load(work.run("second") / "training_state.pth", weights_only=True)
    assert all(
        entry["step"] == 1 for optimizer in state["optimizers"].values() for entry in optimizer["state"].values()
    )

    file = str(work.run("first") / "latest_net_G.pth")
    cycle = [*small_model_flags("cycle_gan")[:2], *small[2:]]
    assert work.train(*cycle, *ONE_EPOCH, *still, "--init_from", file, name="third") == 0
    said = capsys.readouterr().err
    assert f"starts with G_A of {file}; fresh: G_B, D_A, D_B" in said and "may not fit" not in said
    third = torch.load(work.run("third") / "latest_net_G_A.pth", weights_only=True)
    torch.testing.assert_close(torch.load(file, weights_only=True), third, rtol=0, atol=0)


@pytest.mark.parametrize("model", METHODS)
def test_train_continue_test_and_page(work: Workplace, model: str) -> None:
    flags = [*small_model_flags(model), "--batch_size", "2", "--print_freq", "2", "--update_html_freq", "2"]
    assert work.train(*flags, "--n_epochs", "1", "--n_epochs_decay", "0", "--save_epoch_freq", "1") == 0
    assert work.train("--continue_train", "--n_epochs", "2", "--display_id", "0") == 0
    assert [row["epoch"] for row in work.losses()] == ["1", "1", "2", "2"]
    for left in ("loss_log.txt", "options.yaml", "web/index.html", "1_net_G_A.pth", "latest_net_G_A.pth"):
        path = work.run() / (left.replace("G_A", "G") if model == "cut" else left)
        assert path.is_file(), left

    assert work.test() == 0
    folder = work.results / "run" / "test_latest"
    for label in ("real_A", "fake_B", "real_B"):
        sizes = [Image.open(folder / "images" / label / f"scene_{i}.png").size for i in range(len(TEST_SIZES))]
        assert sizes == list(TEST_SIZES), label
    page = (folder / "index.html").read_text(encoding="utf-8")
    for row in json.loads((folder / "manifest.json").read_text())["rows"]:
        assert set(row["images"]) == {"real_A", "fake_B", "real_B"}
        for image in row["images"].values():
            assert (folder / image).is_file() and image in page


@pytest.mark.parametrize("model", METHODS)
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    work: Workplace, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*small_model_flags(model), "--no_html", "--batch_size", "2", "--n_epochs", "1", "--n_epochs_decay", "1"]
    flags += ["--pool_size", "2", "--print_freq", "1"]
    assert work.train(*flags, name="whole") == 0

    seen = 0

    class InterruptAfterThreeSteps(Interrupt):
        @property
        def requested(self) -> bool:  # type: ignore[override]
            nonlocal seen
            seen += 1
            return seen >= 3

        @requested.setter
        def requested(self, value: bool) -> None:
            del value

    with monkeypatch.context() as patch:
        patch.setattr(training, "Interrupt", InterruptAfterThreeSteps)
        assert work.train(*flags, name="parts") == EXIT_INTERRUPTED
    assert work.train("--continue_train", "--display_id", "0", name="parts") == 0

    whole, parts = (torch.load(work.run(n) / "training_state.pth", weights_only=True) for n in ("whole", "parts"))
    assert whole["position"] == parts["position"]
    for name, state in whole["nets"].items():
        for key, value in state.items():
            assert torch.equal(value, parts["nets"][name][key]), f"{name}.{key}"
    assert work.losses("whole") == work.losses("parts")


def test_metrics_equal_scikit_image_on_the_saved_files(work: Workplace) -> None:
    assert work.train(*small_model_flags("cut"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1") == 0
    assert work.test() == 0
    folder = work.results / "run" / "test_latest"
    metrics = json.loads((folder / "metrics.json").read_text())
    weights = np.array([65.481, 128.553, 24.966]) / 255
    for entry in metrics["images"]:
        fake, real = (
            np.asarray(Image.open(folder / "images" / label / f"{entry['name']}.png")) for label in ("fake_B", "real_B")
        )
        luma = [16 + image.astype(np.float64) @ weights for image in (real, fake)]
        assert entry["psnr"] == pytest.approx(peak_signal_noise_ratio(*luma, data_range=255), abs=1e-9)
        expected = structural_similarity(
            *luma, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert entry["ssim"] == pytest.approx(expected, abs=1e-9)
    assert metrics["mean"]["psnr"] == pytest.approx(np.mean([entry["psnr"] for entry in metrics["images"]]))


def test_an_unpaired_test_set_has_no_metrics(work: Workplace) -> None:
    assert work.train(*small_model_flags("cut"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1") == 0
    for file in (work.dataroot / "testB").iterdir():
        file.unlink()
    assert work.test() == 0
    folder = work.results / "run" / "test_latest"
    assert not (folder / "metrics.json").exists()
    assert not (folder / "images" / "real_B").exists()
    assert (folder / "index.html").is_file()


def test_a_second_test_replaces_the_first_as_a_whole(work: Workplace) -> None:
    assert work.train(*small_model_flags("cut"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1") == 0
    assert work.test() == 0
    assert work.test("--num_test", "1") == 0
    images = list((work.results / "run" / "test_latest" / "images" / "fake_B").iterdir())
    assert [image.name for image in images] == ["scene_0.png"]
    assert [path.name for path in (work.results / "run").iterdir()] == ["test_latest"]


def test_the_architecture_comes_from_the_run_and_a_conflict_names_both(
    work: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work.train(*small_model_flags("cut"), "--residual", *ONE_EPOCH, "--no_html", "--max_dataset_size", "1") == 0
    assert work.test("--ngf", "8") == 2
    message = capsys.readouterr().err
    assert "--ngf" in message and "8" in message and "4" in message


def test_direction_b_to_a_translates_the_other_domain(work: Workplace) -> None:
    flags = [*small_model_flags("cut"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1", "--direction", "BtoA"]
    assert work.train(*flags) == 0
    assert work.test() == 0
    shown = np.asarray(Image.open(work.results / "run" / "test_latest" / "images" / "real_A" / "scene_0.png"))
    assert np.array_equal(shown, np.asarray(Image.open(work.dataroot / "testB" / "scene_0.png")))


def test_a_folder_alone_is_enough_for_testing(work: Workplace) -> None:
    assert work.train(*small_model_flags("cycle_gan"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1") == 0
    work.dataroot = work.dataroot / "testA"
    assert work.test("--dataset_mode", "single") == 0
    assert len(list((work.results / "run" / "test_latest" / "images" / "fake_B").iterdir())) == 2


def test_the_documented_third_party_model_trains_and_tests(work: Workplace) -> None:
    plugin = ("--plugin", str(EXAMPLE))
    flags = [*small_model_flags("simgan"), *plugin, *ONE_EPOCH, "--no_html", "--max_dataset_size", "2"]
    assert work.train(*flags) == 0
    assert set(work.losses()[0]) >= {"D_real", "D_fake", "G_GAN", "L1"}
    assert work.test(*plugin) == 0
    assert (work.results / "run" / "test_latest" / "metrics.json").is_file()


def test_a_fresh_start_keeps_the_earlier_run(work: Workplace) -> None:
    flags = [*small_model_flags("cut"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1"]
    assert work.train(*flags) == 0
    first = (work.run() / "latest_net_G.pth").read_bytes()
    assert work.train(*flags, "--seed", "5") == 0
    assert (work.run("run.1") / "latest_net_G.pth").read_bytes() == first
    assert (work.run() / "latest_net_G.pth").read_bytes() != first


def test_continuing_with_another_batch_size_begins_the_epoch_anew(
    work: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*small_model_flags("cut"), "--no_html", "--max_dataset_size", "4", "--n_epochs", "1"]
    assert work.train(*flags, "--n_epochs_decay", "1", "--save_latest_freq", "3", "--save_epoch_freq", "9") == 0
    state = torch.load(work.run() / "training_state.pth", weights_only=True)
    state["position"] |= {"epoch": 2, "images_in_epoch": 3, "total_images": 7}
    torch.save(state, work.run() / "training_state.pth")
    assert work.train("--continue_train", "--batch_size", "2", "--display_id", "0") == 0
    assert "epoch 2 begins anew" in capsys.readouterr().err


def test_betas_of_the_command_line_win_over_those_of_the_state(work: Workplace) -> None:
    flags = [*small_model_flags("cut"), "--no_html", "--max_dataset_size", "1", "--n_epochs_decay", "0"]
    assert work.train(*flags, "--n_epochs", "1") == 0
    assert work.train("--continue_train", "--display_id", "0", "--n_epochs", "2", "--beta1", "0.9") == 0
    state = torch.load(work.run() / "training_state.pth", weights_only=True)
    assert state["optimizers"]["G"]["param_groups"][0]["betas"][0] == 0.9


def test_weights_put_there_by_hand_are_moved_aside_not_overwritten(work: Workplace) -> None:
    work.run().mkdir(parents=True)
    (work.run() / "latest_net_G.pth").write_bytes(b"precious")
    assert work.train(*small_model_flags("cut"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1") == 0
    assert (work.run("run.1") / "latest_net_G.pth").read_bytes() == b"precious"


def test_networks_without_a_training_state_start_new_counters(work: Workplace) -> None:
    flags = [*small_model_flags("cut"), *ONE_EPOCH, "--no_html", "--max_dataset_size", "1"]
    assert work.train(*flags) == 0
    before = (work.run() / "losses.csv").read_text()
    (work.run() / "training_state.pth").unlink()
    assert work.train("--continue_train", "--display_id", "0") == 0
    assert (work.run() / "losses.previous.csv").read_text() == before
    assert [row["total_images"] for row in work.losses()] == ["1"]
