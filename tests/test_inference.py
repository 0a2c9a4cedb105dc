"""A model applied to images of any size: its work size, tiles, statistics that tiles share, and lack of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks import create_generator
from util.engine.inference import (
    SharedStatistics,
    Tiling,
    Translator,
    add_upsampled,
    blend_weights,
    choose_tiling,
    in_tiles,
    smallest_tile,
)
from util.engine.oom import is_out_of_memory
from util.errors import UserError
from util.pixels import luma

SIZES = (1, 7, 63, 64, 65, 100, 127, 128, 129, 500, 1001)
TILINGS = (Tiling(64, 0), Tiling(64, 16, 4), Tiling(64, 32, 4), Tiling(128, 30, 64), Tiling(65, 11), Tiling(64, 0, 4))
CPU = torch.device("cpu")


def image(height: int, width: int, *, channels: int = 3, count: int = 1) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("tiling", TILINGS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_the_axis_and_share_what_was_asked(tiling: Tiling, size: int) -> None:
    spans = tiling.spans(size)
    assert spans[0][0] == 0 and spans[-1][1] == size
    assert all(0 < stop - start <= tiling.tile for start, stop in spans)
    assert all(start % tiling.stride == 0 for start, _ in spans)
    assert all(left_stop - right_start >= tiling.overlap for (_, left_stop), (right_start, _) in pairwise(spans))


@pytest.mark.parametrize("tiling", TILINGS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_weights_are_positive_and_add_up_to_one(tiling: Tiling, size: int) -> None:
    spans = tiling.spans(size)
    total = torch.zeros(size, dtype=torch.float64)
    for (start, stop), weights in zip(spans, blend_weights(spans), strict=True):
        assert weights.min() > 0
        total[start:stop] += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tiling", TILINGS, ids=str)
@pytest.mark.parametrize("size", [(1, 5), (64, 65), (130, 201)], ids=str)
def test_parts_hold_every_pixel_once(tiling: Tiling, size: tuple[int, int]) -> None:
    pixels = torch.arange(size[0] * size[1]).view(1, 1, *size)
    parts = list(tiling.parts(pixels))
    assert torch.cat([part.flatten() for part in parts]).sort().values.equal(pixels.flatten())
    assert all(max(part.shape[-2:]) <= tiling.tile for part in parts)


def test_weights_fade_smoothly() -> None:
    """Two tiles of 64 that share 32: sin² has its steepest slope π/2/32 in the middle, and no step anywhere."""
    weights = blend_weights([(0, 64), (32, 96)])[0]
    assert weights[:32].eq(1).all()
    assert weights.diff().abs().max() <= torch.pi / 2 / 32
    assert weights[47] + weights[48] == pytest.approx(1)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (130, 201), (64, 64)], ids=str)
@pytest.mark.parametrize("tiling", TILINGS, ids=str)
def test_what_looks_at_single_pixels_is_the_same_in_tiles(tiling: Tiling, size: tuple[int, int]) -> None:
    source = image(*size, count=2)
    torch.testing.assert_close(in_tiles(source, lambda x: x.square()[:, :1], tiling), source.square()[:, :1])


def test_a_convolution_is_the_same_away_from_the_cuts() -> None:
    """A 5×5 mean sees 2 pixels around; farther than the overlap from a cut, the tiles give what the whole gives."""
    source = image(90, 200)
    kernel = torch.full((1, 1, 5, 5), 1 / 25)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x.transpose(0, 1), (2, 2, 2, 2), mode="reflect"), kernel).transpose(0, 1)

    tiled = in_tiles(source, blur, Tiling(100, 20, 4))
    (_, first_stop), (second_start, _), *_ = Tiling(100, 20, 4).spans(200)
    torch.testing.assert_close(tiled[..., :second_start], blur(source)[..., :second_start])
    near_the_cuts = (tiled - blur(source))[..., second_start:first_stop].abs()
    assert near_the_cuts.max() < 0.05 * (blur(source) - source).abs().max()


@pytest.mark.parametrize(("stride", "smallest"), [(1, 64), (4, 64), (128, 256), (48, 96)])
def test_smallest_tile(stride: int, smallest: int) -> None:
    assert smallest_tile(stride) == smallest


def test_tiles_are_whole_strides() -> None:
    assert choose_tiling(500, 32, 128) == Tiling(384, 32, 128)


@pytest.mark.parametrize(("tile", "overlap", "flag"), [(63, 8, "--tile 63"), (128, 65, "--tile_overlap 65")])
def test_impossible_tiles_are_refused(tile: int, overlap: int, flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        choose_tiling(tile, overlap, 4)


class Machine:
    """A model that negates images, on a machine with memory for ``capacity`` pixels at once."""

    def __init__(self, capacity: int, error: Callable[[], BaseException] = MemoryError, stride: int = 4) -> None:
        self.nets: dict[str, nn.Module] = {"G": nn.Identity()}
        self.stride = stride
        self.capacity, self.error = capacity, error
        self.passes: list[tuple[int, ...]] = []

    def infer(self, source: Tensor) -> Tensor:
        self.passes.append((source.shape[0], *source.shape[2:]))
        if source.shape[0] * source.shape[2] * source.shape[3] > self.capacity:
            raise self.error()
        return -source


def translator(machine: Machine, tile: int = 0, overlap: int = 16) -> Translator:
    return Translator(machine, device=CPU, precision="fp32", tile=tile, overlap=overlap)


OUT_OF_MEMORY: list[Callable[[], BaseException]] = [
    MemoryError,
    lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 100 bytes."),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_leads_to_tiles_and_one_line(
    error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(100 * 100, error)
    source = image(210, 300)
    with caplog.at_level(logging.INFO):
        result = translator(machine)(source)
    torch.testing.assert_close(result, -source)
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 300×210 pixels at once: translated in tiles of 76 pixels that share 16 "
        "(--tile 76 does so from the start)"
    ]


def test_what_was_found_out_counts_for_later_images(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(100 * 100)
    translate = translator(machine)
    translate(image(210, 300))
    machine.passes.clear()
    caplog.clear()
    translate(image(300, 220))
    assert max(height * width for _, height, width in machine.passes) <= machine.capacity
    machine.passes.clear()
    translate(image(80, 90))
    assert machine.passes == [(1, 80, 90)]
    assert not caplog.records


def test_a_batch_that_does_not_fit_goes_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(100 * 100)
    batch = image(90, 90, count=3)
    torch.testing.assert_close(translator(machine)(batch), -batch)
    assert machine.passes == [(3, 90, 90), (1, 90, 90), (1, 90, 90), (1, 90, 90)]
    assert len(caplog.records) == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        translator(Machine(0, lambda: RuntimeError("shapes cannot be multiplied")))(image(9, 9))


def test_no_memory_at_all_is_one_sentence() -> None:
    with pytest.raises(UserError, match="not even tiles of 64 pixels"):
        translator(Machine(10))(image(300, 200))


def test_the_asked_tiles_are_used_from_the_start() -> None:
    machine = Machine(10**9)
    translator(machine, tile=100)(image(100, 250))
    assert [width for _, _, width in machine.passes] == [100, 100, 98]  # starts at 0, 76 and 152


def test_an_image_no_larger_than_a_tile_is_whole() -> None:
    machine = Machine(10**9)
    translator(machine, tile=100)(image(20, 450))
    assert machine.passes == [(1, 20, 450)]


def test_memory_errors_are_told_by_their_words() -> None:
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


# -- work size, strength, self-ensemble -----------------------------------------------------------------------------


class Formula:
    """A model that is a function, and the sizes that it saw."""

    stride = 1

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.nets: dict[str, nn.Module] = {"G": nn.Identity()}
        self.function = function
        self.sizes: list[tuple[int, int]] = []

    def infer(self, source: Tensor) -> Tensor:
        self.sizes.append((source.shape[2], source.shape[3]))
        return self.function(source)


def applied(function: Callable[[Tensor], Tensor], source: Tensor, **settings: float) -> tuple[Tensor, Formula]:
    model = Formula(function)
    translate = Translator(model, device=CPU, precision="fp32", **settings)  # type: ignore[arg-type]
    return translate(source), model


def test_larger_images_are_computed_at_the_work_size_and_others_at_their_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _, small = applied(lambda x: x, image(64, 300), work_size=64)
        assert not caplog.records
        _, large = applied(lambda x: x, image(100, 150), work_size=64)
    assert small.sizes == [(64, 300)] and large.sizes == [(64, 96)]
    assert [record.getMessage() for record in caplog.records] == [
        "pictures above 64 pixels on the shorter side are derained at that size and the change is enlarged "
        "(--work_size 0 computes at full size)"
    ]


def test_what_is_not_changed_keeps_its_full_resolution() -> None:
    source = image(100, 150)
    assert torch.equal(applied(lambda x: x, source, work_size=32)[0], source)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_change_that_follows_the_picture_is_sharp_at_full_size(channels: int) -> None:
    """Darkening by the luma: an edge that is a staircase at the work size is one pixel wide in the result."""
    source = torch.full((1, channels, 96, 160), -0.5)
    source[..., 70:] = 0.5

    def darker(x: Tensor) -> Tensor:
        return x - 0.2 * (luma(x) if channels == 3 else x)

    result, _ = applied(darker, source, work_size=24)
    torch.testing.assert_close(result, darker(source), rtol=0, atol=0.01)


def test_a_smooth_change_is_enlarged_as_it_is() -> None:
    flat, wave = torch.zeros(1, 3, 20, 30), torch.linspace(-0.5, 0.5, 30).expand(1, 3, 20, 30)
    expected = F.interpolate(wave, size=(100, 150), mode="bilinear")
    result = add_upsampled(torch.zeros(1, 3, 100, 150), wave, flat)
    torch.testing.assert_close(result[..., 30:-30], expected[..., 30:-30], rtol=0, atol=0.005)


@pytest.mark.parametrize("work_size", [0, 32])
@pytest.mark.parametrize(("strength", "expected"), [(0.0, 0.0), (0.5, -0.1), (1.0, -0.2), (2.0, -0.4)])
def test_strength_scales_the_change(work_size: int, strength: float, expected: float) -> None:
    result, _ = applied(lambda x: x - 0.2, torch.zeros(1, 3, 64, 64), work_size=work_size, strength=strength)
    torch.testing.assert_close(result, torch.full_like(result, expected))


def test_the_ensemble_is_the_mean_over_turned_and_mirrored_images() -> None:
    """A network that looks to its left looks, on average, into all four directions."""
    source = image(5, 8)

    def left(x: Tensor) -> Tensor:
        return x.roll(1, dims=3) / 2

    result, model = applied(left, source, self_ensemble=True)
    rolls = [source.roll(shift, dims=dim) for shift in (1, -1) for dim in (2, 3)]
    torch.testing.assert_close(result, torch.stack(rolls).mean(0) / 2)
    assert len(model.sizes) == 8


def test_another_number_of_channels_is_refused_at_a_work_size() -> None:
    with pytest.raises(UserError, match="--work_size 32: this network changes the number of channels"):
        applied(lambda x: x[:, :1], image(64, 64), work_size=32)


# -- statistics that tiles share ------------------------------------------------------------------------------------


def features(height: int = 64, width: int = 200) -> Tensor:
    """Values whose mean and spread grow from left to right, so that no part is like the whole."""
    noise = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(4))
    return noise * torch.linspace(0.5, 3, width) + torch.linspace(-2, 5, width)


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[..., :64], images[..., 64:]


@pytest.mark.parametrize("affine", [False, True])
def test_parts_are_normalized_like_the_whole(affine: bool) -> None:
    norm = nn.InstanceNorm2d(3, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    whole = features()
    statistics = SharedStatistics([norm])
    with statistics.gathered():
        for part in halves(whole):
            norm(part)
    with statistics.imposed():
        parts = [norm(part) for part in halves(whole)]
    torch.testing.assert_close(torch.cat(parts, dim=3), norm(whole))


def test_parts_have_the_mean_of_the_whole() -> None:
    mean, whole = nn.AdaptiveAvgPool2d(1), features()
    statistics = SharedStatistics([mean])
    with statistics.gathered():
        for part in halves(whole):
            mean(part)
    with statistics.imposed():
        for part in halves(whole):
            torch.testing.assert_close(mean(part), whole.mean((2, 3), keepdim=True))


def test_pools_that_are_not_global_are_left_alone() -> None:
    assert not SharedStatistics([nn.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool2d((1, 2)), nn.AvgPool2d(1)])


def test_gathering_changes_nothing_and_leaves_nothing_behind() -> None:
    norm, image = nn.InstanceNorm2d(3), features()
    expected = norm(image)
    statistics = SharedStatistics([norm])
    with statistics.gathered():
        torch.testing.assert_close(norm(image), expected, rtol=0, atol=0)
    with statistics.imposed():
        norm(image[..., :9])
    torch.testing.assert_close(norm(image), expected, rtol=0, atol=0)


def test_every_gathering_begins_anew() -> None:
    norm, image = nn.InstanceNorm2d(3), features()
    statistics = SharedStatistics([norm])
    for each in (image * 7, image):
        with statistics.gathered():
            norm(each)
    with statistics.imposed():
        torch.testing.assert_close(norm(image), nn.InstanceNorm2d(3)(image))


def test_norms_with_statistics_of_their_own_are_left_alone() -> None:
    norms = [nn.BatchNorm2d(3).eval(), nn.InstanceNorm2d(3, track_running_stats=True).eval()]
    assert not SharedStatistics(norms)


@pytest.mark.parametrize("name", ["resnet_6blocks", "unet_128"])
def test_tiles_come_nearer_to_the_whole(name: str) -> None:
    """Sharing must at least halve the squared distance that plain tiles have, on a picture that is not uniform."""
    torch.manual_seed(1)
    network = create_generator(name, 3, 3, 4, init_type="normal", init_gain=0.2).eval()
    picture = (features(200, 420)[:1] / 8).clamp(-1, 1)

    class Single:
        nets: dict[str, nn.Module] = {"G": network}  # noqa: RUF012
        stride = network.stride

        def infer(self, source: Tensor) -> Tensor:
            return network(source)

    def translate(tile: int, *, shared: bool = True) -> Tensor:
        translator = Translator(Single(), device=torch.device("cpu"), precision="fp32", tile=tile, overlap=32)
        if not shared:
            translator._statistics = SharedStatistics([])
        return translator(picture)

    def distance(image: Tensor) -> float:
        return (image - translate(0)).square().mean().item()

    assert distance(translate(256)) < 0.5 * distance(translate(256, shared=False))
