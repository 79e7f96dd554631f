"""Float64 numbers as the rational numbers that they are: nothing is rounded.

Every finite float64 is a whole number over a power of two, so that sums and products of Python's own
integers are exact, however far apart the numbers lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from operator import mul

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import Enclosure, down

__all__ = ["enclosed", "exact_dot", "exact_product", "fractions", "greatest_step", "step_of"]


def fractions(values: NDArray[np.float64] | NDArray[np.int64]) -> list[Fraction]:
    """The values of a vector as they are."""
    return [Fraction(value) for value in values.tolist()]


def exact_dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """aᵀb."""
    return sum(map(mul, a, b), Fraction(0))


def exact_product(matrix: NDArray[np.float64], vector: Sequence[Fraction]) -> list[Fraction]:
    """Matrix times vector, shapes (m, n) and (n,)."""
    common = math.lcm(*(value.denominator for value in vector))
    scaled = [value.numerator * (common // value.denominator) for value in vector]
    rows = map(_whole_numbers, matrix)
    return [Fraction(sum(map(mul, row, scaled)), common << exponent) for row, exponent in rows]


def step_of(values: NDArray[np.float64]) -> Fraction:
    """The greatest number that all values of a vector are whole multiples of; 0 where all are zero."""
    whole, exponent = _whole_numbers(values)
    return Fraction(math.gcd(*whole), 1 << exponent)


def greatest_step(values: Iterable[Fraction]) -> Fraction:
    """The same of rational numbers."""
    step = Fraction(0)
    for value in values:
        numerator = math.gcd(step.numerator * value.denominator, value.numerator * step.denominator)
        step = Fraction(numerator, step.denominator * value.denominator)
    return step


def enclosed(lower: Fraction, upper: Fraction) -> Enclosure:
    """The least interval of float64 numbers that holds both."""
    return Enclosure(_below(lower), -_below(-upper))


def _below(value: Fraction) -> float:
    """The largest float64 that is not above `value`."""
    try:
        nearest = float(value)
    except OverflowError:
        return -math.inf if value < 0 else down(math.inf)
    return nearest if nearest <= value else down(nearest)


def _whole_numbers(values: NDArray[np.float64]) -> tuple[list[int], int]:
    """Whole numbers m and one exponent e with value = m / 2^e."""
    ratios = [value.as_integer_ratio() for value in values.tolist()]
    exponent = max((denominator.bit_length() - 1 for _, denominator in ratios), default=0)
    return [m << (exponent - denominator.bit_length() + 1) for m, denominator in ratios], exponent
