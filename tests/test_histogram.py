"""The residual U-Net that knows how dark and how bright its image is as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.networks import create_generator
from models.networks.histogram import LEVELS, Modulation, Tails
from models.networks.resunet import ResidualUnetGenerator

MODULATED = ("encode1", "encode2", "block1", "block2", "block3", "block4", "decode2", "decode1", "the image")


def images(count: int = 2, size: tuple[int, int] = (24, 32)) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.rand(count, 3, *size, generator=generator, dtype=torch.float64) * 2 - 1


def generator(name: str = "resunet_histogram", *, residual: bool = True) -> ResidualUnetGenerator:
    torch.manual_seed(1)
    network = create_generator(name, 3, 3, 4, residual=residual, init_gain=0.2).double()
    assert isinstance(network, ResidualUnetGenerator)
    return network


def films(network: ResidualUnetGenerator) -> list[nn.Linear]:
    assert network.modulation is not None
    return [film for film in network.modulation.films if isinstance(film, nn.Linear)]


def by_the_formula(image: np.ndarray) -> list[float]:
    """Place by place: how far its darkest channel lies below each level, and its brightest above."""
    height, width = image.shape[1:]
    levels = np.linspace(-1, 1, LEVELS)
    shares = np.zeros((2, LEVELS))
    for y in range(0, height, 2):
        for x in range(0, width, 2):
            place = image[:, y : y + 2, x : x + 2].mean((1, 2))
            for row, above in enumerate((levels - place.min(), place.max() - levels)):
                shares[row] += 1 / (1 + np.exp(-64 * above)) / (height * width / 4)
    return list((2 * np.log(1 + shares / 0.001) / np.log(1 + 1 / 0.001) - 1).flatten())


def test_the_tails_are_logarithms_of_shares() -> None:
    given = images()
    for image, tails in zip(given.numpy(), Tails()(given).tolist(), strict=True):
        assert tails == pytest.approx(by_the_formula(image), abs=1e-5), "its levels are float32"


def test_they_see_a_veil_where_instance_norm_sees_nothing() -> None:
    clean, norm, tails = images(), nn.InstanceNorm2d(3, eps=1e-12), Tails()
    veiled = 0.8 * clean + 0.2 * 0.6
    torch.testing.assert_close(norm(veiled), norm(clean))
    assert (tails(veiled) - tails(clean)).abs().amax(1).min() > 0.1


def test_one_dark_place_in_a_hundred_shows() -> None:
    """As log(1 + 0.01 / 0.001) is a third of log(1 + 1 / 0.001)."""
    bright = torch.full((1, 3, 20, 20), 0.5)
    with_dark = bright.clone()
    with_dark[:, :, :2, :2] = -1
    half_way_down = LEVELS // 4
    assert Tails()(bright)[0, half_way_down].item() == pytest.approx(-1, abs=1e-3)
    assert Tails()(with_dark)[0, half_way_down].item() == pytest.approx(-1 + 2 * 0.3471, abs=2e-3)


def test_nothing_learns_through_them() -> None:
    given = images().requires_grad_()
    assert not any(part.requires_grad for part in [Tails()(given)])


def test_a_generator_with_it_begins_as_one_without() -> None:
    known, plain = generator(), generator("resunet")
    plain.load_state_dict(known.state_dict(), strict=False)
    with torch.no_grad():
        for network in (known, plain):
            nn.init.constant_(network.last.weight, 0.3)
        assert (plain(images()) - images()).abs().max() > 0.1
        torch.testing.assert_close(known(images()), plain(images()))


def test_it_can_take_a_veil_off() -> None:
    """Koschmieder's law, N (1 - a) + A0 a, backwards."""
    share, light, clean = 0.3, torch.tensor([0.5, 0.6, 0.8], dtype=torch.float64), images()
    network = generator()
    with torch.no_grad():
        films(network)[-1].bias[:3] = 1 / (1 - share) - 1
        films(network)[-1].bias[3:] = -share / (1 - share) * light
        found = network(clean * (1 - share) + light.view(3, 1, 1) * share)
    torch.testing.assert_close(found, clean)


@pytest.mark.parametrize("number", range(len(MODULATED)), ids=MODULATED)
def test_it_modulates_every_block_and_the_image(number: int) -> None:
    network, given = generator(), images()
    assert len(films(network)) == len(MODULATED)
    with torch.no_grad():
        nn.init.normal_(network.last.weight)
        before = network(given)
        nn.init.normal_(films(network)[number].weight)
        assert (network(given) - before).abs().amax() > 1e-3


def test_each_block_is_modulated_by_itself() -> None:
    """A block whose change is scaled by 0 hands on what it got."""
    network, given = generator(), images()
    with torch.no_grad():
        films(network)[3].bias[: 4 * 4].fill_(-1)  # block2
        before, after = network.encode(given, ["block1", "block2"])
    torch.testing.assert_close(after, before)


def test_a_generator_that_is_not_residual_has_no_image_to_modulate() -> None:
    network, given = generator(residual=False), images()
    assert len(films(network)) == len(MODULATED) - 1
    before = network(given)
    before.square().mean().backward()
    assert all(film.weight.grad is not None and film.weight.grad.abs().max() > 0 for film in films(network))


def test_each_image_of_a_batch_has_its_own() -> None:
    modulation, given = Modulation([3, 5]).double(), images(3)
    for number, image in enumerate(given.split(1)):
        for pair, own in zip(modulation(given), modulation(image), strict=True):
            for part, alone in zip(pair, own, strict=True):
                torch.testing.assert_close(part[number : number + 1], alone)


def test_half_precision_does_not_round_the_scale() -> None:
    """bfloat16 has no number between 1 and 1.0078, which of white are two levels of 8 bits."""
    modulation = Modulation([3])
    modulation.start_at_none()
    with torch.no_grad():
        modulation.films[0].bias.fill_(0.001)  # type: ignore[operator, union-attr]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ((scale, _),) = modulation(images().float())
    assert scale.dtype == torch.float32
    assert scale.flatten().tolist() == pytest.approx([1.001] * 6, abs=1e-6)
