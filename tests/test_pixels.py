"""Pixels of 8 and 16 bits go to the network and come back exactly: util/pixels, Picture.tensor and with_tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from util.pictures import Picture


def noise(channels: int, dtype: type = np.uint8, height: int = 5, width: int = 7) -> np.ndarray:
    values = np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint16, (3, 4, 3)) | arrays(np.uint8, (3, 4, 3)) | arrays(np.uint16, (2, 3, 1)))
def test_every_value_survives_the_way_through_a_tensor(values: np.ndarray) -> None:
    picture = Picture(values)
    assert picture.tensor().dtype == torch.float32
    np.testing.assert_array_equal(picture.with_tensor(picture.tensor()).pixels, values)


def test_all_65536_levels_are_apart() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    tensor = Picture(levels).tensor()
    np.testing.assert_allclose(tensor[0, 0].numpy(), levels[..., 0] / 32767.5 - 1, atol=1e-7)
    np.testing.assert_array_equal(Picture(levels).with_tensor(tensor).pixels, levels)


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3) | st.just(float("nan")), st.sampled_from([np.uint8, np.uint16]))
def test_outputs_are_clipped_and_rounded_to_the_bit_depth(value: float, dtype: type) -> None:
    top = int(np.iinfo(dtype).max)
    result = Picture(np.zeros((1, 1, 3), dtype)).with_tensor(torch.full((1, 3, 1, 1), value, dtype=torch.float64))
    exact = 0 if np.isnan(value) else min(max((value + 1) / 2 * top, 0), top)
    assert result.pixels.dtype == dtype and abs(int(result.pixels[0, 0, 2]) - exact) <= 0.5 + 0.01


def test_gray_stays_gray_and_rgb_stays_rgb() -> None:
    gray, color = Picture(noise(1)), Picture(noise(3))
    repeated = gray.tensor(3)
    assert repeated.shape == (1, 3, 5, 7) and (repeated[0, 2] == gray.tensor()[0, 0]).all()
    np.testing.assert_array_equal(gray.with_tensor(repeated).pixels, gray.pixels)
    weighted = color.pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose((color.tensor(1)[0, 0].numpy() + 1) * 127.5, weighted, atol=1e-3)
    np.testing.assert_array_equal(color.with_tensor(color.tensor(1)).pixels, np.rint(weighted)[..., None].repeat(3, 2))


def test_another_size_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="shape"):
        Picture(noise(3)).with_tensor(torch.zeros(1, 3, 5, 8))
