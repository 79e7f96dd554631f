"""Steps whose scale is free: codes count at their best scale, and nothing depends on units."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.problems.any_scale import AnySteps
from tests.truth import exact_errors_at_best_scale, random_any_scale_problem


def test_codes_have_the_error_of_their_best_scale() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        problem = random_any_scale_problem(rng)
        codes = rng.integers(problem.values.qmin, problem.values.qmax + 1, problem.n)
        (truth,), found = exact_errors_at_best_scale(problem, [codes]), problem.error(codes)
        slack = 1e-12 * problem.signal.upper
        assert found.lower - slack <= truth <= found.upper + slack


def test_no_scale_near_the_best_one_is_better() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(40, 6))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 40, rng.normal(size=6), -4, 3)
    codes = np.array([-4, 1, 2, 0, -1, 3])
    codes = codes if problem.weight @ problem.gram @ codes > 0 else -np.clip(codes, -3, 3)
    best, error = problem.scale_of(codes), problem.error(codes)
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert problem.at(factor * best).error(codes).lower > error.upper


def test_a_point_holds_its_scale_and_weights() -> None:
    problem = pvq.AnyScaleLeastSquares(np.diag([1.0, 2.0]), np.array([0.5, -1.0]), -2, 1)
    point = problem.point(np.array([1, -2]))
    assert point.scale == pytest.approx(0.5)
    assert point.weight == pytest.approx([0.5, -1.0])
    assert point.upper == pytest.approx(0.0, abs=1e-30)


def test_codes_that_point_away_are_best_at_next_to_no_scale() -> None:
    problem = pvq.AnyScaleLeastSquares(np.eye(2), np.array([1.0, 1.0]), -2, 1)
    error = problem.error(np.array([-1, -2]))
    assert 2.0 <= error.upper <= 2.0 * (1.0 + 1e-12)
    assert problem.error(np.array([0, 0])).upper == pytest.approx(2.0)


@pytest.mark.parametrize("power", [-300, -90, 90, 200])
def test_powers_of_two_move_scale_and_error_alike(power: int) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20, 4))
    gram, weight, codes = X.T @ X / 20, rng.normal(size=4), np.array([1, -2, 0, 1])
    here = pvq.AnyScaleLeastSquares(gram, weight, -2, 1)
    there = pvq.AnyScaleLeastSquares(gram, np.ldexp(weight, power), -2, 1)
    assert there.scale_of(codes) == math.ldexp(here.scale_of(codes), power)
    assert there.settled.step[0] == math.ldexp(here.settled.step[0], power)


def test_the_settled_problem_is_at_the_scale_of_least_weight_error() -> None:
    weight = np.array([0.31, -0.42, 0.07])
    problem = pvq.AnyScaleLeastSquares(np.diag([1.0, 1.0, 0.0]), weight, -2, 1)
    from pvqbounds.problems.grids import mse_scale

    assert problem.settled.step[0] == mse_scale(weight[:2], -2, 1)
    assert (problem.start().codes == problem.settled.codes_of_nearest()).all()


def test_values_without_a_scale_say_so() -> None:
    values = AnySteps(3, -2, 1)
    for ask in (values.nearest, values.weight_of, lambda w: values.displacement(w, w)):
        with pytest.raises(InputError, match=r"problem\.at\(scale\)"):
            ask(np.zeros(3))
    assert (
        values.least_costs(np.zeros(3), np.array([1.0, 2.0, 0.0]), np.array([1.0, 0.0, 0.0])) <= 0.0
    ).all()


@pytest.mark.parametrize(("qmin", "qmax"), [(2, 1), (0.5, 1), (-(2**40), 1), (None, 1), (-(2**15), 2**15)])
def test_boxes_that_cannot_be_are_refused(qmin, qmax) -> None:
    with pytest.raises(InputError):
        pvq.AnyScaleLeastSquares(np.eye(2), np.ones(2), qmin, qmax)


def test_codes_outside_the_box_are_refused() -> None:
    problem = pvq.AnyScaleLeastSquares(np.eye(2), np.ones(2), -2, 1)
    with pytest.raises(InputError, match="outside the grid"):
        problem.point(np.array([2, 0]))


def test_numbers_whose_steps_would_underflow_are_refused_at_the_door() -> None:
    with pytest.raises(InputError, match="so small that errors would underflow"):
        pvq.AnyScaleLeastSquares(np.eye(2), [-1e-125, -3e-125], 1, 3)  # best at a step of next to nothing
    problem = pvq.AnyScaleLeastSquares(np.eye(2), [-1e-85, -3e-85], 1, 3)
    assert problem.at(problem.scale_of(np.array([1, 1]))).error([1, 1]).upper < 1.1e-169
