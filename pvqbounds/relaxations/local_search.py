"""Compiled descent over codes: 1-opt and 2-opt moves that never leave the box."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["best_of_samples", "descend"]

_RELATIVE_GAIN = 1e-10
"""A move must gain this fraction of the error: keeps rounding from cycling."""


@numba.njit(cache=True, nogil=True)
def _one_opt(form, gradient, codes, qmin, qmax, floor):  # type: ignore[no-untyped-def]
    """Take the best single-code move until none gains more than `floor`; returns the total gain."""
    n = len(codes)
    total = 0.0
    while True:
        best, best_i, best_step = floor, -1, 0.0
        for i in range(n):
            curvature = form[i, i]
            if curvature <= 0.0:
                continue
            target = np.rint(codes[i] - gradient[i] / (2.0 * curvature))
            step = min(max(target, qmin), qmax) - codes[i]
            gain = -step * (gradient[i] + step * curvature)
            if gain > best:
                best, best_i, best_step = gain, i, step
        if best_i < 0:
            return total
        codes[best_i] += best_step
        total += best
        for j in range(n):
            gradient[j] += 2.0 * best_step * form[best_i, j]


@numba.njit(cache=True, nogil=True)
def _two_opt(form, gradient, codes, qmin, qmax, floor):  # type: ignore[no-untyped-def]
    """Take the best move of two codes by one step each; returns its gain, 0 if none gains."""
    n = len(codes)
    best, best_i, best_j, best_si, best_sj = floor, -1, -1, 0.0, 0.0
    for i in range(n):
        for si in (-1.0, 1.0):
            if not qmin <= codes[i] + si <= qmax:
                continue
            own = form[i, i] + si * gradient[i]
            for j in range(i):
                for sj in (-1.0, 1.0):
                    if not qmin <= codes[j] + sj <= qmax:
                        continue
                    change = own + form[j, j] + sj * gradient[j] + 2.0 * si * sj * form[i, j]
                    if -change > best:
                        best, best_i, best_j, best_si, best_sj = -change, i, j, si, sj
    if best_i < 0:
        return 0.0
    codes[best_i] += best_si
    codes[best_j] += best_sj
    for k in range(n):
        gradient[k] += 2.0 * (best_si * form[best_i, k] + best_sj * form[best_j, k])
    return best


@numba.njit(cache=True, nogil=True)
def descend(form, centre, codes, qmin, qmax, pairs):  # type: ignore[no-untyped-def]
    """Descend in place from `codes` (float64, feasible); returns the error (z-c)ᵀP(z-c).

    With `pairs`, 2-opt moves follow wherever 1-opt stops.
    """
    n = len(codes)
    gradient = np.zeros(n)
    error = 0.0
    for i in range(n):
        total = 0.0
        for j in range(n):
            total += form[i, j] * (codes[j] - centre[j])
        gradient[i] = 2.0 * total
        error += total * (codes[i] - centre[i])
    while True:
        floor = _RELATIVE_GAIN * abs(error)
        error -= _one_opt(form, gradient, codes, qmin, qmax, floor)
        gain = _two_opt(form, gradient, codes, qmin, qmax, floor) if pairs else 0.0
        if gain == 0.0:
            return error
        error -= gain


@numba.njit(cache=True, nogil=True)
def _best_of_samples(form, centre, samples, qmin, qmax, pairs):  # type: ignore[no-untyped-def]
    best_error = np.inf
    best = np.clip(np.rint(centre), qmin, qmax)
    for sample in samples:
        codes = np.clip(np.rint(sample), qmin, qmax)
        error = descend(form, centre, codes, qmin, qmax, pairs)
        if error < best_error:
            best_error = error
            best[:] = codes
    return best


def best_of_samples(
    form: NDArray[np.float64],
    centre: NDArray[np.float64],
    samples: NDArray[np.float64],
    qmin: int,
    qmax: int,
    *,
    pairs: bool,
) -> NDArray[np.int64]:
    """Round and clip each of `samples`, shape (K, n), descend from it, and give back the best codes.

    Parameters
    ----------
    form, centre
        P, shape (n, n), and c, shape (n,), of the error (z - c)ᵀP(z - c).
    qmin, qmax
        The box.
    pairs
        Whether 2-opt moves follow 1-opt.
    """
    best: NDArray[np.int64] = _best_of_samples(
        np.ascontiguousarray(form), centre, samples, float(qmin), float(qmax), pairs
    ).astype(np.int64)
    return best
