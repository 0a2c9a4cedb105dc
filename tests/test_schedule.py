"""Learning rates against their formulas and against torch's own schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from util.engine.schedule import (
    Constant,
    Cosine,
    Linear,
    MultiStep,
    Plateau,
    Progress,
    Schedule,
    Step,
    WarmUp,
    after,
    every,
    policy_schedule,
)


def by_epoch(schedule: Schedule, epochs: int) -> list[float]:
    return [schedule.factor(Progress(epoch=epoch, total_epochs=epochs)) for epoch in range(1, epochs + 1)]


def by_step(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.factor(Progress(step=step, total_steps=steps)) for step in range(steps)]


def of_torch(make: Callable[[Any], Any], count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference, rates = make(optimizer), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    return rates


def test_linear_is_constant_and_then_falls_in_equal_steps_towards_zero() -> None:
    assert by_epoch(Linear(2, 3), 5) == pytest.approx([1, 1, 3 / 4, 2 / 4, 1 / 4])


@pytest.mark.parametrize("rates", [by_epoch, by_step])
@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        (Constant, lambda optimizer: lr_scheduler.ConstantLR(optimizer, 1.0)),
        (Step, lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1)),
        (MultiStep, lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 7], gamma=0.5)),
        (Cosine, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)),
        ("floor", lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.2)),
    ],
)
def test_the_others_equal_torch_by_epoch_and_by_step(schedule: Any, reference: Any, rates: Any) -> None:
    per_step = rates is by_step
    made = {
        Constant: lambda: Constant(per_step=per_step),
        Step: lambda: Step(3, per_step=per_step),
        MultiStep: lambda: MultiStep((2, 7), 0.5, per_step=per_step),
        Cosine: lambda: Cosine(per_step=per_step),
        "floor": lambda: Cosine(0.2, per_step=per_step),
    }[schedule]()
    assert rates(made, 10) == pytest.approx(of_torch(reference, 10))


def test_a_warm_up_rises_in_equal_steps_and_then_is_the_other_schedule() -> None:
    expected = [each * min(1, (step + 1) / 4) for step, each in enumerate(by_step(Cosine(per_step=True), 9))]
    assert by_step(WarmUp(Cosine(per_step=True), 4, per_step=True), 9) == pytest.approx(expected)


def test_plateau_falls_only_after_the_loss_stops_falling() -> None:
    schedule = Plateau()
    seen = []
    for epoch in range(1, 13):
        seen.append(schedule.factor(Progress(epoch=epoch, total_epochs=20)))
        schedule.end_epoch(1.0)
    assert seen[:7] == [1.0] * 7
    assert seen[7:12] == pytest.approx([0.2] * 5)


def test_plateau_survives_a_resume_below_a_warm_up_too() -> None:
    first = WarmUp(Plateau(), 2)
    for _ in range(7):
        first.end_epoch(1.0)
    second = WarmUp(Plateau(), 2)
    second.load_state_dict(first.state_dict())
    assert second.factor(Progress(epoch=8, total_epochs=20)) == pytest.approx(0.2)


def test_the_policies_of_the_command_line() -> None:
    lengths = {"n_epochs": 6, "n_epochs_decay": 4, "decay_iters": 3}
    made = [policy_schedule(policy, **lengths) for policy in ("linear", "step", "cosine", "plateau")]
    assert made == [Linear(6, 4), Step(3), Cosine(), Plateau()]
    with pytest.raises(ValueError, match="lambda"):
        policy_schedule("lambda", **lengths)


def test_phases_can_be_active_every_nth_step_or_from_some_image_on() -> None:
    assert [every(3)(Progress(step=step)) for step in range(6)] == [False, False, True] * 2
    assert [every(2, 0)(Progress(step=step)) for step in range(4)] == [True, False] * 2
    assert [after(5)(Progress(images=images)) for images in (4, 5, 6)] == [False, True, True]
