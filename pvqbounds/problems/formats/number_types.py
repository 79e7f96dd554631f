"""Number types that scales and weights are stored in, rounded to exactly as hardware does.

All of them are parts of float64, in which every number here is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError

__all__ = ["BF16", "E2M1", "E4M3", "E5M2", "FP16", "FP32", "FP64", "STORED", "NumberType", "in_float32"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NumberType:
    """A binary floating-point type with a sign, subnormal numbers and a largest number."""

    name: str
    bits: int
    mantissa: int
    """Stored bits of the mantissa."""
    least_exponent: int
    """Exponent of the smallest normal number."""
    largest: float

    @property
    def smallest(self) -> float:
        """The smallest positive number, a subnormal one."""
        return float(np.ldexp(1.0, self.least_exponent - self.mantissa))

    def nearest(self, values: Array) -> Array:
        """Round to nearest, ties to the even mantissa; what lies beyond the largest becomes infinite."""
        exponent = np.maximum(np.frexp(values)[1] - 1, self.least_exponent) - self.mantissa
        with np.errstate(over="ignore"):
            rounded = np.ldexp(np.rint(np.ldexp(values, -exponent)), exponent)
        beyond = np.abs(rounded) > self.largest
        return np.asarray(np.where(beyond, np.copysign(np.inf, rounded), rounded), dtype=np.float64)

    def stored_values(self, values: Array) -> Array:
        """Round to nearest.

        Raises
        ------
        InputError
            If a value is beyond the largest number.
        """
        rounded = self.nearest(values)
        if not np.isfinite(rounded).all():
            raise InputError(
                f"A scale or offset of {np.abs(values).max():.3g} is more than {self.name} holds "
                f"({self.largest:.6g}); rescale the weights or take a format that stores wider numbers."
            )
        return rounded

    def stored_scales(self, scales: Array) -> Array:
        """Scales as this type stores them, none of them 0.

        A scale of 0 belongs to weights that are all zero, for which every scale is exact: it becomes 1.
        One that would be rounded to 0, so that all its weights were lost, becomes the smallest number.
        """
        rounded = self.stored_values(scales)
        lost = np.where(scales == 0.0, 1.0, np.copysign(self.smallest, scales))
        return np.where(rounded == 0.0, lost, rounded)

    def levels(self) -> Array:
        """Every number of the type, ascending; for types of 8 bits and fewer."""
        fractions = np.arange(2**self.mantissa) / 2**self.mantissa
        normal = np.ldexp(1.0 + fractions, np.arange(self.least_exponent, 64)[:, None]).ravel()
        positive = np.concatenate([np.ldexp(fractions, self.least_exponent), normal[normal <= self.largest]])
        return np.concatenate([-positive[:0:-1], positive])


FP64 = NumberType("fp64", 64, 52, -1022, float(np.finfo(np.float64).max))
FP32 = NumberType("fp32", 32, 23, -126, float(np.finfo(np.float32).max))
BF16 = NumberType("bf16", 16, 7, -126, (2.0 - 2.0**-7) * 2.0**127)
FP16 = NumberType("fp16", 16, 10, -14, 65504.0)
E5M2 = NumberType("e5m2", 8, 2, -14, 57344.0)
E4M3 = NumberType("e4m3", 8, 3, -6, 448.0)  # E4M3fn: no infinity, one NaN
E2M1 = NumberType("e2m1", 4, 1, 0, 6.0)

STORED = {kind.name: kind for kind in (FP16, BF16, FP32, FP64)}
"""Types that scales may be asked to have, by name."""


def in_float32(values: Array) -> Array:
    """Round to float32, the arithmetic of decoders.

    Raises
    ------
    InputError
        If a value overflows.
    """
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32).astype(np.float64)
    if not np.isfinite(rounded).all():
        raise InputError("A decoded weight overflows float32; rescale the weights.")
    return np.asarray(rounded)
