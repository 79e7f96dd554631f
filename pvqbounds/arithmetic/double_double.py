"""Compiled double-double sums: what :mod:`pvqbounds.arithmetic.enclosures` closes with a proof.

Numba compiles without contraction to fused operations, so that the error-free transformations of
Dekker and Knuth are what they say.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["form"]

_SPLITTER = 134217729.0  # 2^27 + 1


@numba.njit(cache=True, nogil=True, inline="always")
def _two_product(a, b):  # type: ignore[no-untyped-def]
    product = a * b
    split_a, split_b = _SPLITTER * a, _SPLITTER * b
    a_high, b_high = split_a - (split_a - a), split_b - (split_b - b)
    a_low, b_low = a - a_high, b - b_high
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


@numba.njit(cache=True, nogil=True, inline="always")
def _two_sum(a, b):  # type: ignore[no-untyped-def]
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


@numba.njit(cache=True, nogil=True)
def form(gram, high, low):  # type: ignore[no-untyped-def]
    """dᵀGd at d = high + low as a pair (value, correction), and the sum of |d|ᵀ|G||d|.

    The columns of G are summed next to one another, each in the order of its entries: no sum waits
    for another one, so that the inner loop runs on all lanes of a register.
    """
    n = len(high)
    column, column_low, size = np.zeros(n), np.zeros(n), np.zeros(n)  # dᵀG and |d|ᵀ|G|
    for i in range(n):
        own, own_low = high[i], low[i]
        own_size = abs(own) + abs(own_low)
        for j in range(n):
            product, error = _two_product(gram[i, j], own)
            column[j], carry = _two_sum(column[j], product)
            column_low[j] += carry + (error + gram[i, j] * own_low)
            size[j] += abs(gram[i, j]) * own_size
    value, correction, terms = 0.0, 0.0, 0.0
    for j in range(n):
        own, own_low = _two_sum(column[j], column_low[j])
        product, error = _two_product(own, high[j])
        value, carry = _two_sum(value, product)
        correction += carry + (error + (own * low[j] + own_low * high[j]))
        terms += size[j] * (abs(high[j]) + abs(low[j]))
    return value, correction, terms
