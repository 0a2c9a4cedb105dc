"""Averaged networks: what they are, where they are used, and that an interruption leaves no trace in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import test as test_program
import train as train_program
from tests.conftest import at, small_model_flags
from tests.test_step import BATCH, TwoPhases
from util.engine import loop as training
from util.engine.ema import AveragedNets
from util.engine.step import Stepper, StepSettings
from util.engine.stop import Interrupt
from util.errors import EXIT_INTERRUPTED


def one_weight(value: float) -> Any:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def test_the_average_follows_the_written_rule() -> None:
    network = one_weight(5.0)
    average: Any = AveragedNets({"G": network}, decay=0.4)
    expected = 0.0
    for updates, value in enumerate([1.0, -2.0, 4.0, 0.5, 3.0, 7.0, -1.0, 2.0, 2.5]):
        nn.init.constant_(network.weight, value)
        average.update({"G": network})
        decay = min(0.4, updates / (updates + 9))  # below 0.4 until the seventh update
        expected = decay * expected + (1 - decay) * value
        assert average.nets["G"].weight.item() == pytest.approx(expected)


def test_statistics_are_copied() -> None:
    network: Any = nn.BatchNorm2d(1)
    average: Any = AveragedNets({"G": network}, decay=0.9)
    for _ in range(3):
        network(torch.randn(2, 1, 3, 3))
        average.update({"G": network})
    assert torch.equal(average.nets["G"].running_mean, network.running_mean)
    assert average.nets["G"].num_batches_tracked == 3


def make_stepper() -> Stepper:
    device, settings = torch.device("cpu"), StepSettings(ema=0.9)
    return Stepper(
        TwoPhases(),
        device=device,
        precision="fp32",
        learning_rate=0.1,
        betas=(0.5, 0.999),
        seed=1,
        settings=settings,
    )


def test_the_model_is_tested_with_averages_and_trained_with_weights() -> None:
    stepper = make_stepper()
    trained = stepper.model.nets["b"]
    with stepper.ema_scope():
        assert stepper.model.nets["b"] is trained  # nothing is averaged yet
    for number in range(3):
        stepper.step(BATCH, at(number))
    with pytest.raises(ZeroDivisionError), stepper.ema_scope():
        assert stepper.model.infer(torch.ones(1, 1)).item() != trained(torch.ones(1, 1)).item()
        raise ZeroDivisionError
    assert stepper.model.nets["b"] is trained


def test_the_state_goes_from_one_stepper_to_the_next() -> None:
    first, second = make_stepper(), make_stepper()
    for number in range(3):
        first.step(BATCH, at(number))
    second.load_state_dict(first.state_dict())
    averages: tuple[Any, Any] = (first.averages, second.averages)
    assert averages[1].updates == 3
    assert torch.equal(*(average.nets["b"].weight for average in averages))


class InterruptAfterThreeSteps(Interrupt):
    seen = 0

    @property
    def requested(self) -> bool:  # type: ignore[override]
        type(self).seen += 1
        return self.seen >= 3

    @requested.setter
    def requested(self, value: bool) -> None:
        del value


def test_an_interrupted_run_ends_with_the_averages_of_an_uninterrupted_one(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(name: str, *flags: str) -> int | None:
        return train_program.main(["--name", name, "--checkpoints_dir", str(tmp_path), *flags])

    flags = ["--dataroot", str(dataset), *small_model_flags("cut"), "--no_html", "--ema", "0.5"]
    flags += ["--n_epochs", "1", "--n_epochs_decay", "1", "--batch_size", "2", "--accumulate", "2"]
    assert train("whole", *flags) == 0
    with monkeypatch.context() as patch:
        patch.setattr(training, "Interrupt", InterruptAfterThreeSteps)
        assert train("parts", *flags) == EXIT_INTERRUPTED
    assert train("parts", "--continue_train", "--display_id", "0") == 0

    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    files = [torch.load(run / "latest_net_G.pth", weights_only=True) for run in (whole, parts)]
    states = [torch.load(run / "training_state.pth", weights_only=True) for run in (whole, parts)]
    raw, averages = states[0]["nets"]["G"], states[0]["stepper"]["averages"]["nets"]["G"]
    assert any(not torch.equal(raw[key], averages[key]) for key in raw)
    for key, value in files[0].items():
        assert torch.equal(value, averages[key]), key  # what test.py loads is the average
        assert torch.equal(value, files[1][key]), key
        assert torch.equal(raw[key], states[1]["nets"]["G"][key]), key
    test = ["--dataroot", str(dataset), "--name", "whole", "--checkpoints_dir", str(tmp_path), "--gpu_ids", "-1"]
    assert test_program.main([*test, "--results_dir", str(tmp_path / "results"), "--num_test", "1"]) == 0
