"""JORDER-E: network and losses against a transcription in NumPy, its step, its resumed state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.networks.jorder import JorderNet
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
    stepper_of,
    train,
)
from util.engine.schedule import Progress

PLACES = [Progress(images=count, step=count, images_in_epoch=count) for count in range(3)]


def make(dataset: Path, *flags: str) -> Any:
    return model_of(dataset, "jorder_e", "--ngf", "4", *flags)


def two(layers: Any, x: Array) -> Array:
    """Convolution, ReLU, convolution."""
    return convolve(layers[2], relu(convolve(layers[0], x)))


def stage_by_hand(stage: Any, rainy: Array, before: tuple[Any, ...] | None) -> tuple[Any, ...]:
    x = convolve(stage.encoder, np.concatenate([rainy, rainy if before is None else before[0]]))
    features = []
    for number, block in enumerate(stage.blocks):
        x = x + relu(two(block.near, x)) + 0.1 * relu(two(block.middle, x)) + 0.1 * relu(two(block.far, x))
        if before is not None:
            x = x + before[3][number]
        features.append(x)
    mask = convolve(stage.mask[1], convolve(stage.mask[0], x))
    level = convolve(stage.level[1], convolve(stage.level[0], x))
    if before is not None:
        mask, level = mask + before[1], level + before[2]
    f = two(stage.by_mask.add, mask) + x + two(stage.by_level.add, level)
    f = f + two(stage.by_mask.multiply, mask) * x * two(stage.by_level.multiply, level)
    return convolve(stage.decoder[1], convolve(stage.decoder[0], f)) + rainy, mask, level, features


def test_both_stages_find_image_mask_and_level() -> None:
    network = shaken(JorderNet(3, 4))
    rainy = torch.rand(1, 3, 11, 13, dtype=torch.float64) * 255
    first = stage_by_hand(network.first, array(rainy[0]), None)
    second = stage_by_hand(network.second, array(rainy[0]), first)
    for found, expected in zip(network(rainy), (first, second), strict=True):
        for one, other in zip(found[:3], expected[:3], strict=True):
            np.testing.assert_allclose(array(one[0]), other, rtol=1e-5, atol=1e-6)


def test_the_network_is_as_large_and_begins_as_published() -> None:
    network = JorderNet(3)
    paths = network.first.blocks[0]
    dilations = [layer.dilation[0] for layer in paths.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert (len(network.first.blocks), dilations) == (9, [1, 1, 2, 2, 2, 4])
    modulation = network.first.by_level
    assert torch.equal(modulation.multiply(torch.rand(1, 3, 5, 5)), torch.ones(1, 64, 5, 5))
    assert JorderNet.recognize(network.state_dict()) == {"ngf": "64"}


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_each_loss_is_its_formula(dataset: Path, preset: str) -> None:
    model = make(dataset, "--preset", preset, "--batch_size", "2")
    x = model.forward(batch_of("jorder_e", 2, 12))
    clean, rainy, logits = array(x.clean), array(x.rainy), array(x.second.mask)
    assert 0 <= clean.min() < 5 and 250 < clean.max() <= 255
    entropy = 0.0
    for n, row, column in np.ndindex(2, 12, 12):
        difference = (clean - rainy)[n, :, row, column]
        mask = difference[0] > 0 if preset == "release" else any(difference < 0)
        no_rain, rain = logits[n, :, row, column]
        entropy += math.log(math.exp(no_rain) + math.exp(rain)) - (rain if mask else no_rain)
    expected = {
        "L1": np.abs(array(x.second.image) - clean).mean(),
        "L1_first": np.abs(array(x.first.image) - clean).mean(),
        "mask": 1e-3 * entropy,
        "level": 1e-2 * np.abs(array(x.second.level) - (clean - rainy)).mean(),
    }
    assert {name: loss.item() for name, loss in model.losses(x).items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_trains_it(dataset: Path, count: int) -> None:
    model = make(dataset)
    before = parameters(model)
    (losses,) = train(stepper_of(model), [batch_of("jorder_e", count, 16)], PLACES[:1])
    assert all(math.isfinite(value) for value in losses.values())
    assert_changed(model, before, ["G"])


def test_it_resumes(dataset: Path) -> None:
    assert_resumes(lambda: make(dataset), [batch_of("jorder_e", 1, 16, seed) for seed in range(3)], PLACES)


def test_odd_sizes_come_back(dataset: Path) -> None:
    source = torch.rand(1, 3, 7, 13) * 2 - 1
    model = make(dataset)
    found = model.infer(source)
    assert found.shape == source.shape
    second = model.nets["G"]((source + 1) * 127.5)[1]
    torch.testing.assert_close((found + 1) * 127.5, second.image)
