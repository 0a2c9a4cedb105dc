"""CCLGAN as it is usually written, which the benchmark times, is the same method."""

from __future__ import annotations

import copy

import pytest
import torch

from models.cclgan_model import CCLGANModel
from models.losses import rain_exchange
from scripts._benchmark.usual import UsualStep
from tests.conftest import at
from tests.test_engine_steps import LEARNING_RATE, batches, make_stepper
from util.engine.step import Stepper
from util.errors import UserError

EVERYWHERE = ("--num_patches", "1000", "--inter_patches", "1000", "--netF_nc", "8", "--inter_nc", "8")
"""All locations, whatever order they are drawn in."""


def usual(stepper: Stepper) -> UsualStep:
    model = copy.deepcopy(stepper.model)
    assert isinstance(model, CCLGANModel)
    for network in (*stepper.model.nets.values(), *stepper.model.frozen.values()):
        network.double()
    step = UsualStep(model, learning_rate=LEARNING_RATE, betas=(0.5, 0.999))
    for network in (*step.nets.values(), *model.frozen.values()):
        network.double()
    return step


RELEASE = ("--preset", "release", "--no_antialias", "--no_antialias_up")
EXCHANGE = ("--lambda_exchange", "10", "--exchange_distance", "wide_berhu")


@pytest.mark.parametrize("flags", [(), RELEASE, EXCHANGE], ids=str)
def test_its_losses_are_ours_over_some_steps(flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rain_exchange, "STRENGTHS", (1.5, 1.5))  # the two draw their random numbers in another order
    ours = make_stepper(*EVERYWHERE, *flags, model="cclgan")
    theirs = usual(ours)
    for number, batch in enumerate(batches(2)):
        exact = {key: image.double() for key, image in batch.items()}
        expected, found = ours.step(exact, at(number)).losses, theirs.step(exact)
        assert found.keys() == expected.keys()
        for name, loss in expected.items():
            assert found[name].item() == pytest.approx(loss.item(), rel=1e-6), name


def test_it_makes_a_pass_for_every_purpose() -> None:
    """Per generator: its image, the cycle, identity, and two encodings; per discriminator: 1 + 4, then 2."""
    step = usual(make_stepper(model="cclgan"))
    calls = dict.fromkeys(("G_A", "G_B", "D_A", "D_B"), 0)

    def count(name: str) -> None:
        calls[name] += 1

    for name in calls:
        step.nets[name][1].register_forward_pre_hook(lambda module, inputs, name=name: count(name))
    step.step({key: image.double() for key, image in batches(1)[0].items()})
    assert calls == {"G_A": 5, "G_B": 5, "D_A": 7, "D_B": 7}


def test_its_networks_have_no_fast_forms() -> None:
    step = usual(make_stepper(model="cclgan"))
    for network in step.nets.values():
        assert not [type(module) for module in network.modules() if type(module).__module__.startswith("util.kernels")]


def test_a_network_it_does_not_know_is_refused() -> None:
    stepper = make_stepper("--residual", model="cclgan")
    with pytest.raises(UserError, match="--usual"):
        usual(stepper)


def test_it_trains_with_the_usual_optimizer() -> None:
    step = usual(make_stepper(model="cclgan"))
    assert all(type(optimizer) is torch.optim.Adam and not optimizer.defaults["fused"] for optimizer in step.optimizers)
