"""The expected case against what is known of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pvqbounds.relaxations.expected import expected_error, log_mean_pivot


def test_one_input_has_the_variance_of_a_uniform_offset() -> None:
    gram = np.array([[3.0]])
    assert expected_error(1, 0.5, log_mean_pivot(gram)) == pytest.approx(3.0 * 0.5**2 / 12.0)


def test_many_inputs_come_near_the_limit_of_balls() -> None:
    # the normalised second moment of a ball tends to 1 / (2 pi e)
    n = 100_000
    assert expected_error(n, 1.0, 0.0) / n == pytest.approx(1.0 / (2.0 * math.pi * math.e), rel=1e-3)


def test_it_follows_the_determinant_of_live_inputs() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((9, 3))
    live = X.T @ X
    gram = np.zeros((5, 5))
    gram[np.ix_([0, 2, 4], [0, 2, 4])] = live
    assert log_mean_pivot(gram) == pytest.approx(math.log(np.linalg.det(live)) / 3)
    one, four = (expected_error(3, 0.1, log_mean_pivot(factor * gram)) for factor in (1.0, 4.0))
    assert four == pytest.approx(4.0 * one)


@pytest.mark.parametrize("gram", [np.zeros((2, 2)), np.ones((2, 2)), np.diag([1.0, -1.0])])
def test_a_singular_gram_has_none(gram: np.ndarray) -> None:
    assert log_mean_pivot(gram) == -math.inf
    assert expected_error(2, 0.1, log_mean_pivot(gram)) == 0.0
    assert expected_error(0, 0.1, 0.0) == 0.0
