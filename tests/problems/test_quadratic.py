"""Quadratic programs as least-squares problems: against brute force in rational arithmetic."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.arithmetic.rational import enclosed
from pvqbounds.errors import ContradictionError, InputError

from_quadratic = pvq.IntegerLeastSquares.from_quadratic

COUNTS = [140, pytest.param(10_000, marks=pytest.mark.long)]


def value(P, q, z) -> Fraction:
    """zᵀPz + 2qᵀz of the stored numbers, without rounding."""
    z = [int(k) for k in z]
    quadratic = sum(Fraction(float(P[i][j])) * z[i] * z[j] for i in range(len(z)) for j in range(len(z)))
    return quadratic + 2 * sum(Fraction(float(a)) * k for a, k in zip(q, z, strict=True))


def points(low, high) -> np.ndarray:
    return np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))


def least_value(P, q, low, high) -> Fraction:
    """The minimum over the box: ranked in float64, then exactly."""
    z = points(low, high).astype(float)
    values = np.einsum("ki,ij,kj->k", z, P, z, optimize=True) + 2.0 * z @ q
    radius = 1e-13 * (np.einsum("ki,ij,kj->k", abs(z), abs(P), abs(z), optimize=True) + abs(z) @ abs(q))
    near = np.flatnonzero(values - radius <= (values + radius).min())
    return min(value(P, q, z[k]) for k in near)


def symmetric(rng, n, whole):
    A = rng.integers(-9, 10, (n, n)).astype(float) if whole else rng.standard_normal((n, n))
    return np.tril(A) + np.tril(A, -1).T


def definite(rng, n, whole):
    A = rng.integers(-3, 4, (n + 1, n)).astype(float) if whole else rng.standard_normal((n + 1, n))
    return A.T @ A + np.eye(n)


def binary(rng, whole):
    """Anything at boxes of two codes, and of one."""
    n = int(rng.integers(1, 13))
    low = np.zeros(n, dtype=int) if rng.random() < 0.5 else rng.integers(-3, 3, n)
    high = low + 1 if rng.random() < 0.7 else low + (rng.random(n) < 0.8)
    return symmetric(rng, n, whole), linear(rng, n, whole), low, high


def wide(rng, whole):
    n = int(rng.integers(1, 5))
    low = rng.integers(-3, 1, n)
    return definite(rng, n, whole), linear(rng, n, whole), low, low + rng.integers(1, 5, n)


def mixed(rng, whole):
    """An indefinite matrix that is definite where boxes are wide."""
    n, wide_ones = int(rng.integers(2, 7)), int(rng.integers(1, 3))
    P = symmetric(rng, n, whole)
    P[:wide_ones, :wide_ones] = definite(rng, wide_ones, whole)
    low = rng.integers(-2, 1, n)
    return P, linear(rng, n, whole), low, low + np.where(np.arange(n) < wide_ones, 3, 1)


def singular(rng, whole):
    """Fewer directions than inputs, q among them."""
    n = int(rng.integers(2, 5))
    A = rng.integers(-3, 4, (n - 1, n)).astype(float) if whole else rng.standard_normal((n - 1, n))
    low = rng.integers(-3, 1, n)
    target = rng.integers(-9, 10, n - 1).astype(float) if whole else rng.standard_normal(n - 1)
    return A.T @ A, A.T @ target, low, low + rng.integers(1, 4, n)


def linear(rng, n, whole):
    return rng.integers(-9, 10, n).astype(float) if whole else 3.0 * rng.standard_normal(n)


FAMILIES = (binary, wide, mixed, singular)


def programs(seed, count):
    rng = np.random.default_rng(seed)
    for number in range(count):
        whole = bool((number // len(FAMILIES)) % 2)
        yield whole, FAMILIES[number % len(FAMILIES)](rng, whole)


@pytest.mark.parametrize("count", COUNTS)
def test_both_ends_hold(count):
    closed = []
    for whole, (P, q, low, high) in programs(1, count):
        truth = least_value(P, q, low, high)
        problem = from_quadratic(P, q, low, high)
        bounds = pvq.solve(problem, method="relax" if len(closed) % 5 == 4 else "auto")
        ends = problem.quadratic.objective_bounds(bounds)
        assert ends.lower <= truth <= ends.upper
        assert Fraction(ends.upper) >= value(P, q, bounds.codes)
        assert pvq.verify(problem, bounds)
        if whole:
            assert ends.lower == int(ends.lower)
        closed.append(ends.upper - ends.lower <= 1e-6 * (1.0 + abs(ends.upper)))
    assert np.mean(closed) > 0.95


@pytest.mark.parametrize("count", [80, pytest.param(4_000, marks=pytest.mark.long)])
def test_what_e_says_of_the_objective_is_exact(count):
    rng = np.random.default_rng(2)
    for _, (P, q, low, high) in programs(3, count):
        problem = from_quadratic(P, q, low, high)
        objective = problem.quadratic
        slope, constant = objective.remainder
        c = [Fraction(x) for x in problem.weight.tolist()]
        for z in rng.integers(low, high + 1, (4, len(q))):
            d = [int(k) - x for k, x in zip(z, c, strict=True)]
            error = sum(
                d[i] * Fraction(g) * d[j]
                for i, row in enumerate(problem.gram.tolist())
                for j, g in enumerate(row)
            )
            assert objective.value(z) == value(P, q, z)
            rest = sum((s * int(k) for s, k in zip(slope, z, strict=True)), constant)
            assert objective.value(z) == error + rest
            assert objective.offset <= rest <= objective.offset + objective.spread
            assert error >= objective.least_error
        size = sum(abs(P).ravel()) + sum(abs(q)) + 1.0
        assert objective.spread < 1e-9 * size


def test_the_grain_is_that_of_all_values():
    rng = np.random.default_rng(4)
    for number in range(60):
        n = int(rng.integers(1, 5))
        unit = 2.0 ** rng.integers(-3, 4) * rng.integers(1, 4)
        P, q = definite(rng, n, True) * unit, linear(rng, n, True) * unit
        low = rng.integers(-2, 2, n)
        high = low + (1 if number % 2 else rng.integers(0, 4, n))
        objective = from_quadratic(P, q, low, high).quadratic
        first = value(P, q, low)
        steps = [(value(P, q, z) - first) / Fraction(unit) for z in points(low, high)]
        assert all(step.denominator == 1 for step in steps)
        assert objective.grain == Fraction(unit) * math.gcd(*(int(step) for step in steps))
    assert from_quadratic([[1.0]], [-0.5], 0, 3).quadratic.grain == 2  # 0, 0, 2, 6


def test_a_permutation_and_a_scale_change_nothing():
    rng = np.random.default_rng(5)
    P, q = symmetric(rng, 11, True), linear(rng, 11, True)
    order = rng.permutation(11)
    ways = [
        (P, q),
        (P[np.ix_(order, order)], q[order]),
        (2.0**40 * P, 2.0**40 * q),
        (2.0**-90 * P, 2.0**-90 * q),
    ]
    truth = least_value(P, q, [0] * 11, [1] * 11)
    for number, (form, slope) in enumerate(ways):
        problem = from_quadratic(form, slope, 0, 1)
        ends = problem.quadratic.objective_bounds(pvq.solve(problem))
        factor = (1.0, 1.0, 2.0**40, 2.0**-90)[number]
        assert ends.lower == ends.upper == factor * truth


def test_the_diagonal_and_q_are_one_thing_at_binary_boxes():
    rng = np.random.default_rng(6)
    P, q = symmetric(rng, 9, True), linear(rng, 9, True)
    moved = rng.integers(-50, 50, 9)
    one = from_quadratic(P, q, 0, 1)
    other = from_quadratic(P + 2.0 * np.diag(moved), q - moved, 0, 1)
    assert np.array_equal(one.gram, other.gram)
    assert np.allclose(one.weight, other.weight, rtol=1e-12)
    assert one.quadratic.grain == other.quadratic.grain


def test_a_triangle_counts_as_its_symmetric_part():
    rng = np.random.default_rng(7)
    upper = np.triu(rng.standard_normal((8, 8)))
    halves = from_quadratic(upper, np.zeros(8), 0, 1)
    whole = from_quadratic(0.5 * (upper + upper.T), np.zeros(8), 0, 1)
    assert np.array_equal(halves.quadratic.matrix, whole.quadratic.matrix)
    z = rng.integers(0, 2, 8)
    assert halves.quadratic.value(z) == value(upper, np.zeros(8), z)
    with pytest.raises(InputError, match=r"not exact in float64; give 0.5"):
        from_quadratic([[1.0, 1.0 + 2.0**-52], [1.0, 1.0]], [0.0, 0.0], 0, 1)


def test_spins_and_cuts():
    """The two forms in which physicists and graph theorists know it."""
    rng = np.random.default_rng(8)
    n = 9
    A = np.tril(rng.integers(-3, 4, (n, n)), -1).astype(float)
    A += A.T
    spins = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    energies = np.einsum("ki,ij,kj->k", spins, A, spins)
    problem = from_quadratic(4.0 * A, -2.0 * A.sum(axis=1), 0, 1)
    ends = problem.quadratic.objective_bounds(pvq.solve(problem))
    assert ends.lower == ends.upper == energies.min() - A.sum()
    cuts = 0.25 * (A.sum() - energies)
    problem = from_quadratic(A - np.diag(A.sum(axis=1)), np.zeros(n), 0, 1)
    ends = problem.quadratic.objective_bounds(pvq.solve(problem))
    assert ends.lower == ends.upper == -cuts.max()


@pytest.mark.parametrize(("solver", "method"), [("gurobi", "exact"), ("clarabel", "relax")])
def test_other_solvers_bound_the_objective(solver, method):
    if solver not in pvq.available_solvers():
        pytest.skip(f"{solver} is not installed or not licensed")
    rng = np.random.default_rng(9)
    P, q = symmetric(rng, 8, True), linear(rng, 8, True)
    problem = from_quadratic(P, q, 0, 1)
    ends = problem.quadratic.objective_bounds(pvq.solve(problem, solver, method))
    truth = least_value(P, q, [0] * 8, [1] * 8)
    assert ends.lower - 1e-3 <= truth <= ends.upper
    if method == "exact":
        assert ends.upper == truth


@pytest.mark.parametrize(
    ("P", "q"),
    [(np.zeros((3, 3)), np.zeros(3)), (5.0 * np.eye(3), np.zeros(3)), (np.zeros((3, 3)), [1.0, -2.0, 0.0])],
)
def test_objectives_that_are_constant_or_linear(P, q):
    problem = from_quadratic(P, q, 0, 1)
    ends = problem.quadratic.objective_bounds(pvq.solve(problem))
    assert ends.lower == ends.upper == least_value(P, np.array(q), [0] * 3, [1] * 3)


def test_every_box_of_one_code():
    problem = from_quadratic([[1.0, 3.0], [3.0, -4.0]], [0.5, 1.0], [2, -7], [2, -7])
    ends = problem.quadratic.objective_bounds(pvq.solve(problem))
    assert ends.lower == ends.upper == value([[1.0, 3.0], [3.0, -4.0]], [0.5, 1.0], (2, -7))


def test_the_bound_that_needs_no_certificate_is_no_larger_than_the_truth():
    """What passes as semidefinite may be a hair indefinite: E >= 0 is not true then, and not used."""
    P = np.array([[1.0, 1.0], [1.0, 1.0 - 2.0**-43]])
    problem = from_quadratic(P, np.zeros(2), -1000, 1000)
    truth = value(P, np.zeros(2), (1000, -1000))
    assert truth < 0
    bounds = pvq.solve(problem)
    assert bounds.error_lower == 0.0
    ends = problem.quadratic.objective_bounds(bounds)
    assert -1e-3 < ends.lower <= truth


def test_bounds_that_contradict_the_codes_are_an_error():
    problem = from_quadratic([[-10.0, 20.0], [20.0, -10.0]], [0.0, 0.0], 0, 1)
    objective, bounds = problem.quadratic, pvq.solve(problem)
    assert objective.objective_bounds(bounds) == (-10.0, -10.0)
    high = replace(bounds, error_lower=bounds.error_upper + 1.0)
    with pytest.raises(ContradictionError, match=r"fault of pvqbounds"):
        objective.objective_bounds(high)
    reported = {"lower_kind": "reported", "certificate": None}
    assert objective.objective_bounds(replace(high, **reported)) == (-10.0, -10.0)
    low = replace(bounds, error_lower=bounds.error_upper - 0.4)
    assert objective.objective_bounds(low).lower == -10.0  # the next value of f
    assert objective.objective_bounds(replace(low, **reported)).lower == pytest.approx(-10.4)
    for codes in (None, np.array([0, 2]), np.array([0])):
        with pytest.raises(InputError, match="codes in its box"):
            objective.objective_bounds(replace(bounds, codes=codes))


def test_the_objective_belongs_to_its_problem_alone():
    problem = from_quadratic(1e30 * np.diag([1.0, -1.0]), [0.0, 0.0], 0, 1)
    assert problem.quadratic is not None
    assert problem.normalised is not problem
    assert problem.normalised.quadratic is None
    assert problem.among(np.array([True, False])).quadratic is None
    assert pvq.IntegerLeastSquares(np.eye(2), [0.3, 0.4], 1.0, 0, 1).quadratic is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"P": np.eye(3)[:2]}, "P must be square"),
        ({"P": np.ones(3)}, "P must have 2 axes"),
        ({"P": np.diag([1.0, np.nan, 1.0])}, "P has 1 of 9 entries that are not finite"),
        ({"P": [["a"]]}, "P must hold real numbers"),
        ({"q": np.zeros(2)}, "P has 3 inputs, but q has 2"),
        ({"q": [0.0, np.inf, 0.0]}, "q has 1 of 3 entries that are not finite"),
        ({"qmin": 2}, "qmin = 2 is larger than qmax = 1"),
        ({"qmax": [1, 1]}, "one qmax for each of the 3 inputs"),
        ({"qmin": 0.5}, "qmin must be a whole number"),
        ({"P": np.diag([1.0, -1.0, 1.0]), "qmax": 2}, "indefinite .* more than two codes"),
        ({"P": np.diag([1.0, -1.0, 1.0]), "qmax": [1, 2, 1]}, "indefinite .* more than two codes"),
        ({"P": np.diag([1.0, 0.0, 1.0]), "q": [0.0, 1.0, 0.0], "qmax": [1, 2, 1]}, "outside its range"),
        ({"P": np.ones((3, 3)), "q": [0.0, 1.0, 0.0], "qmin": -5}, "outside its range"),
        ({"P": 1e290 * np.eye(3)}, "overflow; rescale P and q"),
        ({"P": 1e-290 * np.eye(3)}, "underflow"),
    ],
)
def test_wrong_input_is_one_sentence(changes, message):
    with pytest.raises(InputError, match=message) as error:
        from_quadratic(**{"P": np.eye(3), "q": np.zeros(3), "qmin": 0, "qmax": 1, **changes})
    assert "\n" not in str(error.value)


def test_codes_that_are_none():
    objective = from_quadratic(np.eye(2), np.zeros(2), 0, 1).quadratic
    for codes in ([1.0], [0.5, 1.0], [[0, 1]]):
        with pytest.raises(InputError):
            objective.value(codes)


def test_rational_numbers_are_enclosed():
    third = Fraction(1, 3)
    low, high = enclosed(-third, third)
    assert Fraction(low) < -third < third < Fraction(high)
    assert high == np.nextafter(low * -1.0, 1.0) or high == -low
    assert enclosed(Fraction(3), Fraction(3)) == (3.0, 3.0)
    huge = Fraction(10) ** 400
    assert enclosed(-huge, huge) == (-math.inf, math.inf)
    assert enclosed(huge, huge).lower < math.inf
