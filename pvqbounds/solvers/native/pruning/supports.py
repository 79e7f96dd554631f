"""Good supports at any size, without a proof: selection, elimination and exchanges from one inverse.

The inverse of the Gram is computed once for all channels. Elimination removes the input that
costs least, again and again (Hassibi and Stork's optimal brain surgeon, NeurIPS 1992, with exact
updates), and gives a whole curve of errors against the number kept; exchanges then improve one
point of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.supports import eliminate, exchange, good_set, good_sets, select
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.solvers.native.pruning.perspective_splitting import ScaledGram

__all__ = [
    "better_support",
    "elimination_curve",
    "exchanged",
    "improved_support",
    "supports_by_size",
    "supports_from_inverse",
]

LARGEST_CHAIN = 320
"""Inputs up to which supports of all sizes are looked for, each from the one before it: some 100 ms."""

LARGEST_CHAINED = 128
"""Inputs up to which one support is looked for by that chain. Beyond, the chain takes five times the time of
elimination and selection for 0.03 dB, and up to a third of what the relaxation beside it takes."""

CHAINED_A_SECOND = 1e8
"""Speed of that, n³ operations, that is held against the time left."""

EXCHANGES_A_LOOK = 2**26
"""Multiplications of exchanges between two looks at the clock: some 50 ms."""

MOST_EXCHANGES = 2**30
"""Multiplications that exchanges may take: from about 4000 inputs on there are few of them."""


def elimination_curve(
    shared: ScaledGram, weight: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order in which inputs go, shape (n,), and the error with so many gone, shape (n + 1,).

    Parameters
    ----------
    weight
        w times the power of the inputs, shape (n,).
    """
    assert shared.inverse is not None
    n = len(weight)
    group, need = np.zeros(n, dtype=np.int64), np.array([n])
    order, cost = eliminate(shared.inverse.copy(), weight, group, need)
    return order, cost


def exchanged(
    gram: NDArray[np.float64],
    weight: NDArray[np.float64],
    group: NDArray[np.int64],
    kept: NDArray[np.bool_],
    clock: Clock | None = None,
) -> NDArray[np.bool_]:
    """Improve the flags of kept inputs by exchanges within groups, shape (n,), while there is time."""
    n = len(weight)
    if kept.all() or not kept.any():
        return kept
    inside, outside = np.flatnonzero(kept), np.flatnonzero(~kept)
    pull = gram @ weight
    block = np.linalg.inv(gram[np.ix_(inside, inside)])
    across = gram[np.ix_(inside, outside)]
    bridge = block @ across
    # the tableau of [[G, Gw], [wᵀG, wᵀGw]] pivoted on the kept inputs
    tableau = np.empty((n + 1, n + 1))
    tableau[np.ix_(inside, inside)] = block
    tableau[np.ix_(inside, outside)] = bridge
    tableau[np.ix_(outside, inside)] = -bridge.T
    tableau[np.ix_(outside, outside)] = gram[np.ix_(outside, outside)] - across.T @ bridge
    refit = block @ pull[inside]
    tableau[inside, n], tableau[n, inside] = refit, -refit
    rest = pull[outside] - across.T @ refit
    tableau[outside, n] = tableau[n, outside] = rest
    signal = float(weight @ pull)
    tableau[n, n] = signal - pull[inside] @ refit
    improved = kept.copy()
    rounds = min(4 * n, MOST_EXCHANGES // (4 * n * n))
    diagonal = np.diagonal(gram).copy()
    at_once = max(1, EXCHANGES_A_LOOK // (4 * n * n))
    for first in range(0, rounds, at_once):
        if clock is not None and clock.expired:
            break
        before = improved.copy()
        exchange(tableau, diagonal, improved, group, signal, min(at_once, rounds - first))
        if (improved == before).all():
            break
    return improved


def supports_from_inverse(
    problem: SparseLeastSquares, shared: ScaledGram, clock: Clock | None = None
) -> list[NDArray[np.int64]]:
    """Good supports of one channel: sorted indices.

    Up to `LARGEST_CHAINED` inputs the one of a chain over all sizes; beyond, what elimination and selection
    come to, with exchanges each.
    """
    assert shared.inverse is not None
    weight = problem.weight * shared.power
    group, need = _groups(problem)
    in_time = clock is None or clock.remaining > problem.n**3 / CHAINED_A_SECOND
    if problem.n <= LARGEST_CHAINED and in_time:
        return [np.flatnonzero(~good_set(shared.gram, weight, group, need))]
    order, _ = eliminate(shared.inverse.copy(), weight, group, need)
    flags = np.ones(problem.n, dtype=bool)
    flags[order[order >= 0]] = False
    starts = [flags, select(shared.gram, weight, group, need)]
    return [np.flatnonzero(exchanged(shared.gram, weight, group, start, clock)) for start in starts]


def supports_by_size(problem: SparseLeastSquares, shared: ScaledGram) -> list[NDArray[np.int64]]:
    """Good supports of 0, 1, ..., n inputs of one channel: sorted indices.

    Up to `LARGEST_CHAIN` inputs those of the chain; beyond, what elimination leaves.
    """
    assert shared.inverse is not None
    weight = problem.weight * shared.power
    n, group = problem.n, np.zeros(problem.n, dtype=np.int64)
    if n <= LARGEST_CHAIN:
        sets = good_sets(shared.gram, weight, group, np.zeros(1, dtype=np.int64))
        return [np.flatnonzero(kept) for kept in sets]
    order = elimination_curve(shared, weight)[0]
    return [np.sort(order[n - kept :]) for kept in range(n + 1)]


def improved_support(
    problem: SparseLeastSquares, shared: ScaledGram, support: NDArray[np.int64], clock: Clock | None = None
) -> NDArray[np.int64]:
    """A support improved by exchanges: sorted indices."""
    flags = np.zeros(problem.n, dtype=bool)
    flags[support] = True
    weight = problem.weight * shared.power
    return np.flatnonzero(exchanged(shared.gram, weight, _groups(problem)[0], flags, clock))


def better_support(problem: SparseLeastSquares, supports: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The support whose re-fit has the least error; the first of equal ones."""
    different = {support.tobytes(): support for support in supports}
    if len(different) == 1:
        return supports[0]
    return min(different.values(), key=lambda support: problem.error(problem.refit(support)).upper)


def _groups(problem: SparseLeastSquares) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of each input's group, shape (n,), and how many inputs each group loses."""
    group = np.empty(problem.n, dtype=np.int64)
    need = np.zeros(len(problem.budgets), dtype=np.int64)
    for g, (inputs, kept) in enumerate(problem.budgets):
        group[inputs] = g
        need[g] = len(inputs) - kept
    return group, need
