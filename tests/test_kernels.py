"""The CPU's forms of layers against the plain formulas: values, gradients, gradients of gradients, odd sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.flop_counter import FlopCounterMode

from models.networks import create_discriminator, create_generator
from tests.test_step_equality import make_stepper
from util.kernels import accelerate, fuse, restore
from util.kernels.layers import laid_out
from util.layers import AnyMemoryFormat, BlurDownsample, BlurUpsample

SIZES = [(7, 7), (8, 11), (9, 6), (13, 4)]
NARROW, WIDE = 3, 5
CPU = torch.device("cpu")


def random(*shape: int, dtype: torch.dtype = torch.float64, last: bool = True) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)
    return laid_out(x) if last else x


def conv(
    inputs: int, outputs: int, kernel: int = 7, *, stride: int = 1, padding: int = 0, bias: bool = True
) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias).double()


def formula_of(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """What PyTorch's own layer computes, in the usual memory format."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        assert isinstance(layer.padding, tuple)
        stride, padding = layer.stride, layer.padding
        if isinstance(layer, nn.Conv2d):
            return lambda x: F.conv2d(x.contiguous(), layer.weight, layer.bias, stride, padding)
        extra = layer.output_padding
        return lambda x: F.conv_transpose2d(
            x.contiguous(),
            layer.weight,
            layer.bias,
            stride,
            padding,
            extra,  # type: ignore[arg-type]
        )
    if isinstance(layer, nn.InstanceNorm2d):
        return normalized
    if isinstance(layer, nn.ReflectionPad2d):
        return lambda x: reflected(x, *layer.padding)
    if isinstance(layer, BlurDownsample):
        return halved
    assert isinstance(layer, BlurUpsample)
    return doubled


def normalized(x: Tensor) -> Tensor:
    centered = x - x.mean((2, 3), keepdim=True)
    return centered / (centered.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def reflected(x: Tensor, left: int, right: int, above: int, below: int) -> Tensor:
    def places(length: int, before: int, behind: int) -> list[int]:
        return [*range(before, 0, -1), *range(length), *range(length - 2, length - 2 - behind, -1)]

    return x[:, :, places(x.shape[2], above, below)][..., places(x.shape[3], left, right)]


def halved(x: Tensor) -> Tensor:
    """[1, 2, 1] / 4 in both directions at every second pixel."""
    for dim in (2, 3):
        padded = reflected(x, 1, 1, 1, 1).narrow(5 - dim, 1, x.shape[5 - dim])
        middle = range(1, x.shape[dim] + 1, 2)
        rows = [
            0.25 * padded.select(dim, i - 1) + 0.5 * padded.select(dim, i) + 0.25 * padded.select(dim, i + 1)
            for i in middle
        ]
        x = torch.stack(rows, dim)
    return x


def doubled(x: Tensor) -> Tensor:
    """Zeros between the pixels, then [1, 3, 3, 1] / 4 in both directions: three parts near, one part far."""
    for dim in (2, 3):
        last = x.shape[dim] - 1
        pixels = [x.select(dim, i) for i in range(last + 1)]
        rows = []
        for i, pixel in enumerate(pixels):
            before, behind = pixels[max(i - 1, 0)], pixels[min(i + 1, last)]
            rows += [0.75 * pixel + 0.25 * before, 0.75 * pixel + 0.25 * behind]
        x = torch.stack(rows, dim)
    return x


LAYERS = {
    "instance norm": lambda: (nn.InstanceNorm2d(4), 4),
    "reflection padding": lambda: (nn.ReflectionPad2d(3), 4),
    "reflection on three sides": lambda: (nn.ReflectionPad2d((1, 3, 0, 2)), 4),
    "blur down": lambda: (BlurDownsample(4).double(), 4),
    "blur up": lambda: (BlurUpsample(4).double(), 4),
    "7×7 from an image": lambda: (conv(NARROW, 33), NARROW),
    "7×7 to an image": lambda: (conv(33, NARROW), 33),
    "7×7 to an image without bias": lambda: (conv(33, NARROW, bias=False), 33),
    "4×4 from an image, padded": lambda: (conv(1, 33, 4, padding=1), 1),
    "4×4 to one logit, padded": lambda: (conv(33, 1, 4, padding=1), 33),
    "3×3 with stride": lambda: (conv(4, WIDE, 3, stride=2, padding=1), 4),
    "3×3 transposed": lambda: (
        nn.ConvTranspose2d(4, WIDE, 3, stride=2, padding=1, output_padding=1).double(),
        4,
    ),
}


class Network(AnyMemoryFormat):
    """A network of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer


def fast(name: str) -> tuple[nn.Module, int]:
    """The CPU's form of a layer, and its channels."""
    layer, channels = LAYERS[name]()
    plain = type(layer)
    accelerate([Network(layer)], CPU)
    assert type(layer) is not plain and isinstance(layer, plain)
    return layer, channels


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_the_formula(name: str, batch: int, size: tuple[int, int]) -> None:
    layer, channels = fast(name)
    height, width = (max(side, 7) if "7×7" in name else side for side in size)
    x = random(batch, channels, height, width).requires_grad_()
    parameters = list(layer.parameters())
    found, slow = layer(x), formula_of(layer)(x)
    torch.testing.assert_close(found, slow, rtol=1e-12, atol=1e-12)
    direction = random(*slow.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * direction).sum(), [x, *parameters]),
        torch.autograd.grad((slow * direction).sum(), [x, *parameters]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_and_their_gradients_are_those_of_differences(name: str) -> None:
    """WGAN-GP's penalty needs the second ones."""
    layer, channels = fast(name)
    layer.requires_grad_(True)
    x = random(1, channels, 8, 7).requires_grad_()
    if channels > NARROW:  # one direction is enough of a layer with many channels
        assert gradcheck(layer, (x,), fast_mode=True)
        assert gradgradcheck(layer, (x,), fast_mode=True)
    else:
        assert gradcheck(layer, (x,))
        assert gradgradcheck(layer, (x,), fast_mode=True)


@pytest.mark.parametrize("name", ["3×3 with stride", "3×3 transposed"])
def test_strided_convolutions_in_float32(name: str) -> None:
    """The weights' gradient goes another way in this precision."""
    layer, channels = fast(name)
    layer = layer.float()
    x = random(2, channels, 9, 8, dtype=torch.float32).requires_grad_()
    output, expected = layer(x), formula_of(layer)(x)
    assert "_Convolution" in type(output.grad_fn).__name__
    wanted = [x, *layer.parameters()]
    ours = torch.autograd.grad(output.square().sum(), wanted, create_graph=True)
    theirs = torch.autograd.grad(expected.square().sum(), wanted, create_graph=True)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(ours[0].square().sum(), wanted[:2]),
        torch.autograd.grad(theirs[0].square().sum(), wanted[:2]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_transposed_convolution_under_autocast_has_the_gradients_of_pytorch() -> None:
    layer, channels = fast("3×3 transposed")
    layer = layer.float()
    x = random(2, channels, 9, 8, dtype=torch.float32).requires_grad_()
    found = []
    for module in (layer, formula_of(layer)):
        with torch.autocast("cpu", torch.bfloat16):
            output = module(x)
        assert output.dtype == torch.bfloat16
        found.append(torch.autograd.grad(output.float().square().sum(), [x, *layer.parameters()]))
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2**-6, atol=2**-6 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", ["instance norm", "reflection padding", "blur down", "blur up"])
def test_layers_without_weights_stay_in_bfloat16_under_autocast(name: str) -> None:
    """Taken back to float32, the next convolution would round them again."""
    layer, channels = fast(name)
    x = random(2, channels, 8, 8, dtype=torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = layer.to(torch.float32)(x)
    assert output.dtype == torch.bfloat16
    expected = formula_of(layer)(x.detach().double().requires_grad_())
    torch.testing.assert_close(output.double(), expected.double(), rtol=2**-7, atol=2**-6)


@pytest.mark.parametrize("name", ["blur down", "blur up", "7×7 to an image", "7×7 from an image"])
def test_gradients_in_bfloat16_are_rounded_like_any(name: str) -> None:
    layer, channels = fast(name)
    exact = random(2, channels, 12, 12, dtype=torch.bfloat16)
    x, reference = exact.clone().requires_grad_(), exact.double().requires_grad_()
    formula_of(layer)(reference).square().sum().backward()
    layer.bfloat16()(x).square().sum().backward()
    assert x.grad is not None and reference.grad is not None
    error = (x.grad.double() - reference.grad).abs().max() / reference.grad.abs().max()
    assert error < 2**-5


@pytest.mark.parametrize("name", LAYERS)
def test_what_comes_out_has_channels_last_again(name: str) -> None:
    """A layer that fell back to the other format would slow down everything behind it."""
    layer, channels = fast(name)
    output = layer.float()(random(2, channels, 12, 12, dtype=torch.float32))
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_a_wide_kernel_to_an_image_costs_as_many_operations() -> None:
    """Only the places at the edge that the next row does not need are more."""
    layer, x = conv(8, 3), random(1, 8, 70, 70)
    accelerate([Network(layer)], CPU)
    with FlopCounterMode(display=False) as ours:
        layer(x)
    assert ours.get_total_flops() == 2 * 64 * 70 * 49 * 8 * 3


NETWORKS = {
    "resnet": lambda: create_generator("resnet_6blocks", 3, 3, 4),
    "plain resnet": lambda: create_generator("resnet_6blocks", 3, 3, 4, antialias_down=False, antialias_up=False),
    "unet": lambda: create_generator("unet_128", 3, 3, 4),
    "resunet": lambda: create_generator("resunet_histogram", 3, 3, 8, norm="none"),
    "patchgan": lambda: create_discriminator("basic", 3, 4),
    "pixel": lambda: create_discriminator("pixel", 3, 4),
}


def forms(network: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in network.modules()]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_accelerated_and_restored_without_touching_their_state(name: str) -> None:
    network = NETWORKS[name]()
    plain, state, x = forms(network), network.state_dict(keep_vars=True), random(2, 3, 40, 36, dtype=torch.float32)
    expected = network(x)
    for _ in range(2):
        accelerate([network], CPU)
    found = network(x)
    assert forms(network) != plain
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    after = network.state_dict(keep_vars=True)
    assert after.keys() == state.keys() and all(after[key] is state[key] for key in state)
    fuse([network], lambda function: function)
    restore([network])
    assert forms(network) == plain
    assert torch.equal(network(x), expected)


def test_only_networks_that_say_so_are_accelerated_and_only_for_cpus() -> None:
    others, network = nn.Sequential(nn.Conv2d(3, 3, 3)), NETWORKS["patchgan"]()
    accelerate([others], CPU)
    accelerate([network], torch.device("cuda"))
    assert not any(kind.__module__.startswith("util.kernels") for kind in (*forms(others), *forms(network)))


def test_a_training_on_a_cpu_is_accelerated() -> None:
    nets = make_stepper(model="cut").model.nets
    assert all(any(kind.__module__.startswith("util.kernels") for kind in forms(nets[name])) for name in "GD")


def test_another_blur_filter_cannot_be_loaded() -> None:
    """The filter is written out as an operation; a file with another one would not give its image."""
    layer = BlurUpsample(3)
    layer.load_state_dict(BlurUpsample(3).state_dict())
    with pytest.raises(RuntimeError, match=r"not the blur filter \[1\.0, 3\.0, 3\.0, 1\.0\]"):
        layer.load_state_dict({"filt": torch.ones(3, 1, 4, 4)})
