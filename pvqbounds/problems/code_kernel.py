"""Compiled look-ups in a :class:`~pvqbounds.problems.code_grids.CodeGrid`.

Where a code is its own value, the table ``values`` is None: numba compiles a version for that by itself, in
which the branches about a table are gone.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["code_below", "code_next_to", "codes_next_to", "value_of"]


@numba.njit(cache=True, nogil=True)
def value_of(values, i, code):  # type: ignore[no-untyped-def]
    """The value of a code of input i."""
    if values is None:
        return code
    return values[i, int(code)]


@numba.njit(cache=True, nogil=True)
def code_below(values, i, low, high, point):  # type: ignore[no-untyped-def]
    """The largest code whose value is at most `point`; one less than the smallest where there is none."""
    if values is None:
        return min(max(np.floor(point), low - 1.0), high)
    first, last = -1, int(high)
    while first < last:
        middle = (first + last + 1) // 2
        if values[i, middle] <= point:
            first = middle
        else:
            last = middle - 1
    return float(first)


@numba.njit(cache=True, nogil=True)
def code_next_to(values, i, low, high, point):  # type: ignore[no-untyped-def]
    """The code of the value next to `point`."""
    if values is None:
        return min(max(np.rint(point), low), high)
    below = max(code_below(values, i, low, high, point), low)
    above = min(below + 1.0, high)
    return below if point - values[i, int(below)] <= values[i, int(above)] - point else above


@numba.njit(cache=True, nogil=True)
def codes_next_to(values, high, points):  # type: ignore[no-untyped-def]
    """The codes of the values of a table next to points, shape (K, n)."""
    codes = np.empty(points.shape)
    for k in range(points.shape[0]):
        for i in range(points.shape[1]):
            codes[k, i] = code_next_to(values, i, 0.0, high[i], points[k, i])
    return codes
