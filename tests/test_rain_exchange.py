"""Rain exchange: which part of a layer goes across, and how strongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.losses.rain_exchange import BELOW_MEAN, STRENGTHS, WINDOW, add_rain, streaks


def layer(height: int = 40, width: int = 36) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64) / 4


def by_the_formula(image: np.ndarray) -> np.ndarray:
    """Pixel by pixel: what is above the mean of its surroundings less a part of their standard deviation."""
    reach = WINDOW // 2
    result = np.zeros_like(image)
    for y, x in np.ndindex(image.shape):
        around = image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        result[y, x] = max(0.0, image[y, x] - (around.mean() - BELOW_MEAN * around.std()))
    return result


@pytest.mark.parametrize("size", [(40, 36), (31, 70), (5, 3), (1, 1)])
def test_streaks_are_what_is_brighter_than_its_surroundings(size: tuple[int, int]) -> None:
    given = layer(*size)
    np.testing.assert_allclose(streaks(given)[0, 0].numpy(), by_the_formula(given[0, 0].numpy()), atol=1e-12)


def test_an_even_veil_does_not_go_across() -> None:
    torch.testing.assert_close(streaks(layer() + 0.7), streaks(layer()))
    assert streaks(torch.full((1, 3, 40, 40), 0.7, dtype=torch.float64)).max() < 1e-7


def test_images_and_channels_do_not_mix() -> None:
    first, second = layer(), layer().flip(3) * 2
    both = torch.cat([torch.cat([first, second], 1), torch.cat([second, first], 1)])
    apart = streaks(both)
    torch.testing.assert_close(apart[0, 0], streaks(first)[0, 0])
    torch.testing.assert_close(apart[1, 0], streaks(second)[0, 0])


def test_each_image_gets_the_rain_in_a_strength_of_its_own() -> None:
    torch.manual_seed(0)
    clean, rain = torch.full((8, 1, 4, 4), -0.9), torch.full((8, 1, 4, 4), 0.1)
    strengths = (add_rain(clean, rain) + 0.9) / 0.1
    assert strengths.min() >= STRENGTHS[0] - 1e-4 and strengths.max() <= STRENGTHS[1] + 1e-4
    assert len({round(float(image[0, 0, 0]), 4) for image in strengths}) == 8
    assert all(image.std() < 1e-4 for image in strengths), "one strength for all pixels"


def test_rain_gets_no_brighter_than_white() -> None:
    assert add_rain(torch.full((2, 3, 4, 4), 0.8), torch.ones(2, 3, 4, 4)).max() == 1
