"""Few multiplications give what a kernel of three gives that slides along a line."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from models.networks.toom_cook import Direction, turned

POINTS = ["0 1", "0 1 -1", "0 1 -1 2", "0 2/3 -2/3 3/2 -3/2", "1/2 5 -3 7 -1/4"]


@pytest.mark.parametrize("points", POINTS)
def test_a_line_is_convolved_with_m_plus_two_multiplications(points: str) -> None:
    direction = Direction.through(*map(Fraction, points.split()))
    outputs = len(points.split()) - 1
    rng = np.random.default_rng(1)
    line, kernel = rng.normal(size=outputs + 2), rng.normal(size=3)
    products = (np.array(direction.of_kernel) @ kernel) * (np.array(direction.of_input) @ line)
    assert len(products) == outputs + 2
    np.testing.assert_allclose(np.array(direction.to_output) @ products, np.correlate(line, kernel), rtol=1e-10)


def test_turned_is_the_transpose() -> None:
    assert np.array_equal(turned(((1, 2, 3), (4, 5, 6))), np.array([[1, 4], [2, 5], [3, 6]]))
