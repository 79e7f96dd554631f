"""Compiled Householder reflections of the rows of W: the cost of removals, to the last digits.

Rows are reflected onto coordinate axes one after the other, as in a QR factorisation of the removed
rows: the error of that, and so of every cost, is bounded in
:mod:`pvqbounds.solvers.native.pruning.subset_factor`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["costs_in_order", "mirror", "place_along", "reflect"]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(rows, j, h, size):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(size):
        total += rows[j, i] * h[i]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def reflect(rows, j, h, t, out, k, size):  # type: ignore[no-untyped-def]
    """Store row j - t h as row k of `out`; returns its squared length."""
    total = 0.0
    for i in range(size):
        x = rows[j, i] - t * h[i]
        out[k, i] = x
        total += x * x
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def mirror(row, length, h, last):  # type: ignore[no-untyped-def]
    """Set h to the vector of the reflection of `row` onto axis `last`; returns (pivot, beta)."""
    for i in range(last + 1):
        h[i] = row[i]
    norm = np.sqrt(length)
    pivot = norm if h[last] >= 0.0 else -norm
    beta = 1.0 / (norm * (norm + abs(h[last])))
    h[last] += pivot
    return pivot, beta


@njit(cache=True, nogil=True, error_model="numpy")
def place_along(rows, j, h, beta, last):  # type: ignore[no-untyped-def]
    """How far the reflection moves row j along h, and where it then lies along axis `last`."""
    t = _dot(rows, j, h, last + 1) * beta
    return t, rows[j, last] - t * h[last]


@njit(cache=True, nogil=True, error_model="numpy")
def costs_in_order(W, weight, removed, enough):  # type: ignore[no-untyped-def]
    """Cost of removing the first 0, 1, ... of some inputs, shape (removals + 1,).

    From where it reaches `enough` it is not computed further.
    """
    n, removals = len(weight), len(removed)
    rows, v, h = W[removed], weight[removed], np.empty(n)
    cost = np.zeros(removals + 1)
    for step in range(removals):
        last = n - step - 1
        length = _dot(rows, step, rows[step], last + 1)
        cost[step + 1 :] = cost[step] + v[step] ** 2 / length
        if cost[step + 1] >= enough:
            break
        pivot, beta = mirror(rows[step], length, h, last)
        for j in range(step + 1, removals):
            t, along = place_along(rows, j, h, beta, last)
            v[j] += along * (v[step] / pivot)
            reflect(rows, j, h, t, rows, j, last)
    return cost
