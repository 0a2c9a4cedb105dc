"""Losses that are NaN or infinite: found with their files, and skipped if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import at
from tests.small_run import Run
from tests.test_step import BATCH, TwoPhases
from util.engine.nonfinite import MOST_IN_A_ROW, LossWatch, NotFinite, Step, check_weights, found_inf
from util.engine.schedule import Progress
from util.engine.step import Stepper
from util.errors import EXIT_USER_ERROR


@pytest.fixture
def run(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, dataset, capsys)


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Make the generator's adversarial loss NaN in these steps, counted by the images before them."""
    from models.cut_model import CUTModel

    step, losses, seen = Stepper.step, CUTModel.generator_losses, 0

    def remember(self: Stepper, batch: Any, progress: Progress, **rest: Any) -> Any:
        nonlocal seen
        seen = progress.images
        return step(self, batch, progress, **rest)

    def poisoned(self: Any, passed: Any) -> dict[str, Tensor]:
        terms = losses(self, passed)
        return {
            name: term * float("nan") if seen in steps and name == "G_GAN" else term for name, term in terms.items()
        }

    monkeypatch.setattr(Stepper, "step", remember)
    monkeypatch.setattr(CUTModel, "generator_losses", poisoned)


def test_nan_stops_with_term_place_and_files_and_keeps_the_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {5})
    code, lines = run("--save_latest_freq", "2", "--print_freq", "1000")
    assert code == EXIT_USER_ERROR
    assert lines[-1].startswith("error: the loss G_GAN is nan (epoch 2, image 6 of all, batch of '")
    assert "rainy_" in lines[-1] and "clean_" in lines[-1] and "--on_nan skip" in lines[-1]
    assert run.images_saved == 4


def test_nan_skipped_leaves_that_update_out_and_nothing_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {5})
    code, lines = run("--on_nan", "skip")
    assert code == 0
    assert sum("--on_nan skip: the loss G_GAN is nan" in line for line in lines) == 1
    state = run.state
    steps = {name: {int(e["step"]) for e in opt["state"].values()} for name, opt in state["optimizers"].items()}
    assert steps["D"] == {12} and steps["G"] == {11}
    assert all(value.isfinite().all() for net in state["nets"].values() for value in net.values())


def test_nan_without_end_stops_even_when_skipping(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.engine.nonfinite.MOST_IN_A_ROW", 4)
    poison(monkeypatch, set(range(2, 99)))
    code, lines = run("--on_nan", "skip")
    assert code == EXIT_USER_ERROR and "4 steps in a row" in lines[-1]


class Poisoned(TwoPhases):
    def losses(self, x: Tensor) -> dict[str, Tensor]:
        return {"product": super().losses(x)["product"] * x.max()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vetoed_update_changes_no_weight_moment_or_count(value: float) -> None:
    model = Poisoned()
    stepper = Stepper(
        model,
        device=torch.device("cpu"),
        precision="fp32",
        learning_rate=0.1,
        betas=(0.5, 0.999),
        seed=1,
        skip_non_finite=True,
    )
    stepper.step(BATCH, at(0))
    before = torch.cat([p.detach().clone() for n in model.nets.values() for p in n.parameters()])
    moments = str({name: optimizer.state_dict() for name, optimizer in stepper.optimizers.items()})
    stepper.step({"A": torch.full((1, 1), value)}, at(1))
    assert torch.equal(before, torch.cat([p for n in model.nets.values() for p in n.parameters()]))
    assert moments == str({name: optimizer.state_dict() for name, optimizer in stepper.optimizers.items()})
    stepper.step(BATCH, at(2))
    assert not torch.equal(before, torch.cat([p for n in model.nets.values() for p in n.parameters()]))


@pytest.mark.parametrize(
    ("loss", "gradient", "expected"), [(1.0, 1.0, 0.0), (float("nan"), 1.0, 1.0), (1.0, float("inf"), 1.0)]
)
def test_a_veto_looks_at_loss_and_gradients(loss: float, gradient: float, expected: float) -> None:
    assert found_inf(torch.tensor(loss), [torch.ones(3), torch.tensor([0.0, gradient]), None]).item() == expected


def test_skips_in_a_row_are_counted_anew_after_a_good_step() -> None:
    watch, step = LossWatch("skip"), Step(1, 1, ("a.png",))
    for value in [float("nan")] * (MOST_IN_A_ROW - 1) + [1.0] + [float("nan")] * (MOST_IN_A_ROW - 1):
        watch.look(step, {"G": torch.tensor(value)})
    with pytest.raises(NotFinite, match=f"{MOST_IN_A_ROW} steps in a row"):
        watch.look(step, {"G": torch.tensor(float("nan"))})


def test_networks_with_nan_are_not_saved() -> None:
    network = nn.Linear(2, 2)
    check_weights({"G": network})
    with torch.no_grad():
        network.weight[0, 1] = float("nan")
    with pytest.raises(NotFinite, match="the network G"):
        check_weights({"G": network})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_loss_is_looked_at_a_step_later() -> None:
    watch = LossWatch()
    watch.look(Step(1, 1, ("bad.png",)), {"G": torch.tensor(float("nan"), device="cuda")})
    with pytest.raises(NotFinite, match=r"image 1 of all, batch of 'bad\.png'"):
        watch.look(Step(1, 2, ("good.png",)), {"G": torch.tensor(1.0, device="cuda")})
    watch.look(Step(1, 3, ("bad.png",)), {"G": torch.tensor(float("nan"), device="cuda")})
    with pytest.raises(NotFinite, match="image 3"):
        watch.settle()
