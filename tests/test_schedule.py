"""Learning rates against their formulas and against torch's own schedulers."""

from __future__ import annotations

import pytest
import torch

from util.engine.schedule import Schedule


def rates(policy: str, n_epochs: int, n_epochs_decay: int, decay_iters: int = 50) -> list[float]:
    schedule = Schedule(policy, 1.0, n_epochs, n_epochs_decay, decay_iters)
    return [schedule.learning_rate(epoch) for epoch in range(1, n_epochs + n_epochs_decay + 1)]


def test_linear_is_constant_and_then_falls_in_equal_steps_towards_zero() -> None:
    assert rates("linear", 2, 3) == pytest.approx([1, 1, 3 / 4, 2 / 4, 1 / 4])


def test_step_equals_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1)
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates("step", 8, 0, decay_iters=3) == pytest.approx(expected)


def test_cosine_equals_torch_over_all_epochs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    expected = []
    for _ in range(10):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates("cosine", 6, 4) == pytest.approx(expected)


def test_plateau_falls_only_after_the_loss_stops_falling() -> None:
    schedule = Schedule("plateau", 1.0, 20, 0, 50)
    seen = []
    for epoch in range(1, 13):
        seen.append(schedule.learning_rate(epoch))
        schedule.end_epoch(1.0)
    assert seen[:7] == [1.0] * 7
    assert seen[7:12] == pytest.approx([0.2] * 5)


def test_plateau_survives_a_resume() -> None:
    first = Schedule("plateau", 1.0, 20, 0, 50)
    for _ in range(7):
        first.end_epoch(1.0)
    second = Schedule("plateau", 1.0, 20, 0, 50)
    second.load_state_dict(first.state_dict())
    assert second.learning_rate(8) == pytest.approx(0.2)


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="lambda"):
        Schedule("lambda", 1.0, 1, 1, 1)
