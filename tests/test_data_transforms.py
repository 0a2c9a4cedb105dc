"""Resizing, cropping, flipping and the tensor's range, against slices made by hand."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest  # type: ignore[import-untyped]

from data.files import ImageFile
from data.transforms import Placement, TrainingTransform, WholeImageTransform, to_tensor
from util.errors import UserError

MIDDLE = Placement(across=0.5, down=0.5, flip=False)


def coordinates(height: int, width: int) -> Image.Image:
    """An image whose red is the column, whose green is the row, and whose blue is 7."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, np.full_like(rows, 7)], axis=-1).astype(np.uint8))


def as_bytes(tensor: torch.Tensor) -> np.ndarray:
    """Back to uint8 [H, W, C], exactly."""
    return np.rint((tensor.numpy().astype(np.float64) + 1) / 2 * 255).astype(np.uint8).transpose(1, 2, 0)


def test_tensor_has_the_documented_type_shape_and_range() -> None:
    tensor = to_tensor(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(1, 256)), 3)
    assert (tensor.dtype, tuple(tensor.shape), tensor.is_contiguous()) == (torch.float32, (3, 1, 256), True)
    expected = np.arange(256) / 255 * 2 - 1
    np.testing.assert_allclose(tensor[2, 0].numpy(), expected, atol=1e-6)
    assert (tensor.min().item(), tensor.max().item()) == (-1.0, 1.0)


def test_one_channel_is_bt601_luma() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    luma = pixels.astype(np.float64) @ [0.299, 0.587, 0.114]
    tensor = to_tensor(Image.fromarray(pixels), 1)
    assert tuple(tensor.shape) == (1, 5, 6)
    assert np.abs(as_bytes(tensor)[..., 0] - luma).max() <= 0.51


def test_tensor_does_not_share_the_images_memory() -> None:
    image = Image.new("L", (4, 4), 128)
    to_tensor(image, 1).zero_()
    assert np.asarray(image).min() == 128


def test_crop_is_the_slice_that_the_placement_names() -> None:
    transform = TrainingTransform(preprocess="crop", crop_size=8)
    image = coordinates(20, 30)
    for across, down in ((0.0, 0.0), (0.5, 0.25), (0.999999, 0.999999)):
        left, top = int(across * 23), int(down * 13)  # 30-8+1 columns and 20-8+1 rows to start from
        cropped = as_bytes(transform(image, Placement(across, down, False)))
        np.testing.assert_array_equal(cropped, np.asarray(image)[top : top + 8, left : left + 8])
        mirrored = as_bytes(transform(image, Placement(across, down, True)))
        np.testing.assert_array_equal(mirrored, cropped[:, ::-1])


def test_random_crops_reach_every_place_and_flip_half_the_time() -> None:
    transform = TrainingTransform(preprocess="crop", crop_size=4)
    generator = np.random.default_rng(0)
    corners, flips = set(), 0
    for _ in range(300):
        placement = Placement.draw(generator)
        crop = as_bytes(transform(coordinates(6, 7), placement))
        corners.add((int(crop[0, :, 0].min()), int(crop[0, 0, 1])))
        flips += int(crop[0, 0, 0] > crop[0, -1, 0])
    assert corners == {(left, top) for left in range(4) for top in range(3)}
    assert 120 < flips < 180


def test_no_flip_never_mirrors() -> None:
    transform = TrainingTransform(preprocess="none", flip=False)
    image = coordinates(4, 8)
    np.testing.assert_array_equal(as_bytes(transform(image, Placement(0, 0, True))), np.asarray(image))


def test_resize_and_crop_is_bicubic_then_crop() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8))
    transform = TrainingTransform(preprocess="resize_and_crop", load_size=12, crop_size=8)
    expected = np.asarray(image.resize((12, 12), Image.Resampling.BICUBIC))[2:10, 2:10]
    np.testing.assert_array_equal(as_bytes(transform(image, MIDDLE)), expected)


@pytest.mark.parametrize(
    ("preprocess", "size", "expected"),
    [
        ("resize_and_crop", (50, 20), (16, 16)),
        ("crop", (50, 20), (16, 16)),
        ("scale_width", (50, 25), (24, 12)),
        ("scale_width", (50, 31), (24, 12)),  # 24×15 after scaling
        ("scale_width_and_crop", (20, 50), (16, 16)),
        ("none", (50, 23), (48, 20)),
        ("none", (8, 4), (8, 4)),
    ],
)
def test_output_size(preprocess: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    transform = TrainingTransform(preprocess=preprocess, load_size=24, crop_size=16)
    assert transform.output_size(size) == expected
    assert tuple(transform(Image.new("RGB", size), MIDDLE).shape) == (3, expected[1], expected[0])


def test_none_cuts_the_center_to_a_multiple_of_four() -> None:
    image = coordinates(11, 10)
    expected = np.asarray(image)[1:9, 1:9]
    np.testing.assert_array_equal(as_bytes(TrainingTransform(preprocess="none")(image, MIDDLE)), expected)


def test_placement_draws_the_same_amount_of_chance_every_time() -> None:
    used, free = np.random.default_rng(3), np.random.default_rng(3)
    Placement.draw(used)
    free.random(3)
    assert used.random() == free.random()


def test_a_stop_more_doubles_the_light_and_white_stays_white() -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (4, 8, 3), dtype=np.uint8))
    light = (np.asarray(image) / 255.0) ** 2.2
    lit = TrainingTransform(preprocess="none", exposure=2)(image, replace(MIDDLE, exposure=0.5))
    expected = np.minimum(2 * light, 1) ** (1 / 2.2)
    np.testing.assert_allclose((lit.permute(1, 2, 0).numpy() + 1) / 2, expected, atol=1e-6)


def test_exposures_are_even_between_the_bounds_and_not_tied_to_the_place() -> None:
    generator = np.random.default_rng(5)
    placements = [Placement.draw(generator) for _ in range(2000)]
    exposures = np.array([placement.exposure for placement in placements])
    assert kstest(exposures, "uniform", (-1, 2)).pvalue > 0.01
    assert abs(np.corrcoef(exposures, [placement.across for placement in placements])[0, 1]) < 0.06


def test_transforms_pickle() -> None:
    for transform in (TrainingTransform(preprocess="crop", crop_size=4), WholeImageTransform()):
        assert pickle.loads(pickle.dumps(transform)) == transform  # noqa: S301


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [("none", (13, 9)), ("crop", (13, 9)), ("resize_and_crop", (6, 6)), ("scale_width", (6, 4))],
)
def test_a_test_image_is_never_cropped(preprocess: str, expected: tuple[int, int]) -> None:
    tensor = WholeImageTransform(preprocess=preprocess, load_size=6)(Image.new("RGB", (13, 9)))
    assert tuple(tensor.shape) == (3, expected[1], expected[0])


def test_a_whole_image_is_unchanged() -> None:
    image = coordinates(7, 9)
    np.testing.assert_array_equal(as_bytes(WholeImageTransform()(image)), np.asarray(image))


def test_an_unknown_preprocess_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="preprocess is 'resize_crop'"):
        TrainingTransform(preprocess="resize_crop")


def test_load_size_below_crop_size_is_refused_where_both_count() -> None:
    with pytest.raises(ValueError, match="load_size 128 is below crop_size 256"):
        TrainingTransform(preprocess="resize_and_crop", load_size=128, crop_size=256)
    TrainingTransform(preprocess="crop", load_size=128, crop_size=256)


def check(transform: TrainingTransform, *sizes: tuple[int, int], batch_size: int = 1) -> None:
    files = [ImageFile(Path(f"{number}.png"), f"{number}.png") for number in range(len(sizes))]
    by_path = {file.path: size for file, size in zip(files, sizes, strict=True)}
    transform.check(files, by_path, batch_size=batch_size)


def test_too_small_image_is_named_with_its_size_and_the_flags() -> None:
    with pytest.raises(UserError, match=r"'1\.png' has 300×200 pixels, which is too small for --crop_size 256"):
        check(TrainingTransform(preprocess="crop"), (256, 256), (300, 200))
    with pytest.raises(UserError, match=r"'0\.png' has 1024×436 pixels, 286×122 after scaling to --load_size 286"):
        check(TrainingTransform(preprocess="scale_width_and_crop"), (1024, 436))
    with pytest.raises(UserError, match=r"'0\.png' has 9×3 pixels, but --preprocess none needs at least 4 a side"):
        check(TrainingTransform(preprocess="none"), (9, 3))


def test_mixed_sizes_are_refused_only_where_a_batch_needs_one() -> None:
    whole = TrainingTransform(preprocess="none")
    with pytest.raises(UserError, match=r"--batch_size 2 .*'0\.png' is 8×8 and '2\.png' 12×8; use --batch_size 1"):
        check(whole, (8, 8), (9, 9), (12, 8), batch_size=2)
    check(whole, (8, 8), (12, 8), batch_size=1)
    check(TrainingTransform(preprocess="crop", crop_size=8), (8, 8), (12, 8), batch_size=2)
