"""UDGNet: networks and losses against a transcription in NumPy, turning, angle labels, and its two stages."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.transform import rotate

from models.networks.udgnet import AngleNet, LayerBranch, rotated
from models.rain_angles import RainAngles, estimated
from models.udgnet_model import upright_by
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
    stepper_of,
    train,
)
from util.engine.schedule import Progress
from util.errors import UserError

SMALL = ("--ngf", "4", "--ndf", "4", "--udg_blocks", "1", "--angle_epochs", "1")
PLACES = [
    Progress(epoch=1),
    Progress(epoch=2, images=1, step=1),
    Progress(epoch=2, images=2, step=2, images_in_epoch=1),
]


def make(dataset: Path, *flags: str) -> Any:
    return model_of(dataset, "udgnet", *SMALL, *flags)


# Networks ----------------------------------------------------------------------------------------


def branch_by_hand(network: Any, x: Array) -> Array:
    def block(layers: Any, y: Array) -> Array:
        y = relu(batch_norm(layers[1], convolve(layers[0], y)))
        return convolve(layers[3], y)

    y = convolve(network.head, x)
    for each in network.blocks:
        y = y + batch_norm(each.body[4], block(each.body, y))
    return x - convolve(network.tail[4], block(network.tail, y))


def test_a_branch_is_32_residual_blocks_and_what_it_finds_is_subtracted() -> None:
    network = shaken(LayerBranch(3, 3, blocks=2))
    x = torch.rand(1, 3, 7, 9, dtype=torch.float64)
    np.testing.assert_allclose(array(network(x)[0]), branch_by_hand(network, array(x[0])), rtol=1e-5, atol=1e-9)
    whole = LayerBranch(3)
    assert len(whole.blocks) == 32
    assert LayerBranch.recognize(whole.state_dict()) == {"ngf": "32", "udg_blocks": "32"}


def test_the_angle_network_reduces_a_patch_to_a_number() -> None:
    network = shaken(AngleNet(3))
    x = torch.rand(1, 3, 128, 128, dtype=torch.float64)
    convolutions = [layer for layer in network.model if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [3, 32, 32, 64, 64, 128, 128, 64, 64, 32, 32, 1]
    y = convolve(convolutions[0], array(x[0]))
    for number, layer in enumerate(convolutions[1:-1]):
        if number in (2, 4, 6, 8):
            size = 2 if number == 2 else 4
            rows, columns = (side // size for side in y.shape[1:])
            y = y.reshape(len(y), rows, size, columns, size).max((2, 4))
        y = relu(convolve(layer, y))
    y = convolve(convolutions[-1], y)
    assert y.shape == (1, 1, 1)
    assert network(x).item() == pytest.approx(float(y[0, 0, 0]), rel=1e-5)


# Turning and angles ------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0.0, 30.0, -45.0])
def test_images_turn_counterclockwise_about_their_middle(degrees: float) -> None:
    image = torch.rand(1, 1, 24, 31, dtype=torch.float64)
    found = array(rotated(image, torch.tensor([degrees]))[0, 0])
    expected = rotate(array(image[0, 0]), degrees, order=1)
    np.testing.assert_allclose(found[8:-8, 10:-10], expected[8:-8, 10:-10], atol=1e-6)


def stripes(degrees: float) -> torch.Tensor:
    """Streaks that run so many degrees from vertical, towards the right on the way down, [1, 3, 96, 96] in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    angle = torch.deg2rad(torch.tensor(degrees))
    across = (x * angle.cos() - y * angle.sin()) % 16 - 8
    return (torch.exp(-across.square() / 3) - 1).expand(1, 3, -1, -1)


@pytest.mark.parametrize("degrees", [-40.0, -10.0, 0.0, 25.0])
def test_the_angle_is_seen_in_the_picture_and_turning_by_it_makes_streaks_vertical(degrees: float) -> None:
    image = stripes(degrees)
    label = estimated(image)
    assert label.item() == pytest.approx(0.5 + degrees / 90, abs=0.03)
    middle = rotated(image, upright_by(torch.tensor([0.5 + degrees / 90])))[:, :, 32:64, 32:64]
    assert middle.diff(dim=2).abs().mean() < 0.1 * middle.diff(dim=3).abs().mean()


def test_labels_come_from_a_record_a_folder_or_the_picture(tmp_path: Path) -> None:
    images, paths = torch.cat([stripes(20.0), stripes(-20.0)]), ["x/trainA/a/1.png", "x/trainA/2.jpg"]
    seen = RainAngles(str(tmp_path), "trainA")
    assert not seen.are_known and torch.equal(seen.of(images, paths), estimated(images))
    rows = "file,side,angle\ntrainA/a/1.png,A,45\ntrainA/2.png,A,-22.5\ntrainB/3.png,B,\n"
    (tmp_path / "images.csv").write_text(rows, encoding="utf-8")
    recorded = RainAngles(str(tmp_path), "trainA")
    assert recorded.are_known and recorded.of(images, paths).tolist() == [1.0, 0.25]
    with pytest.raises(UserError, match="for 'x/trainA/other"):
        recorded.of(images[:1], ["x/trainA/other.png"])
    (tmp_path / "npy" / "a").mkdir(parents=True)
    np.save(tmp_path / "npy" / "a" / "1.npy", np.array([[0.7]]))
    np.save(tmp_path / "npy" / "2.npy", np.array(0.5))
    labels = RainAngles(str(tmp_path), "trainA", str(tmp_path / "npy")).of(images, paths)
    assert labels.tolist() == pytest.approx([0.7, 0.5])
    with pytest.raises(UserError, match="--angles"):
        RainAngles(str(tmp_path), "trainA", str(tmp_path / "nothing.csv"))


def test_known_angles_and_mirrored_images_do_not_go_together(dataset: Path) -> None:
    (dataset / "images.csv").write_text("file,angle\ntrainA/rainy_0.png,3\n", encoding="utf-8")
    with pytest.raises(UserError, match="--no_flip"):
        make(dataset, "--no_flip", "false")


# The method --------------------------------------------------------------------------------------


def test_each_loss_is_its_formula(dataset: Path) -> None:
    model = make(dataset, "--batch_size", "2")
    model.on_epoch(PLACES[1])
    x = model.forward(batch_of("udgnet", 2, 128))
    x = dataclasses.replace(x, rain=torch.rand_like(x.rain), scene=torch.rand_like(x.scene))
    turned, B, R = array(x.turned_A), array(x.scene), array(x.rain)

    def dx(image: Array) -> Array:
        return np.asarray(np.diff(image, axis=3))

    def dy(image: Array) -> Array:
        return np.asarray(np.diff(image, axis=2))

    judged = array(model.nets["D"](x.scene))
    prior = 1.5 * np.abs(dy(R)).sum() + np.abs(dx(turned) - dx(R)).sum() + 0.1 * np.abs(R).sum()
    expected = {
        "fidelity": 0.1 * ((B + R - turned) ** 2).sum(),
        "direction": 0.1 * prior,
        "near": 0.1 * 0.01 * ((B - turned) ** 2).sum(),
        "TV": 0.1 * 0.01 * 2 * ((dx(B) ** 2).sum() + (dy(B) ** 2).sum()),
        "G_GAN": 0.1 * 4000 * ((judged - 1) ** 2).mean(),
    }
    found = {name: loss.item() for name, loss in model.layer_losses(x).items()}
    assert found == pytest.approx(expected, rel=1e-5)
    angle = ((array(model.nets["E"](x.real_A)) - array(x.angle)) ** 2).sum()
    assert model.angle_losses(x)["angle"].item() == pytest.approx(angle, rel=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_the_angle_network_learns_first_and_then_all(dataset: Path, count: int) -> None:
    model = make(dataset)
    stepper, before = stepper_of(model), parameters(model)
    batch = batch_of("udgnet", count, 128)
    train(stepper, [batch], PLACES[:1])
    assert_changed(model, before, ["E"])
    train(stepper, [batch], PLACES[1:2])
    assert_changed(model, before, ["E", "G", "S", "D"])


def test_it_resumes(dataset: Path) -> None:
    assert_resumes(lambda: make(dataset), [batch_of("udgnet", 1, 128, seed) for seed in range(3)], PLACES)


def test_rates_and_optimizers_are_the_published_ones(dataset: Path) -> None:
    model = make(dataset)
    factors = {
        phase.name: [round(phase.schedule.factor(Progress(epoch=epoch)), 6) for epoch in (1, 11, 41, 51, 71, 101)]
        for phase in model.phases
    }
    late = [1, 1, 1, 0.1, 0.01, 0.001]
    assert factors == {"E": [1, 0.1, 0.01, 0.001, 0.001, 0.001], "G": late, "D": late}
    settings = stepper_of(model).optimizers["G"].defaults
    assert (settings["lr"], settings["eps"], settings["amsgrad"]) == (1e-4, 1e-4, True)


@pytest.mark.parametrize("size", [(37, 51), (5, 130)])
def test_inference_undoes_its_turn(dataset: Path, size: tuple[int, int]) -> None:
    """With a scene that is the canvas itself, a smooth picture comes back as it was, but for the interpolation."""
    model = make(dataset)
    model.nets["G"] = torch.nn.Identity()
    down, right = (torch.linspace(-0.5, 0.5, side) for side in size)
    image = (down[:, None] + right[None]).expand(2, 3, -1, -1) / 1.1
    found = model.infer(image)
    assert found.shape == image.shape
    assert (found - image).abs()[:, :, 2:-2, 2:-2].mean() < 0.02
