"""Situations from practice in which rounding, or inputs of hardly any power, have misled a solver."""

from __future__ import annotations

import numpy as np
import pytest
from truth import least_integer_error

import pvqbounds as pvq
from pvqbounds.problems.grids import mse_scale

RELAXATIONS = ("hybrid", "splits", "box-hull", "park-boyd")


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize(
    ("gram", "weight", "scale", "box"),
    [
        (np.outer([2.0, 2.0, -2.0], [2.0, 2.0, -2.0]), [1.88, -0.68, -0.05], 0.7, (0, 1)),
        (np.ldexp([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]], 262), [6.3, 6.7, 5.2], 1.0, (5, 7)),
    ],
    ids=["a Gram of rank one", "errors about 1e79"],
)
def test_grams_that_have_broken_a_relaxation(relaxation, gram, weight, scale, box):
    problem = pvq.IntegerLeastSquares(gram, weight, scale, *box)
    bounds = pvq.solve(problem, method="relax", relaxation=relaxation)
    assert bounds.error_lower <= least_integer_error(problem) <= bounds.error_upper
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize(("inputs", "quiet"), [(20, 4), (36, 9)])
@pytest.mark.parametrize("power", [1e-2, 1e-6, 1e-8])
def test_inputs_that_are_almost_never_active_leave_small_problems_exact(inputs, quiet, power):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((400, inputs))
    X[:, :quiet] *= np.sqrt(power)
    weight = rng.standard_normal(inputs)
    problem = pvq.IntegerLeastSquares(X.T @ X / 400, weight, mse_scale(weight, -8, 7), -8, 7)
    bounds = pvq.solve(problem)
    relaxed = pvq.solve(problem, method="relax", relaxation="box-hull")
    assert bounds.status == "optimal"
    assert relaxed.error_lower <= bounds.error_upper
    assert bounds.error_lower >= (1.0 - 1e-6) * relaxed.error_lower


def test_the_default_is_no_worse_than_any_relaxation_of_inputs_of_every_power():
    rng = np.random.default_rng(27)
    X = rng.standard_normal((200, 12)) * 10.0 ** rng.uniform(-5.0, 5.0, 12)
    problem = pvq.IntegerLeastSquares(X.T @ X / 200, 1e-8 * rng.standard_normal(12), 0.4e-8, -8, 7)
    bounds = pvq.solve(problem)
    for relaxation in RELAXATIONS:
        other = pvq.solve(problem, method="relax", relaxation=relaxation)
        assert other.error_lower <= bounds.error_upper
        assert bounds.error_lower >= (1.0 - 1e-6) * other.error_lower
    assert pvq.verify(problem, bounds)
