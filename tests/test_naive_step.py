"""The naive implementation of CCLGAN, which the benchmark times, is the same method."""

from __future__ import annotations

import pytest
import torch

from models.losses import rain_exchange
from options import parse_train
from scripts._benchmark.naive import NaiveCCLGAN, NaiveStep
from tests.conftest import SMALL_CCLGAN, SMALL_NETWORKS, at
from tests.test_step_equality import LEARNING_RATE, SIDE, batches, make_stepper
from util.engine.step import Stepper

EVERYWHERE = ("--num_patches", "1000", "--inter_patches", "1000", "--netF_nc", "8", "--inter_nc", "8")
"""All locations, whatever order they are drawn in."""


def naive_step(ours: Stepper, *flags: str) -> NaiveStep:
    """With the weights of ``ours``, in float64; ``ours`` as well from now on."""
    size = ["--crop_size", str(SIDE)]
    opt = parse_train(["--dataroot", ".", "--model", "cclgan", *SMALL_NETWORKS, *SMALL_CCLGAN, *size, *flags])
    model = NaiveCCLGAN(opt, training=True)
    for name, network in model.nets.items():
        (network.network if name[0] in "GD" else network).load_state_dict(ours.model.nets[name].state_dict())
    for either in (ours.model, model):
        for network in (*either.nets.values(), *either.frozen.values()):
            network.double()
    return NaiveStep(model, learning_rate=LEARNING_RATE, betas=(0.5, 0.999))


RELEASE = ("--preset", "release", "--no_antialias", "--no_antialias_up")
EXCHANGE = ("--lambda_exchange", "10", "--exchange_distance", "wide_berhu")


@pytest.mark.parametrize("flags", [(), RELEASE, EXCHANGE], ids=str)
def test_its_losses_are_ours_over_some_steps(flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rain_exchange, "STRENGTHS", (1.5, 1.5))  # the two draw their random numbers in another order
    ours = make_stepper(*EVERYWHERE, *flags, model="cclgan")
    naive = naive_step(ours, *EVERYWHERE, *flags)
    for number, batch in enumerate(batches(2)):
        exact = {key: image.double() for key, image in batch.items()}
        expected, found = ours.step(exact, at(number)).losses, naive.step(exact)
        assert found.keys() == expected.keys()
        for name, loss in expected.items():
            assert found[name].item() == pytest.approx(loss.item(), rel=1e-6), name


def test_it_makes_a_pass_for_every_purpose() -> None:
    """Per generator: its image, the cycle, identity, and two encodings; per discriminator: 1 + 4, then 2."""
    step = naive_step(make_stepper(model="cclgan"))
    passes = dict.fromkeys(("G_A", "G_B", "D_A", "D_B"), 0)

    def count(name: str) -> None:
        passes[name] += 1

    for name in passes:
        first = step.model.nets[name].network.model[1]
        first.register_forward_pre_hook(lambda module, inputs, name=name: count(name))
    step.step({key: image.double() for key, image in batches(1)[0].items()})
    assert passes == {"G_A": 5, "G_B": 5, "D_A": 7, "D_B": 7}


def test_its_networks_are_not_accelerated_and_its_optimizers_not_fused() -> None:
    step = naive_step(make_stepper(model="cclgan"))
    modules = [module for network in step.model.nets.values() for module in network.modules()]
    assert not [module for module in modules if type(module).__module__.startswith("util.kernels")]
    for optimizer in step.optimizers.values():
        assert type(optimizer) is torch.optim.Adam and not optimizer.defaults["fused"]
