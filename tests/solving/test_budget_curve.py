"""Bounds for every budget of a channel: against brute force, against single solves, and proved again."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from truth import least_error, random_gram, rational_optimum, real_valued

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.solving import budget_curve as module


def problem_of(seed, n):
    gram, weight = real_valued(seed, n)
    return pvq.SparseLeastSquares(gram, weight, nnz=0)


def all_hold(problem, curve):
    """Every entry is proved for its own budget, and neither upper end rises."""
    assert len(curve) == problem.n + 1
    for nnz, bounds in enumerate(curve):
        assert pvq.verify(problem.under(pvq.problems.supports.AtMost(nnz)), bounds), nnz
        assert np.count_nonzero(bounds.weight) <= nnz
    assert all(a.error_upper >= b.error_upper for a, b in itertools.pairwise(curve))


@pytest.mark.parametrize("seed", range(30))
def test_every_budget_of_a_pruning_is_that_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    X = rng.integers(-3, 4, (int(rng.integers(1, n + 4)), n)).astype(float)  # semidefinite exactly
    problem = pvq.SparseLeastSquares(X.T @ X, rng.standard_normal(n), nnz=0)
    curve = pvq.budget_curve(problem)
    all_hold(problem, curve)
    for nnz, bounds in enumerate(curve):
        truth = rational_optimum(problem.with_nnz(nnz))
        assert bounds.error_lower <= truth <= bounds.error_upper + 1e-13 * problem.signal.upper


@pytest.mark.parametrize("seed", range(8))
def test_every_budget_of_a_joint_compression_is_that_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    gram, weight = random_gram(rng, n), rng.standard_normal(n)
    steps = pvq.IntegerLeastSquares(gram, weight, 0.5, -2, 1)
    levels = pvq.CodebookLeastSquares(gram, weight, levels=[-1.0, -0.2, 0.0, 0.7])
    for problem in (steps, levels):
        curve = pvq.budget_curve(problem)
        all_hold(problem, curve)
        for nnz, bounds in enumerate(curve):
            truth = least_error(problem.under(pvq.problems.supports.AtMost(nnz)))
            slack = 1e-9 * problem.signal.upper
            assert bounds.error_lower - slack <= truth <= bounds.error_upper + slack


def test_a_curve_is_as_exact_as_single_solves():
    problem = problem_of(5, 24)
    curve = pvq.budget_curve(problem)
    all_hold(problem, curve)
    assert {bounds.status for bounds in curve} == {"optimal"}
    for nnz in (0, 1, 5, 12, 20, 23, 24):
        alone = pvq.solve(problem.with_nnz(nnz))
        assert curve[nnz].error_upper == pytest.approx(alone.error_upper, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", [9, 24])
def test_budgets_between_solved_ones_have_bounds_of_their_own(monkeypatch, n):
    monkeypatch.setattr(module, "LARGEST_SEARCHED", 4)
    monkeypatch.setattr(module, "LARGEST_SOLVED", 4)
    monkeypatch.setattr(module, "FEW_SUPPORTS", 1)
    monkeypatch.setattr(module, "STEPS", 3)
    problem = problem_of(7, n)
    curve = pvq.budget_curve(problem)
    all_hold(problem, curve)
    between = [nnz for nnz in range(n) if nnz not in set(module._anchors(n))]
    assert between
    assert all(bounds.error_lower > 0.3 * bounds.error_upper for bounds in curve[: n // 2])
    truth = [bounds.error_upper for bounds in map(pvq.solve, (problem.with_nnz(k) for k in range(n + 1)))]
    assert all(
        bounds.error_lower <= least * (1.0 + 1e-9) + 1e-12 for bounds, least in zip(curve, truth, strict=True)
    )
    steps = pvq.IntegerLeastSquares(problem.shared, problem.weight, 0.4, -4, 3)
    all_hold(steps, pvq.budget_curve(steps))


@pytest.mark.parametrize("seed", range(2))
def test_what_is_stated_of_every_scale_is_no_claim_about_other_budgets(monkeypatch, seed):
    # certificates that restate a value: that of a smaller budget is false of a larger one
    for name, size in (("LARGEST_SOLVED", 0), ("FEW_SUPPORTS", 1), ("STEPS", 3)):
        monkeypatch.setattr(module, name, size)
    gram, weight = real_valued(seed, 4)
    problem = pvq.AnyScaleLeastSquares(gram, weight, -2, 1, nnz=0)
    curve = pvq.budget_curve(problem)
    all_hold(problem, curve)
    for nnz, bounds in enumerate(curve):
        exact = pvq.solve(problem.under(pvq.problems.supports.AtMost(nnz)))
        assert exact.status == "optimal"
        assert bounds.error_lower <= exact.error_upper
    assert any(bounds.note == module.BETWEEN for bounds in curve)


def test_a_gram_of_few_positions_has_a_curve_without_lower_ends():
    rows = np.random.default_rng(0).standard_normal((3, 8))
    problem = pvq.SparseLeastSquares(rows.T @ rows / 3, np.ones(8), nnz=0)
    curve = pvq.budget_curve(problem)
    all_hold(problem, curve)
    assert all(bounds.error_upper < 1e-9 for bounds in curve[3:])  # three inputs do for three positions
    assert all(bounds.error_lower == 0.0 for bounds in curve[3:])


def test_nothing_to_prune_at_all():
    gram = np.diag([0.0, 2.0])
    curve = pvq.budget_curve(pvq.SparseLeastSquares(gram, [3.0, 1.0], nnz=1))
    assert [bounds.error_upper for bounds in curve] == pytest.approx([2.0, 0.0, 0.0], rel=1e-15)
    assert {bounds.status for bounds in curve} == {"optimal"}


def test_units_do_not_matter():
    gram, weight = real_valued(3, 10)
    plain = pvq.budget_curve(pvq.SparseLeastSquares(gram, weight, nnz=0))
    small = pvq.budget_curve(pvq.SparseLeastSquares(np.ldexp(gram, -100), np.ldexp(weight, 80), nnz=0))
    for a, b in zip(plain, small, strict=True):
        assert b.error_upper == pytest.approx(np.ldexp(a.error_upper, 60), rel=1e-9)
        assert b.error_lower == pytest.approx(np.ldexp(a.error_lower, 60), rel=1e-6, abs=1e-9)


def test_a_raised_end_is_found():
    problem = problem_of(1, 12)
    curve = pvq.budget_curve(problem)
    bounds = curve[4]
    raised = bounds.error_lower * 1.05
    liar = replace(bounds, error_lower=raised, error_upper=2.0 * bounds.error_upper)
    assert not pvq.verify(problem.with_nnz(4), liar)
    with_claim = replace(liar, certificate=replace(bounds.certificate, value=raised))
    assert not pvq.verify(problem.with_nnz(4), with_claim)
    assert not pvq.verify(problem.with_nnz(5), bounds)  # what is proved of four inputs is false of five


def test_groups_have_no_curve():
    gram, weight = real_valued(1, 8)
    with pytest.raises(InputError, match="not about a pattern"):
        pvq.budget_curve(pvq.SparseLeastSquares(gram, weight, pattern=(2, 4)))
    with pytest.raises(InputError, match="0"):
        pvq.budget_curve(pvq.CodebookLeastSquares(gram, weight, levels=[-1.0, 1.0]))
    with pytest.raises(InputError, match="time limit"):
        pvq.budget_curve(problem_of(1, 4), time_limit=0.0)
