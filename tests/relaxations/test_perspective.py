"""The perspective bound: true for any numbers, tight where it has to be, and well maximised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import rational_optimum, real_valued

from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective
from pvqbounds.solvers.native.pruning.subset_search import search_sparse


@st.composite
def small(draw):
    n = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.integers(-3, 4, (n + draw(st.integers(-1, 4)) or 1, n)).astype(float)
    if draw(st.booleans()):
        X[:, 0] = 0.0
    w = rng.standard_normal(n) * draw(st.sampled_from([0.0, 1e-3, 1.0]))
    size = draw(st.integers(1, 3))
    budget = draw(
        st.sampled_from(
            [{"nnz": n // 2}, {"nnz": 0}, {"nnz": n}, {"pattern": (1, size)}, {"pattern": (0, 1)}]
        )
    )
    return SparseLeastSquares(X.T @ X, w, **budget), rng


@settings(max_examples=100, deadline=None)
@given(small(), st.sampled_from([0.0, 0.3, 1.0, 30.0]))
def test_any_numbers_give_a_true_bound(case, size):
    problem, rng = case
    truth = rational_optimum(problem)
    noise = DualCertificate(
        lam=size * rng.standard_normal(problem.n), nu=size * rng.standard_normal(problem.n)
    )
    assert dual_bound(problem, noise) <= truth
    best = dual_bound(problem, maximise_perspective(problem))
    assert -1e-12 <= best <= truth


@pytest.mark.parametrize("budget", [{"nnz": 6}, {"nnz": 18}, {"pattern": (2, 4)}, {"pattern": (1, 5)}])
def test_close_to_the_exact_optimum_and_never_above(budget):
    gram, weight = real_valued(8, 24)
    problem = SparseLeastSquares(gram, weight, **budget)
    exact = search_sparse(problem, Clock(60.0))
    bound = dual_bound(problem, maximise_perspective(problem))
    best = problem.error(problem.refit(exact.support)).upper
    assert 0.3 * best < bound <= best


def perspective_value(problem, diagonal, nu):
    """The bound in plain floating point, not rounded; -inf where H is not definite."""
    rest = problem.gram - np.diag(diagonal)
    try:
        np.linalg.cholesky(rest)
    except np.linalg.LinAlgError:
        return -np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(diagonal > 0.0, -(nu**2) / diagonal, 0.0)
    extra = diagonal * problem.weight**2 - 2.0 * nu * problem.weight - kept
    cheapest = sum(np.sort(extra[group])[: len(group) - budget].sum() for group, budget in problem.budgets)
    return float(kept.sum() + cheapest - nu @ np.linalg.solve(rest, nu))


def test_exact_where_inputs_are_independent():
    rng = np.random.default_rng(0)
    power, weight = rng.uniform(0.1, 3.0, 12), rng.standard_normal(12)
    problem = SparseLeastSquares(np.diag(power), weight, nnz=5)
    bound = dual_bound(problem, maximise_perspective(problem, tolerance=1e-6))
    truth = np.sort(power * weight**2)[:7].sum()
    assert truth * (1 - 1e-4) <= bound <= truth


def test_no_direction_improves_the_maximum():
    gram, weight = real_valued(9, 16)
    problem = SparseLeastSquares(gram, weight, nnz=5)
    best = maximise_perspective(problem, tolerance=1e-5)
    value = perspective_value(problem, best.lam, best.nu)
    assert dual_bound(problem, best) == pytest.approx(value, rel=1e-9)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(50):
            D = best.lam * np.exp(size * rng.standard_normal(16))
            nu = best.nu * (1 + size * rng.standard_normal(16))
            assert perspective_value(problem, D, nu) <= value * (1 + 1e-3)


def test_the_path_of_many_budgets_does_not_creep():
    """A wide spectrum, 32 groups: at the pace of one budget sixty steps end 18 % below the maximum."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((128, 128)))[0]
    spectrum = np.geomspace(1e-3, 1.0, 128)
    spectrum[0] = 1e-5
    problem = SparseLeastSquares((basis * spectrum) @ basis.T, rng.standard_normal(128), pattern=(2, 4))
    longest = maximise_perspective(problem, tolerance=1e-5, max_iterations=300)
    assert dual_bound(problem, maximise_perspective(problem)) >= 0.999 * dual_bound(problem, longest)


@pytest.mark.parametrize(("n", "budget"), [(128, {"pattern": (2, 4)}), (384, {"nnz": 96})])
def test_paths_do_not_creep_where_the_spectrum_is_wide(n, budget):
    """Bold steps end 18 and 16 % below the maximum after sixty."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    spectrum = np.geomspace(1e-3, 1.0, n)
    spectrum[0] = 1e-5
    problem = SparseLeastSquares((basis * spectrum) @ basis.T, rng.standard_normal(n), **budget)
    longest = maximise_perspective(problem, tolerance=1e-5, max_iterations=200)
    assert dual_bound(problem, maximise_perspective(problem)) >= 0.999 * dual_bound(problem, longest)


def test_scaling_of_inputs_changes_nothing():
    gram, weight = real_valued(10, 16)
    power = np.logspace(-3, 3, 16)
    plain = SparseLeastSquares(gram, weight, nnz=5)
    scaled = SparseLeastSquares(gram * np.outer(power, power), weight / power, nnz=5)
    bounds = [dual_bound(p, maximise_perspective(p)) for p in (plain, scaled)]
    assert bounds[1] == pytest.approx(bounds[0], rel=1e-6)


def test_hostile_certificates_prove_nothing():
    gram, weight = real_valued(11, 6)
    problem = SparseLeastSquares(gram, weight, nnz=2)
    for diagonal, nu in (
        (np.ones(5), np.ones(6)),
        (np.full(6, np.nan), np.ones(6)),
        (np.full(6, 1e308), np.full(6, 1e308)),
        (np.zeros(6), np.full(6, np.inf)),
    ):
        assert not dual_bound(problem, DualCertificate(lam=diagonal, nu=nu)) > 0.0
