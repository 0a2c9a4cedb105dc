"""Syn2Real: network, Gaussian process and losses against transcriptions in NumPy, its two passes, its resumed state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.losses.gaussian_process import GaussianProcessLoss
from models.networks.res2unet import Res2UNet
from tests.peer_steps import (
    Array,
    array,
    assert_changed,
    assert_resumes,
    batch_norm,
    batch_of,
    convolve,
    model_of,
    parameters,
    relu,
    shaken,
    sigmoid,
    stepper_of,
    train,
)
from util.engine.schedule import Progress
from util.errors import UserError

SMALL = ("--ngf", "6", "--lambda_VGG", "0")
PLACES = [
    Progress(epoch=1),
    Progress(epoch=1, images=1, step=1, images_in_epoch=1),
    Progress(epoch=2, images=2, step=2),
    Progress(epoch=2, images=3, step=3, images_in_epoch=1),
]


def make(dataset: Path, *flags: str) -> Any:
    return model_of(dataset, "syn2real", *SMALL, *flags)


# Network -----------------------------------------------------------------------------------------


def activated(layers: Any, x: Array) -> Array:
    y = relu(batch_norm(layers[0], x))
    if isinstance(layers[2], torch.nn.ConvTranspose2d):
        return np.einsum("ichw,iyx->cyx", array(layers[2].weight), y)
    return convolve(layers[2], y)


def block(layers: Any, x: Array) -> Array:
    entered = activated(layers.enter, x)
    width = len(entered) // 6
    parts = [entered[number * width : (number + 1) * width] for number in range(6)]
    results = [activated(layers.scales[0], parts[0])]
    for number in range(1, 5):
        results.append(activated(layers.scales[number], results[number - 1] + parts[number]))
    out = activated(layers.leave, np.concatenate([*results, parts[5]])) + x
    return np.concatenate([x, out])


def halved(x: Array) -> Array:
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def doubled(x: Array) -> Array:
    return x.repeat(2, 1).repeat(2, 2)


def by_hand(net: Any, image: Array) -> tuple[Array, Array]:
    x = convolve(net.stem, image)
    x1 = block(net.level1, x)
    x2 = activated(net.out2, block(net.level2, halved(activated(net.down2, x1))))
    x3 = activated(net.out3, block(net.level3, halved(activated(net.down3, x2))))
    y = halved(activated(net.down4, x3))
    for number in (0, 2, 4):
        y = activated(net.bottom[number + 1], block(net.bottom[number], y))
    z = convolve(net.latent[1], relu(y, 0.2))
    y = activated(net.out7, block(net.level7, np.concatenate([doubled(activated(net.up3, z)), x3])))
    y = activated(net.out8, block(net.level8, np.concatenate([doubled(activated(net.up2, y)), x2])))
    y = activated(net.out9, block(net.level9, np.concatenate([doubled(activated(net.up1, y)), x1, x])))
    residual = np.tanh(convolve(net.image[0], x - relu(convolve(net.refine[0], y), 0.2)))
    return sigmoid(convolve(net.clean[2], relu(convolve(net.clean[0], residual), 0.2))), z


def test_the_network_is_that_of_the_publication() -> None:
    network = shaken(Res2UNet(3, 3, 6))
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64) * 2 - 1
    for found, expected in zip(network(image), by_hand(network, array(image[0])), strict=True):
        np.testing.assert_allclose(array(found[0]), expected, rtol=1e-5, atol=1e-9)


def test_widths_are_the_published_ones() -> None:
    whole = Res2UNet(3, 3)
    blocks = {name: getattr(whole, name) for name in ("level1", "level2", "level8", "level9")} | {"b": whole.bottom[0]}
    widths = {name: (each.enter[2].in_channels, each.scales[0][2].in_channels) for name, each in blocks.items()}
    assert widths == {"level1": (16, 24), "level2": (32, 48), "level8": (64, 96), "level9": (80, 120), "b": (128, 192)}
    assert whole.latent[1].out_channels == 32
    assert Res2UNet.recognize(whole.state_dict()) == {"ngf": "16", "input_nc": "3"}


# Gaussian process --------------------------------------------------------------------------------


def process_by_hand(z: Array, labeled: Array, count: int, noise: float, farthest: bool) -> float:
    def cosine(a: Array, b: Array) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    def predicted(near: list[Array]) -> tuple[Array, float]:
        K = np.array([[cosine(a, b) for b in near] for a in near]) + noise * np.eye(len(near))
        k = np.array([cosine(z, b) for b in near])
        inverse = np.linalg.inv(K)
        return k @ inverse @ np.stack(near), 1 - k @ inverse @ k + noise

    order = sorted(labeled, key=lambda other: math.sqrt(((z - other) ** 2).sum()))
    mean, variance = predicted(order[:count])
    loss = float(((z - mean) ** 2 / variance).mean() + 0.33 * math.log(variance))
    return loss - 0.33e-6 * math.log(predicted(order[-count:])[1]) if farthest else loss


@pytest.mark.parametrize(("noise", "farthest"), [(1.0, True), (0.01, False)])
def test_the_gaussian_process_is_its_formula(noise: float, farthest: bool) -> None:
    torch.manual_seed(1)
    latents, labeled = torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.randn(7, 3, 2, 2, dtype=torch.float64)
    found = GaussianProcessLoss(3, noise, farthest=farthest)(latents, labeled)
    flat = array(labeled).reshape(7, -1)
    expected = np.mean([process_by_hand(z, flat, 3, noise, farthest) for z in array(latents).reshape(2, -1)])
    assert found.item() == pytest.approx(expected, rel=1e-8)


def test_few_labeled_latents_are_enough() -> None:
    z = torch.randn(1, 5, dtype=torch.float64)
    found = GaussianProcessLoss()(z, torch.cat([z, -z]))
    assert math.isfinite(found.item())


# The method --------------------------------------------------------------------------------------


def test_each_loss_is_its_formula(dataset: Path) -> None:
    model = make(dataset)
    batch = batch_of("syn2real", 2, 16)
    x = model.forward(batch)
    error = np.abs(array(x.clean) - (array(batch["B"]) + 1) / 2)
    smooth = np.where(error < 1, error**2 / 2, error - 0.5).mean()
    assert model.losses(x)["L1"].item() == pytest.approx(smooth, rel=1e-5)
    model.on_epoch(PLACES[2])
    y = model.forward(batch)
    assert torch.equal(y.rainy, batch["U"])
    kept = array(x.latents).reshape(2, -1)
    process = np.mean([process_by_hand(z, kept, 2, 1.0, True) for z in array(y.latents).reshape(2, -1)])
    assert model.losses(y)["GP"].item() == pytest.approx(0.0015 * process, rel=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_labeled_and_unlabeled_passes_take_turns(dataset: Path, count: int) -> None:
    model = make(dataset)
    before = parameters(model)
    batch = batch_of("syn2real", count, 32)
    losses = train(stepper_of(model), [batch] * 4, PLACES)
    assert [list(each) for each in losses] == [["L1"], ["L1"], ["GP"], ["GP"]]
    assert_changed(model, before, ["G"])
    assert len(model.latents.all()) == 2 * count
    model.on_epoch(Progress(epoch=3))
    with pytest.raises(UserError, match="--epoch_count"):
        model.latents.all()


def test_it_resumes_with_its_latents(dataset: Path) -> None:
    assert_resumes(lambda: make(dataset), [batch_of("syn2real", 1, 32, seed) for seed in range(4)], PLACES)


def test_presets_and_rates(dataset: Path) -> None:
    process = make(dataset).process
    assert (process.neighbors, process.noise, process.farthest) == (8, 1.0, True)
    process = make(dataset, "--preset", "release").process
    assert (process.neighbors, process.noise, process.farthest) == (16, 0.01, False)
    (phase,) = make(dataset).phases
    assert [phase.schedule.factor(Progress(epoch=epoch)) for epoch in (1, 200, 201, 401)] == [1, 1, 0.5, 0.25]


@pytest.mark.parametrize("size", [(21, 35), (3, 9)])
def test_odd_sizes_come_back(dataset: Path, size: tuple[int, int]) -> None:
    model = make(dataset).eval()
    found = model.infer(torch.rand(1, 3, *size))
    assert found.shape == (1, 3, *size)
    assert found.abs().max() <= 1
