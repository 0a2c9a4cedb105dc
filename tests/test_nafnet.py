"""NAFNet against an independent formula, in numpy and in the published implementation that spandrel carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks import create_generator, generator_options
from models.networks.nafnet import ChannelNorm, NAFBlock

Array = NDArray[np.float64]
WIDTH, BLOCKS = 4, "1,2,1,2,1"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def shaken(network: nn.Module) -> nn.Module:
    """With parameters that all matter: as constructed, most of a block is multiplied by 0."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def network(**options: Any) -> Any:
    settings = {"residual": True, "nafnet_blocks": BLOCKS, "init_gain": 0.5, **options}
    return shaken(create_generator("nafnet", 3, 3, WIDTH, **settings))


def array(x: Tensor) -> Array:
    return x.detach().double().numpy()


def pointwise(layer: Any, x: Array) -> Array:
    mixed = np.einsum("oc,chw->ohw", array(layer.weight)[:, :, 0, 0], x)
    return np.asarray(mixed + array(layer.bias)[:, None, None])


def norm_by_pixel(layer: Any, x: Array) -> Array:
    out = np.empty_like(x)
    for row, column in np.ndindex(*x.shape[1:]):
        pixel = x[:, row, column]
        out[:, row, column] = (pixel - pixel.mean()) / np.sqrt(pixel.var() + 1e-6)
    return out * array(layer.weight)[:, None, None] + array(layer.bias)[:, None, None]


def depthwise(layer: Any, x: Array) -> Array:
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
    out = np.empty_like(x)
    for channel, row, column in np.ndindex(*x.shape):
        window = padded[channel, row : row + 3, column : column + 3]
        out[channel, row, column] = (window * array(layer.weight)[channel, 0]).sum() + array(layer.bias)[channel]
    return out


def halves_multiplied(x: Array) -> Array:
    return np.asarray(x[: len(x) // 2] * x[len(x) // 2 :])


def block_by_formula(block: Any, x: Array) -> Array:
    gated = halves_multiplied(depthwise(block.conv2, pointwise(block.conv1, norm_by_pixel(block.norm1, x))))
    attention = pointwise(block.sca[1], gated.mean((1, 2), keepdims=True))
    x = x + array(block.beta)[0] * pointwise(block.conv3, gated * attention)
    mixed = pointwise(block.conv5, halves_multiplied(pointwise(block.conv4, norm_by_pixel(block.norm2, x))))
    return np.asarray(x + array(block.gamma)[0] * mixed)


def test_channel_norm_normalizes_each_pixel() -> None:
    layer, x = shaken(ChannelNorm(5)).double(), torch.randn(1, 5, 4, 3, dtype=torch.float64)
    np.testing.assert_allclose(array(layer(x))[0], norm_by_pixel(layer, array(x)[0]), atol=1e-12)


def test_block_is_the_published_formula() -> None:
    block, x = shaken(NAFBlock(4)).double(), torch.randn(1, 4, 5, 6, dtype=torch.float64)
    np.testing.assert_allclose(array(block(x))[0], block_by_formula(block, array(x)[0]), atol=1e-10)


def test_a_residual_network_starts_as_the_identity() -> None:
    untouched = create_generator("nafnet", 3, 3, WIDTH, residual=True, nafnet_blocks=BLOCKS)
    x = torch.rand(2, 3, 9, 14) * 2 - 1
    assert torch.equal(untouched(x), x)


def test_missing_rows_and_columns_are_black() -> None:
    net, x = network(), torch.rand(1, 3, 10, 15) * 2 - 1
    black = torch.full((1, 3, 12, 16), -1.0)
    black[:, :, :10, :15] = x
    torch.testing.assert_close(net(x), net(black)[:, :, :10, :15])


@pytest.mark.parametrize("blocks", ["1,2,1,2,1", "1,1,2,8,1,1,1"])
def test_a_state_dict_tells_its_network(blocks: str) -> None:
    state = create_generator("nafnet", 3, 3, WIDTH, nafnet_blocks=blocks).state_dict()
    expected = {"netG": "nafnet", "ngf": "4", "nafnet_blocks": blocks, "input_nc": "3", "output_nc": "3"}
    assert generator_options(state) == expected


@pytest.mark.parametrize("size", [(16, 24), (13, 22)])
def test_spandrel_computes_the_same_image_from_the_same_weights(size: tuple[int, int]) -> None:
    """Independent: the published implementation, images in [0, 1], padded on its own."""
    spandrel = pytest.importorskip("spandrel")
    net = network().eval()
    x = torch.rand(1, 3, *size)
    loaded = spandrel.ModelLoader().load_from_state_dict(dict(net.state_dict()))
    assert (loaded.architecture.id, loaded.scale) == ("NAFNet", 1)
    with torch.no_grad():
        expected = loaded.model(x)
        output = (net(2 * x - 1) + 1) / 2
    torch.testing.assert_close(output, expected, atol=2e-5, rtol=1e-5)
