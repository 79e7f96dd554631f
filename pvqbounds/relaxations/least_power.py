"""The least power zᵀGz of codes z: what keeps their best scales from growing without end.

Where G is proved definite, its least eigenvalue bounds it, and bounds it badly where a direction of G has
next to no power: hardly any whole numbers lie near a line. Those that do are counted. In units
y_i = 2^(p_i) z_i, in which G becomes B with a diagonal near 1, let R be a minorant of B + delta I, so that

    zᵀGz = yᵀBy >= |Ry|² - delta |y|².

All codes of a box with zᵀGz below a threshold are met, entry by entry from the last to the first, by keeping
what |Ry|² of the entries so far allows. Each entry is all but settled by those before it, but for as many as
G has directions of no power; a threshold at which too many are left is lowered. Codes with Gz = 0 exactly, as
copies of an input have them, have the error of the zero code at every scale, and do not count.

Source: U. Fincke and M. Pohst, "Improved methods for calculating vectors of short length in a lattice",
Mathematics of Computation 44, 1985, in a box and with rounding accounted for.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import equilibration, minorant, proof_margin, proved_shift
from pvqbounds.arithmetic.enclosures import down, gamma, quadratic_form

__all__ = ["least_power"]

Array = NDArray[np.float64]

AMPLE = 1e-2
"""A proved least eigenvalue, in units of the diagonal, beyond which codes are not counted."""

THRESHOLDS = tuple(10.0**-k for k in range(1, 8))
"""Of zᵀGz, over the least power of one entry of 1; the largest that leaves few enough codes counts."""

MOST_NUMBERS = 5_000_000
"""Numbers that may be held for the codes that are left at an entry, before the threshold is lowered."""

LIFT = 1e-10
"""delta at least, so that a Gram that rounding has made a hair indefinite has a minorant too."""

MOST_BELOW = 1000
"""Codes below the threshold that are looked at one by one."""


def least_power(gram: Array, qmin: int, qmax: int) -> float:
    """A proved lower bound on zᵀGz of codes z with Gz other than 0; 0 where none is proved.

    Parameters
    ----------
    gram
        G, shape (n, n), with a positive diagonal.
    qmin, qmax
        Smallest and largest code.
    """
    power = equilibration(gram)
    equal = np.ldexp(gram, -power[:, None] - power)
    shift = proved_shift(equal)
    one = float(np.ldexp(1.0, 2 * int(power.min())))  # the least |y|² of y other than 0
    definite = 0.0 if shift is None else max(down(shift * one), 0.0)
    if shift is not None and shift >= AMPLE:
        return definite
    size = float(np.ldexp(1.0, 2 * power).sum()) * float(max(abs(qmin), abs(qmax))) ** 2
    lift = max(2.0 * proof_margin(len(gram)), LIFT)
    factor = minorant(equal + lift * np.eye(len(gram)))
    if factor is None:
        return definite
    # more than delta |y|², and than what sums of |Ry|² round
    lost = 2.0 * (lift + len(gram) * gamma(2 * len(gram) + 8)) * size
    for threshold in THRESHOLDS:
        below = _codes_within(factor * np.ldexp(1.0, power), threshold * one + lost, qmin, qmax)
        if below is not None:
            return max(definite, _least_of(gram, below, threshold * one))
    return definite


def _codes_within(factor: Array, limit: float, qmin: int, qmax: int) -> NDArray[np.int64] | None:
    """All codes z of the box with |Rz|² up to a limit, shape (m, n); None where there are too many."""
    if qmax - qmin >= MOST_NUMBERS:
        return None
    n, entries = len(factor), np.arange(qmin, qmax + 1)
    codes, sums = np.zeros((1, n), dtype=np.int64), np.zeros(1)
    for i in range(n - 1, -1, -1):
        if len(codes) * len(entries) > MOST_NUMBERS:
            return None
        offset = codes[:, i + 1 :] @ factor[i, i + 1 :]
        found = sums[:, None] + (offset[:, None] + factor[i, i] * entries) ** 2
        row, entry = np.nonzero(found <= limit)
        if len(row) * n > MOST_NUMBERS:
            return None
        codes, sums = codes[row], found[row, entry]
        codes[:, i] = entries[entry]
    return codes


def _least_of(gram: Array, codes: NDArray[np.int64], threshold: float) -> float:
    """The least zᵀGz of codes with Gz other than 0, rounded down, and no more than a threshold."""
    least = threshold
    codes = codes[codes.any(axis=1)]
    if len(codes) > MOST_BELOW:
        return 0.0
    for z in codes:
        if not _has_no_power(gram, z):
            least = min(least, quadratic_form(gram, z.astype(np.float64)).lower)
    return max(least, 0.0)


def _has_no_power(gram: Array, codes: NDArray[np.int64]) -> bool:
    """Whether Gz is exactly zero."""
    places = np.flatnonzero(codes)
    used = [Fraction(int(k)) for k in codes[places]]
    return all(
        sum(k * Fraction(float(g)) for k, g in zip(used, row, strict=True)) == 0 for row in gram[:, places]
    )
