"""Exact pruning of one channel: which inputs to remove, by depth-first branch and bound.

The work is in :mod:`pvqbounds.solvers.native.subset_kernel`; what its floating-point costs
prove is in :mod:`pvqbounds.solvers.native.subset_factor`. A certificate is one number: a search
that ignores all sets with an error of at least that value ends and has met none.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.certificates import SubsetCertificate
from pvqbounds.relaxations.perspective import perspective_bound
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.native.perspective_dual import maximise_perspective
from pvqbounds.solvers.native.subset_factor import SubsetFactor, subset_factor
from pvqbounds.solvers.native.subset_kernel import DONE, Stack, enumerate_sets, good_set, new_stack

__all__ = ["good_support", "prove_sparse", "search_sparse"]

WORK = 50_000_000
"""Multiplications between two looks at the clock: about 0.1 s."""

RUNGS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Fractions of the best error that are proved one after the other when the full search is too long."""


def search_sparse(problem: SparseLeastSquares, *, time_limit: float = 60.0) -> ExactSolution:
    """Find the best support and prove it, or return an interval when the time is up.

    Parameters
    ----------
    problem
        Pruning of one channel, with a budget of either kind.
    time_limit
        Seconds. When 60 % of them have not sufficed for the whole search, the rest goes into
        the perspective bound and proofs of rising fractions of the best error found.

    Returns
    -------
    ExactSolution
        `support`, a certified `bound` with its `certificate`, and `status`: "optimal", or "time
        limit", where the certificate may be a perspective one. Where the Gram is numerically
        singular the certificate's `radius` is finite: it bounds ||v - w|| of the re-fits for
        which the bound is claimed.
    """
    start = time.perf_counter()
    factor = subset_factor(problem)
    if factor.removals == 0:
        return _solution(factor, np.zeros(0, dtype=np.int64), 0.0, 0, "optimal")
    removed, cost = _incumbent(factor)
    if factor.proved(cost) == 0.0:  # nothing is lost, as far as float64 can tell
        return _solution(factor, removed, 0.0, 0, "optimal")
    threshold = cost * (1.0 + 1e-9)
    stack = _run(factor, threshold, start + 0.6 * time_limit)
    if stack.state[3]:
        removed = stack.best_set.copy()
    best = float(stack.best[0])
    if _done(stack):
        return _solution(factor, removed, factor.proved(best), int(stack.state[2]), "optimal")
    return _bounded(problem, factor, removed, best, start + time_limit)


def _bounded(
    problem: SparseLeastSquares,
    factor: SubsetFactor,
    removed: NDArray[np.int64],
    best: float,
    deadline: float,
) -> ExactSolution:
    """Prove what can be proved until the deadline: the perspective bound, then rising fractions."""
    dual = maximise_perspective(problem)
    relaxed = perspective_bound(problem, dual)
    solution = _solution(factor, removed, 0.0, 0, "time limit")
    if relaxed > 0.0:
        solution = replace(solution, bound=relaxed, certificate=dual)
    for rung in RUNGS:
        value = factor.proved(rung * best)
        if value <= max(relaxed, 0.0):
            continue
        stack = _run(factor, rung * best, deadline)
        if not _done(stack):
            break
        if stack.state[3]:  # a set far better than the best one known, and none below it
            value = factor.proved(float(stack.best[0]))
            return _solution(factor, stack.best_set, value, int(stack.state[2]), "optimal")
        solution = _solution(factor, removed, value, int(stack.state[2]), "time limit")
    return solution


def prove_sparse(problem: SparseLeastSquares, certificate: SubsetCertificate) -> bool:
    """Whether a search proves that no allowed weight has an error below ``certificate.value``.

    It takes about as long as the search that made the certificate, and depends on nothing but
    the problem and the certificate. Re-fits with ||v - w|| > ``certificate.radius`` are left out
    of the claim; an infinite radius needs a Gram that is proved positive definite.
    """
    if not certificate.value > 0.0:
        return certificate.value <= 0.0  # E is a mean square
    factor = subset_factor(problem)
    if factor.removals == 0:
        return False
    threshold = factor.threshold(certificate.value, certificate.radius)
    if not threshold < np.inf:
        return False
    return not _run(factor, threshold, np.inf).state[3]


def good_support(problem: SparseLeastSquares) -> NDArray[np.int64]:
    """Find a good support by backward elimination and exchanges, without a proof: sorted indices."""
    factor = subset_factor(problem)
    if factor.removals == 0:
        return factor.support(np.zeros(0, dtype=np.int64))
    return factor.support(_incumbent(factor)[0])


def _run(factor: SubsetFactor, threshold: float, deadline: float) -> Stack:
    """Search for sets that cost less than `threshold`, to the end or until the clock says so."""
    stack = new_stack(factor.rows, factor.weight, factor.group, factor.need, threshold)
    while enumerate_sets(stack, factor.group, WORK) != DONE and time.perf_counter() < deadline:
        pass
    return stack


def _done(stack: Stack) -> bool:
    return bool(stack.state[0] < 0)


def _incumbent(factor: SubsetFactor) -> tuple[NDArray[np.int64], float]:
    """Find a good set of removals, and its cost."""
    flags = good_set(factor.gram, factor.weight, factor.group, factor.need)
    removed = np.flatnonzero(flags)
    y = np.linalg.lstsq(factor.rows[removed], factor.weight[removed], rcond=None)[0]
    return removed, float(y @ y)


def _solution(
    factor: SubsetFactor, removed: NDArray[np.int64], value: float, nodes: int, status: str
) -> ExactSolution:
    radius = factor.radius if value > 0.0 else np.inf
    return ExactSolution(
        codes=None,
        support=factor.support(removed),
        bound=value,
        certificate=SubsetCertificate(value=value, nodes=nodes, radius=radius),
        status=status,
    )
