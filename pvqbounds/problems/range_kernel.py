"""Compiled sums over sorted weights: what the range search of :mod:`pvqbounds.problems.ranges` asks for."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["code_moments", "running_totals"]


@numba.njit(cache=True, nogil=True)
def running_totals(values):  # type: ignore[no-untyped-def]
    """Sums of the first 0, 1, ..., n values, each rounded once or twice (compensated)."""
    totals = np.empty(len(values) + 1)
    total, lost = 0.0, 0.0
    totals[0] = 0.0
    for i in range(len(values)):
        # Knuth's error-free sum
        new = total + values[i]
        virtual = new - total
        lost += (total - (new - virtual)) + (values[i] - virtual)
        total = new
        totals[i + 1] = total + lost
    return totals


@numba.njit(cache=True, nogil=True)
def _first_above(values, threshold, low, high):  # type: ignore[no-untyped-def]
    """Least i in [low, high] with values[i] > threshold; high if there is none."""
    while low < high:
        middle = (low + high) >> 1
        if values[middle] > threshold:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(cache=True, nogil=True)
def code_moments(values, totals, scales, qmin, qmax):  # type: ignore[no-untyped-def]
    """Sums of w k and of k² over the nearest codes k, at each of the rising `scales`.

    |k| counts the thresholds (j - 1/2) s that |w| exceeds, so that both sums are sums over j of
    tails of the sorted values. Between neighbouring scales a threshold passes few values, and the
    last index is where the next search starts.
    """
    n, count = len(values), len(scales)
    products, squares = np.zeros(count), np.zeros(count)
    for j in range(1, qmax + 1):
        if (j - 0.5) * scales[0] > values[n - 1]:
            break
        last = _first_above(values, (j - 0.5) * scales[count - 1], 0, n)
        first = 0
        for m in range(count):
            first = _first_above(values, (j - 0.5) * scales[m], first, last)
            products[m] += totals[n] - totals[first]
            squares[m] += (2.0 * j - 1.0) * (n - first)
    for j in range(1, -qmin + 1):
        if (0.5 - j) * scales[0] < values[0]:
            break
        first = _first_above(values, (0.5 - j) * scales[count - 1], 0, n)
        last = n
        for m in range(count):
            last = _first_above(values, (0.5 - j) * scales[m], first, last)
            products[m] -= totals[last]
            squares[m] += (2.0 * j - 1.0) * last
    return products, squares
