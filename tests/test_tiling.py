"""Tiles cover an image, their weights add up to one, and a lack of memory leads to them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.engine.tiling import Tiling, blend_weights, choose_tiling, in_tiles, smallest_tile
from util.engine.translator import Translator, is_out_of_memory
from util.errors import UserError

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
        network = nn.Identity()
        network.stride = stride  # type: ignore[assignment]
        self.nets: dict[str, nn.Module] = {"G": network}
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
