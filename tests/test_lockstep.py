"""Fifty steps in float32 as the engine takes them, beside plain ones: layers by the formula, Adam by its parameters.

Two free runs in float32 drift apart whatever computes them, as Adam divides by the size of a gradient and so makes the
rounding of small ones large. So here both start every step from the same weights and moments.
"""

from __future__ import annotations

import copy

import pytest
import torch

from tests.conftest import at
from tests.test_step_equality import LEARNING_RATE, batches, gradients, make_stepper, relative
from util.engine import compile as compiling
from util.engine.step import Stepper
from util.kernels import layers, restore

STEPS = 50
LOSSES, SMALLEST_LOSS = 1e-4, 1e-2  # relative; the rounding of a loss near 0 is that of the terms it is made of
GRADIENTS, GRADIENTS_AT_KINKS = 1e-4, 2e-2  # relative; a ReLU's input may have either sign at zero
STEPS_AT_KINKS = 5  # at most
FLAGS = {"cut": (), "cycle_gan": ("--pool_size", "0"), "cclgan": ("--lambda_intra", "0")}


@pytest.fixture(autouse=True)
def _kernels_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Winograd's convolution in narrow layers too, without the time that compiling takes."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(compiling, "find_obstacle", lambda device: None)
    monkeypatch.setattr(layers, "_FEWEST_FOR_WINOGRAD", 8)


def steppers(model: str) -> tuple[Stepper, Stepper]:
    """(plain, optimized)."""
    plain, optimized = (make_stepper(*FLAGS[model], model=model, compile=mode) for mode in ("off", "kernels"))
    restore(plain.model.nets.values())
    for phase in plain.model.phases:
        parameters = [p for name in phase.trains for p in plain.model.nets[name].parameters()]
        adam = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.5, 0.999), foreach=False)
        plain.optimizers[phase.name] = adam
    return plain, optimized


def put_in_step(follower: Stepper, leader: Stepper) -> None:
    """Give ``follower`` the weights and moments of ``leader``."""
    for name, network in leader.model.nets.items():
        follower.model.nets[name].load_state_dict(network.state_dict())
    states = {name: copy.deepcopy(optimizer.state_dict()) for name, optimizer in leader.optimizers.items()}
    follower.load_optimizers(states)


@pytest.mark.parametrize(
    "model", ["cut", *(pytest.param(model, marks=pytest.mark.heavy) for model in ("cycle_gan", "cclgan"))]
)
def test_every_step_of_a_trajectory_has_the_losses_and_gradients_of_the_plain_one(model: str) -> None:
    plain, optimized = steppers(model)
    differences = []
    for number, batch in enumerate(batches(STEPS)):
        if number:
            put_in_step(optimized, plain)
        expected = plain.step(batch, at(number)).losses
        found = optimized.step(batch, at(number)).losses
        for name, loss in expected.items():
            same = pytest.approx(loss.item(), rel=LOSSES, abs=LOSSES * SMALLEST_LOSS)
            assert found[name].item() == same, f"{name} of step {number}"
        differences.append(relative(gradients(optimized), gradients(plain)))
    assert sorted(differences)[-1 - STEPS_AT_KINKS] < GRADIENTS
    assert max(differences) < GRADIENTS_AT_KINKS
