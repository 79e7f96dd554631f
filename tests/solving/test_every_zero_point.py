"""Every scale and zero point: intervals hold against all codes with all of them, and are proved again."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from tests.truth import least_error_at_any_scale, random_gram, random_weight


def _random_problem(seed: int) -> pvq.AnyScaleLeastSquares:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    top = 3 if n > 3 else 2 ** int(rng.integers(1, 4)) - 1
    weight = random_weight(rng, n) + rng.normal()
    return pvq.AnyScaleLeastSquares(random_gram(rng, n), weight, -top, top, span=top)


def _truth(problem: pvq.AnyScaleLeastSquares) -> Fraction:
    """The least error over all zero points, each with all codes at their best scale."""
    return min(least_error_at_any_scale(problem.in_box(*box)) for box in problem.values.boxes)


def _holds(seed: int, proved: bool) -> bool:
    problem = _random_problem(seed)
    bounds, truth = pvq.solve(problem, time_limit=10.0), _truth(problem)
    slack = 1e-12 * problem.signal.upper
    assert bounds.error_lower <= truth + slack, seed
    assert bounds.error_upper >= truth - slack, seed
    assert problem.values.within(bounds.codes)
    assert bounds.error_upper == max(0.0, problem.error(bounds.codes).upper)
    assert not proved or pvq.verify(problem, bounds), seed
    return bounds.status == "optimal"


def test_intervals_hold_against_all_codes_scales_and_zero_points() -> None:
    closed = [_holds(seed, proved=seed % 3 == 0) for seed in range(12)]
    assert sum(closed) >= 7


@pytest.mark.long
def test_a_thousand_intervals_hold() -> None:
    for seed in range(1000):
        _holds(seed, proved=seed % 10 == 0)


def _channel(n: int, bits: int, offset: float = 0.4) -> pvq.AnyScaleLeastSquares:
    rng = np.random.default_rng(n)
    X = rng.normal(size=(5 * n, n))
    X[:, 1:] += 0.5 * X[:, :-1]
    top = 2**bits - 1
    return pvq.AnyScaleLeastSquares(X.T @ X / len(X), rng.normal(size=n) + offset, -top, top, span=top)


def test_a_free_zero_point_is_no_worse_than_any() -> None:
    problem = _channel(9, 2)
    bounds = pvq.solve(problem)
    assert bounds.status == "optimal"
    each = [pvq.solve(problem.in_box(*box)) for box in problem.values.boxes]
    assert bounds.error_lower <= min(found.error_upper for found in each)
    assert bounds.error_upper <= min(found.error_upper for found in each) * (1.0 + 1e-6)


def test_bits_beyond_four_share_boxes_and_codes_keep_to_one_zero_point() -> None:
    problem = _channel(4, 5)
    bounds = pvq.solve(problem, time_limit=5.0)
    assert problem.values.within(bounds.codes)
    assert pvq.verify(problem, bounds)


def test_codes_of_two_zero_points_are_refused() -> None:
    problem = _channel(4, 2)
    problem.point(np.array([0, 3, 1, 2]))
    with pytest.raises(InputError, match="no zero point"):
        problem.point(np.array([-1, 3, 1, 2]))


@pytest.mark.parametrize(("box", "span"), [((1, 3), 2), ((-3, 3), -1), ((-3, 3), 1.5)])
def test_spans_that_mean_nothing_are_refused(box, span) -> None:
    with pytest.raises(InputError, match="span"):
        pvq.AnyScaleLeastSquares(np.eye(3), np.ones(3), *box, span=span)


def test_a_support_rule_holds_at_every_zero_point() -> None:
    free = _channel(6, 2)
    problem = pvq.AnyScaleLeastSquares(free.shared, free.weight, -3, 3, nnz=3, span=3)
    bounds = pvq.solve(problem)
    assert np.count_nonzero(bounds.codes) <= 3
    assert bounds.error_upper >= pvq.solve(free).error_lower
    assert pvq.verify(problem, bounds)


def test_a_time_limit_leaves_an_interval() -> None:
    problem = _channel(30, 4)
    bounds = pvq.solve(problem, time_limit=0.05)
    assert 0.0 <= bounds.error_lower <= bounds.error_upper
    assert pvq.verify(problem, bounds)


def test_weights_of_zero_have_nothing_to_lose() -> None:
    bounds = pvq.solve(pvq.AnyScaleLeastSquares(np.eye(3), np.zeros(3), -3, 3, span=3))
    assert bounds.error_lower == bounds.error_upper == 0.0
