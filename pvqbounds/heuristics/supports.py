"""Good supports without a proof, compiled: elimination, forward selection, and exchanges.

All is read off the tableau of [[G, Gw], [wᵀG, wᵀGw]], pivoted on the kept inputs: there a removal costs
v_j² / T_jj, an addition gains g_i² / T_ii, an exchange combines the two, and the corner is what the
removed inputs leave of the signal, the error.

**A chain of supports** (:func:`good_sets`). For every size up to the budget there are two candidates: the
support of one input less and the best input beside it, and what elimination from all inputs leaves;
both are improved by exchanges, and the better one goes on (sequential replacement, Miller, "Subset
selection in regression", 2002, beside elimination). So the support of a larger budget is never worse than
that of a smaller one, nor than what elimination and exchanges come to.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["eliminate", "exchange", "good_set", "good_sets", "select"]

DEPENDENT = 1e-11
"""Share of an input's power under which what other inputs leave of it is rounding."""


@njit(cache=True, nogil=True, error_model="numpy")
def _pivot(tableau, i):  # type: ignore[no-untyped-def]
    """Gauss-Jordan pivot on entry i, in place; a second one takes it back."""
    p = tableau[i, i]
    row = tableau[i] / p
    for a in range(len(tableau)):
        factor = tableau[a, i]
        if a != i and factor != 0.0:
            for b in range(len(tableau)):
                tableau[a, b] -= factor * row[b]
            tableau[a, i] = -factor / p
    tableau[i] = row
    tableau[i, i] = 1.0 / p


@njit(cache=True, nogil=True, error_model="numpy")
def good_set(gram, weight, group, need):  # type: ignore[no-untyped-def]
    """Find a good set of removals, as flags (n,), by the module's chain; `need[g]` go of group g."""
    return ~good_sets(gram, weight, group, need)[-1]


@njit(cache=True, nogil=True, error_model="numpy")
def good_sets(gram, weight, group, need):  # type: ignore[no-untyped-def]
    """What to keep of 0, 1, ... inputs up to the budget: flags, shape (number kept + 1, n)."""
    n = len(weight)
    removals = need.sum()
    sets = np.zeros((n - removals + 1, n), dtype=np.bool_)
    order = _eliminated(gram, weight, group, need)
    room = -need
    for i in range(n):
        room[group[i]] += 1
    chain = _tableau(gram, weight)
    signal, diagonal = chain[n, n], np.diag(gram).copy()
    back, room_back = chain.copy(), room.copy()
    kept, kept_back = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    for size in range(1, n - removals + 1):
        enter = _best_addition(chain, diagonal, kept, group, room)
        if enter < 0:
            break  # all others depend on those that are kept: the error is 0
        _pivot(chain, enter)
        kept[enter] = True
        room[group[enter]] -= 1
        exchange(chain, diagonal, kept, group, signal, 4 * n)
        sets[size] = kept
        # the one that elimination removes last comes first
        enter = order[n - size]
        independent = back[enter, enter] > DEPENDENT * diagonal[enter]
        if not independent or room_back[group[enter]] <= 0:
            continue
        _pivot(back, enter)
        kept_back[enter] = True
        room_back[group[enter]] -= 1
        other, kept_other = back.copy(), kept_back.copy()
        exchange(other, diagonal, kept_other, group, signal, 4 * n)
        if kept_other.sum() == size and other[n, n] < chain[n, n]:
            chain, kept, room = other, kept_other, room_back.copy()
        sets[size] = kept
    for i in range(n):
        if not kept[i] and room[group[i]] > 0:
            kept[i] = True
            room[group[i]] -= 1
            sets[kept.sum()] = kept
    return sets


@njit(cache=True, nogil=True, error_model="numpy")
def _tableau(gram, weight):  # type: ignore[no-untyped-def]
    """The tableau with nothing kept, shape (n + 1, n + 1)."""
    n = len(weight)
    T = np.empty((n + 1, n + 1))
    pull = gram @ weight
    T[:n, :n] = gram
    T[:n, n] = pull
    T[n, :n] = pull
    T[n, n] = weight @ pull
    return T


@njit(cache=True, nogil=True, error_model="numpy")
def _eliminated(gram, weight, group, need):  # type: ignore[no-untyped-def]
    """All inputs in the order of backward elimination, shape (n,): dependent ones first.

    Groups lose what they must before any loses more.
    """
    n = len(weight)
    T, need = _tableau(gram, weight), need.copy()
    kept = np.zeros(n, dtype=np.bool_)
    order, gone = np.empty(n, dtype=np.int64), 0
    for i in range(n):
        if T[i, i] > DEPENDENT * gram[i, i]:
            _pivot(T, i)
            kept[i] = True
        else:  # it depends on the inputs before it
            order[gone] = i
            gone += 1
            need[group[i]] -= 1
    while gone < n:
        best, price = -1, np.inf
        complete = need.max() <= 0
        for j in range(n):
            if kept[j] and (complete or need[group[j]] > 0):
                x = T[j, n] * T[j, n] / T[j, j]
                if best < 0 or x < price:
                    best, price = j, x
        _pivot(T, best)
        kept[best] = False
        need[group[best]] -= 1
        order[gone] = best
        gone += 1
    return order


@njit(cache=True, nogil=True, error_model="numpy")
def _best_addition(T, diagonal, kept, group, room):  # type: ignore[no-untyped-def]
    """The input that gains most of those whose groups have room; -1 where none is independent."""
    n = len(kept)
    best, most = -1, -np.inf
    for i in range(n):
        if not kept[i] and room[group[i]] > 0 and T[i, i] > DEPENDENT * diagonal[i]:
            gain = T[i, n] * T[i, n] / T[i, i]
            if gain > most:
                best, most = i, gain
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def exchange(T, diagonal, kept, group, signal, rounds):  # type: ignore[no-untyped-def]
    """Exchange a kept input for another one, the best pair first, while that helps; `kept` is changed.

    T is the tableau of :func:`good_set`, pivoted on the kept inputs.
    """
    n = len(kept)
    members, first = _members(group)
    for _ in range(rounds):
        least, enter, leave = -1e-9 * signal, -1, -1
        for i in range(n):
            if kept[i] or not T[i, i] > DEPENDENT * diagonal[i]:
                continue
            step = T[i, n] / T[i, i]
            gain = T[i, n] * step
            if gain <= -least:
                continue  # whoever leaves, a pair at hand gains as much
            for j in members[first[group[i]] : first[group[i] + 1]]:
                if kept[j]:
                    v = T[j, n] - T[j, i] * step
                    change = v * v / (T[j, j] + T[j, i] * T[j, i] / T[i, i]) - gain
                    if change < least:
                        least, enter, leave = change, i, j
        if enter < 0:
            break
        _pivot(T, enter)
        _pivot(T, leave)
        kept[enter], kept[leave] = True, False


@njit(cache=True, nogil=True, error_model="numpy")
def _members(group):  # type: ignore[no-untyped-def]
    """The inputs of each group in turn, in their order, and where each group's begin (and the last ends)."""
    first = np.zeros(group.max() + 2, dtype=np.int64)
    for g in group:
        first[g + 1] += 1
    first = np.cumsum(first)
    members, place = np.empty(len(group), dtype=np.int64), first.copy()
    for i in range(len(group)):
        members[place[group[i]]] = i
        place[group[i]] += 1
    return members, first


@njit(cache=True, nogil=True, error_model="numpy")
def eliminate(inverse, weight, group, need):  # type: ignore[no-untyped-def]
    """Remove the input of least cost, again and again: the order, shape (n,), and the costs (n + 1,).

    `inverse` is G⁻¹ and is overwritten. Each group loses as many inputs as `need` says; the order
    is -1, and the cost that of the last removal, from where all are complete.
    """
    n = len(weight)
    v, need = weight.copy(), need.copy()
    active = np.arange(n)
    order = np.full(n, -1)
    cost = np.zeros(n + 1)
    column = np.empty(n)
    for step in range(n):
        m = n - step
        place, price = -1, np.inf
        for j in range(m):
            if need[group[active[j]]] > 0:
                x = v[j] * v[j] / inverse[j, j]
                if place < 0 or x < price:
                    place, price = j, x
        if place < 0:
            cost[step + 1 :] = cost[step]
            break
        order[step] = active[place]
        cost[step + 1] = cost[step] + price
        need[group[active[place]]] -= 1
        # the last active input takes the place of the one that goes
        last, pivot = m - 1, inverse[place, place]
        ratio = v[place] / pivot
        for j in range(m):
            column[j] = inverse[j, place]
        column[place] = column[last]
        own = inverse[last, last]
        for j in range(last):
            inverse[place, j] = inverse[last, j]
        for j in range(last):
            inverse[j, place] = inverse[j, last]
        inverse[place, place] = own
        # the column of the removed input, seen from the moved one
        active[place], v[place] = active[last], v[last]
        for i in range(last):
            factor = column[i] / pivot
            v[i] -= column[i] * ratio
            if factor != 0.0:
                for j in range(last):
                    inverse[i, j] -= factor * column[j]
    return order, cost


@njit(cache=True, nogil=True, error_model="numpy")
def select(gram, weight, group, need):  # type: ignore[no-untyped-def]
    """Keep the input that gains most, again and again, as flags (n,); `need[g]` of group g are left.

    Orthogonal least squares (Chen, Billings and Luo, International Journal of Control 50, 1989), n times the
    square of the number kept.
    """
    n = len(weight)
    room = -need
    for i in range(n):
        room[group[i]] += 1
    size = n - need.sum()
    pull, power = gram @ weight, np.diag(gram).copy()
    kept = np.zeros(n, dtype=np.bool_)
    columns = np.zeros((size, n))  # of the Cholesky factor of the kept inputs' Gram, and what follows them
    for step in range(size):
        best, most = -1, -1.0
        for i in range(n):
            if not kept[i] and room[group[i]] > 0:
                independent = power[i] > DEPENDENT * gram[i, i]
                gain = pull[i] * pull[i] / power[i] if independent else 0.0
                if gain > most:
                    best, most = i, gain
        if best < 0:
            break
        kept[best] = True
        room[group[best]] -= 1
        if power[best] > DEPENDENT * gram[best, best]:
            column = gram[best] - columns[:step, best].copy() @ columns[:step]
            column /= np.sqrt(power[best])
            columns[step] = column
            pull -= column * (pull[best] / np.sqrt(power[best]))
            power -= column * column
    return kept
