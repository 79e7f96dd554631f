"""Exact pruning by enumeration of what is kept: for small budgets, where there are few supports in all.

The search that removes inputs has to go deep where few are kept. Here the inputs stand in the order of
falling price, each support is met once, as a path of kept inputs, and a node costs one step of an LDLᵀ
factorisation of M = [[G, Gw], [wᵀG, wᵀGw]], whose corner is the error of what is kept. Supports whose
first input comes late have removed all the dear ones before it: what that costs ends the search.

**What it proves.** Corners are in plain float64 and only sort supports out. With c_i = sqrt(G_ii) and
rho = sum_i c_i |w_i| >= sqrt(wᵀGw), the computed entries of M are off by at most gamma_2n times products of
c and rho. k steps of the factorisation are exact for entries that are changed by (k + 4) u times such
products (each step rounds thrice, and sum_s |l_as d_s l_bs| <= c_a c_b by Cauchy and Schwarz), so that the
corner is the minimum over v of [v; -1]ᵀ (M + dM) [v; -1] with |dM| <= gamma c cᵀ. At the best re-fit
v of a support that is at most its error plus

    delta = gamma (rho + sum over the kept of c_i |v_i|)² <= gamma rho² (1 + sum of the k largest x_i)²,

x_i² >= G_ii (G⁻¹)_ii, as |v_i|² <= (G⁻¹)_ii vᵀGv and vᵀGv <= wᵀGw. A support whose corner is delta or more
above the threshold has an error of at least the threshold; all others are priced as the search by
removal prices them (:mod:`pvqbounds.solvers.native.pruning.subset_factor`). So both prove the same claims.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import gamma
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.solvers.native.pruning.reflections import costs_in_order
from pvqbounds.solvers.native.pruning.subset_factor import SubsetFactor

__all__ = ["Forward", "forward_search", "has_few_supports", "suits_forward"]

MOST_SUPPORTS = 1_000_000
"""Supports up to which all are met, some 5 ns each."""

LISTED = 64
"""Supports near the threshold that are priced; where there are more the search gives up."""


LEAST_THRESHOLD = 2.0**-400
"""Below it products of corners and pivots may vanish, for which delta leaves no room."""


class Forward(NamedTuple):
    """What an enumeration of what is kept has found."""

    removed: NDArray[np.int64] | None
    """The best set of removals that costs less than the threshold; None where there is none."""
    cost: float
    """Its cost, or the threshold: no set costs less."""
    nodes: int


def has_few_supports(problem: SparseLeastSquares) -> bool:
    """Whether one budget keeps so few inputs that each support may be met."""
    if len(problem.budgets) != 1:
        return False
    inputs, kept = problem.budgets[0]
    return 0 < kept < len(inputs) and math.comb(len(inputs), kept) <= MOST_SUPPORTS


def suits_forward(problem: SparseLeastSquares, factor: SubsetFactor) -> bool:
    """Whether the search by what is kept is for this problem, and its Gram proved definite.

    Where more are kept than go, what goes is the shorter list.
    """
    kept = len(factor.weight) - factor.removals
    return has_few_supports(problem) and factor.definite and 0 < kept <= factor.removals


def forward_search(factor: SubsetFactor, threshold: float) -> Forward | None:
    """The best set of removals that costs less than `threshold`; None where too many come close to it.

    And where the threshold is next to nothing: the search by removal is for that.
    """
    if not threshold >= LEAST_THRESHOLD:
        return None
    n = len(factor.weight)
    kept = n - factor.removals
    length = np.einsum("ij,ij->i", factor.rows, factor.rows)
    order = np.argsort(-(factor.weight**2) / length, kind="stable")
    matrix = _bordered(factor, order)
    skipped = costs_in_order(factor.rows, factor.weight, order[: factor.removals], threshold)
    delta = _delta(factor, length, kept)
    best: NDArray[np.int64] | None = None
    total = 0
    while True:
        # the last child that leaves enough to keep follows all that may be removed
        lists = np.empty((LISTED, kept), dtype=np.int64)
        limit = threshold + delta
        found, nodes = _enumerate(matrix, skipped, threshold, limit, lists)
        total += nodes
        priced = [_priced(factor, order, kept_ones) for kept_ones in lists[: min(found, LISTED)]]
        least = min(priced, key=lambda pair: pair[1], default=(best, math.inf))
        if not least[1] < threshold:
            return None if found > LISTED or found < 0 else Forward(best, threshold, total)
        best, threshold = least


def _bordered(factor: SubsetFactor, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """M with the inputs in an order, shape (n + 1, n + 1)."""
    n = len(order)
    matrix = np.empty((n + 1, n + 1))
    pull = factor.gram @ factor.weight
    matrix[:n, :n] = factor.gram[np.ix_(order, order)]
    matrix[:n, n] = matrix[n, :n] = pull[order]
    matrix[n, n] = factor.weight @ pull
    return matrix


def _delta(factor: SubsetFactor, length: NDArray[np.float64], kept: int) -> float:
    """What a corner may lie above the error of its support; twice what the module derives."""
    n = len(length)
    power = np.sqrt(np.diagonal(factor.gram))
    rho = float(power @ np.abs(factor.weight))
    # G >= RᵀR and ||Rx|| >= (1 - f) ||W⁻¹x||
    spread = np.sort(power * np.sqrt(length))[n - kept :].sum() / factor.relative
    return 2.0 * gamma(2 * n + 2 * kept + 40) * (rho * (1.0 + float(spread))) ** 2


def _priced(
    factor: SubsetFactor, order: NDArray[np.int64], kept: NDArray[np.int64]
) -> tuple[NDArray[np.int64], float]:
    """The set of removals that leaves these places of the order, and its cost."""
    removed = np.sort(np.delete(order, kept))
    return removed, float(costs_in_order(factor.rows, factor.weight, removed, math.inf)[-1])


@njit(cache=True, nogil=True, error_model="numpy")
def _enumerate(matrix, skipped, threshold, limit, lists):  # type: ignore[no-untyped-def]
    """List the supports whose corner is below `limit`: how many there are, -1 on a breakdown, and the nodes.

    Parameters
    ----------
    skipped
        Cost of removing the first 0, 1, ... inputs, shape (removals + 1,).
    lists
        Takes the places of the inputs that each keeps, shape (at most so many, kept).
    """
    n, kept = len(matrix) - 1, lists.shape[1]
    tables = np.empty((max(kept - 1, 1), n + 1, n + 1))
    tables[0] = matrix
    position, chosen = np.zeros(kept, dtype=np.int64), np.zeros(kept, dtype=np.int64)
    found, nodes, depth = 0, 0, 0
    if kept == 1:
        for j in range(n):
            if matrix[n, n] - matrix[j, n] * matrix[j, n] / matrix[j, j] < limit:
                if found < len(lists):
                    lists[found, 0] = j
                found += 1
        return found, n
    while depth >= 0:
        table, i = tables[depth], position[depth]
        if i > n - (kept - depth) or (depth == 0 and skipped[i] >= threshold):
            depth -= 1
            continue
        position[depth] = i + 1
        chosen[depth] = i
        nodes += 1
        pivot = table[i, i]
        if not pivot > 0.0:
            return -1, nodes
        if depth == kept - 2:  # two are left: the other one of each pair
            share = table[i, n] / pivot
            left = table[n, n] - table[i, n] * share
            room = left - limit
            for j in range(i + 1, n):
                ratio = table[i, j] / pivot
                pull = table[j, n] - table[i, n] * ratio
                if pull * pull > room * (table[j, j] - table[i, j] * ratio):
                    if found < len(lists):
                        chosen[depth + 1] = j
                        lists[found] = chosen
                    found += 1
            continue
        below = tables[depth + 1]
        for a in range(i + 1, n + 1):
            ratio = table[i, a] / pivot
            for b in range(a, n + 1):
                below[a, b] = table[a, b] - ratio * table[i, b]
        depth += 1
        position[depth] = i + 1
    return found, nodes
