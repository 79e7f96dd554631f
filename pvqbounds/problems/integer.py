"""Quantization of one output channel as an integer least-squares problem."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.arithmetic.enclosures import Enclosure, quadratic_form
from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.units import Units, enclosure_scaled, exponent_of, scaled_exactly
from pvqbounds.problems.validation import as_real_array, whole_number
from pvqbounds.problems.values import Steps

if TYPE_CHECKING:
    from pvqbounds.problems.quadratic import Quadratic

__all__ = ["IntegerLeastSquares"]

LARGEST_CODE = 2**31
LARGEST_EXPONENT, SMALLEST_EXPONENT = 280.0, -250.0
"""Decimal exponents between which errors must lie: float64 ends at 308 and -308."""


@dataclass(frozen=True, eq=False)
class IntegerLeastSquares:
    """Minimise E(v) = (v - w)ᵀ G (v - w) over v_i = s_i z_i, z_i integer in [qmin_i, qmax_i].

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n), symmetric positive semidefinite; a :class:`Gram` is taken as it
        is, so that the channels of a layer check and hold it once.
    weight
        w, shape (n,).
    scale
        Step s > 0 of the grid: a number, or one for each input, shape (n,), as groups have them.
    qmin, qmax
        Smallest and largest code, likewise: a zero point z of an input makes its box
        [qmin - z, qmax - z].

    Raises
    ------
    InputError
        If a value is not finite, shapes disagree, the Gram is asymmetric or indefinite, a
        scale is not positive or qmin > qmax.
    """

    task: ClassVar[str] = "quantization"
    """Kind of the problem, as sides of a layer are told apart by it."""
    shared: Gram
    """The Gram, which the channels of a layer have in common."""
    gram: NDArray[np.float64]
    """Its matrix."""
    weight: NDArray[np.float64]
    scale: float | NDArray[np.float64]
    qmin: int | NDArray[np.int64]
    qmax: int | NDArray[np.int64]

    def __init__(
        self,
        gram: Gram | ArrayLike,
        weight: ArrayLike,
        scale: float | ArrayLike,
        qmin: int | ArrayLike,
        qmax: int | ArrayLike,
    ) -> None:
        shared, vector = checked_pair(gram, weight)
        n = len(vector)
        object.__setattr__(self, "shared", shared)
        object.__setattr__(self, "gram", shared.matrix)
        object.__setattr__(self, "weight", vector)
        object.__setattr__(self, "scale", _checked_scale(scale, n))
        object.__setattr__(self, "qmin", _checked_ends(qmin, "qmin", n))
        object.__setattr__(self, "qmax", _checked_ends(qmax, "qmax", n))
        steps = self.steps
        wrong = np.flatnonzero(steps.qmin > steps.qmax)
        if len(wrong):
            low, high = steps.qmin[wrong[0]], steps.qmax[wrong[0]]
            where = f" at input {wrong[0]}" if np.ndim(self.qmin) or np.ndim(self.qmax) else ""
            raise InputError(f"qmin = {low} is larger than qmax = {high}{where}.")
        largest = float(np.abs([steps.lowest, steps.highest]).max())
        if not math.isfinite(largest):
            raise InputError("The grid is so large that its ends overflow; rescale the weights.")
        check_magnitude(shared.matrix, float(steps.step.max()), largest)
        self.in_units(self.units)  # refuses weights that lie too far apart

    @classmethod
    def from_quadratic(
        cls, P: ArrayLike, q: ArrayLike, qmin: int | ArrayLike, qmax: int | ArrayLike
    ) -> IntegerLeastSquares:
        """The problem of minimising f(z) = zᵀPz + 2qᵀz over whole z_i in [qmin_i, qmax_i].

        Its `scale` is 1, its codes are z. Its E differs from f by a constant, and by the rounding of
        `weight`: bounds on f itself are ``problem.quadratic.objective_bounds(solve(problem))``, values
        ``problem.quadratic.value(codes)``. QUBO is the box 0, 1; spins x = 2z - 1 in {-1, 1} with xᵀAx are
        P = 4A, q = -2A·1 there, up to the constant 1ᵀA1.

        Parameters
        ----------
        P
            Shape (n, n). Positive semidefinite where boxes have more than two codes; anything where they
            have two (or one). A triangle, or another P that is not symmetric, counts as (P + Pᵀ)/2.
        q
            Shape (n,).
        qmin, qmax
            The box, as for the class.

        Raises
        ------
        InputError
            If shapes disagree, a number is not finite, qmin > qmax, (P + Pᵀ)/2 is not exact in float64, or
            boxes of more than two codes meet an indefinite P, or a singular one with q outside its range.
        """
        from pvqbounds.problems.quadratic import least_squares_of

        return least_squares_of(P, q, qmin, qmax)

    @cached_property
    def quadratic(self) -> Quadratic | None:
        """The objective that :meth:`from_quadratic` was given; None for problems made otherwise.

        It belongs to this very problem, as all that is cached: not to those made from it.
        """
        return None

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.weight)

    @cached_property
    def steps(self) -> Steps:
        """The value set: a step and a box for each input."""
        n = self.n
        return Steps(
            np.array(np.broadcast_to(self.scale, (n,)), dtype=np.float64),
            np.array(np.broadcast_to(self.qmin, (n,)), dtype=np.int64),
            np.array(np.broadcast_to(self.qmax, (n,)), dtype=np.int64),
        )

    @property
    def is_uniform(self) -> bool:
        """Whether one scale and one box were given for all inputs."""
        return all(np.ndim(value) == 0 for value in (self.scale, self.qmin, self.qmax))

    @property
    def step(self) -> NDArray[np.float64]:
        """s, shape (n,)."""
        return self.steps.step

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Smallest code of each input, shape (n,)."""
        return self.steps.qmin.astype(np.float64)

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Largest code of each input, shape (n,)."""
        return self.steps.qmax.astype(np.float64)

    @cached_property
    def grid(self) -> bytes:
        """Equal for problems whose :func:`error_form` and boxes are the same on one Gram."""
        steps = self.steps
        ratios = steps.step.tobytes() if np.ndim(self.scale) else b""
        return ratios + steps.qmin.tobytes() + steps.qmax.tobytes()

    @cached_property
    def units(self) -> Units:
        """Units in which the largest numbers are near 1."""
        steps = self.steps
        reach = float(np.maximum(steps.step, np.abs([steps.lowest, steps.highest]).max(axis=0)).max())
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
        scale = scaled_weights(np.asarray(self.scale), -units.weight)
        weight = scaled_weights(self.weight, -units.weight)
        other = moved(self, self.shared.in_units(units.gram), weight)
        object.__setattr__(other, "scale", scale if scale.ndim else float(scale))
        return other

    def among(self, inputs: NDArray[np.bool_]) -> IntegerLeastSquares:
        """The problem over the inputs of a mask, shape (n,), alone: those left out have v = w."""
        if inputs.all():
            return self
        other = moved(self, self.shared.among(inputs), self.weight[inputs])
        for name in ("scale", "qmin", "qmax"):
            value = getattr(self, name)
            object.__setattr__(other, name, value[inputs] if np.ndim(value) else value)
        return other

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """c = w/s: the weights in units of their steps, rounded to float64, shape (n,)."""
        return np.divide(self.weight, self.step, dtype=np.float64)

    @cached_property
    def signal(self) -> Enclosure:
        """Enclosure of wᵀGw."""
        form = quadratic_form(self.normalised.gram, self.normalised.weight)
        return enclosure_scaled(form, self.units.error)

    def codes_of_nearest(self) -> NDArray[np.int64]:
        """Round to nearest, clipped to the grid, shape (n,)."""
        return self.steps.nearest(self.weight)

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
        outside = np.flatnonzero((array < self.low) | (array > self.high))
        if len(outside):
            i = outside[0]
            raise InputError(
                f"A code lies outside the grid [{self.low[i]:.0f}, {self.high[i]:.0f}]: "
                f"it is {array[i]:.0f}, of input {i}."
            )
        return array.astype(np.int64)

    def weight_of(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """v = s z, shape (n,)."""
        return self.steps.weight_of(codes)

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
        form = quadratic_form(inner.gram, *inner.steps.displacement(codes, inner.weight))
        return enclosure_scaled(form, self.units.error)


def error_form(problem: IntegerLeastSquares) -> NDArray[np.float64]:
    """P = diag(s) G diag(s) over its mean diagonal: the error in units of codes, up to a factor."""
    if np.ndim(problem.scale) == 0:
        form: NDArray[np.float64] = problem.shared.over_mean
        return form
    ratio = problem.step / problem.step.max()
    form = problem.gram * ratio[:, None] * ratio
    mean = float(np.mean(np.diagonal(form)))
    return form / mean if mean > 0.0 else form


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
    for name in ("units", "normalised", "signal", "steps", "low", "high", "grid", "centre", "quadratic"):
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


def _axes(value: object) -> int:
    """Axes of what was given; 1 where its rows have no common length, which is refused later."""
    try:
        return np.ndim(value)  # type: ignore[arg-type]
    except ValueError:
        return 1


def _checked_scale(scale: float | ArrayLike, n: int) -> float | NDArray[np.float64]:
    if _axes(scale) > 0:
        steps = as_real_array(scale, "The scales", ndim=1)
        if len(steps) != n:
            raise InputError(f"There must be one scale for each of the {n} inputs, not {len(steps)}.")
        wrong = np.flatnonzero(steps <= 0.0)
        if len(wrong):
            raise InputError(f"The scale of input {wrong[0]} must be positive, not {steps[wrong[0]]}.")
        return steps
    try:
        value = float(scale)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"The scale must be a positive number, not {shown(scale)}.") from error
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"The scale must be positive and finite, not {value}.")
    return value


def _checked_ends(ends: int | ArrayLike, name: str, n: int) -> int | NDArray[np.int64]:
    if _axes(ends) == 0:
        return whole_number(ends, name, -LARGEST_CODE, LARGEST_CODE)
    array = as_real_array(ends, name, ndim=1)
    if len(array) != n:
        raise InputError(f"There must be one {name} for each of the {n} inputs, not {len(array)}.")
    if (array != np.rint(array)).any() or (np.abs(array) > LARGEST_CODE).any():
        raise InputError(f"Each {name} must be a whole number from {-LARGEST_CODE} to {LARGEST_CODE}.")
    codes: NDArray[np.int64] = array.astype(np.int64)
    codes.flags.writeable = False
    return codes
