"""Padding agrees with numpy.pad at any size, and cropping undoes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from util.layers import pad_to_multiple

SIZES = [(1, 1), (1, 5), (2, 3), (7, 9), (31, 33), (4, 13), (16, 16)]


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("multiple", [1, 4, 32, 256])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_padding_is_numpys_reflection(height: int, width: int, multiple: int) -> None:
    x = images(height, width)
    missing = [(0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple)]
    padded, _ = pad_to_multiple(x, multiple)
    assert np.array_equal(padded.numpy(), np.pad(x.numpy(), missing, mode="reflect"))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_cropping_gives_the_original_back(height: int, width: int) -> None:
    x = images(height, width)
    padded, crop = pad_to_multiple(x, 8)
    assert padded.shape[-2] % 8 == padded.shape[-1] % 8 == 0
    assert torch.equal(crop(padded), x)


def test_cropping_keeps_other_channel_counts() -> None:
    _, crop = pad_to_multiple(images(5, 6), 4)
    assert crop(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 5, 6)


def test_a_fitting_image_is_not_copied() -> None:
    x = images(8, 12)
    padded, crop = pad_to_multiple(x, 4)
    assert padded is x
    assert torch.equal(crop(padded), x)


def test_each_image_pixel_gets_the_gradient_of_all_its_copies() -> None:
    x = images(1, 3).requires_grad_()
    pad_to_multiple(x, 4)[0].sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].tolist() == [[4.0, 8.0, 4.0]]  # four rows of columns 0 1 2 1


def test_another_size_is_not_cropped_silently() -> None:
    _, crop = pad_to_multiple(images(5, 6), 4)
    with pytest.raises(ValueError, match="padded size"):
        crop(torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 0, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        pad_to_multiple(torch.zeros(shape), 4)


def test_a_multiple_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        pad_to_multiple(images(4, 4), 0)
