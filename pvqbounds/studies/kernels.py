"""Compiled passes over sorted weights, with error-free sums."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["central_moments", "quantization_error", "sums_of_smallest"]


@numba.njit(cache=True, nogil=True, inline="always")
def _add(total, lost, value):  # type: ignore[no-untyped-def]
    """Knuth's error-free sum: the new total, and what all totals so far have lost."""
    new = total + value
    virtual = new - total
    return new, lost + ((total - (new - virtual)) + (value - virtual))


@numba.njit(cache=True, nogil=True)
def central_moments(values):  # type: ignore[no-untyped-def]
    """Means of w², (w - μ)² and (w - μ)⁴."""
    n = len(values)
    total, lost = 0.0, 0.0
    for w in values:
        total, lost = _add(total, lost, w)
    mean = (total + lost) / n
    power, power_lost, second, second_lost, fourth, fourth_lost = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for w in values:
        square = (w - mean) * (w - mean)
        power, power_lost = _add(power, power_lost, w * w)
        second, second_lost = _add(second, second_lost, square)
        fourth, fourth_lost = _add(fourth, fourth_lost, square * square)
    return (power + power_lost) / n, (second + second_lost) / n, (fourth + fourth_lost) / n


@numba.njit(cache=True, nogil=True)
def quantization_error(values, scale, qmin, qmax):  # type: ignore[no-untyped-def]
    """Sum of (w - s k)² over the nearest codes k, and how many of these are 0."""
    total, lost, zeros = 0.0, 0.0, 0
    for w in values:
        code = min(max(np.rint(w / scale), qmin), qmax)
        difference = w - scale * code
        total, lost = _add(total, lost, difference * difference)
        if code == 0.0:
            zeros += 1
    return total + lost, zeros


@numba.njit(cache=True, nogil=True)
def sums_of_smallest(values, counts):  # type: ignore[no-untyped-def]
    """Sums of the squares of the `counts[i]` smallest magnitudes; counts rise, values too."""
    sums = np.zeros(len(counts))
    above = np.searchsorted(values, 0.0)  # outwards from zero on both sides
    below = above - 1
    total, lost, taken = 0.0, 0.0, 0
    for i in range(len(counts)):
        while taken < counts[i]:
            if below < 0 or (above < len(values) and values[above] <= -values[below]):
                w = values[above]
                above += 1
            else:
                w = values[below]
                below -= 1
            total, lost = _add(total, lost, w * w)
            taken += 1
        sums[i] = total + lost
    return sums
