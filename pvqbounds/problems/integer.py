"""Quantization of one output channel as an integer least-squares problem."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.arithmetic.enclosures import Enclosure, quadratic_form, scaled_difference
from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.units import Units, enclosure_scaled, exponent_of, scaled_exactly
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

    task: ClassVar[str] = "quantization"
    """Kind of the problem, as sides of a layer are told apart by it."""
    shared: Gram
    """The Gram, which the channels of a layer have in common."""
    gram: NDArray[np.float64]
    """Its matrix."""
    weight: NDArray[np.float64]
    scale: float
    qmin: int
    qmax: int

    def __init__(self, gram: Gram | ArrayLike, weight: ArrayLike, scale: float, qmin: int, qmax: int) -> None:
        shared, vector = checked_pair(gram, weight)
        object.__setattr__(self, "shared", shared)
        object.__setattr__(self, "gram", shared.matrix)
        object.__setattr__(self, "weight", vector)
        object.__setattr__(self, "scale", _checked_scale(scale))
        object.__setattr__(self, "qmin", whole_number(qmin, "qmin", -LARGEST_CODE, LARGEST_CODE))
        object.__setattr__(self, "qmax", whole_number(qmax, "qmax", -LARGEST_CODE, LARGEST_CODE))
        if self.qmin > self.qmax:
            raise InputError(f"qmin = {self.qmin} is larger than qmax = {self.qmax}.")
        largest = self.scale * max(abs(self.qmin), abs(self.qmax))
        if not math.isfinite(largest):
            raise InputError("The grid is so large that its ends overflow; rescale the weights.")
        check_magnitude(shared.matrix, self.scale, largest)
        self.in_units(self.units)  # refuses weights that lie too far apart

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.weight)

    @cached_property
    def units(self) -> Units:
        """Units in which the largest numbers are near 1."""
        reach = self.scale * max(abs(self.qmin), abs(self.qmax), 1)
        return Units(self.shared.exponent, exponent_of(max(float(np.abs(self.weight).max()), reach)))

    @cached_property
    def normalised(self) -> IntegerLeastSquares:
        """The same problem in :attr:`units`: what solvers and proofs work on."""
        return self.in_units(self.units)

    def in_units(self, units: Units) -> IntegerLeastSquares:
        """The problem with its Gram over ``2**units.gram``, weights and step over ``2**units.weight``.

        Raises
        ------
        InputError
            If a number is lost by underflow or overflows.
        """
        if units == (0, 0):
            return self
        scale = float(scaled_weights(np.array([self.scale]), -units.weight)[0])
        weight = scaled_weights(self.weight, -units.weight)
        other = moved(self, self.shared.in_units(units.gram), weight)
        object.__setattr__(other, "scale", scale)
        return other

    @property
    def centre(self) -> NDArray[np.float64]:
        """c = w/s: the weights in units of the step, rounded to float64, shape (n,)."""
        return np.divide(self.weight, self.scale, dtype=np.float64)

    @cached_property
    def signal(self) -> Enclosure:
        """Enclosure of wᵀGw."""
        form = quadratic_form(self.normalised.gram, self.normalised.weight)
        return enclosure_scaled(form, self.units.error)

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
        """Enclosure of E(s z), the mean squared output error of the codes z (exact s z, not rounded).

        Raises
        ------
        InputError
            If `codes` are not n integers: weights v are no codes.
        """
        codes = np.asarray(codes)
        if codes.shape != (self.n,) or (codes.dtype.kind not in "iu" and (codes != np.rint(codes)).any()):
            raise InputError(f"The error is that of {self.n} whole codes z; give z, not the weights s z.")
        inner = self.normalised
        form = quadratic_form(inner.gram, *scaled_difference(inner.scale, codes, inner.weight))
        return enclosure_scaled(form, self.units.error)


def error_form(problem: IntegerLeastSquares) -> NDArray[np.float64]:
    """G over its mean diagonal: a form whose order of errors is the problem's, in units of codes."""
    mean = float(np.mean(np.diagonal(problem.gram)))
    return problem.gram / mean if mean > 0.0 else problem.gram


def checked_pair(gram: Gram | ArrayLike, weight: ArrayLike) -> tuple[Gram, NDArray[np.float64]]:
    """Gram and weight vector, validated and of one size."""
    shared = gram if isinstance(gram, Gram) else Gram(gram)
    vector = as_real_array(weight, "The weight", ndim=1)
    if len(vector) != shared.n:
        raise InputError(f"The Gram matrix has {shared.n} inputs, but the weight has {len(vector)}.")
    check_magnitude(shared.matrix, float(np.abs(vector).max()))
    return shared, vector


P = TypeVar("P", bound=Any)


def moved(problem: P, shared: Gram, weight: NDArray[np.float64]) -> P:
    """The problem with another Gram and other weights that need no check: its own in other units."""
    other = copy(problem)
    for name in ("units", "normalised", "signal"):
        other.__dict__.pop(name, None)
    for name, value in (("shared", shared), ("gram", shared.matrix), ("weight", weight)):
        object.__setattr__(other, name, value)
    return other


def scaled_weights(weight: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """``weight * 2**exponent``.

    Raises
    ------
    InputError
        If a number is lost by underflow or overflows.
    """
    scaled = scaled_exactly(weight, exponent)
    if scaled is None:
        raise InputError(
            "The weights and the scale lie further apart than float64 can hold in one unit; "
            "rescale them or round the smallest to zero."
        )
    return scaled


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
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"The scale must be a positive number, not {shown(scale)}.") from error
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"The scale must be positive and finite, not {value}.")
    return value
