"""Heuristic supports: allowed, never worse for a larger budget, and near what brute force finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from truth import least_sparse_error, real_valued

from pvqbounds.heuristics.supports import good_set, select
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.solvers.native.pruning.subset_search import good_support


def left_over(gram, weight, kept):
    """Error of the re-fit of the kept inputs, from its definition."""
    vectors = np.linalg.cholesky(gram).T
    if not kept.any():
        return float(np.sum((vectors @ weight) ** 2))
    fit = np.linalg.lstsq(vectors[:, kept], vectors @ weight, rcond=None)[0]
    return float(np.sum((vectors @ weight - vectors[:, kept] @ fit) ** 2))


def one_group(n, kept):
    return np.zeros(n, dtype=np.int64), np.array([n - kept])


@pytest.mark.parametrize("seed", range(8))
def test_a_larger_budget_is_never_worse(seed):
    gram, weight = real_valued(seed, 24, positions=30)  # badly conditioned
    errors = [left_over(gram, weight, ~good_set(gram, weight, *one_group(24, k))) for k in range(25)]
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(errors))
    for k in range(25):
        assert select(gram, weight, *one_group(24, k)).sum() == k


def test_selection_takes_the_input_that_leaves_least():
    gram, weight = real_valued(1, 9)
    kept = select(gram, weight, *one_group(9, 1))
    assert left_over(gram, weight, kept) == pytest.approx(
        least_sparse_error(SparseLeastSquares(gram, weight, nnz=1))
    )


@pytest.mark.parametrize("seed", range(10))
def test_groups_keep_what_they_may(seed):
    gram, weight = real_valued(seed, 12)
    group = np.arange(12) // 4
    for need in ([2, 2, 2], [1, 3, 0], [4, 0, 4], [4, 4, 4]):
        for kept in (
            ~good_set(gram, weight, group, np.array(need)),
            select(gram, weight, group, np.array(need)),
        ):
            assert np.bincount(group[~kept], minlength=3).tolist() == need


def test_dependent_inputs_fill_a_budget_that_is_too_large():
    gram, weight = real_valued(2, 8, positions=3)
    for kept in (3, 5, 8):
        assert (~good_set(gram, weight, *one_group(8, kept))).sum() == kept
        assert select(gram, weight, *one_group(8, kept)).sum() == kept


@pytest.mark.parametrize("seed", range(6))
def test_good_support_is_close_to_the_best(seed):
    gram, weight = real_valued(seed, 12)
    problem = SparseLeastSquares(gram, weight, nnz=4)
    found = problem.error(problem.refit(good_support(problem))).upper
    assert found <= 1.1 * least_sparse_error(problem)
