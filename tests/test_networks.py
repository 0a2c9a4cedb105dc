"""Networks: sizes, taps, batching, projection heads, initialization and blur, each against an independent truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage  # type: ignore[import-untyped]
from torch import Tensor, nn

from models.networks import (
    DISCRIMINATORS,
    GENERATORS,
    PatchSampler,
    create_discriminator,
    create_generator,
    create_sampler,
    sample_locations,
)
from models.networks.factory import INIT_TYPES, initialize
from models.networks.norm import make_norm, mixes_samples
from models.networks.passes import can_batch, encode_together, forward_together, generate_together, tap_widths
from models.networks.patchgan import PatchDiscriminator
from util.errors import UserError
from util.layers import BlurDownsample, BlurUpsample

RESNETS = ("resnet_9blocks", "resnet_6blocks")
SIZES = [(1, 1), (3, 9), (17, 23), (33, 64)]
RESNET_TAPS = ["block5", "pad", "down2", "conv", "block1", "down1"]
UNET_TAPS = ["down3", "down1", "down7"]
RESUNET_TAPS = ["block2", "stem", "down2", "down1", "block4"]
TAPS = [
    ("resnet_6blocks", RESNET_TAPS),
    ("unet_128", UNET_TAPS),
    ("resunet", RESUNET_TAPS),
    ("resunet_histogram", RESUNET_TAPS),
    ("nafnet", ["block2", "intro", "down3", "down1", "block8"]),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(count: int, size: tuple[int, int], channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, channels, *size, dtype=dtype) * 2 - 1


def generator(name: str = "resnet_6blocks", **options: Any) -> Any:
    """A small generator with weights large enough for visible outputs."""
    return create_generator(name, 3, options.pop("output_nc", 3), 4, **{"init_gain": 1.0, **options})


def discriminator(name: str = "basic", **options: Any) -> Any:
    return create_discriminator(name, 3, 4, **{"init_gain": 1.0, **options})


def recorded(layers: Sequence[nn.Module], run: Callable[[], Any]) -> tuple[Any, list[Tensor]]:
    """What ``run`` returns, and copies of what ``layers`` gave at the moment when they gave it."""
    outputs: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.clone())) for layer in layers]
    result = run()
    for handle in handles:
        handle.remove()
    return result, outputs


# Sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", GENERATORS)
def test_generator_keeps_the_size(name: str, size: tuple[int, int], count: int) -> None:
    output = generator(name, output_nc=1)(images(count, size))
    assert output.shape == (count, 1, *size)
    assert output.isfinite().all() and output.abs().max() <= 1


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("size", SIZES)
def test_plain_resnet_keeps_the_size(size: tuple[int, int], norm: str) -> None:
    network = generator(antialias_down=False, antialias_up=False, norm=norm)
    assert network(images(3, size)).shape == (3, 3, *size)


@pytest.mark.parametrize("name", GENERATORS)
def test_top_left_of_a_padded_image_is_that_of_the_extended_image(name: str) -> None:
    network = generator(name)
    if name == "nafnet":
        pytest.skip("is padded with black, as published: tests/test_nafnet.py")
    multiple = {"unet_128": 128, "unet_256": 256, "resunet": 8, "resunet_histogram": 8}.get(name, 4)
    x = images(1, (30, 35))
    extended = np.pad(x.numpy(), [(0, 0), (0, 0), (0, -30 % multiple), (0, -35 % multiple)], mode="reflect")
    with torch.no_grad():
        assert torch.equal(network(x), network(torch.from_numpy(extended))[:, :, :30, :35])


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("size", [(33, 64), (64, 51)])
def test_patchgan_output_size(size: tuple[int, int], layers: int, antialias: bool) -> None:
    expected = list(size)
    for axis in (0, 1):
        for _ in range(layers):  # 4×4 kernels with padding 1 lose a pixel
            expected[axis] = math.ceil((expected[axis] - 1) / 2) if antialias else expected[axis] // 2
        expected[axis] -= 2
    logits = discriminator("n_layers", layers=layers, antialias=antialias)(images(3, size))
    assert logits.shape == (3, 1, *expected)


@pytest.mark.parametrize("ignored_layers", [2, 5])
def test_basic_patch_sees_70_pixels(ignored_layers: int) -> None:
    x = images(1, (128, 128)).requires_grad_(True)
    logits = discriminator("basic", layers=ignored_layers, antialias=False, norm="none")(x)
    logits[0, 0, 7, 7].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 70


@pytest.mark.parametrize("size", SIZES)
def test_pixel_discriminator_judges_each_pixel_by_itself(size: tuple[int, int]) -> None:
    network = discriminator("pixel", norm="none")
    x = images(3, size)
    single = network(x[1:2, :, -1:, -1:])
    assert network(x).shape == (3, 1, *size)
    torch.testing.assert_close(network(x)[1:2, :, -1:, -1:], single)


# Residual generators -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", GENERATORS)
def test_residual_generator_starts_as_the_identity(name: str, size: tuple[int, int]) -> None:
    x = images(2, size)
    assert torch.equal(generator(name, residual=True)(x), x)


@pytest.mark.parametrize("name", GENERATORS)
def test_residual_generator_can_leave_the_identity(name: str) -> None:
    network = generator(name, residual=True)
    network(images(1, (16, 16))).square().sum().backward()
    convolutions = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
    last = network.model.model[-2] if name.startswith("unet") else convolutions[-1]
    assert last.weight.grad is not None and last.weight.grad.abs().max() > 0


# nafnet, without residual, bounds its output as well: tests/test_nafnet.py has its residual against the published one.
@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "nafnet"])
def test_residual_generator_adds_the_plain_generators_output(name: str) -> None:
    plain, residual = generator(name), generator(name, residual=True)
    missing = residual.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(key.startswith("modulation.films.8.") for key in missing), "of the image itself, which is left as it is"
    x = images(1, (17, 23))
    torch.testing.assert_close(residual(x), x + plain(x))


@pytest.mark.parametrize("name", GENERATORS)
def test_residual_generator_needs_equal_channels(name: str) -> None:
    with pytest.raises(ValueError, match="input_nc == output_nc"):
        generator(name, residual=True, output_nc=1)


# Taps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_resnet_taps_are_the_layers_outputs(antialias: bool, norm: str) -> None:
    network = generator(antialias_down=antialias, antialias_up=antialias, norm=norm)
    layers = [network.model[network.tap_position(tap)] for tap in sorted(RESNET_TAPS, key=network.tap_position)]
    x = images(2, (17, 23))
    (output, features), outputs = recorded(layers, lambda: network.forward_tapped(x, RESNET_TAPS))
    by_tap = dict(zip(sorted(RESNET_TAPS, key=network.tap_position), outputs, strict=True))
    assert torch.equal(output, network(x))
    for tap, feature in zip(RESNET_TAPS, features, strict=True):
        assert torch.equal(feature, by_tap[tap])


def test_unet_taps_are_the_outputs_of_its_convolutions() -> None:
    network = generator("unet_128")
    down = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    x = images(2, (17, 23))
    (output, features), outputs = recorded(down, lambda: network.forward_tapped(x, UNET_TAPS))
    assert torch.equal(output, network(x))
    assert len(outputs) == 7
    for tap, feature in zip(UNET_TAPS, features, strict=True):
        assert torch.equal(feature, outputs[int(tap.removeprefix("down")) - 1])


def test_resunet_taps_are_the_outputs_of_the_layers_they_are_called_after() -> None:
    network = generator("resunet")
    layers = {"stem": network.stem, "down1": network.down1, "down2": network.down2}
    layers |= {f"block{number}": block for number, block in enumerate(network.blocks, 1)}
    x = images(2, (17, 23))
    (output, features), outputs = recorded(list(layers.values()), lambda: network.forward_tapped(x, RESUNET_TAPS))
    assert torch.equal(output, network(x))
    by_tap = dict(zip(layers, outputs, strict=True))
    for tap, feature in zip(RESUNET_TAPS, features, strict=True):
        assert torch.equal(feature, by_tap[tap])


def test_resunet_without_norm_treats_each_place_alike_wherever_it_is() -> None:
    """A shift by the stride shifts the output, away from the border: nothing depends on the whole image."""
    network, x = generator("resunet", norm="none").double(), images(1, (256, 256), dtype=torch.float64)
    with torch.no_grad():
        whole, shifted = network(x), network(x[:, :, 8:, 16:])
    inner = slice(96, -96)
    assert_all_close([whole[:, :, 8:, 16:][:, :, inner, inner]], [shifted[:, :, inner, inner]])


@pytest.mark.parametrize(("name", "taps"), TAPS)
def test_encode_gives_the_features_of_the_full_pass(name: str, taps: list[str]) -> None:
    network = generator(name)
    x = images(2, (33, 18))
    for early, full in zip(network.encode(x, taps), network.forward_tapped(x, taps)[1], strict=True):
        assert torch.equal(early, full)


def test_encode_computes_nothing_behind_the_deepest_tap() -> None:
    network = generator()
    _, behind = recorded(list(network.model[9:]), lambda: network.encode(images(1, (16, 16)), ["down2", "pad"]))
    assert behind == []


def test_cuts_layers_have_names() -> None:
    network = generator("resnet_9blocks")
    names = ["pad", "down1", "down2", "block1", "block5"]
    assert [network.tap_position(name) for name in names] == [0, 4, 8, 12, 16]
    x = images(1, (16, 16))
    for by_name, by_number in zip(
        network.encode(x, names), network.encode(x, ["0", "4", "8", "12", "16"]), strict=True
    ):
        assert torch.equal(by_name, by_number)


def test_names_stay_with_their_layer_in_the_plain_resnet() -> None:
    network = generator("resnet_9blocks", antialias_down=False)
    assert [network.tap_position(name) for name in ("pad", "down1", "down2", "block1")] == [0, 4, 7, 10]


def test_cclgans_discriminator_layers_have_names() -> None:
    network = discriminator("basic")
    assert [network.tap_position(name) for name in ("conv2", "conv3")] == [3, 7]


def test_generator_taps_have_the_papers_widths_and_resolutions() -> None:
    features = generator().encode(images(1, (32, 48)), ["down1", "down2", "block1"])
    assert [tuple(f.shape[1:]) for f in features] == [(8, 32, 48), (16, 16, 24), (16, 8, 12)]


@pytest.mark.parametrize(
    ("network", "tap", "suggestion"),
    [
        (generator, "blok1", "did you mean 'block1'"),
        (generator, "29", "a position from 0 to 28"),
        (generator, "-1", "a position from 0 to"),
        (lambda: generator("unet_128"), "dwn3", "did you mean 'down3'"),
        (lambda: generator("unet_128"), "down8", "choose from down1"),
        (lambda: generator("unet_128"), "4", "choose from down1"),
        (lambda: generator("resunet"), "blok3", "did you mean 'block3'"),
        (discriminator, "cnv2", "did you mean 'conv2'"),
    ],
)
def test_unknown_tap_is_the_users_mistake(network: Callable[[], Any], tap: str, suggestion: str) -> None:
    with pytest.raises(UserError, match=f"layer '{tap}' does not exist.*{suggestion}"):
        network().encode(images(1, (16, 16)), [tap])


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("tap", ["conv1", "conv2", "conv3", "conv4", "2"])
def test_judging_from_features_is_judging_the_image(tap: str, antialias: bool) -> None:
    network = discriminator(antialias=antialias)
    x = images(2, (51, 64))
    (features,) = network.encode(x, [tap])
    assert torch.equal(network.judge(features, after=tap), network(x))


def test_deepest_tap_is_the_last_layer_not_the_last_word() -> None:
    assert discriminator().deepest(["conv1", "6", "conv2"]) == "6"


# Batching ----------------------------------------------------------------------------------------


def parts(counts: tuple[int, ...] = (2, 1, 3), size: tuple[int, int] = (33, 40)) -> list[Tensor]:
    return [images(count, size, dtype=torch.float64) for count in counts]


def assert_all_close(together: list[Tensor], apart: list[Tensor]) -> None:
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def calls(network: nn.Module, run: Callable[[], Any]) -> int:
    """How many passes ``run`` makes through the first convolution of ``network``."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    return len(recorded([first], run)[1])


@pytest.mark.parametrize(
    "network",
    [
        generator,
        lambda: generator("unet_128"),
        lambda: generator("resunet"),
        discriminator,
        lambda: discriminator("pixel"),
    ],
)
def test_one_pass_equals_separate_passes(network: Callable[[], Any]) -> None:
    net = network().double()
    batch = parts()
    assert calls(net, lambda: forward_together(net, batch)) == 1
    assert_all_close(forward_together(net, batch), [net(part) for part in batch])


@pytest.mark.parametrize(
    ("name", "taps"), [("resnet_6blocks", ["block1", "down1"]), ("unet_128", ["down2"]), ("resunet", ["block3"])]
)
def test_tapped_pass_together_equals_separate_passes(name: str, taps: list[str]) -> None:
    net = generator(name).double()
    batch = parts()
    for (output, features), part in zip(generate_together(net, batch, taps), batch, strict=True):
        assert_all_close([output], [net(part)])
        assert_all_close(features, net.encode(part, taps))


def test_encoding_together_equals_separate_passes() -> None:
    net = discriminator().double()
    batch = parts()
    assert calls(net, lambda: encode_together(net, batch, ["conv3", "conv2"])) == 1
    for features, part in zip(encode_together(net, batch, ["conv3", "conv2"]), batch, strict=True):
        assert_all_close(features, net.encode(part, ["conv3", "conv2"]))


def test_batch_norm_in_training_is_not_batched() -> None:
    net = generator(norm="batch").double()
    batch = parts()
    assert mixes_samples(net) and not can_batch(net, batch)
    # Three separate passes, although the statistics of each batch would be wrong in a common one.
    apart = [net(part) for part in batch]
    assert calls(net, lambda: generate_together(net, batch, ["down1"])) == 3
    assert_all_close([output for output, _ in generate_together(net, batch, ["down1"])], apart)
    assert_all_close(forward_together(net, batch), apart)
    assert (net(torch.cat(batch))[:2] - apart[0]).abs().max() > 1e-3


def test_batch_norm_in_eval_mode_is_batched() -> None:
    net = generator(norm="batch").double().eval()
    batch = parts()
    assert calls(net, lambda: forward_together(net, batch)) == 1
    assert_all_close(forward_together(net, batch), [net(part) for part in batch])


def test_different_sizes_are_not_batched() -> None:
    net = generator().double()
    batch = [*parts((1,), (16, 20)), *parts((2,), (17, 20))]
    assert not can_batch(net, batch)
    assert_all_close(forward_together(net, batch), [net(part) for part in batch])
    assert [feature[0].shape[0] for feature in encode_together(net, batch, ["down1"])] == [1, 2]


def test_dropout_only_acts_in_training() -> None:
    net = generator(dropout=True)
    x = images(1, (16, 16))
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


# Projection heads --------------------------------------------------------------------------------


def features_of(*shapes: tuple[int, int, int, int]) -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("count", [1, 7, 20, 21, 500])
def test_locations_are_different_and_inside(count: int) -> None:
    features = features_of((2, 3, 4, 5), (1, 2, 1, 1), (3, 1, 7, 3))
    for feature, index in zip(features, sample_locations(features, count), strict=True):
        positions = feature.shape[2] * feature.shape[3]
        assert len(index) == min(count, positions) == len(set(index.tolist()))
        assert set(index.tolist()) <= set(range(positions))


def test_every_location_is_equally_likely() -> None:
    draws = 3000
    (feature,) = features_of((1, 1, 2, 3))
    counts = np.zeros(6)
    for _ in range(draws):
        counts[sample_locations([feature], 2)[0].numpy()] += 1
    expected = draws * 2 / 6
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)


@pytest.mark.parametrize("normalize", [True, False])
def test_embeddings_are_a_slow_loops(normalize: bool) -> None:
    features = features_of((2, 3, 4, 5), (3, 2, 1, 7))
    sampler = PatchSampler([3, 2], embedding=6, normalize=normalize).double()
    locations = sample_locations(features, 5)
    embeddings = sampler(features, locations)
    for layer, (feature, index) in enumerate(zip(features, locations, strict=True)):
        first, second = (sampler.get_submodule(f"mlp_{layer}.{position}") for position in (0, 2))
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        assert embeddings[layer].shape == (feature.shape[0], len(index), 6)
        for image in range(feature.shape[0]):
            for patch, position in enumerate(index.tolist()):
                row, column = divmod(position, feature.shape[3])
                hidden = (first.weight @ feature[image, :, row, column] + first.bias).clamp(min=0)
                expected = second.weight @ hidden + second.bias
                if normalize:
                    expected = expected / (expected.square().sum().sqrt() + 1e-7)
                torch.testing.assert_close(embeddings[layer][image, patch], expected, rtol=1e-12, atol=1e-12)


def test_sampler_without_mlp_normalizes_only() -> None:
    (feature,) = features_of((2, 3, 4, 5))
    sampler = PatchSampler([3], mlp=False)
    (embedding,) = sampler([feature], [torch.tensor([7])])
    expected = feature[:, :, 1, 2] / feature[:, :, 1, 2].norm(dim=1, keepdim=True)
    torch.testing.assert_close(embedding[:, 0], expected, rtol=1e-6, atol=1e-6)
    assert list(sampler.parameters()) == []


def test_a_zero_vector_has_a_finite_gradient() -> None:
    feature = torch.zeros(1, 3, 2, 2, requires_grad=True)
    PatchSampler([3], mlp=False)([feature], [torch.arange(4)])[0].sum().backward()
    assert feature.grad is not None and feature.grad.isfinite().all()


def test_sampler_rejects_a_wrong_number_of_layers() -> None:
    sampler = PatchSampler([3, 2]).double()
    with pytest.raises(ValueError, match="zip"):
        sampler(features_of((1, 3, 2, 2)), [torch.arange(2), torch.arange(2)])


@pytest.mark.parametrize(
    ("network", "taps"),
    [
        (generator, RESNET_TAPS),
        (lambda: generator("unet_256"), ["down8", "down2"]),
        (lambda: discriminator("n_layers", layers=4), ["conv5", "0", "conv1"]),
    ],
)
def test_tap_widths_are_those_of_real_features(network: Callable[[], Any], taps: list[str]) -> None:
    net = network()
    real = [feature.shape[1] for feature in net.encode(images(1, (64, 64)), taps)]
    assert tap_widths(net, taps, 3) == real
    assert {parameter.device.type for parameter in net.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", ["mlp_sample", "sample"])
def test_created_sampler_fits_its_network(name: str) -> None:
    net = generator()
    sampler = create_sampler(name, net, ["down1", "block1"], 3, embedding=5)
    features = net.encode(images(2, (16, 20)), ["down1", "block1"])
    widths = [embedding.shape[2] for embedding in sampler(features, sample_locations(features, 9))]
    assert widths == ([5, 5] if name == "mlp_sample" else [8, 16])


# Initialization ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init_type", "expected"),
    [
        ("normal", 0.02),
        ("xavier", 0.02 * math.sqrt(2 / (9 * 64 + 9 * 128))),
        ("kaiming", math.sqrt(2 / (9 * 64))),
    ],
)
def test_initial_weights_have_the_published_spread(init_type: str, expected: float) -> None:
    layer = nn.Conv2d(64, 128, 3)
    initialize(layer, init_type, 0.02)
    tolerance = 4 / math.sqrt(2 * layer.weight.numel())  # four standard errors of a standard deviation
    assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
    assert abs(layer.weight.mean().item()) < 4 * expected / math.sqrt(layer.weight.numel())
    assert layer.bias is not None and not layer.bias.any()


def test_orthogonal_weights_are_orthogonal() -> None:
    layer = nn.Linear(40, 30)
    initialize(layer, "orthogonal", 0.5)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 0.25 * torch.eye(30), rtol=0, atol=1e-5)


def test_batch_norm_starts_around_one() -> None:
    layer = nn.BatchNorm2d(4000)
    initialize(layer, "xavier", 0.02)
    assert layer.weight.mean().item() == pytest.approx(1, abs=0.002)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(layer.bias, torch.zeros(4000))


@pytest.mark.parametrize(
    "create",
    [
        lambda: generator("unet_128", init_gain=0.02, init_type="normal"),
        lambda: generator(init_gain=0.02, init_type="normal", antialias_up=False),
        lambda: generator("resunet", init_gain=0.02, init_type="normal"),
        lambda: discriminator(init_gain=0.02, init_type="normal"),
        lambda: create_sampler("mlp_sample", generator(), ["down1"], 3, init_type="normal"),
    ],
)
def test_factories_initialize_every_layer(create: Callable[[], nn.Module]) -> None:
    weighted = [m for m in create().modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    assert weighted
    for module in weighted:
        spread = 4 * 0.02 / math.sqrt(2 * module.weight.numel())
        assert module.weight.std().item() == pytest.approx(0.02, abs=spread)
        assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: initialize(nn.Linear(2, 2), "uniform"),
        lambda: make_norm("layer", 3),
        lambda: generator("resnet_7blocks"),
        lambda: generator(norm="group"),
        lambda: discriminator("patch"),
        lambda: discriminator("n_layers", layers=0),
        lambda: create_sampler("mlp", generator(), ["down1"], 3),
    ],
)
def test_unknown_names_raise(mistake: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        mistake()


def test_every_documented_name_can_be_made() -> None:
    assert set(INIT_TYPES) == {"normal", "xavier", "kaiming", "orthogonal"}
    assert all(isinstance(discriminator(name), nn.Module) for name in DISCRIMINATORS)
    assert all(isinstance(generator(init_type=init_type), nn.Module) for init_type in INIT_TYPES)


# Blur --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 2), (5, 8), (9, 7)])
def test_blur_down_is_scipys_filter_at_every_second_pixel(size: tuple[int, int]) -> None:
    x = images(2, size, channels=3, dtype=torch.float64)
    line = np.array([1, 2, 1]) / 4
    blurred = BlurDownsample(3).double()(x)
    for image, channel in np.ndindex(2, 3):
        expected = ndimage.correlate(x[image, channel].numpy(), np.outer(line, line), mode="mirror")[::2, ::2]
        np.testing.assert_allclose(blurred[image, channel].numpy(), expected, rtol=1e-13, atol=1e-13)


def upsampled_line(line: np.ndarray) -> np.ndarray:
    """Each new pixel is 3/4 of the nearest old one and 1/4 of the next nearest; borders repeat."""
    output = np.empty(2 * len(line))
    for i, value in enumerate(line):
        output[2 * i] = (3 * value + line[max(i - 1, 0)]) / 4
        output[2 * i + 1] = (3 * value + line[min(i + 1, len(line) - 1)]) / 4
    return output


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_blur_up_is_a_slow_loops(size: tuple[int, int]) -> None:
    x = images(2, size, channels=3, dtype=torch.float64)
    blurred = BlurUpsample(3).double()(x)
    for image, channel in np.ndindex(2, 3):
        rows = np.apply_along_axis(upsampled_line, 0, x[image, channel].numpy())
        expected = np.apply_along_axis(upsampled_line, 1, rows)
        np.testing.assert_allclose(blurred[image, channel].numpy(), expected, rtol=1e-13, atol=1e-13)


def test_blur_up_is_bilinear_interpolation() -> None:
    x = images(2, (5, 7), dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(BlurUpsample(3).double()(x), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_image_that_a_patchgan_takes_is_the_one_it_names(layers: int, antialias: bool) -> None:
    network = create_discriminator("n_layers", 3, 4, layers, antialias=antialias)
    assert isinstance(network, PatchDiscriminator)
    smallest = network.smallest
    network(torch.rand(1, 3, smallest, smallest))
    with pytest.raises(UserError, match=f"needs {smallest}"):
        network(torch.rand(1, 3, smallest, smallest - 1))
    with pytest.raises((RuntimeError, ValueError)):  # what the user would see without that check
        network.run(torch.rand(1, 3, smallest - 1, smallest - 1))
