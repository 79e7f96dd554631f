"""Powers of two change no result: numbers of any size are solved and proved in units near 1."""

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from truth import random_integer_problem, random_sparse_problem

import pvqbounds as pvq
from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.problems.units import exponent_of, scaled_down, scaled_exactly, scaled_up
from pvqbounds.results.bounds import sqnr_interval


def moved(problem, gram, weight):
    """The problem with its Gram times 2**gram and all else times 2**weight."""
    matrix, w = np.ldexp(problem.gram, gram), np.ldexp(problem.weight, weight)
    if isinstance(problem, pvq.IntegerLeastSquares):
        scale = np.ldexp(problem.scale, weight)
        return pvq.IntegerLeastSquares(matrix, w, scale, problem.qmin, problem.qmax)
    return pvq.SparseLeastSquares(matrix, w, problem.nnz, problem.pattern, problem.stride)


@pytest.mark.parametrize(("gram", "weight"), [(900, -450), (-900, 450), (400, 150), (-380, 0), (1000, -700)])
@pytest.mark.parametrize("method", ["auto", "relax"])
@pytest.mark.parametrize("family", [random_integer_problem, random_sparse_problem])
def test_bounds_move_with_powers_of_two(family, method, gram, weight):
    rng = np.random.default_rng(11)
    for _ in range(10):
        problem = family(rng)
        other = moved(problem, gram, weight)
        plain, scaled = pvq.solve(problem, method=method), pvq.solve(other, method=method)
        exponent = gram + 2 * weight
        for end in ("error_lower", "error_upper"):
            there = float(np.ldexp(getattr(plain, end), exponent))
            assert getattr(scaled, end) == pytest.approx(there, rel=1e-9, abs=1e-12 * other.signal.upper)
        assert scaled.status == plain.status
        assert scaled.sqnr_lower == pytest.approx(plain.sqnr_lower, abs=1e-9, nan_ok=True)
        assert np.isfinite(scaled.error_upper)
        outcome = pvq.verify(other, scaled)
        assert outcome, outcome.reason


def test_grams_near_the_end_of_float64_are_solved():
    gram = 2e300 * np.array([[2.0, 1.0], [1.0, 2.0]])
    for problem in (
        pvq.IntegerLeastSquares(gram, [3e-151, 7e-151], 1e-150, -2, 1),
        pvq.SparseLeastSquares(gram, [3e-151, 7e-151], nnz=1),
    ):
        for method in ("auto", "relax"):
            bounds = pvq.solve(problem, method=method)
            assert np.isfinite(bounds.error_upper)
            assert bounds.status == "optimal"
            assert pvq.verify(problem, bounds)


def test_numbers_too_far_apart_for_one_unit_are_refused():
    with pytest.raises(pvq.InputError, match="further apart"):
        pvq.SparseLeastSquares(np.diag([1e300, 1e-300]), [1e-100, 1.0], nnz=1)
    with pytest.raises(pvq.InputError, match="further apart"):
        pvq.SparseLeastSquares(np.diag([1e-250, 1e-250]), [1e130, 5e-320], nnz=1)


def test_scaling_rounds_outwards():
    tiny = 5e-324
    assert scaled_down(3 * tiny, -1) == tiny
    assert scaled_up(3 * tiny, -1) == 2 * tiny
    assert scaled_down(-3 * tiny, -1) == -2 * tiny
    assert scaled_down(1.0, 2000) == np.finfo(np.float64).max
    assert scaled_up(1.0, 2000) == np.inf
    assert scaled_exactly(np.array([1.0, 3 * tiny]), -1) is None
    assert exponent_of(1.0) == exponent_of(0.0) == 0
    assert exponent_of(1e300) == 997


def test_weights_are_no_codes():
    problem = pvq.IntegerLeastSquares(np.eye(3), [0.1, 0.2, 0.3], 0.1, -2, 3)
    assert problem.error(np.array([1, 2, 3])).upper < 1e-30
    for wrong in (
        np.array([0.1, 0.2, 0.3]),
        np.array([1, 2]),
        np.array([[1, 2, 3]]),
        np.array([1, 2, np.nan]),
    ):
        with pytest.raises(pvq.InputError, match="3 whole codes"):
            problem.error(wrong)


@pytest.mark.parametrize("made_as", ["float32", "float64 of float32"])
def test_a_gram_made_in_float32_is_taken_for_what_it_is(made_as):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 40)).astype(np.float32)  # fewer positions than inputs: singular
    gram = X.T @ X / np.float32(20)
    gram[0, 1] *= np.float32(1.0 + 2e-7)
    if made_as != "float32":
        gram = gram.astype(np.float64)
    held = pvq.Gram(gram).matrix
    assert np.array_equal(held, held.T)
    assert np.abs(held - gram).max() <= 1e-6
    with pytest.raises(pvq.InputError, match="not symmetric"):
        pvq.Gram(gram.astype(np.float64) + np.triu(np.full((40, 40), 1e-7 / 3.0), 1))


def test_decibels_are_rounded_outwards():
    getcontext().prec = 60
    rng = np.random.default_rng(4)
    for _ in range(2000):
        signal = float(rng.uniform(0.5, 2.0))
        error = signal * (1.0 + float(rng.uniform(-1, 1)) * 10.0 ** rng.uniform(-16, 1))
        if error <= 0.0:
            continue
        low, high = sqnr_interval(Enclosure(signal, signal), error, error)
        truth = 10 * (Decimal(signal) / Decimal(error)).log10()
        assert Decimal(low) <= truth <= Decimal(high)
        assert high - low <= 1e-14 + 1e-13 * abs(float(truth))


def test_splits_of_a_problem_of_tiny_errors_prove_nothing_false():
    """kappa = sum y (s²/4 - b²) once lost b² to underflow and claimed 61 times the optimum."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        X = rng.standard_normal((4, 2))
        s = 10.0 ** rng.uniform(-161.9, -160)
        problem = pvq.IntegerLeastSquares(1e120 * X.T @ X, s * rng.uniform(-6, 6, 2), s, -2, 1)
        bounds = pvq.solve(problem, method="relax", relaxation="splits")
        best = min(_rational_error(problem, (a, b)) for a in range(-2, 2) for b in range(-2, 2))
        assert Fraction(bounds.error_lower) <= best <= Fraction(bounds.error_upper)
        assert bounds.gap < 6.0
        assert pvq.verify(problem, bounds)


def _rational_error(problem, codes):
    step = Fraction(problem.scale)
    d = [step * k - Fraction(x) for k, x in zip(codes, problem.weight.tolist(), strict=True)]
    G = [[Fraction(x) for x in row] for row in problem.gram.tolist()]
    return sum(d[i] * G[i][j] * d[j] for i in range(2) for j in range(2))


def test_multipliers_that_leave_the_range_of_float64_prove_nothing_and_say_so():
    """A Gram of 1e302 and codes at a million: its multipliers are beyond 1e308 in its own units."""
    rng = np.random.default_rng(851)
    X = rng.standard_normal((8, 6))
    weight = 1e-135 * rng.standard_normal(6)
    problem = pvq.IntegerLeastSquares(1e302 * X.T @ X, weight, 2e-135, 1000001, 1000003)
    for relaxation in (None, "hybrid", "splits", "box-hull"):
        bounds = pvq.solve(problem, method="relax", relaxation=relaxation, time_limit=5.0)
        outcome = pvq.verify(problem, bounds)
        assert outcome, outcome.reason
        assert bounds.certificate.fits(problem)


@pytest.mark.parametrize("method", ["auto", "relax"])
@pytest.mark.parametrize("seed", range(12))
def test_multipliers_that_lose_digits_in_a_tiny_gram_are_what_is_proved(seed, method):
    rng = np.random.default_rng(seed)
    n = 3 + seed % 3
    X = rng.normal(size=(6, n)) * 2.0 ** rng.integers(-26, 1, size=n)
    X[:, 1] = X[:, 0] * (1.0 + 1e-8 * rng.normal(size=6))
    gram, w = np.ldexp(X.T @ X, -1000), np.ldexp(rng.normal(size=n), 333)
    if seed % 2:
        levels = np.ldexp([-2.0, -1.1, -0.6, -0.2, 0.0, 0.3, 0.7, 1.2, 2.0], 333)
        problem = pvq.CodebookLeastSquares(gram, w, levels, nnz=n - 1)
    else:
        problem = pvq.IntegerLeastSquares(gram, w, 2.0**333 / 3.0, -4, 3)
    bounds = pvq.solve(problem, method=method)
    assert pvq.verify(problem, bounds), pvq.verify(problem, bounds).reason
    # no less than that in units near 1, but for the digits
    plain = pvq.solve(problem.normalised, method=method)
    there = np.ldexp(bounds.error_lower, -problem.units.error)
    assert there >= 0.999 * plain.error_lower - 1e-12 * problem.normalised.signal.upper


@pytest.mark.parametrize("power", [-1049, -1040, -1000])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_every_scale_in_a_tiny_gram_are_what_is_proved(seed, power):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5, 2)) * [1.0, 0.1]
    weight = np.ldexp(rng.normal(size=2), -power // 4)
    problem = pvq.AnyScaleLeastSquares(np.ldexp(X.T @ X, power), weight, 0, 2)
    bounds = pvq.solve(problem, method="relax")
    assert pvq.verify(problem, bounds), pvq.verify(problem, bounds).reason
