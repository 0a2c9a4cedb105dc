"""DDN, RESCAN, SSIR and JORDER-E: networks and losses against transcriptions in NumPy, and trainings by the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.losses.gaussian_mixture import GaussianMixture, divergence_from_nearest
from models.losses.restoration import total_variation
from models.networks.ddn import DetailNetwork
from models.networks.rescan import RescanNetwork
from tests.plain_layers import Array, Weights, array, box, close, conv, leaky, relu, sigmoid


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


def shaken(network: Any) -> Any:
    """In float64, with parameters that all matter."""
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# DDN ----------------------------------------------------------------------------------------------


def ddn(network: torch.nn.Module, x: Array) -> Array:
    """Self-guided filter per channel with r 15 and eps 1 on [0, 1]; 26 layers on the detail; added to the image."""
    w = Weights(network)
    image = (x + 1) / 2
    mean = box(image, 15)
    variance = box(image * image, 15) - mean * mean
    slope = variance / (variance + 1)
    base = box(slope, 15) * image + box(mean - slope * mean, 15)
    f = relu(w.norm(w.conv(image - base)))
    for _unit in range(12):
        shortcut = f
        for _layer in range(2):
            f = relu(w.norm(w.conv(f)))
        f = f + shortcut
    last = w.norm(w.conv(f))
    w.end()
    return np.asarray(2 * (image + last) - 1)


@pytest.mark.parametrize("own_statistics", [False, True])
def test_ddn_is_what_was_published(own_statistics: bool) -> None:
    network, x = shaken(DetailNetwork(width=4, own_statistics=own_statistics)), images(2, 3, 12, 20)
    close(network(x), ddn(network, array(x)))


def test_ddn_has_the_published_number_of_parameters() -> None:
    """57.7k."""
    assert parameters(DetailNetwork()) == pytest.approx(57_700, rel=0.01)


def test_ssir_normalizes_in_tests_by_the_image_itself() -> None:
    network = shaken(DetailNetwork(width=4, own_statistics=True)).eval()
    x = images(2, 3, 9, 11)
    for number in range(2):
        close(network(x)[number : number + 1], ddn(network, array(x[number : number + 1])))


# RESCAN -------------------------------------------------------------------------------------------


def rescan(network: torch.nn.Module, x: Array, stages: int) -> list[Array]:
    """The rain estimates of the stages, in [0, 1]."""

    def squeezed(h: Array, w: Weights) -> Array:
        gates = sigmoid(w.linear(relu(w.linear(h.mean((2, 3))))))
        return leaky(h * gates[:, :, None, None], 0.2)

    image = (x + 1) / 2
    states: list[Array | None] = [None] * 5
    estimates: list[Array] = []
    f = image
    for _stage in range(stages):
        w = Weights(network)
        for number, dilation in enumerate((1, 1, 2, 4, 8)):
            zx, rx, nx = split(w.next(), 3)
            (zh, rh), nh, before = split(w.next(), 2), w.next(), states[number]
            z = conv_of(f, zx, dilation)
            n = conv_of(f, nx, dilation)
            if before is None:
                h = sigmoid(z) * np.tanh(n)
            else:
                update = sigmoid(z + conv_of(before, zh))
                reset = sigmoid(conv_of(f, rx, dilation) + conv_of(before, rh))
                new = np.tanh(n + conv_of(reset * before, nh))
                h = (1 - update) * before + update * new
            f = squeezed(h, w)
            states[number] = f
        f = squeezed(w.conv(f), w)
        estimates.append(w.conv(f))
        w.end()
        f = image - estimates[-1]
    return estimates


def split(parameters: tuple[Array, Array], parts: int) -> list[tuple[Array, Array]]:
    """One layer's parameters as those of several, whose outputs it stacks."""
    return list(zip(*(np.split(each, parts) for each in parameters), strict=True))


def conv_of(x: Array, parameters: tuple[Array, Array], dilation: int = 1) -> Array:
    return conv(x, *parameters, dilation=dilation)


def test_rescan_is_what_was_published() -> None:
    network, x = shaken(RescanNetwork(width=8, stages=3)), images(2, 3, 10, 13)
    expected = rescan(network, array(x), stages=3)
    for ours, plain in zip(network.estimates(x), expected, strict=True):
        close(ours, plain)
    close(network(x), 2 * ((array(x) + 1) / 2 - expected[-1]) - 1)


def test_rescan_has_the_published_number_of_parameters() -> None:
    """150k."""
    assert round(parameters(RescanNetwork()), -3) == 150_000


# SSIR's losses ------------------------------------------------------------------------------------


def test_the_mixture_makes_an_e_an_m_and_an_e_step() -> None:
    residual = 0.1 * torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mixture = GaussianMixture(3)
    weights, variances = array(mixture.weights), array(mixture.variances)

    def responsibilities() -> Array:
        r = array(residual).reshape(-1, 1)
        density = weights * np.exp(-r * r / (2 * variances)) / np.sqrt(2 * np.pi * variances)
        return np.asarray(density / density.sum(1, keepdims=True))

    r = array(residual).ravel()
    shares = responsibilities()
    for k in range(3):
        weights[k] = shares[:, k].mean()
        variances[k] = (shares[:, k] * r**2).sum() / shares[:, k].sum() + 1e-6
    shares = responsibilities()
    expected = sum(shares[i, k] * r[i] ** 2 / (2 * variances[k]) for i in range(len(r)) for k in range(3)) / len(r)
    close(mixture.update_and_rate(residual), expected)
    close(mixture.variances, variances)
    close(mixture.weights, weights)


def test_the_mixture_is_part_of_the_state_of_a_run() -> None:
    mixture, other = GaussianMixture(3), GaussianMixture(3)
    mixture.update_and_rate(torch.randn(1, 3, 4, 4))
    other.load_state_dict(mixture.state_dict())
    assert torch.equal(other.variances, mixture.variances) and torch.equal(other.weights, mixture.weights)


def test_the_divergence_is_that_from_the_nearest_component() -> None:
    """KL(N(m, v) || N(0, s²)) by numerical integration."""
    residual = 0.1 + 0.2 * torch.randn(50, dtype=torch.float64)
    variances = torch.tensor([0.01, 0.2, 4.0], dtype=torch.float64)
    m, v = array(residual).mean(), array(residual).var()
    x = np.linspace(m - 12 * v**0.5, m + 12 * v**0.5, 200_001)

    def log_density(mean: float, variance: float) -> Array:
        return np.asarray(-((x - mean) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance))

    p = log_density(m, v)
    expected = min(np.trapezoid(np.exp(p) * (p - log_density(0, s)), x) for s in (0.01, 0.2, 4.0))
    close(divergence_from_nearest(residual, variances), float(expected))


def test_total_variation_is_summed_over_an_image_and_averaged_over_images() -> None:
    x = images(3, 2, 4, 5)
    a = array(x)
    expected = sum(np.abs(np.diff(image, axis=axis)).sum() for image in a for axis in (1, 2)) / 3
    close(total_variation(x), float(expected))
