"""Quantization of one output channel as an integer least-squares problem."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.arithmetic import Enclosure, quadratic_form, scaled_difference
from pvqbounds.problems.gram import Gram, as_real_array

__all__ = ["IntegerLeastSquares"]

LARGEST_CODE = 2**31
LARGEST_ERROR = 1e280
"""Errors of a problem's allowed weights must stay below: float64 ends at 1e308."""


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
        object.__setattr__(self, "qmin", _checked_code(qmin, "qmin"))
        object.__setattr__(self, "qmax", _checked_code(qmax, "qmax"))
        if self.qmin > self.qmax:
            raise InputError(f"qmin = {self.qmin} is larger than qmax = {self.qmax}.")
        check_magnitude(matrix, vector, self.scale * max(abs(self.qmin), abs(self.qmax)))

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
    check_magnitude(matrix, vector, 0.0)
    return matrix, vector


def check_magnitude(gram: NDArray[np.float64], weight: NDArray[np.float64], reach: float) -> None:
    """Refuse problems whose errors, for weights of magnitude up to `reach`, come near to overflow.

    Raises
    ------
    InputError
        If they could exceed 1e280.
    """
    logs = math.log10(max(float(np.abs(gram).max()), 1.0))
    logs += 2.0 * math.log10(max(float(np.abs(weight).max()), reach, 1.0))
    if logs + 2.0 * math.log10(len(weight)) > math.log10(LARGEST_ERROR):
        raise InputError("The numbers are so large that errors would overflow; rescale the inputs.")


def _checked_scale(scale: float) -> float:
    try:
        value = float(scale)
    except (TypeError, ValueError) as error:
        raise InputError(f"The scale must be a positive number, not {scale!r}.") from error
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"The scale must be positive and finite, not {value}.")
    return value


def _checked_code(code: int, name: str) -> int:
    if isinstance(code, bool) or int(code) != code or abs(code) > LARGEST_CODE:
        raise InputError(f"{name} must be an integer of at most 2^31 in magnitude, not {code!r}.")
    return int(code)
