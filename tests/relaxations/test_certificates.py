"""Any multipliers prove a true bound; broken ones prove nothing."""

import math
from fractions import Fraction

import numpy as np
import pytest
from truth import least_integer_error, random_integer_problem

from pvqbounds import IntegerLeastSquares
from pvqbounds.arithmetic.definite import minorant, proved_shift, proves_definite
from pvqbounds.clock import Clock
from pvqbounds.relaxations.dual import DualCertificate, dual_bound


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 1.0, 1e3])
def test_arbitrary_multipliers_are_sound(size):
    rng = np.random.default_rng(5)
    for _ in range(60):
        problem = random_integer_problem(rng)
        diagonal = np.diagonal(problem.gram)
        lam = size * rng.standard_normal(problem.n) * diagonal
        nu = size * rng.standard_normal(problem.n) * diagonal * np.abs(problem.weight)
        bound = dual_bound(problem, DualCertificate(lam, nu))
        assert Fraction(bound) <= max(least_integer_error(problem), 0)


def test_diagonal_gram_is_bounded_exactly():
    # the problem separates: each input is rounded on its own, and lam just under G proves it
    weight = np.array([0.3, -0.2, 0.9])
    problem = IntegerLeastSquares(np.diag([1.0, 4.0, 9.0]), weight, 0.5, -2, 1)
    best = problem.error(problem.codes_of_nearest()).upper
    bound = dual_bound(problem, DualCertificate(np.array([1.0, 4.0, 9.0]), np.zeros(3)))
    assert bound <= best
    assert bound == pytest.approx(best, rel=1e-10)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_multipliers_that_are_not_finite_prove_nothing(poison):
    problem = random_integer_problem(np.random.default_rng(0))
    broken = np.full(problem.n, poison)
    for lam, nu in [(broken, np.zeros(problem.n)), (np.zeros(problem.n), broken)]:
        assert dual_bound(problem, DualCertificate(lam, nu)) == -math.inf


def test_multipliers_of_the_wrong_size_prove_nothing():
    problem = random_integer_problem(np.random.default_rng(0))
    certificate = DualCertificate(np.zeros(problem.n + 1), np.zeros(problem.n))
    assert dual_bound(problem, certificate) == -math.inf


def test_lowered_multipliers_prove_what_is_stated_from_them():
    # S is 1e-10 of G: one rounding of lam moves it, and the bound, by 1e-6
    problem = IntegerLeastSquares([[0.7]], [-3.519173867553886], 1.0, -1, 0)
    given = DualCertificate(np.array([0.7000000000973388]), np.array([3.0906618524016783e-06]))
    steady, stated = given.claim(problem)
    assert stated > 4.37
    assert steady.prove(problem, Clock(1.0)) >= stated


def test_minorant_lies_below_its_matrix_exactly():
    rng = np.random.default_rng(3)
    for _ in range(50):
        n = int(rng.integers(1, 5))
        X = rng.standard_normal((n + 2, n)) * 10.0 ** rng.uniform(-5, 5, n)
        matrix = X.T @ X
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
        factor = minorant(matrix)
        assert factor is not None
        for _ in range(5):
            x = [Fraction(float(v)) for v in rng.standard_normal(n) / np.sqrt(np.diagonal(matrix))]
            above = sum(x[i] * Fraction(float(matrix[i, j])) * x[j] for i in range(n) for j in range(n))
            rows = [sum(Fraction(float(factor[i, j])) * x[j] for j in range(n)) for i in range(n)]
            below = sum(r * r for r in rows)
            assert below <= above
            assert float(above - below) <= 1e-12 * n * n * float(above) + 1e-13 * n**3


def test_indefinite_matrices_are_never_proved_definite():
    rng = np.random.default_rng(4)
    for margin in (1e-15, 1e-12, 1e-6, 1.0):
        basis, _ = np.linalg.qr(rng.standard_normal((6, 6)))
        matrix = basis @ np.diag([-margin, 1.0, 2.0, 3.0, 4.0, 5.0]) @ basis.T
        matrix = (matrix + matrix.T) / 2
        assert not proves_definite(matrix, 1e-14)
        if margin > 1e-14:
            assert minorant(matrix) is None
            assert proved_shift(matrix) is None
