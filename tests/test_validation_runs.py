"""Validation through the user's own commands: which pairs, what it leaves, and what an interruption does to it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from data.creation import create_validation_dataset
from options import parse_train
from tests.conftest import small_model_flags
from tests.test_end_to_end import Workplace
from util.engine import loop as training
from util.engine.checkpoint import Checkpointer
from util.engine.records import BEST_FILE, best_tag
from util.engine.stop import Interrupt
from util.engine.validation import Validator
from util.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from util.metrics.metric import DEFAULT_METRICS

SHORT = ("--no_html", "--max_dataset_size", "2", "--n_epochs", "4", "--n_epochs_decay", "0", "--lr", "0.01")
FLAGS = (*small_model_flags("cut"), *SHORT, "--print_freq", "1", "--residual")


@pytest.fixture
def work(tmp_path: Path, dataset: Path) -> Workplace:
    """A user's folder whose dataset has a validation split, which is not the test split: the images change places."""
    for domain in "AB":
        (dataset / f"val{domain}").mkdir()
        for source, name in (("scene_0", "view_1"), ("scene_1", "view_0")):
            with Image.open(dataset / f"test{domain}" / f"{source}.png") as image:
                image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(dataset / f"val{domain}" / f"{name}.png")
    return Workplace(tmp_path, dataset)


def state_of(work: Workplace, name: str) -> Any:
    return torch.load(work.run(name) / "training_state.pth", weights_only=True)


def same_networks(first: Any, second: Any) -> bool:
    return all(torch.equal(value, second[net][key]) for net, state in first.items() for key, value in state.items())


def metrics_of(work: Workplace, name: str = "run") -> list[dict[str, str]]:
    with (work.run(name) / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def find(work: Workplace, *flags: str) -> Any:
    opt = parse_train(["--dataroot", str(work.dataroot), "--checkpoints_dir", str(work.checkpoints), *flags])
    return create_validation_dataset(opt)


# ---- which pairs ----


def test_pairs_of_the_validation_split_are_found_whole(work: Workplace) -> None:
    images = find(work, "--preprocess", "crop", "--crop_size", "8")
    assert images.names == ("view_0", "view_1")
    assert [tuple(item.source.shape[-2:]) for item in images] == [(48, 64), (37, 41)]
    assert all(item.target.shape == item.source.shape for item in images)


def test_no_folders_no_validation_and_no_word(work: Workplace, caplog: pytest.LogCaptureFixture) -> None:
    for domain in "AB":
        shutil.rmtree(work.dataroot / f"val{domain}")
    assert find(work) is None
    assert not caplog.text


@pytest.mark.parametrize("flags", [("--val_freq", "3"), ("--val_phase", "holdout")])
def test_validation_that_was_asked_for_needs_images(work: Workplace, flags: tuple[str, str]) -> None:
    shutil.rmtree(work.dataroot / "valA")
    with pytest.raises(UserError, match=r"no folder '(val|holdout)A'.*--val_freq 0"):
        find(work, *flags)


def test_images_without_ground_truth_are_told_and_left(work: Workplace, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(work.dataroot / "valB")
    assert find(work, "--val_freq", "1") is None
    assert "2 images of the val split have no ground truth" in caplog.text


def break_names(folder: Path) -> None:
    (folder / "view_0.png").rename(folder / "other.png")


def break_size(folder: Path) -> None:
    Image.new("RGB", (20, 20)).save(folder / "view_0.png")


def break_content(folder: Path) -> None:
    (folder / "view_0.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("harm", "words"),
    [(break_names, "without a partner: 1 in valA"), (break_size, "differ in size"), (break_content, "cannot be read")],
)
def test_pairs_that_do_not_fit_stop_the_start(work: Workplace, harm: Any, words: str) -> None:
    harm(work.dataroot / "valB")
    with pytest.raises(UserError, match=words) as caught:
        find(work)
    assert "eval_pairs" not in str(caught.value)  # which is a flag of test.py
    assert find(work, "--val_freq", "0") is None


def test_the_direction_and_side_by_side_pairs_are_followed(work: Workplace) -> None:
    backwards = next(iter(find(work, "--direction", "BtoA")))
    forwards = next(iter(find(work)))
    assert torch.equal(backwards.source, forwards.target) and torch.equal(backwards.target, forwards.source)
    (work.dataroot / "val").mkdir()
    Image.new("RGB", (40, 20)).save(work.dataroot / "val" / "both.png")
    assert find(work, "--dataset_mode", "aligned").names == ("both",)


# ---- what it leaves ----


@pytest.mark.parametrize("flags", [(), ("--norm", "batch", "--no_dropout", "false")], ids=["instance", "batch norm"])
def test_validation_changes_no_weight(work: Workplace, flags: tuple[str, ...]) -> None:
    flags = (*FLAGS, "--n_epochs", "2", *flags)
    assert work.train(*flags, "--val_freq", "1", name="with") == 0
    assert work.train(*flags, "--val_freq", "0", name="without") == 0
    first, second = state_of(work, "with"), state_of(work, "without")
    assert same_networks(first["nets"], second["nets"])
    assert first["position"] == second["position"]
    assert work.losses("with") == work.losses("without")
    assert len(metrics_of(work, "with")) == 2
    assert not (work.run("without") / BEST_FILE).exists()


@pytest.mark.parametrize(("flags", "epochs"), [((), ["4"]), (("--val_freq", "3"), ["3", "4"])])
def test_validations_come_every_so_many_epochs_and_at_the_end(
    work: Workplace, flags: tuple[str, ...], epochs: list[str]
) -> None:
    assert work.train(*FLAGS, *flags) == 0
    assert [row["epoch"] for row in metrics_of(work)] == epochs
    assert [row["total_images"] for row in metrics_of(work)] == [str(2 * int(epoch)) for epoch in epochs]


def test_every_best_checkpoint_is_tested_to_the_value_that_made_it_best(work: Workplace) -> None:
    assert work.train(*FLAGS, "--val_freq", "1", "--val_protocol", "rgb") == 0
    content = yaml.safe_load((work.run() / BEST_FILE).read_text())
    assert (content["split"], content["protocol"], content["images"]) == ("val", "rgb", 2)
    rows = {row["epoch"]: row for row in metrics_of(work)}
    for metric, higher in ((metric.key, metric.higher_is_better) for metric in DEFAULT_METRICS):
        best = content["best"][best_tag(metric)]
        wanted = (max if higher else min)(float(row[metric]) for row in rows.values())
        assert best["value"] == pytest.approx(wanted, rel=1e-8)
        assert work.test("--phase", "val", "--protocol", "rgb", "--epoch", best_tag(metric)) == 0
        tested = json.loads((work.results / "run" / f"val_{best_tag(metric)}" / "metrics.json").read_text())
        assert tested["mean"][metric] == pytest.approx(best["value"], abs=1e-9)
        assert tested["mean"][f"input_{metric}"] == pytest.approx(content["input"][metric], abs=1e-9)
        page = (work.results / "run" / f"val_{best_tag(metric)}" / "index.html").read_text(encoding="utf-8")
        assert f"{best_tag(metric)} is epoch {best['epoch']}, chosen on the val split" in page


def test_a_misspelled_best_checkpoint_is_corrected(work: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert work.train(*FLAGS, "--n_epochs", "1") == 0
    assert work.test("--epoch", "best_psrn") == EXIT_USER_ERROR
    message = capsys.readouterr().err
    assert "best_ciede2000, best_psnr, best_psnr_rgb, best_ssim, latest (did you mean 'best_psnr'?)" in message


def test_validating_on_the_test_split_is_stamped_and_warned_of(
    work: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work.train(*FLAGS, "--n_epochs", "1", "--val_phase", "test") == 0
    assert "warning: validation: the best checkpoints are chosen on the test split" in capsys.readouterr().err
    assert "test split" in yaml.safe_load((work.run() / BEST_FILE).read_text())["note"]
    assert work.test("--epoch", "best_psnr") == 0
    assert "so its scores flatter it" in capsys.readouterr().err


# ---- interruptions ----


class Signal(Interrupt):
    """An interruption that a test asks for."""

    came = False

    @property
    def requested(self) -> bool:  # type: ignore[override]
        return type(self).came

    @requested.setter
    def requested(self, value: bool) -> None:
        del value


@pytest.fixture
def signal(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Signal]]:
    monkeypatch.setattr(training, "Interrupt", Signal)
    yield Signal
    Signal.came = False


def compare_runs(work: Workplace, whole: str, parts: str) -> None:
    """Weights, records, tables and best checkpoints are those of the uninterrupted run."""
    first, second = state_of(work, whole), state_of(work, parts)
    assert same_networks(first["nets"], second["nets"])
    assert first["position"] == second["position"]
    assert first["validation"] == second["validation"]
    for file in ("losses.csv", "metrics.csv", BEST_FILE):
        assert (work.run(whole) / file).read_text() == (work.run(parts) / file).read_text()
    for metric in (metric.key for metric in DEFAULT_METRICS):
        name = f"{best_tag(metric)}_net_G.pth"
        best = [torch.load(work.run(run) / name, weights_only=True) for run in (whole, parts)]
        assert same_networks({"G": best[0]}, {"G": best[1]})


@pytest.mark.parametrize("epoch", [2, 4], ids=["in the middle", "the last"])
def test_a_run_interrupted_in_a_validation_makes_it_when_it_goes_on(
    work: Workplace, epoch: int, monkeypatch: pytest.MonkeyPatch, signal: type[Signal]
) -> None:
    assert work.train(*FLAGS, "--val_freq", "2", name="whole") == 0
    score, calls = Validator.score_model, 0

    def score_until_the_signal(self: Validator, model: Any, *rest: Any) -> Any:
        nonlocal calls
        calls += 2
        signal.came = calls == epoch
        return score(self, model, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Validator, "score_model", score_until_the_signal)
        assert work.train(*FLAGS, "--val_freq", "2", name="parts") == EXIT_INTERRUPTED
    assert len(metrics_of(work, "parts") if epoch == 4 else []) == epoch // 2 - 1
    signal.came = False
    assert work.train("--continue_train", "--display_id", "0", name="parts") == 0
    compare_runs(work, "whole", "parts")


@pytest.mark.parametrize("dies_in", ["save_state", "save_best"])
def test_a_run_that_dies_after_a_validation_makes_up_for_it(
    work: Workplace, dies_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCut(Exception):
        pass

    assert work.train(*FLAGS, "--val_freq", "2", "--save_epoch_freq", "9", name="whole") == 0
    do, calls = getattr(Checkpointer, dies_in), 0
    fatal = {"save_state": 2, "save_best": 1}[dies_in]  # the state is saved before the validation as well

    def die(self: Checkpointer, state: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise PowerCut
        do(self, state)

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(Checkpointer, dies_in, die)
        work.train(*FLAGS, "--val_freq", "2", "--save_epoch_freq", "9", name="parts")
    assert len(metrics_of(work, "parts")) == 1
    assert work.train("--continue_train", "--display_id", "0", name="parts") == 0
    compare_runs(work, "whole", "parts")


def test_an_interruption_before_the_first_step_leaves_a_run_that_goes_on(work: Workplace, signal: type[Signal]) -> None:
    signal.came = True
    assert work.train(*FLAGS, name="parts") == EXIT_INTERRUPTED
    signal.came = False
    assert work.train("--continue_train", "--display_id", "0", name="parts") == 0
    assert work.train(*FLAGS, name="whole") == 0
    compare_runs(work, "whole", "parts")


def test_a_run_goes_on_without_its_validation_images_and_says_so(
    work: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work.train(*FLAGS, "--n_epochs", "1") == 0
    best = (work.run() / BEST_FILE).read_text()
    shutil.rmtree(work.dataroot / "valA")
    assert work.train("--continue_train", "--display_id", "0", "--n_epochs", "2") == 0
    assert "continues without validation" in capsys.readouterr().err
    assert (work.run() / BEST_FILE).read_text() == best
    assert state_of(work, "run")["validation"]["last_epoch"] == 1


def test_a_finished_run_is_not_validated_again(work: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert work.train(*FLAGS, "--n_epochs", "1") == 0
    before = (work.run() / "training_state.pth").read_bytes()
    assert work.train("--continue_train", "--display_id", "0") == 0
    assert "is finished" in capsys.readouterr().err
    assert (work.run() / "training_state.pth").read_bytes() == before


def test_numbers_of_two_protocols_are_not_mixed(work: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert work.train(*FLAGS, "--n_epochs", "1") == 0
    before = (work.run() / "metrics.csv").read_text()
    resumed = ("--continue_train", "--display_id", "0", "--n_epochs", "2", "--val_protocol", "rgb")
    assert work.train(*resumed) == 0
    assert "configured differently than before (protocol y -> rgb)" in capsys.readouterr().err
    assert (work.run() / "metrics.previous.csv").read_text() == before
    assert [(row["epoch"], row["psnr"] == row["psnr_rgb"]) for row in metrics_of(work)] == [("2", True)]
    assert yaml.safe_load((work.run() / BEST_FILE).read_text())["protocol"] == "rgb"
