"""Quantization of one output channel to uniform steps whose scale is free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.errors import InputError
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.grids import mse_scale
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.problems.least_squares import LeastSquares, check_magnitude, checked_pair, moved
from pvqbounds.problems.supports import rule_of
from pvqbounds.problems.units import Units, enclosure_scaled
from pvqbounds.problems.validation import whole_number
from pvqbounds.problems.values import LARGEST_CODE, Reals, Steps, ValueSet

__all__ = ["AnyScaleLeastSquares", "AnySteps"]

Array = NDArray[np.float64]

MOST_CODES = 2**16
"""Codes of a box: the search for a scale goes through all of them."""

NO_SCALE = "Steps of any scale have values once there is a scale; take problem.at(scale)."

NEXT_TO_NOTHING = 2.0**-60
"""Size of the weights, over that of the target, of codes that are best at a scale of zero."""


BESIDE = 2
"""Zero points looked at on either side of the one that clips nothing, for that of least weight error."""


def _weight_error(weight: Array, scale: float, box: tuple[int, int]) -> float:
    """Squared error of weights that are rounded to the codes of a box times a scale."""
    return float(np.square(scale * np.clip(np.rint(weight / scale), *box) - weight).sum())


@dataclass(frozen=True)
class AnySteps(ValueSet):
    """{s k : qmin <= k <= qmax, k whole}, with one step s > 0 for all inputs, whichever it is.

    With a span the zero point is free as well: all codes and 0 lie in a box of that many steps, whichever it
    is. Asymmetric b-bit codes have a span of 2^b - 1.
    """

    count: int
    qmin: int
    qmax: int
    span: int | None = None
    """How far apart any two codes, or a code and 0, may be; None for as far as the box allows."""

    @property
    def n(self) -> int:
        """Number of weights."""
        return self.count

    def check(self) -> None:
        """Refuse a box that is empty or beyond what codes may be."""
        if not -LARGEST_CODE <= self.qmin <= self.qmax <= LARGEST_CODE:
            raise InputError(
                f"The codes must rise within {-LARGEST_CODE}..{LARGEST_CODE}, not go from {self.qmin} to "
                f"{self.qmax}."
            )
        if self.qmax - self.qmin >= MOST_CODES:
            raise InputError(
                f"Every scale is for {MOST_CODES} codes at most (int16), not for {self.qmin} to {self.qmax}."
            )
        if self.span is not None and not (self.qmin <= 0 <= self.qmax and self.span >= 0):
            raise InputError("A span is that of codes around 0: it is 0 or more, and the codes go through 0.")

    @property
    def boxes(self) -> list[tuple[int, int]]:
        """Least and largest code of the boxes that together hold all codes, by rising codes."""
        if self.span is None:
            return [(self.qmin, self.qmax)]
        return [(low, min(self.qmax, low + self.span)) for low in range(max(self.qmin, -self.span), 1)]

    def within(self, codes: NDArray[np.int64]) -> bool:
        """Whether codes of the box keep to the span."""
        reach = max(int(codes.max(initial=0)), 0) - min(int(codes.min(initial=0)), 0)
        return self.span is None or reach <= self.span

    @property
    def width(self) -> int:
        """How far apart codes and 0 are at most."""
        box = max(self.qmax, 0) - min(self.qmin, 0)
        return box if self.span is None else min(box, self.span)

    def contains(self, other: ValueSet) -> bool:
        """Whether all weights of `other` have one step, given or free, and codes that are allowed here."""
        free = other if isinstance(other, AnySteps) else _freed(other)
        if free is None or free.n != self.n:
            return False
        return self.qmin <= free.qmin and free.qmax <= self.qmax and free.width <= self.width

    def codes_of(self, other: ValueSet, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same codes: what they stand for is a matter of the scale."""
        return codes

    @property
    def lowest(self) -> Array:
        """Minus infinity where there are negative codes, else 0."""
        return np.full(self.count, -np.inf if self.qmin < 0 else 0.0)

    @property
    def highest(self) -> Array:
        """Infinity where there are positive codes, else 0."""
        return np.full(self.count, np.inf if self.qmax > 0 else 0.0)

    @property
    def numbers(self) -> Array:
        """None."""
        return np.zeros(0)

    @cached_property
    def largest(self) -> float:
        """0: there is no number that must not be lost."""
        return 0.0

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The box, and the span where there is one."""
        low, high = self.code_ends
        span = {} if self.span is None else {"span": np.full(self.count, self.span)}
        return {"qmin": low, "qmax": high} | span

    def __str__(self) -> str:
        if self.span is not None:
            return f"any scale and zero point, {self.span + 1} codes in {self.qmin}..{self.qmax}"
        return f"any scale, codes {self.qmin}..{self.qmax}"

    @property
    def code_ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The box, the same for all."""
        return np.full(self.count, self.qmin), np.full(self.count, self.qmax)

    def has_zero(self) -> NDArray[np.bool_]:
        """Whether the box holds the code 0."""
        return np.full(self.count, self.qmin <= 0 <= self.qmax)

    def zero_codes(self) -> NDArray[np.int64]:
        """Zeros."""
        return np.zeros(self.count, dtype=np.int64)

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> AnySteps:
        """Those of some inputs."""
        return replace(self, count=Reals(self.count).among(inputs).n)

    def times(self, power: int | NDArray[np.int64]) -> AnySteps:
        """Themselves: a scale times any number is a scale."""
        return self

    def nearest(self, weight: Array) -> NDArray[np.int64]:
        """Which value is nearest depends on the scale."""
        raise InputError(NO_SCALE)

    def weight_of(self, codes: NDArray[np.int64]) -> Array:
        """The values of codes depend on the scale."""
        raise InputError(NO_SCALE)

    def usual(self, weight: Array) -> Steps:
        """The steps, and the zero point where it is free, of least weight error."""
        # no range search without 0: the largest code at the largest weight
        if not self.qmin <= 0 <= self.qmax:
            largest = float(np.abs(weight).max())
            scale = (largest if largest > 0.0 else 1.0) / max(abs(self.qmin), abs(self.qmax))
            return self._steps(scale, (self.qmin, self.qmax))
        boxes = self.boxes
        if len(boxes) > 1:  # those next to the one that clips nothing
            below, above = max(-float(weight.min()), 0.0), max(float(weight.max()), 0.0)
            share = below / (below + above) if below + above > 0.0 else 0.0
            middle = round((1.0 - share) * (len(boxes) - 1))
            boxes = boxes[max(middle - BESIDE, 0) : middle + BESIDE + 1]
        found = [(mse_scale(weight, *box), box) for box in boxes]
        return self._steps(*min(found, key=lambda own: _weight_error(weight, *own)))

    def _steps(self, scale: float, box: tuple[int, int]) -> Steps:
        return Steps(np.full(self.count, scale), *(np.full(self.count, end) for end in box))

    def rounded(self, weight: Array) -> Array:
        """The values next to `weight` at the scale of least weight error, shape (n,)."""
        return self.usual(weight).rounded(weight)

    def displacement(self, codes: NDArray[np.int64], weight: Array) -> tuple[Array, Array]:
        """The values of codes depend on the scale."""
        raise InputError(NO_SCALE)

    def least_costs(self, weight: Array, lam: Array, nu: Array) -> Array:
        """Over all reals, which hold the values of every scale."""
        return Reals(self.count).least_costs(weight, lam, nu)


def _freed(values: ValueSet) -> AnySteps | None:
    """Steps of any scale that hold these, all of one step; None where they have none, or several."""
    steps = values.lattice
    if steps is None or (steps != steps[0]).any():
        return None
    low, high = values.code_ends
    return AnySteps(values.n, int(low.min()), int(high.max()))


@dataclass(frozen=True, eq=False, repr=False)
class AnyScaleLeastSquares(LeastSquares):
    """Minimise E(s z) over s > 0 and integer z_i in [qmin, qmax]: any scale, and any rounding.

    Codes are all that there is to choose, as each has its best scale: s = zᵀGw / zᵀGz, where that is
    positive, with an error of wᵀGw - (zᵀGw)² / zᵀGz.

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n), or a :class:`~pvqbounds.Gram`.
    weight
        w, shape (n,).
    qmin, qmax
        Smallest and largest code, of all inputs.
    nnz, pattern, stride
        A support rule, as for :class:`~pvqbounds.IntegerLeastSquares`.
    span
        How far apart any two codes, or a code and 0, may be. It makes the zero point free: codes of
        an asymmetric format of b bits are -(2^b - 1) to 2^b - 1 with a span of 2^b - 1.

    Raises
    ------
    InputError
        If a value is not finite, shapes disagree, the Gram is asymmetric or indefinite, qmin > qmax, a
        span has codes that do not go through 0, or a budget is out of range.
    """

    values: AnySteps

    def __init__(
        self,
        gram: Gram | ArrayLike,
        weight: ArrayLike,
        qmin: int,
        qmax: int,
        *,
        nnz: int | None = None,
        pattern: tuple[int, int] | None = None,
        stride: int = 1,
        span: int | None = None,
    ) -> None:
        shared, vector = checked_pair(gram, weight)
        # its steps may be as small beside the weights, and are those of problems of their own
        check_magnitude(shared.matrix, NEXT_TO_NOTHING * float(np.abs(vector).max()))
        low, high = (
            whole_number(end, name, -LARGEST_CODE, LARGEST_CODE)
            for name, end in (("qmin", qmin), ("qmax", qmax))
        )
        if span is not None:
            span = whole_number(span, "span", 0, 2 * LARGEST_CODE)
        values = AnySteps(len(vector), low, high, span)
        values.check()
        super().__init__(shared, vector, values, rule_of(len(vector), nnz, pattern, stride))

    @cached_property
    def units(self) -> Units:
        """Units in which the largest numbers are near 1; errors, where no weight says how large a step is."""
        units = super().units
        told = self.weight[self.shared.live].any()
        return units if told else Units(units.gram, -(units.gram // 2))

    def at(self, scale: float) -> IntegerLeastSquares:
        """The problem at one scale: all codes of the box, also where a span allows not all of them.

        Raises
        ------
        InputError
            If the scale is not positive, or so large or small that numbers leave float64.
        """
        values = self.values
        return IntegerLeastSquares(self.shared, self.weight, scale, values.qmin, values.qmax).under(self.rule)

    def in_box(self, qmin: int, qmax: int) -> AnyScaleLeastSquares:
        """The problem with the codes of a box, and no span."""
        return moved(self, values=AnySteps(self.n, qmin, qmax))

    @cached_property
    def settled(self) -> IntegerLeastSquares:
        """At the scale, and zero point, of least weight error, found from inputs that are not always zero."""
        inner = self.normalised
        live = inner.weight[inner.shared.live]
        usual = inner.values.usual(live if len(live) else inner.weight)
        box = self.in_box(int(usual.qmin[0]), int(usual.qmax[0]))
        return box.at(math.ldexp(float(usual.step[0]), self.units.weight))

    def checked_codes(self, codes: ArrayLike) -> NDArray[np.int64]:
        """`codes` as int64, shape (n,).

        Raises
        ------
        InputError
            If they are not integers, not n of them, out of range, further apart than the span, or non-zero
            where the rule forbids it.
        """
        whole = super().checked_codes(codes)
        if not self.values.within(whole):
            raise InputError(
                f"The codes, and 0, lie further apart than {self.values.span}, which no zero point allows."
            )
        return whole

    def scale_of(self, codes: NDArray[np.int64]) -> float:
        """The best scale of codes, rounded; next to nothing where that would be zero or less."""
        inner, z = self.normalised, codes.astype(np.float64)
        power, target = inner.gram @ z, inner.gram @ inner.weight
        square, product, signal = float(z @ power), float(z @ target), inner.signal.upper
        scale = 1.0
        if product > 0.0 and square > 0.0:
            scale = product / square
        elif square > 0.0:
            scale = NEXT_TO_NOTHING * (math.sqrt(signal / square) if signal > 0.0 else 1.0)
        usable = math.isfinite(scale) and scale > 0.0
        return math.ldexp(scale if usable else 1.0, self.units.weight)

    def weight_of(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The weights s z of codes at their best scale, shape (n,), rounded to float64."""
        return np.multiply(self.scale_of(codes), codes, dtype=np.float64)

    def error(self, values: NDArray[Any]) -> Enclosure:
        """Enclosure of E(s z) of codes z at their best scale s, as it is rounded to float64."""
        if self.units != (0, 0):  # a scale near 0 lies further from 1 than weights may
            return enclosure_scaled(self.normalised.error(values), self.units.error)
        return self.at(self.scale_of(np.asarray(values))).error(values)

    def codes_of_nearest(self) -> NDArray[np.int64]:
        """Round to nearest at the scale of least weight error, shape (n,)."""
        return self.settled.codes_of_nearest()
