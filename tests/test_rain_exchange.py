"""Rain exchange: which part of a layer goes across and how strongly, under which veil, and by what it is judged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.losses.rain_exchange import (
    BELOW_MEAN,
    DISTANCES,
    SMALL_ERROR,
    STRENGTHS,
    VEIL_LIGHT,
    WINDOW,
    add_rain,
    streaks,
    veiled,
)


def layer(height: int = 40, width: int = 36) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64) / 4


def surroundings(image: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """The place of each pixel, and all pixels around it."""
    reach = WINDOW // 2
    for y, x in np.ndindex(image.shape):
        yield (y, x), image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]


def by_the_formula(image: np.ndarray) -> np.ndarray:
    """Pixel by pixel: what is above the mean of its surroundings less a part of their standard deviation."""
    result = np.zeros_like(image)
    for place, around in surroundings(image):
        result[place] = max(0.0, image[place] - (around.mean() - BELOW_MEAN * around.std()))
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


DARK, BRIGHT, DENSEST, CLEAR = -0.8, 0.4, 0.6, 0.3


@pytest.fixture(scope="module")
def seen() -> tuple[torch.Tensor, torch.Tensor]:
    """Of 200 images whose columns are dark and bright in turn: a of each line, and A0 of those under a veil.

    A veil takes a share a of the contrast, and moves what is left towards A0: both follow from two pixels.
    """
    torch.manual_seed(3)
    clean = torch.tensor([DARK, BRIGHT], dtype=torch.float64).repeat(200, 3, 9, 4)
    image = veiled(clean, DENSEST, CLEAR)
    dark, bright = image[..., ::2], image[..., 1::2]
    share = 1 - (bright - dark) / (BRIGHT - DARK)
    light = (dark - DARK * (1 - share)) / share
    under = share[:, 0, 0, 0] > 1e-9
    for values in (share, light[under]):
        torch.testing.assert_close(values, values[:, :1, :, :1].expand_as(values), msg="gray, and even along lines")
    return share[:, 0, :, 0], light[under][:, 0, :, 0]


def test_a_veil_has_one_gray_light_within_its_bounds(seen: tuple[torch.Tensor, torch.Tensor]) -> None:
    light = seen[1]
    torch.testing.assert_close(light, light[:, :1].expand_as(light))
    assert VEIL_LIGHT[0] <= light.min() < 0.1 and 0.9 < light.max() <= VEIL_LIGHT[1]


def test_a_veil_gets_evenly_denser_or_thinner_from_line_to_line(seen: tuple[torch.Tensor, torch.Tensor]) -> None:
    share = seen[0]
    torch.testing.assert_close(share.diff(n=2, dim=1), torch.zeros(200, 7, dtype=torch.float64))
    assert share.min() > -1e-9 and 0.9 * DENSEST < share.max() <= DENSEST
    assert (share[:, 0] > share[:, -1] + 0.2).any() and (share[:, 0] < share[:, -1] - 0.2).any()


def test_some_images_stay_clear(seen: tuple[torch.Tensor, torch.Tensor]) -> None:
    clear = float((seen[0].abs().amax(1) < 1e-9).double().mean())
    assert clear == pytest.approx(CLEAR, abs=0.12)  # 200 images: 3.4 standard deviations


def test_no_veil_changes_nothing_and_draws_nothing() -> None:
    before, given = torch.get_rng_state(), layer()
    assert veiled(given, 0, CLEAR) is given
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "error", "distance", "slope"),
    [
        ("l1", 0.3, 0.3, 1.0),
        ("l2", 0.3, 0.09, 0.6),
        ("berhu", SMALL_ERROR / 2, SMALL_ERROR / 2, 1.0),
        ("berhu", -SMALL_ERROR / 2, SMALL_ERROR / 2, -1.0),
        ("berhu", 2 * SMALL_ERROR, 2.5 * SMALL_ERROR, 2.0),
        ("berhu", -3 * SMALL_ERROR, 5 * SMALL_ERROR, -3.0),
        ("wide_berhu", SMALL_ERROR / 2, SMALL_ERROR / 2, 1.0),
        ("wide_berhu", -3 * SMALL_ERROR, 5 * SMALL_ERROR, -3.0),
    ],
)
def test_distances_have_the_values_and_slopes_of_their_formulas(
    name: str, error: float, distance: float, slope: float
) -> None:
    image = torch.full((1, 1, 2, 2), error, dtype=torch.float64, requires_grad=True)
    result = DISTANCES[name](image, torch.zeros_like(image))
    (gradient,) = torch.autograd.grad(result, image)
    assert result.item() == pytest.approx(distance)
    assert gradient.flatten().tolist() == pytest.approx([slope / 4] * 4), "of a mean over four pixels"


def test_each_pixel_is_small_or_large_by_itself() -> None:
    errors = torch.tensor([[[[0.05, -0.05], [0.2, -0.3]]]], dtype=torch.float64, requires_grad=True)
    result = DISTANCES["berhu"](errors, torch.zeros_like(errors))
    (gradient,) = torch.autograd.grad(result, errors)
    assert SMALL_ERROR == 0.1, "what the numbers below are for"
    assert result.item() == pytest.approx((0.05 + 0.05 + 0.25 + 0.5) / 4)
    assert gradient.flatten().tolist() == pytest.approx([1 / 4, -1 / 4, 2 / 4, -3 / 4])


def test_wide_errors_count_more_than_in_l1_by_what_they_exceed_a_small_one() -> None:
    errors = layer()[0, 0].numpy() + np.linspace(-0.4, 0.4, 40)[:, None]
    wide = np.zeros_like(errors)
    for place, around in surroundings(errors):
        wide[place] = abs(around.mean())
    large = wide > SMALL_ERROR
    assert 0.2 < large.mean() < 0.9, "some are small and some are large"
    excess = np.where(large, (wide**2 + SMALL_ERROR**2) / (2 * SMALL_ERROR) - wide, 0)
    target = layer().flip(3)
    result = DISTANCES["wide_berhu"](target + torch.from_numpy(errors), target)
    assert result.item() == pytest.approx(abs(errors).mean() + excess.mean())


def test_a_narrow_streak_counts_as_in_l1_however_bright() -> None:
    streak = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    streak[..., 32] = 1.8
    l1, wide, berhu = (
        DISTANCES[name](streak, torch.zeros_like(streak)).item() for name in ("l1", "wide_berhu", "berhu")
    )
    assert l1 == pytest.approx(wide) and berhu > 4 * l1
