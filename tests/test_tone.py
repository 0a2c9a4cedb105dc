"""The branch of the residual U-Net that scales and shifts its image, as what takes a veil off does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.base_model import generator_from
from models.networks import create_generator
from models.networks.resunet import ResidualUnetGenerator
from models.networks.tone import CELL, ToneBranch, _cells
from options import parse_train
from util.errors import UserError

WIDTH = 4


def images(count: int = 2, size: tuple[int, int] = (24, 32)) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.rand(count, 3, *size, generator=generator, dtype=torch.float64) * 2 - 1


def generator(name: str = "resunet_tone") -> ResidualUnetGenerator:
    torch.manual_seed(1)
    network = create_generator(name, 3, 3, WIDTH, residual=True, init_gain=0.2).double()
    assert isinstance(network, ResidualUnetGenerator)
    return network


def branch() -> ToneBranch:
    """One whose last layer says something."""
    torch.manual_seed(2)
    tone = ToneBranch(3).double()
    tone.start_at_identity()
    nn.init.normal_(tone.last.weight, 0, 0.1)
    return tone


def by_the_formula(image: np.ndarray) -> np.ndarray:
    """Cell by cell: the mean of each channel, and the extremes among the means over 2 × 2 pixels."""
    result = np.zeros((5, image.shape[1] // CELL, image.shape[2] // CELL))
    for row, column in np.ndindex(result.shape[1:]):
        cell = image[:, row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        places = [cell[:, y : y + 2, x : x + 2].mean((1, 2)) for y in range(0, CELL, 2) for x in range(0, CELL, 2)]
        result[:, row, column] = [*cell.mean((1, 2)), np.min(places), np.max(places)]
    return result


def test_it_sees_the_mean_the_darkest_and_the_brightest_of_each_cell() -> None:
    given = images()
    for image, cells in zip(given.numpy(), _cells(given).numpy(), strict=True):
        np.testing.assert_allclose(cells, by_the_formula(image), atol=1e-12)


def test_it_sees_a_veil_where_instance_norm_sees_nothing() -> None:
    clean, norm = images(), nn.InstanceNorm2d(3, eps=1e-12)
    veiled = 0.8 * clean + 0.2 * 0.6
    torch.testing.assert_close(norm(veiled), norm(clean))
    torch.testing.assert_close(_cells(veiled), 0.8 * _cells(clean) + 0.2 * 0.6)


def test_a_generator_with_it_begins_as_one_without() -> None:
    known, plain = generator(), generator("resunet")
    plain.load_state_dict({key: value for key, value in known.state_dict().items() if not key.startswith("tone.")})
    with torch.no_grad():
        for network in (known, plain):
            nn.init.constant_(network.last.weight, 0.3)
        assert (plain(images()) - images()).abs().max() > 0.1
        torch.testing.assert_close(known(images()), plain(images()))


def test_it_can_take_a_veil_off() -> None:
    """Koschmieder's law, N (1 - a) + A0 a, backwards."""
    share, light, clean = 0.3, torch.tensor([0.5, 0.6, 0.8], dtype=torch.float64), images()
    network = generator()
    assert network.tone is not None and network.tone.last.bias is not None
    with torch.no_grad():
        network.tone.last.bias[:3] = 1 / (1 - share) - 1
        network.tone.last.bias[3:] = -share / (1 - share) * light
        found = network(clean * (1 - share) + light.view(3, 1, 1) * share)
    torch.testing.assert_close(found, clean)


def test_scale_and_shift_change_slowly() -> None:
    """Between the centres of neighbouring cells they lie on a line, so on an even image there is no edge."""
    tone, even = branch(), torch.full((1, 3, 32, 64), 0.2, dtype=torch.float64)
    even[..., 32:] = 0.6  # the cells differ
    with torch.no_grad():
        change = (tone(even) - even)[0, 0, 16]
    inner = change[CELL // 2 : 3 * CELL // 2]
    torch.testing.assert_close(inner.diff(n=2), torch.zeros(CELL - 2, dtype=torch.float64))


def test_it_looks_no_further_than_eight_cells() -> None:
    tone, given = branch(), images(1, (CELL, 40 * CELL))
    other = given.clone()
    other[..., : 4 * CELL] *= 0.5
    with torch.no_grad():
        differs = (tone(given) - tone(other)).abs().amax((0, 1, 2))
    seen_from, half = 4 * CELL + 8 * CELL, CELL // 2  # and half a cell more, where neighbours are blended
    assert differs[seen_from + half :].max() == 0
    assert differs[seen_from - CELL : seen_from].min() > 0


def test_half_precision_does_not_round_it() -> None:
    """bfloat16 has no number between 1 and 1.0078, which of white are two levels of 8 bits."""
    tone, given = ToneBranch(3), images().float()
    tone.start_at_identity()
    assert tone.last.bias is not None
    nn.init.constant_(tone.last.bias, 0.001)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tone(given)
    torch.testing.assert_close(found, given * 1.001 + 0.001)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (8, 8), (33, 18)])
def test_images_of_any_size_keep_it(size: tuple[int, int]) -> None:
    network = generator()
    assert network.tone is not None
    nn.init.normal_(network.tone.last.weight)
    with torch.no_grad():
        result = network(images(2, size))
    assert result.shape == (2, 3, *size) and result.isfinite().all()


def test_it_learns() -> None:
    network = generator()
    network(images()).square().mean().backward()
    assert network.tone is not None and network.tone.last.bias is not None and network.tone.last.weight.grad is not None
    assert network.tone.last.weight.grad.abs().min() > 0


def test_it_needs_a_residual_generator(tmp_path: Path) -> None:
    opt = parse_train(["--dataroot", str(tmp_path), "--netG", "resunet_tone"])
    with pytest.raises(UserError, match=r"^--netG resunet_tone: changes the tone of its input, so it needs --residual"):
        generator_from(opt, 3, 3)
