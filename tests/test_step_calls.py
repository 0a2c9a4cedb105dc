"""How often a step calls each network, and what it costs: a pass too many is a slow-down, whatever the machine."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from models import create_model
from options import parse_train
from tests.conftest import at
from tests.counting import flops, whole_step
from tests.test_step_equality import batches, make_stepper

PASSES = {
    # network: images of each call, by hand: what is batched counts as one call
    "cut": {"G": [2, 2], "D": [2, 1], "F": [1, 1, 1, 1]},
    "cycle_gan": {"G_A": [2, 1], "G_B": [2, 1], "D_A": [1, 2], "D_B": [1, 2]},
    "cclgan": {
        "G_A": [2, 1], "G_B": [2, 1],  # with the identity term; the cycle
        "D_A": [2, 2, 2], "D_B": [2, 2, 2],  # generated and reconstructed, both real ones; its own phase
        "F_A": [1, 1], "F_B": [1, 1], "P_A": [1, 1, 1, 1], "P_B": [1, 1, 1, 1], "phi": [2, 4],
    },
}  # fmt: skip
HEADS = 0.005  # at most this share of a step is heads and patch products


def first_layer(network: nn.Module) -> nn.Module:
    return next(module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))


@pytest.mark.parametrize("model", PASSES)
def test_a_step_passes_each_network_as_often_as_the_method_needs(model: str) -> None:
    stepper = make_stepper(model=model)
    networks = {**stepper.model.nets, **stepper.model.frozen}
    seen: dict[str, list[int]] = {name: [] for name in networks}
    for name, network in networks.items():
        first_layer(network).register_forward_pre_hook(
            lambda module, inputs, name=name: seen[name].append(len(inputs[0]))
        )
    stepper.step(batches(1)[0], at(0))
    assert {name: sorted(calls) for name, calls in seen.items()} == {
        name: sorted(calls) for name, calls in PASSES[model].items()
    }


class Operations(TorchDispatchMode):
    """Counts calls of PyTorch's operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counted[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


RESNET = 1 + 2 + 2 * 6 + 2 + 1  # convolutions of a plain generator of 6 blocks
PATCHGAN = 5
PLAIN = ("--no_antialias", "--no_antialias_up", "--pool_size", "0")
CONVOLUTIONS = {
    "cut": RESNET + (1 + 2 + 2 * 5) + 2 * PATCHGAN,  # one whole pass, one up to block5, twice through D
    "cycle_gan": 4 * RESNET + 4 * PATCHGAN,
    "cclgan": 4 * RESNET + 2 * (3 + 3 + 2 + PATCHGAN),  # D's passes go on behind the tap for the generated image alone
}


@pytest.mark.parametrize("model", CONVOLUTIONS)
def test_a_step_has_as_many_convolutions_as_its_passes_and_never_waits_for_a_number(model: str) -> None:
    """Reading a number off the device, which stops a GPU's queue, is ``_local_scalar_dense``."""
    flags = ["--lambda_intra", "0"] if model == "cclgan" else []
    if model == "cut":
        flags += ["--nce_layers", "0,4,7,10,14"]
    stepper = make_stepper(*PLAIN, *flags, model=model)
    stepper.step(batches(1)[0], at(0))
    with Operations() as operations:
        stepper.step(batches(1)[0], at(1))
    assert operations.counted["convolution"] == CONVOLUTIONS[model]
    assert operations.counted["_local_scalar_dense"] == 0
    assert operations.counted["_fused_adam_"] == len(stepper.optimizers)


def both_ways(network: nn.Module, x: Tensor, *, learns: bool = True, taps: Any = None) -> int:
    """FLOPs of one image through a network and back."""
    network.requires_grad_(learns)

    def run() -> None:
        outputs = network(x) if taps is None else network.encode(x, taps)  # type: ignore[operator]
        sum(output.sum() for output in outputs).backward()

    return flops(run)


@pytest.mark.parametrize("name", ["cut", "cycle_gan"])
def test_a_step_costs_what_its_passes_cost_one_by_one(name: str) -> None:
    opt = parse_train(["--dataroot", "none", "--model", name, "--pool_size", "0"])
    with torch.device("meta"):
        model = create_model(opt, training=True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for network in model.nets.values():
            network.to_empty(device="cpu")
        real = torch.empty(1, 3, 256, 256)
        whole = flops(lambda: whole_step(model, {"A": real, "B": real.clone()}))
        generated = real.clone().requires_grad_()
        G, D = (next(net for key, net in model.nets.items() if key[0] == letter) for letter in "GD")
        judged = both_ways(D, generated, learns=False) + 2 * both_ways(D, real)
        if name == "cut":
            taps = model.taps  # type: ignore[attr-defined]
            passes = 2 * both_ways(G, real) + 2 * both_ways(G, generated, taps=taps) + judged
        else:
            passes = 2 * (2 * both_ways(G, real) + both_ways(G, generated) + judged)
    assert passes <= whole < (1 + HEADS) * passes
