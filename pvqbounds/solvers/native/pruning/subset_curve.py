"""Exact pruning of one channel for every budget at once: error against the number kept.

One factor serves all budgets: that of the largest number of removals has the least accuracy of all. One
chain of supports (:func:`pvqbounds.heuristics.supports.good_sets`) begins every search. The multipliers of
one budget, which bound the nodes of every other one, serve those whose search does not end at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.heuristics.supports import good_sets
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.native.pruning.subset_factor import subset_factor
from pvqbounds.solvers.native.pruning.subset_multipliers import Multiplied, multiplied
from pvqbounds.solvers.native.pruning.subset_search import search_from, search_sparse

__all__ = ["search_curve"]

HARDEST = 0.45
"""Part of the inputs whose number as a budget gives the shared multipliers: searches are longest near it."""


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

    @cache
    def multipliers() -> Multiplied | None:
        return multiplied(problem.with_nnz(max(1, round(HARDEST * most))), factor)

    sets = good_sets(factor.gram, factor.weight, factor.group, np.zeros_like(factor.need))
    for nnz in budgets:
        kept = min(nnz, most)
        own = replace(factor, need=np.array([most - kept]))
        removed = np.flatnonzero(~sets[kept])
        part = clock.part(1.0 / (len(budgets) - nnz))
        yield search_from(problem.with_nnz(nnz), own, removed, part, persistent=False, shared=multipliers)
