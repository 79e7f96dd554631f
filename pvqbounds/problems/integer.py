"""Quantization of one output channel as an integer least-squares problem."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.arithmetic import Enclosure, quadratic_form, scaled_difference
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.validation import as_real_array, whole_number

__all__ = ["IntegerLeastSquares"]

LARGEST_CODE = 2**31
LARGEST_EXPONENT, SMALLEST_EXPONENT = 280.0, -250.0
"""Decimal exponents between which errors must lie: float64 ends at 308 and -308."""


@dataclass(frozen=True, eq=False)
class IntegerLeastSquares:
    """Minimise E(v) = (v - w)ᵀ G (v - w) over v = s z, z integer in [qmin, qmax]ⁿ.

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n), symmetric positive semidefinite; a :class:`Gram` is taken as it
        is, so that the channels of a layer check and hold it once.
    weight
        w, shape (n,).
    scale
        Step s > 0 of the uniform grid.
    qmin, qmax
        Smallest and largest code.

    Raises
    ------
    InputError
        If a value is not finite, shapes disagree, the Gram is asymmetric or indefinite, the
        scale is not positive or qmin > qmax.
    """

    gram: NDArray[np.float64]
    weight: NDArray[np.float64]
    scale: float
    qmin: int
    qmax: int

    def __init__(self, gram: Gram | ArrayLike, weight: ArrayLike, scale: float, qmin: int, qmax: int) -> None:
        matrix, vector = checked_pair(gram, weight)
        object.__setattr__(self, "gram", matrix)
        object.__setattr__(self, "weight", vector)
        object.__setattr__(self, "scale", _checked_scale(scale))
        object.__setattr__(self, "qmin", whole_number(qmin, "qmin", -LARGEST_CODE, LARGEST_CODE))
        object.__setattr__(self, "qmax", whole_number(qmax, "qmax", -LARGEST_CODE, LARGEST_CODE))
        if self.qmin > self.qmax:
            raise InputError(f"qmin = {self.qmin} is larger than qmax = {self.qmax}.")
        check_magnitude(matrix, self.scale, self.scale * max(abs(self.qmin), abs(self.qmax)))

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.weight)

    @property
    def centre(self) -> NDArray[np.float64]:
        """c = w/s: the weights in units of the step, rounded to float64, shape (n,)."""
        return np.divide(self.weight, self.scale, dtype=np.float64)

    @cached_property
    def signal(self) -> Enclosure:
        """Enclosure of wᵀGw."""
        return quadratic_form(self.gram, self.weight)

    def codes_of_nearest(self) -> NDArray[np.int64]:
        """Round to nearest, clipped to the grid, shape (n,)."""
        nearest: NDArray[np.int64] = np.rint(np.clip(self.centre, self.qmin, self.qmax)).astype(np.int64)
        return nearest

    def checked_codes(self, codes: ArrayLike) -> NDArray[np.int64]:
        """`codes` as int64, shape (n,).

        Raises
        ------
        InputError
            If they are not integers, not n of them, or outside [qmin, qmax].
        """
        array = as_real_array(codes, "The codes", ndim=1)
        if len(array) != self.n or (array != np.rint(array)).any():
            raise InputError(f"The codes must be {self.n} integers.")
        if array.min() < self.qmin or array.max() > self.qmax:
            raise InputError(
                f"A code lies outside the grid [{self.qmin}, {self.qmax}]: "
                f"they run from {array.min():.0f} to {array.max():.0f}."
            )
        return array.astype(np.int64)

    def weight_of(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """v = s z, shape (n,)."""
        return np.multiply(self.scale, codes, dtype=np.float64)

    def error(self, codes: NDArray[np.int64]) -> Enclosure:
        """Enclosure of E(s z), the mean squared output error of the codes z (exact s z, not rounded)."""
        return quadratic_form(self.gram, *scaled_difference(self.scale, codes, self.weight))


def checked_pair(
    gram: Gram | ArrayLike, weight: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gram matrix and weight vector, validated and of one size."""
    matrix = gram.matrix if isinstance(gram, Gram) else Gram(gram).matrix
    vector = as_real_array(weight, "The weight", ndim=1)
    if len(vector) != len(matrix):
        raise InputError(f"The Gram matrix has {len(matrix)} inputs, but the weight has {len(vector)}.")
    check_magnitude(matrix, float(np.abs(vector).max()))
    return matrix, vector


def check_magnitude(gram: NDArray[np.float64], *sizes: float) -> None:
    """Refuse problems whose errors, for weights of these sizes, come near to overflow or underflow.

    Raises
    ------
    InputError
        If G times a size squared is above 1e280 or, where it is not zero, below 1e-250.
    """
    largest = float(np.abs(gram).max())
    for size in sizes:
        if size == 0.0 or largest == 0.0:
            continue
        exponent = math.log10(largest) + 2.0 * math.log10(size * len(gram))
        if exponent > LARGEST_EXPONENT:
            raise InputError("The numbers are so large that errors would overflow; rescale the inputs.")
        if exponent < SMALLEST_EXPONENT:
            raise InputError("The numbers are so small that errors would underflow; rescale the inputs.")


def _checked_scale(scale: float) -> float:
    try:
        value = float(scale)
    except (TypeError, ValueError) as error:
        raise InputError(f"The scale must be a positive number, not {shown(scale)}.") from error
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"The scale must be positive and finite, not {value}.")
    return value
