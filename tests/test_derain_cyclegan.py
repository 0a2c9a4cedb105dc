"""DerainCycleGAN: networks and losses against a transcription in NumPy, its step, its resumed state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.networks.derain_cyclegan import AttentiveGenerator, MultiScaleDiscriminator, RainDetector
from options.parse import parse_train
from tests.peer_steps import (
    Array,
    array,
    assert_changed,
    assert_resumes,
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

PLACES = [Progress(images=count, step=count, images_in_epoch=count) for count in range(3)]


def make(dataset: Path, *flags: str) -> Any:
    small = ("--ngf", "4", "--ndf", "4", "--crop_size", "64", "--lambda_VGG", "0")
    return model_of(dataset, "derain_cyclegan", *small, *flags)


# Networks ----------------------------------------------------------------------------------------


def detected(network: Any, image: Array) -> Array:
    width = network.leave.in_channels
    mask = np.full((1, *image.shape[1:]), 0.5)
    h = c = np.zeros((width, *image.shape[1:]))
    for _ in range(6):
        x = relu(convolve(network.enter[0], np.concatenate([image, mask])))
        gates = convolve(network.gates, np.concatenate([x, h]))
        i, f, o = (sigmoid(gates[number * width : (number + 1) * width]) for number in range(3))
        c = f * c + i * np.tanh(gates[3 * width :])
        h = x = o * np.tanh(c)
        for block in network.blocks:
            x = relu(x + relu(convolve(block[2], relu(convolve(block[0], x)))))
        mask = convolve(network.leave, x)
    return mask


def test_the_detector_looks_six_times() -> None:
    network = shaken(RainDetector(3, 4))
    image = torch.rand(1, 3, 7, 9, dtype=torch.float64)
    np.testing.assert_allclose(array(network(image)[0]), detected(network, array(image[0])), rtol=1e-5, atol=1e-9)
    assert RainDetector.recognize(RainDetector(3).state_dict()) == {"ngf": "64"}


def transposed(layer: Any, x: Array) -> Array:
    """Kernel 4, stride 2, padding 1: each pixel leaves its kernel, and the outermost row and column are dropped."""
    weight, (rows, columns) = array(layer.weight), x.shape[1:]
    out = np.zeros((weight.shape[1], 2 * rows + 2, 2 * columns + 2))
    for i, j in np.ndindex(4, 4):
        out[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] += np.einsum("io,ihw->ohw", weight[:, :, i, j], x)
    return out[:, 1:-1, 1:-1] + array(layer.bias)[:, None, None]


def doubled(layers: Any, x: Array) -> Array:
    y = np.pad(transposed(layers.up, x), [(0, 0), (1, 0), (1, 0)], mode="reflect")
    return relu((y[:, :-1, :-1] + y[:, 1:, :-1] + y[:, :-1, 1:] + y[:, 1:, 1:]) / 4)


def chain(layers: Any, x: Array) -> Array:
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d):
            x = relu(convolve(layer, x))
    return x


def test_the_generator_is_the_one_of_the_publication() -> None:
    network = shaken(AttentiveGenerator(3, 4))
    image, mask = torch.rand(1, 3, 12, 16, dtype=torch.float64), torch.rand(1, 1, 12, 16, dtype=torch.float64)
    first = chain(network.first, np.concatenate([array(image[0]), array(mask[0])]))
    half = chain(network.second, first)
    y = chain(network.at_half, doubled(network.to_half, chain(network.third, half)) + half)
    y = convolve(network.image, chain(network.at_full, doubled(network.to_full, y) + first))
    np.testing.assert_allclose(array(network(image, mask)[0]), y, rtol=1e-5, atol=1e-9)
    layers = [layer for layer in AttentiveGenerator(3).third if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.dilation[0] for layer in layers] == [1, 1, 1, 2, 4, 8, 16, 1, 1]
    assert AttentiveGenerator.recognize(AttentiveGenerator(3).state_dict()) == {"ngf": "64"}


def test_the_discriminator_judges_at_three_scales() -> None:
    network = shaken(MultiScaleDiscriminator(3, 2))
    image = torch.rand(1, 3, 64, 72, dtype=torch.float64)
    x = array(image[0])
    for scale, found in zip(network.scales, network(image), strict=True):
        y = x
        for layer in scale:
            if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (4, 4):
                y = relu(convolve(layer, np.pad(y, [(0, 0), (1, 1), (1, 1)], mode="reflect")), 0.01)
        np.testing.assert_allclose(array(found[0]), convolve(scale[-1], y), rtol=1e-5, atol=1e-9)
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1)], constant_values=np.nan)
        rows, columns = (-(-side // 2) for side in x.shape[1:])
        x = np.array(
            [
                [[np.nanmean(plane[2 * r : 2 * r + 3, 2 * c : 2 * c + 3]) for c in range(columns)] for r in range(rows)]
                for plane in padded
            ]
        )
    torch.testing.assert_close(network.full_resolution(image), network(image)[0])


# The method --------------------------------------------------------------------------------------


def test_each_loss_is_its_formula(dataset: Path) -> None:
    model = make(dataset, "--init_gain", "0.2")
    x = model.forward(batch_of("derain_cyclegan", 2, 64))
    M, G_A, G_B = (model.nets[name] for name in ("M", "G_A", "G_B"))
    a, b, fake_B, fake_A = array(x.real_A), array(x.real_B), array(x.fake_B), array(x.fake_A)
    m_a, m_b = array(M(x.real_A)), array(M(x.real_B))
    rec_A, rec_B = array(G_B(x.fake_B, M(x.fake_B))), array(G_A(x.fake_A, M(x.fake_A)))
    torch.testing.assert_close(x.fake_B, G_A(x.real_A, M(x.real_A)))
    torch.testing.assert_close(x.fake_A, G_B(x.real_B, M(x.real_B)))
    judged = {name: model.nets[name](image) for name, image in (("D_A", x.fake_B), ("D_B", x.fake_A))}
    expected = {
        "G_A": ((array(judged["D_A"][0]) - 1) ** 2).mean(),
        "G_B": ((array(judged["D_B"][0]) - 1) ** 2).mean(),
        "A": 10 * np.abs(rec_A - a).mean(),
        "B": 10 * np.abs(rec_B - b).mean(),
        "empty": 10 * (m_b**2).mean(),
        "rain": 10 * ((m_a + fake_B - a) ** 2).mean(),
    }
    found = {name: loss.item() for name, loss in model.generator_losses(x).items()}
    assert found == pytest.approx(expected, rel=1e-5)
    real = {"D_A": model.nets["D_A"](x.real_B), "D_B": model.nets["D_B"](x.real_A)}
    expected = {
        name: np.mean([((array(r) - 1) ** 2).mean() / 2 + (array(f) ** 2).mean() / 2
                       for r, f in zip(real[name], judged[name], strict=True)])
        for name in ("D_A", "D_B")
    }  # fmt: skip
    assert {name: loss.item() for name, loss in model.discriminator_losses(x).items()} == pytest.approx(
        expected, rel=1e-5
    )
    assert fake_A.shape == model.make_rain(x.real_B, x.real_A).shape


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_trains_every_network(dataset: Path, count: int) -> None:
    model = make(dataset)
    stepper, before = stepper_of(model), parameters(model)
    (losses,) = train(stepper, [batch_of("derain_cyclegan", count, 64)], PLACES[:1])
    assert all(math.isfinite(value) for value in losses.values())
    assert_changed(model, before, ["G_A", "G_B", "M", "D_A", "D_B"])
    assert stepper.optimizers["G"].defaults["weight_decay"] == 1e-4


def test_it_resumes(dataset: Path) -> None:
    assert_resumes(lambda: make(dataset), [batch_of("derain_cyclegan", 1, 64, seed) for seed in range(3)], PLACES)


def test_the_release_has_no_perceptual_gradient(dataset: Path) -> None:
    where = ["--dataroot", str(dataset), "--model", "derain_cyclegan"]
    weights = [parse_train([*where, *preset]).lambda_VGG for preset in ([], ["--preset", "release"])]
    assert weights == [0.01, 0]


def test_small_crops_are_refused(dataset: Path) -> None:
    with pytest.raises(UserError, match="--crop_size 60"):
        make(dataset, "--crop_size", "60")


@pytest.mark.parametrize("size", [(37, 51), (3, 2)])
def test_odd_sizes_come_back(dataset: Path, size: tuple[int, int]) -> None:
    assert make(dataset).infer(torch.rand(1, 3, *size)).shape == (1, 3, *size)
