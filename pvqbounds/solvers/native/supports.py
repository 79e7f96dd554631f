"""Good supports at any size, without a proof: backward elimination and exchanges from one inverse.

The inverse of the Gram is computed once for all channels. Elimination removes the input that
costs least, again and again (Hassibi and Stork's optimal brain surgeon, NeurIPS 1992, with exact
updates), and gives a whole curve of errors against the number kept; exchanges then improve one
point of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import SparseLeastSquares
from pvqbounds.solvers.native.perspective_splitting import ScaledGram
from pvqbounds.solvers.native.subset_kernel import eliminate, exchange

__all__ = ["elimination_curve", "exchanged", "support_from_inverse"]

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
) -> NDArray[np.bool_]:
    """Improve the flags of kept inputs by exchanges within groups, shape (n,)."""
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
    exchange(tableau, np.diagonal(gram).copy(), improved, group, signal, rounds)
    return improved


def support_from_inverse(problem: SparseLeastSquares, shared: ScaledGram) -> NDArray[np.int64]:
    """A good support of one channel: sorted indices."""
    assert shared.inverse is not None
    weight = problem.weight * shared.power
    group = np.empty(problem.n, dtype=np.int64)
    need = np.zeros(len(problem.budgets), dtype=np.int64)
    for g, (inputs, kept) in enumerate(problem.budgets):
        group[inputs] = g
        need[g] = len(inputs) - kept
    order, _ = eliminate(shared.inverse.copy(), weight, group, need)
    flags = np.ones(problem.n, dtype=bool)
    flags[order[order >= 0]] = False
    return np.flatnonzero(exchanged(shared.gram, weight, group, flags))
