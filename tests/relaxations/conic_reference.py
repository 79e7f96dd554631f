"""The relaxation of finite values under a support rule, written as a primal conic program for Clarabel."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pvqbounds.problems import LeastSquares


def conic_value(problem: LeastSquares, tolerance: float = 1e-10) -> float:
    """min <G, X> over weights p of the values: x = E d, X_ii = E d², budgets on the mean of non-zeros,
    and [[X, x], [xᵀ, 1]] positive semidefinite."""
    import clarabel

    n = problem.n
    low, high = problem.values.code_ends
    owner = np.concatenate([np.full(b - a + 1, i) for i, (a, b) in enumerate(zip(low, high, strict=True))])
    codes = np.concatenate([np.arange(a, b + 1) for a, b in zip(low, high, strict=True)])
    value = np.array(
        [problem.weight_of(np.where(np.arange(n) == i, k, low))[i] for i, k in zip(owner, codes, strict=True)]
    )
    offset, m = value - problem.weight[owner], len(owner)
    columns, rows = np.tril_indices(n + 1)  # the upper triangle, column by column
    place = {pair: m + k for k, pair in enumerate(zip(rows.tolist(), columns.tolist(), strict=True))}
    size, root = m + len(rows), np.sqrt(2.0)
    cost = np.zeros(size)
    for (i, j), k in place.items():
        if j < n:
            cost[k] = problem.gram[i, i] if i == j else root * problem.gram[i, j]
    equal, target = sparse.lil_matrix((3 * n + 1, size)), np.zeros(3 * n + 1)
    for i in range(n):
        own = np.flatnonzero(owner == i)
        equal[i, own] = 1.0
        equal[n + i, own], equal[n + i, place[i, n]] = offset[own], -1.0 / root
        equal[2 * n + i, own], equal[2 * n + i, place[i, i]] = offset[own] ** 2, -1.0
    equal[3 * n, place[n, n]] = 1.0
    target[:n] = target[3 * n] = 1.0
    budgets = problem.budgets
    above, limit = sparse.lil_matrix((m + len(budgets), size)), np.zeros(m + len(budgets))
    above[:m, :m] = -sparse.identity(m)
    for g, (group, most) in enumerate(budgets):
        above[m + g, np.flatnonzero(np.isin(owner, group) & (value != 0.0))] = 1.0
        limit[m + g] = most
    cone = sparse.hstack([sparse.csc_matrix((len(rows), m)), -sparse.identity(len(rows))])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    solution = clarabel.DefaultSolver(
        sparse.csc_matrix((size, size)),
        cost,
        sparse.csc_matrix(sparse.vstack([equal, above, cone])),
        np.concatenate([target, limit, np.zeros(len(rows))]),
        [
            clarabel.ZeroConeT(3 * n + 1),
            clarabel.NonnegativeConeT(m + len(budgets)),
            clarabel.PSDTriangleConeT(n + 1),
        ],
        settings,
    ).solve()
    assert str(solution.status) in ("Solved", "AlmostSolved")
    return float(solution.obj_val)
