"""Compiled double-double sums: what :mod:`pvqbounds.arithmetic.enclosures` closes with a proof.

Numba compiles without contraction to fused operations, so that the error-free transformations of
Dekker and Knuth are what they say.
"""

from __future__ import annotations

import numba

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
    """dᵀGd at d = high + low as a pair (value, correction), and the sum of |d|ᵀ|G||d|."""
    n = len(high)
    value, correction, terms = 0.0, 0.0, 0.0
    for i in range(n):
        row, row_low, size = 0.0, 0.0, 0.0
        for j in range(n):
            product, error = _two_product(gram[i, j], high[j])
            row, carry = _two_sum(row, product)
            row_low += carry + (error + gram[i, j] * low[j])
            size += abs(gram[i, j]) * (abs(high[j]) + abs(low[j]))
        row, row_low = _two_sum(row, row_low)
        product, error = _two_product(row, high[i])
        value, carry = _two_sum(value, product)
        correction += carry + (error + (row * low[i] + row_low * high[i]))
        terms += size * (abs(high[i]) + abs(low[i]))
    return value, correction, terms
