"""Winograd's convolution against the formula, and which layers use it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from models.networks.resnet import ResidualBlock
from tests.conftest import at
from tests.test_kernels import Network
from tests.test_step_equality import batches, gradients, make_stepper, relative, weights
from util.engine import compile as compiling
from util.engine.compile import find_obstacle
from util.engine.step import Stepper
from util.kernels import accelerate, fuse, layers
from util.kernels.layers import FastConv2d, laid_out
from util.kernels.winograd import (
    Direction,
    KernelPlaces,
    Transforms,
    WinogradConvolution,
    input_image,
    input_lines,
    input_places,
    turned,
)

CPU = torch.device("cpu")
WIDE = 128
POINTS = ["0 1", "0 1 -1", "0 1 -1 2", "0 2/3 -2/3 3/2 -3/2", "1/2 5 -3 7 -1/4"]


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiler that leaves everything as it is."""
    return function


def image(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return laid_out(torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).to(dtype)


def fused(padding: int, channels: tuple[int, int] = (WIDE, WIDE), **settings: Any) -> FastConv2d:
    torch.manual_seed(0)
    layer = FastConv2d(*channels, settings.pop("kernel_size", 3), padding=padding, **settings)
    layer.fuse(uncompiled)
    return layer


def used(output: Tensor) -> bool:
    return "Winograd" in type(output.grad_fn).__name__


@pytest.mark.parametrize("points", POINTS)
def test_a_line_is_convolved_with_m_plus_two_multiplications(points: str) -> None:
    direction = Direction.through(*map(Fraction, points.split()))
    outputs = len(points.split()) - 1
    rng = np.random.default_rng(1)
    line, kernel = rng.normal(size=outputs + 2), rng.normal(size=3)
    products = (np.array(direction.of_kernel) @ kernel) * (np.array(direction.of_input) @ line)
    assert len(products) == outputs + 2
    np.testing.assert_allclose(np.array(direction.to_output) @ products, np.correlate(line, kernel), rtol=1e-10)


def test_turned_is_the_transpose() -> None:
    assert np.array_equal(turned(((1, 2, 3), (4, 5, 6))), np.array([[1, 4], [2, 5], [3, 6]]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(4, 4), (6, 10), (12, 4), (4, 16)], ids=str)
def test_values_and_gradients_are_those_of_the_formula(size: tuple[int, int], padding: int, bias: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(7, dtype=torch.float64, requires_grad=True) if bias else None
    x = image(3, 5, *size).requires_grad_()
    wanted = [leaf for leaf in (x, weight, shift) if leaf is not None]
    ours = WinogradConvolution.apply(x, weight, shift, padding, Transforms(), KernelPlaces())
    theirs = F.conv2d(x, weight, shift, padding=padding)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(theirs)
    for one, other in zip(
        torch.autograd.grad(ours, wanted, direction), torch.autograd.grad(theirs, wanted, direction), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_gradients_are_those_of_differences() -> None:
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    x = image(1, 2, 6, 4).requires_grad_()
    assert gradcheck(lambda x, w: WinogradConvolution.apply(x, w, None, 1, Transforms(), KernelPlaces()), (x, weight))


@pytest.mark.parametrize("steps", [(2, 2), (2, 4)], ids=str)
def test_cutting_tiles_and_putting_them_together_are_adjoint(steps: tuple[int, int]) -> None:
    """⟨cut(x), v⟩ = ⟨x, put(v)⟩ for any x and v."""
    x = image(2, 3, 8, 12).permute(0, 2, 3, 1)
    cut = input_places(F.pad(x, (0, 0, 1, 1, 1, 1)), steps)
    v = torch.randn_like(cut)
    put = input_image(input_lines(v, steps, (2, 4, 12 // steps[1]), 1), steps, 12, 1)
    torch.testing.assert_close((cut * v).sum(), (x * put).sum())


def test_places_of_the_kernel_are_made_anew_when_it_changes() -> None:
    layer, x = fused(1, bias=False), image(1, WIDE, 4, 8, dtype=torch.float32)
    first = layer(x)
    assert torch.equal(layer(x), first)
    with torch.no_grad():
        layer.weight.mul_(2)
    torch.testing.assert_close(layer(x), 2 * first)
    layer.weight = torch.nn.Parameter(layer.weight.detach() / 2)
    torch.testing.assert_close(layer(x), first)


@pytest.mark.parametrize(("dtype", "times"), [(torch.float32, 2.0), (torch.bfloat16, 4.5)])
def test_rounding_is_of_the_size_of_pytorchs_own(dtype: torch.dtype, times: float) -> None:
    """At the width of the residual blocks; ``times`` the error of the direct convolution at most."""
    weight = torch.randn(256, 256, 3, 3, dtype=torch.float64) / 48
    x = image(1, 256, 18, 18, dtype=dtype).requires_grad_()
    rounded = weight.to(dtype).requires_grad_()
    direct = F.conv2d(x, rounded)
    ours = WinogradConvolution.apply(x, weight.float().requires_grad_(), None, 0, Transforms(), KernelPlaces())
    exact_x = x.detach().double().requires_grad_()
    exact = F.conv2d(exact_x, weight)
    direction = image(1, 256, 16, 16, dtype=dtype)
    (expected,) = torch.autograd.grad(exact, exact_x, direction.double())

    def error(found: Tensor, truth: Tensor) -> float:
        return relative(found.double(), truth)

    assert error(ours, exact) < times * error(direct, exact)
    found, of_direct = (torch.autograd.grad(output, x, direction)[0] for output in (ours, direct))
    assert error(found, expected) < times * error(of_direct, expected)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: fused(1, (WIDE, 63)),
        lambda: fused(2),
        lambda: fused(1, stride=2),
        lambda: fused(1, groups=2),
        lambda: fused(2, dilation=2),
        lambda: fused(1, kernel_size=5),
        lambda: fused(1, padding_mode="reflect"),
    ],
    ids=["narrow", "padding 2", "stride", "groups", "dilation", "5×5", "reflecting"],
)
def test_other_convolutions_stay_what_they_are(layer: Callable[[], FastConv2d]) -> None:
    convolution = layer()
    assert not used(convolution(image(1, WIDE, 8, 8, dtype=torch.float32)))


def test_a_wide_one_uses_it_for_even_outputs_until_it_is_told_not_to() -> None:
    layer = fused(1)
    even, odd = (image(1, WIDE, 8, width, dtype=torch.float32) for width in (6, 7))
    assert used(layer(even))
    assert not used(layer(odd))
    layer.fuse(None)
    assert not used(layer(even))


def test_under_autocast_it_computes_in_bfloat16_and_keeps_channels_last() -> None:
    block = ResidualBlock(WIDE, "instance", dropout=False)
    accelerate([Network(block)], CPU)
    fuse([block], uncompiled)
    x = image(2, WIDE, 8, 8, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        convolved = block.conv_block[1](block.conv_block[0](x))
        output = block(x)
    assert convolved.dtype == torch.bfloat16
    assert used(convolved)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output.float(), block.double()(x.double()).float(), rtol=0.1, atol=0.1)


def test_a_frozen_layer_passes_gradients_on_and_takes_none() -> None:
    layer = fused(1).requires_grad_(False)
    x = image(1, WIDE, 8, 8, dtype=torch.float32).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


@pytest.fixture
def narrow_layers_too(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Winograd's convolution in tiny networks, uncompiled; what a compiler would have been asked for."""
    asked: list[str] = []

    def compile_(function: Any, **_: Any) -> Any:
        asked.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(compiling, "find_obstacle", lambda device: None)
    monkeypatch.setattr(layers, "_FEWEST_FOR_WINOGRAD", 1)
    return asked


def leave_zero(stepper: Stepper) -> None:
    """Draw the biases: where all of them are 0, so are some places, and a ReLU's derivative there hangs on rounding."""
    for network in stepper.model.nets.values():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))


@pytest.mark.parametrize("model", ["cut", "cycle_gan", "cclgan"])
def test_a_training_with_fused_kernels_has_the_gradients_of_the_plain_one(
    model: str, narrow_layers_too: list[str]
) -> None:
    flags = ("--lambda_intra", "0") if model == "cclgan" else ()
    plain, with_kernels = (make_stepper(*flags, model=model, compile=mode) for mode in ("off", "kernels"))
    for stepper in (plain, with_kernels):
        leave_zero(stepper)
        for network in stepper.model.nets.values():
            network.double()
    for number, batch in enumerate(batches(3)):  # the kernels of each step are those that the step before has left
        for stepper in (plain, with_kernels):
            stepper.step({key: value.double() for key, value in batch.items()}, at(number))
        assert relative(gradients(with_kernels), gradients(plain)) < 1e-8
    assert sorted(narrow_layers_too) == sorted([*Transforms.__dataclass_fields__, "gradient_of_norm"])
    assert relative(weights(with_kernels.model.nets), weights(plain.model.nets)) < 1e-6


def test_testing_and_validation_use_the_layers_as_they_are(narrow_layers_too: list[str]) -> None:
    stepper = make_stepper(model="cut", compile="kernels")
    stepper.step(batches(1)[0], at(0))
    first = next(m for m in stepper.model.nets["G"].modules() if isinstance(m, ResidualBlock)).conv_block[1]
    assert isinstance(first, FastConv2d)
    x = image(1, first.in_channels, 8, 8, dtype=torch.float32)
    assert used(first(x))
    with stepper.ema_scope():
        assert not used(first(x))
    assert used(first(x))


@pytest.mark.heavy
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_kernels_agree_with_plain_steps(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if obstacle := find_obstacle(CPU):
        pytest.skip(obstacle)
    monkeypatch.setattr(layers, "_FEWEST_FOR_WINOGRAD", 1)
    plain, compiled = (make_stepper(model="cut", compile=mode, precision=precision) for mode in ("off", "kernels"))
    for stepper in (plain, compiled):
        leave_zero(stepper)
    losses = [stepper.step(batches(1)[0], at(0)).losses for stepper in (plain, compiled)]
    assert relative(gradients(compiled), gradients(plain)) < (1e-4 if precision == "fp32" else 0.3)
    for name, value in losses[0].items():
        assert losses[1][name].item() == pytest.approx(value.item(), rel=1e-4 if precision == "fp32" else 0.05)
