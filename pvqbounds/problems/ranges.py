"""The scale of least squared error, proved: branch and bound on one number.

With nearest codes k(w) a grid of step s explains H(s) = sum of (2 s w k - s² k²) of sum w², and
H(s) / s = sum over w of max over k of (2 w k - s k²) is a maximum of linear functions of s: convex
and falling. On an interval of scales it therefore lies under its chord, and H(s) under s times that
chord, a parabola whose greatest value is known. Intervals that cannot hold the best scale are
dropped, the others halved. All that is asked for are sum w k and sum k² at given scales, which
sorted weights answer in O(2^b log n) (:class:`SortedWeights`) and distributions in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "SortedWeights", "best_scale"]

Moments = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""From rising scales to sum w k and sum k² over the nearest codes k (means will do as well)."""

LADDER_STEPS = 4
"""Intervals an octave that the search starts from."""

ERROR_TOLERANCE, SIGNAL_TOLERANCE = 1e-9, 1e-14
"""No scale has an error below that of the one found by more than these parts of error and signal."""


def best_scale(moments: Moments, signal: float, slope: float, largest: float, octaves: int) -> float:
    """Scale of the least error, up to the two tolerances above.

    Parameters
    ----------
    moments
        What the codes sum to.
    signal
        Sum of w².
    slope
        H(s) / s at s = 0: twice the sum of |w| times the largest code of its sign.
    largest
        A scale above which none is best.
    octaves
        How far below `largest` the first intervals reach; the last of them reaches to zero.

    Returns
    -------
    float
        The scale; `largest` where no scale explains anything.
    """
    ends = largest * 2.0 ** (np.arange(-octaves * LADDER_STEPS, 1) / LADDER_STEPS)
    products, squares = moments(ends)
    explained, best = _best(products, squares, 0.0, largest)
    heights = np.concatenate([[slope], 2.0 * products - ends * squares])
    ends = np.concatenate([[0.0], ends])
    low, high, at_low, at_high = ends[:-1], ends[1:], heights[:-1], heights[1:]
    while True:
        allowance = ERROR_TOLERANCE * max(signal - explained, 0.0) + SIGNAL_TOLERANCE * signal
        middle = 0.5 * (low + high)
        open_ = _ceiling(low, high, at_low, at_high) > explained + allowance
        open_ &= (low < middle) & (middle < high)
        if not open_.any():
            return _polished(moments, explained, best)
        low, high, at_low, at_high = low[open_], high[open_], at_low[open_], at_high[open_]
        middle = middle[open_]
        products, squares = moments(middle)
        explained, best = _best(products, squares, explained, best)
        at_middle = 2.0 * products - middle * squares
        low, high = _between(low, middle), _between(middle, high)
        at_low, at_high = _between(at_low, at_middle), _between(at_middle, at_high)


def _best(
    products: NDArray[np.float64], squares: NDArray[np.float64], explained: float, best: float
) -> tuple[float, float]:
    """The most that any of these codes explain with the scale that fits them, and that scale."""
    used = squares > 0.0
    if used.any():
        products, squares = products[used], squares[used]
        values = products * (products / squares)
        top = int(np.argmax(values))
        if values[top] > explained:
            return float(values[top]), float(products[top] / squares[top])
    return explained, best


def _ceiling(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    at_low: NDArray[np.float64],
    at_high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Greatest value of s times the chord on each interval."""
    fall = (at_low - at_high) / (high - low)
    start = at_low + fall * low  # the chord is start - fall s
    with np.errstate(divide="ignore", invalid="ignore"):
        top = np.where(fall > 0.0, 0.5 * start / fall, high)
    top = np.clip(top, low, high)
    return top * (start - fall * top)


def _between(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """left[0], right[0], left[1], right[1], ...: rising, as the intervals are."""
    return np.stack([left, right], axis=1).ravel()


def _polished(moments: Moments, explained: float, scale: float) -> float:
    """Codes nearest at the scale, the scale that fits these, and so on while it helps."""
    while True:
        value, better = _best(*moments(np.array([scale])), explained, scale)
        if value <= explained:
            return scale
        explained, scale = value, better


@dataclass(frozen=True, eq=False)
class SortedWeights:
    """Weights as the range search wants them; the order that they had is lost."""

    values: NDArray[np.float64]
    """Rising, shape (n,); divided by 2^exponent, so that none exceeds 1 in magnitude."""
    totals: NDArray[np.float64]
    """Running sums of `values`, shape (n + 1,)."""
    exponent: int

    @classmethod
    def of(cls, weights: NDArray[np.float64]) -> SortedWeights:
        """Sort finite weights, shape (n,), n > 0, in their own memory: the array given is overwritten."""
        from pvqbounds.problems.range_kernel import running_totals

        exponent = math.frexp(float(max(weights.max(), -weights.min())))[1]
        for part in (-exponent // 2, -exponent - -exponent // 2):  # 2^-exponent itself may overflow
            weights *= math.ldexp(1.0, part)
        weights.sort()
        return cls(weights, running_totals(weights), exponent)

    @property
    def largest(self) -> float:
        """Largest magnitude."""
        return float(max(self.values[-1], -self.values[0]))

    def best_scale(self, qmin: int, qmax: int) -> float:
        """Scale of least squared error on the grid of codes `qmin` to `qmax`, for `values`.

        Returns
        -------
        float
            The scale, for the weights divided by 2^exponent; 1.0 where code 0 for every weight is
            the best there is.
        """
        from pvqbounds.problems.range_kernel import code_moments

        zero = int(np.searchsorted(self.values, 0.0))
        negative, positive = -float(self.totals[zero]), float(self.totals[-1] - self.totals[zero])
        slope = 2.0 * (positive * qmax - negative * qmin)
        if slope == 0.0:
            return 1.0
        return best_scale(
            lambda scales: code_moments(self.values, self.totals, scales, qmin, qmax),
            signal=float(self.values @ self.values),
            slope=slope,
            largest=2.0 * self.largest,
            octaves=int(math.log2(max(-qmin, qmax))) + 5,
        )
