"""Float64 arithmetic whose rounding is accounted for.

Two tools, both without switching rounding modes (numpy cannot):

- *enclosures* of a quadratic form, evaluated in double-double and closed with an a-priori
  bound (Ogita, Rump, Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26, 2005);
- the constant gamma_k = k u / (1 - k u) that bounds k roundings in a row (Higham, "Accuracy
  and Stability of Numerical Algorithms", 2002, section 3.1), and steps to the next float.

The bounds assume that no intermediate result overflows; underflow is paid for by `TINY`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "TINY",
    "UNIT",
    "Enclosure",
    "difference",
    "down",
    "gamma",
    "inner_product",
    "quadratic_form",
    "scaled_difference",
    "total",
    "up",
]

UNIT = 2.0**-53
"""Unit roundoff of float64, rounding to nearest."""

TINY = 2.0**-1000
"""Absolute allowance that covers the underflow of any sum of products met here."""


class Enclosure(NamedTuple):
    """An interval that contains the exact value."""

    lower: float
    upper: float

    @property
    def middle(self) -> float:
        """A float in the interval, at most half its width off."""
        return self.lower + 0.5 * (self.upper - self.lower)


@lru_cache(maxsize=4096)  # of a few sizes, many times
def gamma(k: float) -> float:
    """Bound on the relative error of `k` float64 operations in a row, itself rounded up."""
    return up(k * UNIT / (1.0 - k * UNIT))


def up(value: float, steps: int = 1) -> float:
    """The float64 `steps` places above `value`: covers as many roundings of positive terms."""
    for _ in range(steps):
        value = math.nextafter(value, math.inf)
    return value


def down(value: float, steps: int = 1) -> float:
    """The float64 `steps` places below `value`."""
    return -up(-value, steps)


def total(values: Sequence[float]) -> float:
    """The sum, rounded once; nan where it overflows on the way."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # ValueError: infinities of both signs
        return math.nan


def _two_product(
    a: NDArray[np.float64] | float, b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Product and its exact rounding error (Dekker and Veltkamp)."""
    product = a * b
    split_a, split_b = 134217729.0 * a, 134217729.0 * b
    a_high, b_high = split_a - (split_a - a), split_b - (split_b - b)
    a_low, b_low = a - a_high, b - b_high
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def difference(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``a - b`` as an unevaluated pair (high, low), exactly."""
    return _two_sum(a, -b)


def _two_sum(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and its exact rounding error (Knuth)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def scaled_difference(
    scale: NDArray[np.float64] | float, codes: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``scale * codes - weight`` as an unevaluated pair (high, low), relative error 4 u^2 of the terms."""
    product, product_error = _two_product(scale, codes.astype(np.float64))
    difference, difference_error = _two_sum(product, -weight)
    return _two_sum(difference, product_error + difference_error)


def _around(value: float, radius: float) -> Enclosure:
    """The interval around `value`; everything where an overflow has left no value."""
    if not (math.isfinite(value) and math.isfinite(radius)):
        return Enclosure(-math.inf, math.inf)
    return Enclosure(down(value - radius), up(value + radius))


def inner_product(a: NDArray[np.float64], b: NDArray[np.float64]) -> Enclosure:
    """Enclose aᵀb for float64 vectors of shape (n,)."""
    product, error = _two_product(a, b)
    # every product is exact as a pair, and fsum rounds once
    pairs = np.concatenate([product, error])
    value = total(pairs.tolist()) if np.isfinite(pairs).all() else math.nan
    return _around(value, up(UNIT * abs(value) + TINY, 2))


def quadratic_form(
    gram: NDArray[np.float64], high: NDArray[np.float64], low: NDArray[np.float64] | None = None
) -> Enclosure:
    """Enclose dᵀ G d for the float64 matrix `gram`, shape (n, n), and d = high + low, shape (n,).

    The products G_ij d_j are summed in double-double, as are the products with d_i, so that the
    radius is about u |dᵀGd| + n² u² |d|ᵀ|G||d|: one unit in the last place wherever the form is
    not smaller than its terms by more than sixteen digits.
    """
    from pvqbounds.arithmetic.double_double import form

    low = np.zeros_like(high) if low is None else low
    value, correction, terms = form(gram, high, low)
    value += correction
    if terms == 0.0 and not gram[np.ix_(high != 0.0, high != 0.0)].any():
        return Enclosure(0.0, 0.0)  # exactly, not by underflow
    n = len(high)
    radius = up(2.0 * UNIT * abs(value) + (8.0 * n + 64.0) ** 2 * UNIT**2 * terms + TINY, 4)
    return _around(value, radius)
