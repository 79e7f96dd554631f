"""Powers of two between a problem's numbers and numbers near 1.

A Gram of 1e300 or weights of 1e-150 are no harder than any others, but products of theirs overflow
or underflow. Multiplication by powers of two rounds nothing: solvers and proofs work on the problem
in units in which its largest numbers lie near 1, and what they give is moved back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import Enclosure

__all__ = ["Units", "enclosure_scaled", "exponent_of", "scaled_down", "scaled_exactly", "scaled_up"]

ORDINARY = 64
"""Exponents of two up to which numbers stay as they are: no product of them comes near to the ends."""

FINE = -768
"""Exponents of two below which multipliers of problems near 1 may lose digits: float64 ends at -1074."""


class Units(NamedTuple):
    """A Gram in units of ``2**gram``, weights in units of ``2**weight``."""

    gram: int
    weight: int

    @property
    def error(self) -> int:
        """Errors are in units of two to this power."""
        return self.gram + 2 * self.weight

    @property
    def lose_digits(self) -> bool:
        """Whether multipliers that are about numbers near 1 may lose digits in the problem's own units."""
        return min(self.gram, self.gram + self.weight) < FINE

    @property
    def inverse(self) -> Units:
        """The units that lead back."""
        return Units(-self.gram, -self.weight)


def exponent_of(largest: float) -> int:
    """Exponent of the power of two to divide numbers by whose largest is this; 0 where that is ordinary."""
    exponent = math.frexp(largest)[1]
    return exponent if abs(exponent) > ORDINARY else 0


def scaled_exactly(values: NDArray[np.float64], exponent: int) -> NDArray[np.float64] | None:
    """``values * 2**exponent``, or None where a value overflows or loses digits."""
    if exponent == 0:
        return values
    with np.errstate(over="ignore"):
        scaled = np.ldexp(values, exponent)
        back = np.ldexp(scaled, -exponent)
    return scaled if np.array_equal(back, values) else None


def scaled_down(value: float, exponent: int) -> float:
    """``value * 2**exponent``, rounded down where it is not a float64."""
    return -scaled_up(-value, exponent)


def scaled_up(value: float, exponent: int) -> float:
    """``value * 2**exponent``, rounded up where it is not a float64."""
    if exponent == 0:
        return value
    with np.errstate(over="ignore"):
        scaled, back = float(np.ldexp(value, exponent)), 0.0
        if math.isfinite(scaled):
            back = float(np.ldexp(scaled, -exponent))
        elif math.isfinite(value):
            return scaled if scaled > 0.0 else -float(np.finfo(np.float64).max)
        else:
            return scaled
    return scaled if back >= value else math.nextafter(scaled, math.inf)


def enclosure_scaled(enclosure: Enclosure, exponent: int) -> Enclosure:
    """An enclosure of what `enclosure` encloses, times ``2**exponent``."""
    if exponent == 0:
        return enclosure
    return Enclosure(scaled_down(enclosure.lower, exponent), scaled_up(enclosure.upper, exponent))
