"""Quantization of one output channel as an integer least-squares problem."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.least_squares import (
    LeastSquares,
    check_magnitude,
    checked_pair,
    moved,
    scaled_weights,
)
from pvqbounds.problems.supports import rule_of
from pvqbounds.problems.units import Units
from pvqbounds.problems.validation import as_real_array, whole_number
from pvqbounds.problems.values import LARGEST_CODE, Steps

if TYPE_CHECKING:
    from pvqbounds.problems.quadratic import Quadratic

__all__ = ["IntegerLeastSquares", "error_form"]


@dataclass(frozen=True, eq=False, repr=False)
class IntegerLeastSquares(LeastSquares):
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
    nnz
        At most so many non-zeros in all (joint compression); boxes must hold 0 then.
    pattern
        (N, M) in place of `nnz`: at most N non-zeros in each group of M weights.
    stride
        How far apart the weights of a group of `pattern` lie, as for :class:`SparseLeastSquares`.

    Raises
    ------
    InputError
        If a value is not finite, shapes disagree, the Gram is asymmetric or indefinite, a
        scale is not positive or qmin > qmax, or a budget is out of range.
    """

    values: Steps
    """A step and a box for each input."""
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
        *,
        nnz: int | None = None,
        pattern: tuple[int, int] | None = None,
        stride: int = 1,
    ) -> None:
        shared, vector = checked_pair(gram, weight)
        n = len(vector)
        object.__setattr__(self, "scale", _checked_scale(scale, n))
        object.__setattr__(self, "qmin", _checked_ends(qmin, "qmin", n))
        object.__setattr__(self, "qmax", _checked_ends(qmax, "qmax", n))
        steps = Steps(
            np.array(np.broadcast_to(self.scale, (n,)), dtype=np.float64),
            np.array(np.broadcast_to(self.qmin, (n,)), dtype=np.int64),
            np.array(np.broadcast_to(self.qmax, (n,)), dtype=np.int64),
        )
        wrong = np.flatnonzero(steps.qmin > steps.qmax)
        if len(wrong):
            low, high = steps.qmin[wrong[0]], steps.qmax[wrong[0]]
            where = f" at input {wrong[0]}" if np.ndim(self.qmin) or np.ndim(self.qmax) else ""
            raise InputError(f"qmin = {low} is larger than qmax = {high}{where}.")
        with np.errstate(over="ignore"):  # what overflows is refused
            largest, apart = float(np.abs([steps.lowest, steps.highest]).max()), vector / steps.step
        if not math.isfinite(largest):
            raise InputError("The grid is so large that its ends overflow; rescale the weights.")
        check_magnitude(shared.matrix, float(steps.step.max()))
        if not np.isfinite(apart).all():
            i = np.flatnonzero(~np.isfinite(apart))[0]
            raise InputError(
                f"The weight {vector[i]:g} of input {i} is beyond float64 in units of its step "
                f"{steps.step[i]:g}; rescale them."
            )
        super().__init__(shared, vector, steps, rule_of(n, nnz, pattern, stride))

    @classmethod
    def of_steps(cls, gram: Gram | ArrayLike, weight: ArrayLike, steps: Steps) -> IntegerLeastSquares:
        """The problem of these steps, in numbers where one serves all inputs: such channels are batched."""
        if not isinstance(steps, Steps):
            raise InputError(f"The steps must be of the class Steps, not {shown(steps)}.")
        return cls(gram, weight, _one_or_each(steps.step), _one_or_each(steps.qmin), _one_or_each(steps.qmax))

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
    def is_uniform(self) -> bool:
        """Whether one scale and one box were given for all inputs."""
        return all(np.ndim(value) == 0 for value in (self.scale, self.qmin, self.qmax))

    @property
    def step(self) -> NDArray[np.float64]:
        """s, shape (n,)."""
        return self.values.step

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Smallest code of each input, shape (n,)."""
        return self.values.qmin.astype(np.float64)

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Largest code of each input, shape (n,)."""
        return self.values.qmax.astype(np.float64)

    @cached_property
    def grid(self) -> bytes:
        """Equal for problems whose :func:`error_form` and boxes are the same on one Gram."""
        steps = self.values
        ratios = steps.step.tobytes() if np.ndim(self.scale) else b""
        return ratios + steps.qmin.tobytes() + steps.qmax.tobytes()

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """c = w/s: the weights in units of their steps, rounded to float64, shape (n,)."""
        return np.divide(self.weight, self.step, dtype=np.float64)

    def in_units(self, units: Units) -> IntegerLeastSquares:
        """The problem with its Gram over ``2**units.gram``, weights and step over ``2**units.weight``."""
        if units == (0, 0):
            return self
        other = super().in_units(units)
        scale = scaled_weights(np.asarray(self.scale), -units.weight)
        return moved(other, scale=scale if scale.ndim else float(scale))

    def among(self, inputs: NDArray[np.bool_]) -> IntegerLeastSquares:
        """The problem over the inputs of a mask, shape (n,), alone: those left out spend no budget."""
        if inputs.all():
            return self
        grid = {name: getattr(self, name) for name in ("scale", "qmin", "qmax")}
        own = {name: value[inputs] if np.ndim(value) else value for name, value in grid.items()}
        return moved(super().among(inputs), **own)


def error_form(problem: LeastSquares) -> NDArray[np.float64]:
    """P = diag(s) G diag(s) over its mean diagonal: the error in units of steps, up to a factor; else G's."""
    steps = problem.values.lattice
    if steps is None or (steps == steps[0]).all():
        form: NDArray[np.float64] = problem.shared.over_mean
        return form
    ratio = steps / steps.max()
    form = problem.gram * ratio[:, None] * ratio
    mean = float(np.mean(np.diagonal(form)))
    return form / mean if mean > 0.0 else form


def _one_or_each(values: NDArray[Any]) -> Any:
    """The number that all of them are, else themselves."""
    return values[0].item() if (values == values[0]).all() else values


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
