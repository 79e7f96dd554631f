"""Look-ups of codes against a look at every value; run compiled here, and as Python by `make coverage`."""

from __future__ import annotations

import numpy as np
import pytest

from pvqbounds.problems.code_kernel import code_below, code_next_to, codes_next_to, value_of

TABLE = np.array([[-3.0, -1.0, 0.5, 0.5, 4.0], [0.0, 1.0, 2.0, 3.0, 9.0]])
POINTS = [-10.0, -3.0, -2.5, -2.0, -1.5, 0.0, 0.5, 0.6, 2.25, 2.3, 4.0, 8.9, 50.0]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("i", [0, 1])
def test_levels(i: int, point: float) -> None:
    values, high = TABLE[i], float(TABLE.shape[1] - 1)
    below = code_below(TABLE, i, 0.0, high, point)
    assert below == np.count_nonzero(values <= point) - 1
    nearest = code_next_to(TABLE, i, 0.0, high, point)
    assert abs(value_of(TABLE, i, nearest) - point) == np.abs(values - point).min()


@pytest.mark.parametrize("point", [*POINTS, -2.4999, 1.5])
def test_codes_that_are_their_values(point: float) -> None:
    codes = np.arange(-2.0, 4.0)
    assert code_below(None, 0, -2.0, 3.0, point) == np.count_nonzero(codes <= point) - 3.0
    nearest = code_next_to(None, 0, -2.0, 3.0, point)
    assert nearest in codes
    assert abs(value_of(None, 0, nearest) - point) == np.abs(codes - point).min()


def test_ties_and_fewer_codes() -> None:
    assert code_next_to(TABLE, 1, 0.0, 4.0, 1.5) == 1.0  # the lower of two that are as near
    assert code_next_to(TABLE, 1, 0.0, 2.0, 50.0) == 2.0  # no code beyond the last
    assert code_next_to(TABLE, 1, 1.0, 4.0, -5.0) == 1.0  # nor before the first


def test_all_at_once() -> None:
    points = np.array([[-1.9, 8.0], [4.0, -3.0], [0.0, 2.4]])
    expected = [[np.abs(TABLE[i] - p).argmin() for i, p in enumerate(row)] for row in points]
    codes = codes_next_to(TABLE, np.array([4.0, 4.0]), points)
    np.testing.assert_array_equal(TABLE[[0, 1], codes.astype(int)], TABLE[[0, 1], np.array(expected)])
