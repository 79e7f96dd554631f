"""Every certified lower bound lies at or below the true optimum, every upper one at or above it."""

from fractions import Fraction

import numpy as np
import pytest
from fuzz import rational
from truth import (
    exact_error_of_codes,
    least_integer_error,
    least_sparse_error,
    random_integer_problem,
    random_joint_problem,
    random_levels_problem,
    random_sparse_problem,
)

import pvqbounds as pvq

COUNTS = [
    pytest.param(150, id="150"),
    pytest.param(10_000, id="10000", marks=pytest.mark.long),
]


@pytest.mark.parametrize("count", COUNTS)
def test_exact_quantization(count):
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(count):
        problem = random_integer_problem(rng)
        truth = least_integer_error(problem)
        bounds = pvq.solve(problem)
        assert bounds.lower_kind == "certified"
        assert Fraction(bounds.error_lower) <= max(truth, 0)
        assert truth <= exact_error_of_codes(problem, bounds.codes) <= Fraction(bounds.error_upper)
        verification = pvq.verify(problem, bounds)
        assert verification, verification.reason
        gaps.append(bounds.status == "optimal")
    assert np.mean(gaps) > 0.99


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("relaxation", ["box-hull", "park-boyd", "splits", "hybrid"])
def test_relaxed_quantization(count, relaxation):
    rng = np.random.default_rng(2)
    for _ in range(count):
        problem = random_integer_problem(rng)
        truth = least_integer_error(problem)
        bounds = pvq.solve(problem, method="relax", relaxation=relaxation)
        assert bounds.lower_kind == "certified"
        assert Fraction(bounds.error_lower) <= max(truth, 0)
        assert truth <= exact_error_of_codes(problem, bounds.codes) <= Fraction(bounds.error_upper)
        verification = pvq.verify(problem, bounds)
        assert verification, verification.reason


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("method", ["auto", "relax"])
def test_pruning(count, method):
    rng = np.random.default_rng(3)
    closed = []
    for _ in range(count):
        problem = random_sparse_problem(rng)
        signal = problem.signal.upper
        truth = least_sparse_error(problem)  # float64: good to rounding of the signal
        bounds = pvq.solve(problem, method=method)
        assert bounds.lower_kind == "certified"
        assert bounds.error_lower <= max(truth, 0.0) + 1e-12 * signal
        assert bounds.error_upper >= truth - 1e-9 * signal
        assert len(np.flatnonzero(bounds.weight)) <= sum(kept for _, kept in problem.budgets)
        verification = pvq.verify(problem, bounds)
        assert verification, verification.reason
        if "singular" in bounds.note:  # 0 is all that can be proved, and the note says so
            assert bounds.error_lower == 0.0
            continue
        closed.append(bounds.error_upper - bounds.error_lower <= 1e-6 * signal)
    if method == "auto":
        assert np.mean(closed) > 0.99


CODED = {"levels": random_levels_problem, "joint": random_joint_problem}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", CODED)
def test_levels_and_joint_compression(kind, count):
    rng = np.random.default_rng(4)
    closed = []
    ways = [{}, {"method": "exact"}, *({"method": "relax", "relaxation": r} for r in ("box-hull", "hybrid"))]
    for number in range(count):
        problem = CODED[kind](rng)
        truth = rational.least_value_error(problem)
        bounds = pvq.solve(problem, **ways[number % len(ways)])
        assert bounds.lower_kind == "certified"
        assert Fraction(bounds.error_lower) <= truth
        values = rational.exact_values(problem, bounds.codes)
        assert rational.allowed(problem, values)
        assert bounds.weight.tolist() == [float(value) for value in values]
        achieved = rational.exact_error(problem.gram, problem.weight, values)
        assert truth <= max(achieved, 0) <= Fraction(bounds.error_upper)
        verification = pvq.verify(problem, bounds)
        assert verification, verification.reason
        if number % len(ways) < 2:
            closed.append(bounds.status == "optimal")
    assert np.mean(closed) > 0.97  # what is left are gaps of rounding, on Grams of conditions up to 1e16
