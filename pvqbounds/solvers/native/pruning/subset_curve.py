"""Exact pruning of one channel for every budget at once: error against the number kept.

One factor serves all budgets, as that of the largest number of removals has the least accuracy of all; one
chain of supports (:func:`pvqbounds.heuristics.supports.good_sets`) begins every search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.heuristics.supports import good_sets
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.native.pruning.subset_factor import subset_factor
from pvqbounds.solvers.native.pruning.subset_search import search_from, search_sparse

__all__ = ["search_curve"]


def search_curve(problem: SparseLeastSquares, clock: Clock) -> Iterator[ExactSolution]:
    """The best support of 0, 1, ..., n inputs, each proved, or an interval where time is short.

    Parameters
    ----------
    problem
        One channel; its own budget plays no part.
    clock
        Its time is all that may be taken, each budget as much of what is left as the others after it.
    """
    budgets = range(problem.n + 1)
    factor = subset_factor(problem.with_nnz(0))
    if not factor.definite:  # a smaller number of removals may still be accurate enough
        for nnz in budgets:
            yield search_sparse(problem.with_nnz(nnz), clock.part(1.0 / (len(budgets) - nnz)), False)
        return
    most = len(factor.weight)
    sets = good_sets(factor.gram, factor.weight, factor.group, np.zeros_like(factor.need))
    for nnz in budgets:
        kept = min(nnz, most)
        own = replace(factor, need=np.array([most - kept]))
        removed = np.flatnonzero(~sets[kept])
        yield search_from(
            problem.with_nnz(nnz), own, removed, clock.part(1.0 / (len(budgets) - nnz)), persistent=False
        )
