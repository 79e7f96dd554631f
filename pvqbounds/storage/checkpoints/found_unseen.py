"""What numbers of 16 bits leave open of a scale, and so of the levels that no weight shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import BF16, FP16, FP32, NumberType
from pvqbounds.storage.checkpoints.found_steps import rounded_to

__all__ = ["has_16_bits", "of_roundings", "of_scale", "stored_between"]

Array = NDArray[np.float64]

NEIGHBOURS = (
    "values that no weight of a block has may be neighbours in 16 bits: it holds for all, and what was found "
    "may have any"
)
"""What is said of a grid that holds them."""

ONCE = "that each weight is its product rounded once, in the end"
LAST_PLACE = "values to the last place of float32"
UNROUNDED = "that no 16 bits, which hold all of its numbers, rounded them before"


def has_16_bits(kind: NumberType) -> bool:
    """Whether a file's numbers are so short that they hide what exactly a scale is."""
    return kind.mantissa < FP32.mantissa


def of_roundings(weight: Array, kind: NumberType) -> list[str]:
    """What is presumed of how often weights were rounded, and what that leaves open."""
    if has_16_bits(kind):
        return [ONCE, NEIGHBOURS]
    short = any(np.array_equal(number.nearest(weight), weight) for number in (BF16, FP16))
    return [LAST_PLACE] * (kind.mantissa == FP32.mantissa) + [UNROUNDED] * short


def of_scale(sizes: Array, units: Array, kind: NumberType) -> tuple[Array, Array]:
    """The scales at which the units of each block are stored as some magnitudes: from, and to.

    Parameters
    ----------
    sizes
        Shape (blocks, any number).
    units
        Magnitudes of the same shape; where they are 0 they say nothing.
    """
    below, above = rounded_to(sizes, kind)
    some = units > 0.0
    units = np.where(some, units, 1.0)
    low = np.where(some, below / units, -np.inf).max(axis=1)
    high = np.where(some, above / units, np.inf).min(axis=1)
    return np.minimum(low, high), np.maximum(low, high)


def stored_between(low: Array, high: Array, kind: NumberType) -> Array:
    """All numbers of a type that those from low to high are rounded to, along a new first axis."""
    low, high = np.clip(low, -kind.largest, kind.largest), np.clip(high, -kind.largest, kind.largest)
    first, last = kind.nearest(low), kind.nearest(high)
    smallest = np.minimum(np.abs(first), np.abs(last))
    below, above = rounded_to(smallest, kind)
    apart = np.abs(last - first) / np.minimum(smallest - below, above - smallest)  # in halves of a place
    places = np.linspace(0.0, 1.0, 2 + int(apart.max(initial=0.0)))
    found: Array = kind.nearest(low + places.reshape(-1, *[1] * low.ndim) * (high - low))
    return found
