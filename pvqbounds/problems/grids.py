"""Uniform grids: the codes of a bit width, and the scale that fits them to a set of weights."""

from __future__ import annotations

import math
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.ranges import SortedWeights
from pvqbounds.problems.validation import as_real_array

__all__ = [
    "RangeMethod",
    "checked_range_method",
    "minmax_scale",
    "mse_scale",
    "range_scale",
    "symmetric_codes",
]

RangeMethod = Literal["mse", "minmax"]

LARGEST_SWEEP = 2**15
"""Breakpoints up to which :func:`mse_scale` sorts them all; beyond, branch and bound is faster."""


def symmetric_codes(bits: int) -> tuple[int, int]:
    """Smallest and largest code (-2^(b-1), 2^(b-1) - 1) of b bits.

    Raises
    ------
    InputError
        Unless `bits` is a whole number from 2 to 16: with one bit only -1 and 0 would be left.
    """
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or not 2 <= bits <= 16:
        raise InputError(f"The bit width must be a whole number from 2 to 16, not {shown(bits)}.")
    half = 2 ** (int(bits) - 1)
    return -half, half - 1


def minmax_scale(weights: ArrayLike, qmin: int, qmax: int) -> float:
    """Smallest scale s whose grid clips nothing: s qmin <= w <= s qmax for every weight w.

    Parameters
    ----------
    weights
        Any shape. Where all are zero every scale is exact, and 1.0 is returned.
    qmin, qmax
        Smallest and largest code.

    Raises
    ------
    InputError
        If the weights are empty or not finite, or if the codes have no sign that some weight
        needs, so that every scale clips it.
    """
    w = _flat(weights)
    low, high = float(w.min()), float(w.max())
    if (high > 0.0 and qmax <= 0) or (low < 0.0 and qmin >= 0):
        raise InputError(
            f"No scale spans weights from {low:.3g} to {high:.3g} by codes from {qmin} to {qmax}; "
            "take codes of both signs."
        )
    if low == 0.0 == high:
        return 1.0
    scale = max(high / qmax if high > 0.0 else 0.0, low / qmin if low < 0.0 else 0.0)
    while scale * qmax < high or scale * qmin > low:  # the division may have rounded down
        scale = math.nextafter(scale, math.inf)
    return scale


def mse_scale(weights: ArrayLike, qmin: int, qmax: int) -> float:
    """Scale s that minimises the squared weight error, sum of (w - s clip(round(w / s)))².

    For fixed codes k the best scale is sum(w k) / sum(k²) and leaves an error of
    sum(w²) - sum(w k)² / sum(k²). As s falls from infinity, each |k| climbs by one whenever s
    passes a breakpoint |w| / (j + 1/2); a sweep over the sorted breakpoints meets every set of
    nearest codes, and so the global minimum. Where there are more than `LARGEST_SWEEP` breakpoints,
    the branch and bound of :mod:`pvqbounds.problems.ranges` proves the same up to a billionth.

    Nothing here is absolute: the scale of 2^p w is exactly 2^p times that of w, short of
    overflow and underflow.

    Parameters
    ----------
    weights
        Any shape.
    qmin, qmax
        Smallest and largest code, qmin <= 0 <= qmax.

    Returns
    -------
    float
        The scale; 1.0 where code 0 for every weight is the best there is (all weights zero, or
        of a sign that the codes lack).

    Raises
    ------
    InputError
        If the weights are empty or not finite, or if code 0 is not on the grid.
    """
    w = _flat(weights)
    if not qmin <= 0 <= qmax:
        raise InputError(f"The range search needs code 0 on the grid, not codes from {qmin} to {qmax}.")
    reach = np.where(w > 0.0, qmax, -qmin).astype(np.int64)  # largest |k| of the weight's own sign
    movable = (w != 0.0) & (reach > 0)
    if not movable.any():
        return 1.0
    if reach.sum() > LARGEST_SWEEP:
        sorted_weights = SortedWeights.of(w[movable])
        scale, exponent = sorted_weights.best_scale(qmin, qmax), sorted_weights.exponent
    else:
        exponent = math.frexp(float(np.abs(w).max()))[1]
        # at most 1: no sum of products overflows
        scale = _sweep(np.ldexp(np.abs(w[movable]), -exponent), reach[movable])
    scale = math.ldexp(scale, exponent)
    return scale if scale > 0.0 else math.ulp(0.0)  # underflow: the smallest scale there is


def _sweep(magnitude: NDArray[np.float64], reach: NDArray[np.int64]) -> float:
    """Best scale over all breakpoints of |w| = `magnitude`, codes up to `reach`."""
    owner = np.repeat(np.arange(len(reach)), reach)
    code = np.arange(len(owner)) - np.repeat(np.cumsum(reach) - reach, reach)
    order = np.argsort(-magnitude[owner] / (code + 0.5), kind="stable")
    # sum |w k| and sum k² after each breakpoint, in falling order
    products = np.cumsum(magnitude[owner[order]])
    squares = np.cumsum(2 * code[order] + 1)
    best = int(np.argmax(products / np.sqrt(squares)))
    return float(products[best] / squares[best])


def _flat(weights: ArrayLike) -> NDArray[np.float64]:
    return as_real_array(np.ravel(np.asarray(weights)), "The weights", ndim=1)


def range_scale(method: str, weights: ArrayLike, qmin: int, qmax: int) -> float:
    """Scale found by the range method of that name, "mse" or "minmax".

    Raises
    ------
    InputError
        If there is no such method, or as the method itself does.
    """
    finders = {"mse": mse_scale, "minmax": minmax_scale}
    return finders[checked_range_method(method)](weights, qmin, qmax)


def checked_range_method(method: str) -> RangeMethod:
    """`method`, if there is one of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    names = get_args(RangeMethod)
    if not isinstance(method, str) or method not in names:
        raise InputError(f"The range method must be one of {', '.join(names)}, not {shown(method)}.")
    return cast(RangeMethod, method)
