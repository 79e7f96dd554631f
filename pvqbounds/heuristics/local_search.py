"""Compiled descent over codes: 1-opt and 2-opt moves that never leave the box.

Every loop ends: a move has to gain more than rounding can feign, a descent makes a limited number of
moves at a time, and between two lots of them the error is taken afresh and the clock is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["best_of_samples", "descend"]

_RELATIVE_GAIN = 1e-10
"""A move must gain this fraction of the error."""

_UNIT = 2.0**-53
"""Rounding of one operation, relative."""

_MOVES = 10
"""Moves of a descent between two looks at the clock, as a multiple of n: most descents need fewer."""

_LOTS = 100
"""Such lots of moves at most."""

_SLICE = 2e7
"""Multiplications of a lot of samples between two looks at the clock: some 20 ms."""


@numba.njit(cache=True, nogil=True)
def _one_opt(form, gradient, noise, codes, qmin, qmax, floor, most):  # type: ignore[no-untyped-def]
    """Take the best single-code move until none gains, `most` times at most; returns the number taken."""
    n = len(codes)
    for taken in range(most):
        best, best_i, best_step = floor, -1, 0.0
        for i in range(n):
            curvature = form[i, i]
            if curvature <= 0.0:
                continue
            target = np.rint(codes[i] - gradient[i] / (2.0 * curvature))
            step = min(max(target, qmin[i]), qmax[i]) - codes[i]
            gain = -step * (gradient[i] + step * curvature)
            if gain > best and gain > abs(step) * noise[i]:
                best, best_i, best_step = gain, i, step
        if best_i < 0:
            return taken
        codes[best_i] += best_step
        for j in range(n):
            gradient[j] += 2.0 * best_step * form[best_i, j]
    return most


@numba.njit(cache=True, nogil=True)
def _two_opt(form, gradient, noise, codes, qmin, qmax, floor):  # type: ignore[no-untyped-def]
    """Take the best move of two codes by one step each; whether there is one that gains."""
    n = len(codes)
    best, best_i, best_j, best_si, best_sj = floor, -1, -1, 0.0, 0.0
    for i in range(n):
        for si in (-1.0, 1.0):
            if not qmin[i] <= codes[i] + si <= qmax[i]:
                continue
            own = form[i, i] + si * gradient[i]
            for j in range(i):
                for sj in (-1.0, 1.0):
                    if not qmin[j] <= codes[j] + sj <= qmax[j]:
                        continue
                    change = own + form[j, j] + sj * gradient[j] + 2.0 * si * sj * form[i, j]
                    if -change > best and -change > noise[i] + noise[j]:
                        best, best_i, best_j, best_si, best_sj = -change, i, j, si, sj
    if best_i < 0:
        return False
    codes[best_i] += best_si
    codes[best_j] += best_sj
    for k in range(n):
        gradient[k] += 2.0 * (best_si * form[best_i, k] + best_sj * form[best_j, k])
    return True


@numba.njit(cache=True, nogil=True)
def _gradient(form, centre, codes, gradient, noise):  # type: ignore[no-untyped-def]
    """Overwrite the gradient 2 P (z - c) and what rounding may add to its entries; returns the error."""
    n = len(codes)
    error = 0.0
    for i in range(n):
        total, size = 0.0, 0.0
        for j in range(n):
            term = form[i, j] * (codes[j] - centre[j])
            total += term
            size += abs(term)
        gradient[i] = 2.0 * total
        noise[i] = 4.0 * (n + 8) * _UNIT * size
        error += total * (codes[i] - centre[i])
    return error


@numba.njit(cache=True, nogil=True)
def descend(form, centre, codes, qmin, qmax, pairs, most):  # type: ignore[no-untyped-def]
    """Descend in place from `codes` (float64, feasible) by `most` moves at most.

    With `pairs`, 2-opt moves follow wherever 1-opt stops. Returns the error (z-c)ᵀP(z-c), and whether
    no move is left that gains.
    """
    n = len(codes)
    gradient, noise = np.zeros(n), np.zeros(n)
    floor = _RELATIVE_GAIN * abs(_gradient(form, centre, codes, gradient, noise))
    left, ended = most, False
    while left > 0 and not ended:
        taken = _one_opt(form, gradient, noise, codes, qmin, qmax, floor, left)
        left -= taken
        if left > 0:
            ended = not (pairs and _two_opt(form, gradient, noise, codes, qmin, qmax, floor))
            left -= 1
    return _gradient(form, centre, codes, gradient, noise), ended


@numba.njit(cache=True, nogil=True)
def _best_of_samples(form, centre, samples, qmin, qmax, most, best):  # type: ignore[no-untyped-def]
    """1-opt from each sample; overwrites `best` by the best codes and returns their error and ended."""
    best_error, best_ended = np.inf, True
    for sample in samples:
        codes = np.minimum(np.maximum(np.rint(sample), qmin), qmax)
        error, ended = descend(form, centre, codes, qmin, qmax, False, most)
        if error < best_error:
            best_error, best_ended = error, ended
            best[:] = codes
    return best_error, best_ended


def best_of_samples(
    form: NDArray[np.float64],
    centre: NDArray[np.float64],
    samples: NDArray[np.float64],
    qmin: NDArray[np.float64],
    qmax: NDArray[np.float64],
    *,
    pairs: bool,
    clock: Clock | None = None,
) -> NDArray[np.int64]:
    """Round and clip each of `samples`, shape (K, n), descend from it, and give back the best codes.

    Parameters
    ----------
    form, centre
        P, shape (n, n), and c, shape (n,), of the error (z - c)ᵀP(z - c).
    qmin, qmax
        The box, shape (n,) each.
    pairs
        Whether 2-opt moves follow 1-opt.
    clock
        Ends the descents early: what they have reached by then counts, of the first sample at least.
    """
    form, n = np.ascontiguousarray(form), len(centre)
    best = np.minimum(np.maximum(np.rint(samples[0]), qmin), qmax)
    least = np.inf
    at_once = 1 if pairs else max(1, int(_SLICE / (n * n)))
    for first in range(0, len(samples), at_once):
        if first > 0 and clock is not None and clock.expired:
            break
        lot = samples[first : first + at_once]
        found = np.minimum(np.maximum(np.rint(lot[0]), qmin), qmax)
        error, ended = _best_of_samples(form, centre, lot, qmin, qmax, _MOVES * n, found)
        if pairs or not ended:
            error = _to_the_end(form, centre, found, qmin, qmax, pairs, clock)
        if error < least:
            best, least = found, error
    return np.asarray(best.astype(np.int64))


def _to_the_end(
    form: NDArray[np.float64],
    centre: NDArray[np.float64],
    codes: NDArray[np.float64],
    qmin: NDArray[np.float64],
    qmax: NDArray[np.float64],
    pairs: bool,
    clock: Clock | None,
) -> float:
    """Descend in place, lot by lot, while the error falls and there is time; returns the error."""
    n = len(codes)
    # a move of one code costs n multiplications, one of two codes about 4 n²
    most = max(1, int(_SLICE / (4.0 * n * n))) if pairs else _MOVES * n
    error = np.inf
    for _ in range(max(1, _LOTS * _MOVES * n // most)):
        before = error
        error, ended = descend(form, centre, codes, qmin, qmax, pairs, most)
        if ended or not error < before or (clock is not None and clock.expired):
            break
    return float(error)
