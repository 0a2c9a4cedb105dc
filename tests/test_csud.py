"""CSUD: its losses against plain formulas, its step, and VGG as the perceptual distance sees it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchvision.models import vgg

from models.losses import PerceptualLoss
from models.networks.vgg import VGG, pretrained_vgg
from tests.peer_steps import (
    array,
    assert_changed,
    assert_resumes,
    batch_of,
    convolve,
    model_of,
    parameters,
    relu,
    stepper_of,
    train,
)
from util.engine.schedule import Progress
from util.errors import UserError

SMALL = ("--ngf", "4", "--ndf", "4", "--nafnet_blocks", "1,1,1", "--crop_size", "32", "--lambda_VGG", "0")
PLACES = [Progress(images=count, step=count, images_in_epoch=count) for count in range(3)]


def make(dataset: Path, *flags: str) -> Any:
    return model_of(dataset, "csud", *SMALL, *flags)


def distance(a: Any, b: Any) -> float:
    return float(np.abs(array(a) - array(b)).mean())


def grayness(image: Any, ground: Any) -> float:
    """On [0, 1]."""
    red, green, blue = np.moveaxis(array(image - ground) / 2, 1, 0)
    return float((np.abs(red - green) + np.abs(green - blue) + np.abs(blue - red)).mean())


def test_each_loss_is_its_formula(dataset: Path) -> None:
    model = make(dataset, "--init_gain", "1")
    torch.nn.init.normal_(model.nets["G"].ending.weight, 0, 0.1)  # which begins as the identity
    x = model.forward(batch_of("csud", 2, 32))
    T, D = model.nets["T"], model.nets["D"]
    derained = model.nets["G"](x.real_A)

    def rained(clean: Any, rainy: Any) -> Any:
        return clean + T(torch.cat([clean, rainy], 1))

    streams = [rained(x.real_B, x.real_A), rained(derained, x.real_A), rained(x.rec_B, x.real_A),
               rained(derained, x.fake_A)]  # fmt: skip
    grounds = [x.real_B, derained, x.rec_B, derained]
    kept = [rained(x.real_B, x.real_B), rained(x.real_B, derained), rained(x.real_B, x.rec_B)]
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    sides = [array((image + 1) / 2).reshape(-1, 32, 32) for image in (x.rec_B, x.real_B)]
    maps = [
        structural_similarity(a, b, full=True, data_range=1, **settings)[1][5:-5, 5:-5]
        for a, b in zip(*sides, strict=True)
    ]
    expected = {
        "GAN": np.mean([((array(D(image)) - 1) ** 2).mean() for image in streams]),
        "gray": 10 * np.mean([grayness(image, ground) for image, ground in zip(streams, grounds, strict=True)]),
        "self_T": 5 * np.mean([distance(image, x.real_B) / 2 for image in kept]),
        "L1": distance(x.rec_B, x.real_B) / 2,
        "SSIM": -math.log(np.mean(maps)),
        "self_G": 0.5 * distance(model.nets["G"](x.real_B), x.real_B) / 2,
    }
    found = {name: loss.item() for name, loss in model.generator_losses(x).items()}
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)
    judged = {name: loss.item() for name, loss in model.discriminator_losses(x).items()}
    fakes = np.mean([(array(D(image)) ** 2).mean() for image in streams])
    real = ((array(D(x.real_A)) - 1) ** 2).mean()
    assert judged == pytest.approx({"D_real": real / 2, "D_fake": fakes / 2}, rel=1e-5)


def test_the_derainer_learns_from_pseudo_pairs_alone_and_the_transfer_not_from_them(dataset: Path) -> None:
    model = make(dataset)
    x = model.forward(batch_of("csud", 1, 32))
    losses = model.generator_losses(x)
    for of_derainer in ("L1", "SSIM", "self_G"):
        losses[of_derainer].backward(retain_graph=True)
    assert all(value.grad is None for value in model.nets["T"].parameters())
    model.nets["G"].zero_grad()
    for of_transfer in ("GAN", "gray", "self_T"):
        losses[of_transfer].backward(retain_graph=True)
    assert all(value.grad is None for value in model.nets["G"].parameters())
    assert any(value.grad is not None and value.grad.any() for value in model.nets["T"].parameters())


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_trains_every_network(dataset: Path, count: int) -> None:
    model = make(dataset)
    before = parameters(model)
    (losses,) = train(stepper_of(model), [batch_of("csud", count, 32)], PLACES[:1])
    assert all(math.isfinite(value) for value in losses.values())
    assert_changed(model, before, ["G", "T", "D"])


def test_it_resumes(dataset: Path) -> None:
    assert_resumes(lambda: make(dataset), [batch_of("csud", 1, 32, seed) for seed in range(3)], PLACES)


def test_the_rate_is_halved_every_20_000_steps(dataset: Path) -> None:
    for phase in make(dataset).phases:
        factors = [phase.schedule.factor(Progress(step=step)) for step in (0, 19_999, 20_000, 40_000)]
        assert factors == [1, 1, 0.5, 0.25]


def test_odd_sizes_come_back(dataset: Path) -> None:
    assert make(dataset).infer(torch.rand(1, 3, 37, 51)).shape == (1, 3, 37, 51)


# VGG ---------------------------------------------------------------------------------------------


def test_vgg_has_the_activations_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = vgg.make_layers(vgg.cfgs["E"])
    torch.save({f"features.{key}": value for key, value in whole.state_dict().items()}, tmp_path / "vgg.pth")
    images = torch.rand(1, 3, 19, 22)
    normal = (images - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        1, 3, 1, 1
    )
    found = pretrained_vgg("vgg19", ("relu1_2", "relu3_4"), str(tmp_path / "vgg.pth"))(images)
    torch.testing.assert_close(found[0], whole[:4](normal))
    torch.testing.assert_close(found[1], whole[:18](normal))


def test_vgg_by_plain_convolution() -> None:
    network = VGG("vgg16", ("relu1_1", "relu1_2"), normalize=False)
    images = torch.rand(1, 1, 6, 7)
    first = relu(convolve(network.features[0], array(images[0]).repeat(3, 0)))
    second = relu(convolve(network.features[2], first))
    for found, expected in zip(network(images), (first, second), strict=True):
        np.testing.assert_allclose(array(found[0]), expected, rtol=1e-4, atol=1e-6)


def test_the_perceptual_distance_is_a_mean_over_layers() -> None:
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x, 2 * x[:, :1]]

    expected = (((array(a) - array(b)) ** 2).mean() + 4 * ((array(a) - array(b))[:, 0] ** 2).mean()) / 2
    assert PerceptualLoss()(Twice(), a, b).item() == pytest.approx(expected, rel=1e-5)


def test_other_weights_than_vggs_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="--vgg_weights"):
        pretrained_vgg("vgg16", ("relu1_2",), str(tmp_path / "other.pth"))
