"""The values that weights may take: one set for each input.

A value set is uniform steps {s k : qmin <= k <= qmax}, sorted levels, or all reals. What is proved of one
is how little a parabola can be on it (:meth:`ValueSet.least_costs`): that is all that the certificate of
:mod:`pvqbounds.relaxations` asks for. A new kind is a class with these methods; nothing branches on which
one it is. Of a finite set a table of its levels is enough (:class:`Tabulated`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import TINY, UNIT, difference, scaled_difference
from pvqbounds.errors import InputError

__all__ = [
    "LARGEST_CODE",
    "Cells",
    "Levels",
    "Reals",
    "Steps",
    "Tabulated",
    "ValueSet",
    "parabola",
    "rises",
]

Array = NDArray[np.float64]

LARGEST_CODE = 2**31

NO_CODES = "Weights that are re-fitted freely have no codes."
NO_CELLS = "Split inequalities count from neighbouring values; here are none of these numbers."

WINDOW = 6
"""Codes around the stationary point at which a convex parabola is evaluated."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Two neighbouring values of some inputs, by which a value v counts as u = (v - origin)/width.

    The two themselves are 0 and 1. Wherever the others lie, with {u} the part of u above a whole number,
    {u}(1 - {u}) <= lift u(u - 1).
    """

    origin: Array
    """The lower one, exactly."""
    width: Array
    """Their distance, with one rounding."""
    lift: Array
    """From 0, where every value is whole, to 1."""


class ValueSet(ABC):
    """The values of n weights."""

    is_finite: ClassVar[bool] = True
    """Whether each weight has finitely many values, which codes tell apart."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of weights."""

    @property
    @abstractmethod
    def lowest(self) -> Array:
        """Least value of each weight, -inf where there is none, shape (n,)."""

    @property
    @abstractmethod
    def highest(self) -> Array:
        """Largest value of each weight, inf where there is none, shape (n,)."""

    @property
    @abstractmethod
    def numbers(self) -> Array:
        """The numbers that the values are made of: what must not be lost in other units."""

    @property
    @abstractmethod
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What the values are made of by name, a row for each weight: as files hold them."""

    @abstractmethod
    def __str__(self) -> str:
        """The values in a few words."""

    @property
    @abstractmethod
    def code_ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Smallest and largest code of each weight, shape (n,) each."""

    @property
    def lattice(self) -> Array | None:
        """Steps s such that every value of input i is s_i times a whole number, its code; None without."""
        return None

    @property
    def levels_table(self) -> Array | None:
        """The values of the codes 0, 1, ... of each input, shape (n, m), ascending; None without."""
        return None

    def cell_of(self, codes: NDArray[np.int64]) -> NDArray[np.int32]:
        """What sums are counted from where a code of each input is next below, shape (n,); -1 for nothing."""
        return np.full(self.n, -1, np.int32)

    def has_cells(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> bool:
        """Whether :meth:`cells` knows all of these."""
        return False

    def cells(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> Cells:
        """The neighbouring values of inputs from which sums are counted, in arrays of this shape.

        Parameters
        ----------
        inputs
            Numbers of inputs, any shape.
        cell
            Codes of the lower values, the same shape; 0 alone for steps, which are whole everywhere.

        Raises
        ------
        InputError
            If there are no such values.
        """
        raise InputError(NO_CELLS)

    def length(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> float:
        """What multipliers of split inequalities about these cells are counted in: none of them is wider."""
        raise InputError(NO_CELLS)

    @abstractmethod
    def has_zero(self) -> NDArray[np.bool_]:
        """Whether each weight may be zero, shape (n,)."""

    @abstractmethod
    def zero_codes(self) -> NDArray[np.int64]:
        """The code of 0, any where there is none, shape (n,)."""

    @abstractmethod
    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> ValueSet:
        """Those of the inputs of a mask, or in another order."""

    @abstractmethod
    def times(self, power: int | NDArray[np.int64]) -> ValueSet:
        """The values times ``2**power``, one power or one for each input; rounds nothing."""

    @abstractmethod
    def nearest(self, weight: Array) -> NDArray[np.int64]:
        """Codes of the values next to `weight`, shape (n,).

        Raises
        ------
        InputError
            If values have no codes.
        """

    @abstractmethod
    def weight_of(self, codes: NDArray[np.int64]) -> Array:
        """The values of codes, shape (n,), rounded to float64."""

    def rounded(self, weight: Array) -> Array:
        """The values next to `weight`, shape (n,)."""
        return self.weight_of(self.nearest(weight))

    @abstractmethod
    def displacement(self, codes: NDArray[np.int64], weight: Array) -> tuple[Array, Array]:
        """``v - w`` for the exact values v of codes, as an unevaluated pair (high, low), shape (n,)."""

    @abstractmethod
    def least_costs(self, weight: Array, lam: Array, nu: Array) -> Array:
        """Lower bounds on min over v of lam (v - w)² + 2 nu (v - w), shape (n,); -inf where there is none.

        `lam` may be off by one rounding (relative error u), as a float64 difference is; all else exact.
        """

    def contains(self, other: ValueSet) -> bool:
        """Whether it is known that each weight may take every value here that it may take in `other`.

        False where that is not known: a class says itself what it can tell, and exactly.
        """
        return other is self

    def codes_of(self, other: ValueSet, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes here of the values that codes have in another set, which this one contains, shape (n,)."""
        return self.nearest(other.weight_of(codes))

    def held(self) -> ValueSet:
        """Themselves, of arrays that nobody can write into any more: proofs keep what follows from them."""
        return self

    def check(self) -> None:
        """Refuse numbers of which no such set can be made.

        Raises
        ------
        InputError
            That says what is wrong.
        """
        if not np.isfinite(self.numbers).all():
            raise InputError("The numbers of a value set must be finite.")

    @cached_property
    def largest(self) -> float:
        """Largest magnitude of the numbers and of the values; 0 where there is none."""
        ends = (self.lowest, self.highest) if self.is_finite else ()
        return max(float(np.abs(part).max(initial=0.0)) for part in (self.numbers, *ends))

    def reach(self, weight: Array) -> Array:
        """Largest |v - w| of each weight, rounded up, shape (n,)."""
        ends = np.maximum(np.abs(self.lowest - weight), np.abs(self.highest - weight))
        size = np.maximum(np.abs(self.lowest), np.abs(self.highest)) + np.abs(weight)
        return np.asarray(ends + 4.0 * UNIT * size, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Steps(ValueSet):
    """{s k : qmin <= k <= qmax, k whole}, with a step and a box of its own for each input."""

    step: Array
    """s > 0, shape (n,)."""
    qmin: NDArray[np.int64]
    """Shape (n,)."""
    qmax: NDArray[np.int64]
    """Shape (n,)."""

    @property
    def n(self) -> int:
        """Number of weights."""
        return len(self.step)

    def check(self) -> None:
        """Refuse steps that are not positive, boxes that are empty, and arrays of other types."""
        step, qmin, qmax = self.step, self.qmin, self.qmax
        if not (_is_vector(step, "f8") and _is_vector(qmin, "i8") and _is_vector(qmax, "i8")):
            raise InputError("Steps are an array of float64, their boxes are two of int64, shape (n,) each.")
        if not len(step) == len(qmin) == len(qmax):
            raise InputError(f"There are {len(step)} steps, but boxes for {len(qmin)} and {len(qmax)}.")
        wrong = np.flatnonzero(~(np.isfinite(step) & (step > 0.0)))
        if len(wrong):
            raise InputError(
                f"The step of input {wrong[0]} must be positive and finite, not {step[wrong[0]]}."
            )
        wrong = np.flatnonzero((qmin > qmax) | (qmin < -LARGEST_CODE) | (qmax > LARGEST_CODE))
        if len(wrong):
            i = wrong[0]
            raise InputError(
                f"The codes of input {i} must rise within {-LARGEST_CODE}..{LARGEST_CODE}, not go from "
                f"{qmin[i]} to {qmax[i]}."
            )

    def held(self) -> Steps:
        """The same steps and boxes."""
        step, qmin, qmax = _held(self.step), _held(self.qmin), _held(self.qmax)
        if step is self.step and qmin is self.qmin and qmax is self.qmax:
            return self
        return replace(self, step=step, qmin=qmin, qmax=qmax)

    def contains(self, other: ValueSet) -> bool:
        """Whether each step of `other` is a whole multiple of the one here, and its box within this one."""
        steps = other.lattice
        if steps is None or other.n != self.n:
            return False
        low, high = other.code_ends
        with np.errstate(over="ignore", invalid="ignore"):
            times = steps / self.step  # whole and exact where the remainder, which is exact, is 0
            inside = (times * low >= self.qmin) & (times * high <= self.qmax)
        return bool(((np.fmod(steps, self.step) == 0.0) & inside).all())

    @property
    def lowest(self) -> Array:
        """Least value of each weight."""
        return np.asarray(self.step * self.qmin, dtype=np.float64)

    @property
    def highest(self) -> Array:
        """Largest value of each weight."""
        return np.asarray(self.step * self.qmax, dtype=np.float64)

    @property
    def numbers(self) -> Array:
        """The steps."""
        return self.step

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Steps and boxes."""
        return {"step": self.step, "qmin": self.qmin, "qmax": self.qmax}

    @property
    def is_uniform(self) -> bool:
        """Whether all weights have one step and one box."""
        return all(bool((array == array[0]).all()) for array in self.arrays.values())

    def __str__(self) -> str:
        low, high = self.qmin.min(), self.qmax.max()
        if self.is_uniform:
            return f"scale {self.step[0]:.6g}, codes {low}..{high}"
        return f"scales {self.step.min():.3g} to {self.step.max():.3g}, codes from {low} to {high}"

    @property
    def code_ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The box."""
        return self.qmin, self.qmax

    @property
    def lattice(self) -> Array:
        """The steps."""
        return self.step

    def cell_of(self, codes: NDArray[np.int64]) -> NDArray[np.int32]:
        """The code 0, wherever the codes are."""
        return np.zeros(self.n, np.int32)

    def has_cells(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> bool:
        """Whether they count from the code 0."""
        return not cell.any()

    def cells(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> Cells:
        """The codes 0 and 1, whether the box holds them or not."""
        if not self.has_cells(inputs, cell):
            raise InputError(NO_CELLS)
        nothing = np.zeros(inputs.shape)
        return Cells(nothing, self.step[inputs], nothing)

    def length(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> float:
        """The largest step of all inputs."""
        return float(self.step.max())

    def has_zero(self) -> NDArray[np.bool_]:
        """Whether each box holds the code 0."""
        return (self.qmin <= 0) & (self.qmax >= 0)

    def zero_codes(self) -> NDArray[np.int64]:
        """Zeros."""
        return np.zeros(self.n, dtype=np.int64)

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> Steps:
        """Those of some inputs."""
        return Steps(self.step[inputs], self.qmin[inputs], self.qmax[inputs])

    def times(self, power: int | NDArray[np.int64]) -> Steps:
        """The values times ``2**power``."""
        return Steps(np.ldexp(self.step, power), self.qmin, self.qmax)

    def nearest(self, weight: Array) -> NDArray[np.int64]:
        """Round to nearest, clipped to the box."""
        codes = np.rint(np.minimum(np.maximum(weight / self.step, self.qmin), self.qmax))
        return np.asarray(codes, dtype=np.int64)

    def weight_of(self, codes: NDArray[np.int64]) -> Array:
        """``s k``."""
        return np.multiply(self.step, codes, dtype=np.float64)

    def displacement(self, codes: NDArray[np.int64], weight: Array) -> tuple[Array, Array]:
        """``s k - w``, relative error 4 u² of the terms."""
        return scaled_difference(self.step, codes, weight)

    def least_costs(self, weight: Array, lam: Array, nu: Array) -> Array:
        """Over the codes next to the stationary point, or the ends of the box for a concave parabola."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            stationary = np.where(lam > 0.0, (weight - nu / lam) / self.step, np.nan)
        stationary = np.where(np.isfinite(stationary), stationary, 0.0)
        last_start = np.maximum(self.qmin, self.qmax - (WINDOW - 1))
        first = np.clip(np.floor(stationary) - 2.0, self.qmin, last_start).astype(np.int64)
        last = np.minimum(first + (WINDOW - 1), self.qmax)
        window = np.minimum(first[:, None] + np.arange(WINDOW), last[:, None])
        concave = lam <= 0.0  # the minimum of a concave function is at an end of the box
        ends = np.stack([self.qmin, self.qmax], axis=1)
        window[concave] = np.tile(ends[concave], WINDOW // 2)
        displaced = scaled_difference(self.step[:, None], window, weight[:, None])
        low, high = parabola(*displaced, lam[:, None], nu[:, None])
        minima = np.asarray(low.min(axis=1), dtype=np.float64)
        best = high.min(axis=1)
        # convex: what lies beyond an end of the window is no better than that end
        proved_left = (first == self.qmin) | (low[:, 0] >= best)
        proved_right = (last == self.qmax) | (low[:, -1] >= best)
        doubtful = ~concave & ~(proved_left & proved_right)
        if doubtful.any():
            minima[doubtful] = _over_reals(lam[doubtful], nu[doubtful])
        return minima


class Tabulated(ValueSet):
    """Finite sets that are known by a table of their levels."""

    @property
    @abstractmethod
    def table(self) -> Array:
        """Levels of each input, shape (n, m), ascending; rows that have fewer repeat their last one."""

    @property
    def levels_table(self) -> Array:
        """The levels."""
        return self.table

    def cell_of(self, codes: NDArray[np.int64]) -> NDArray[np.int32]:
        """The codes themselves, that of the last level but one at most; -1 where there is one level alone."""
        return np.minimum(codes, self.code_ends[1] - 1).astype(np.int32)

    def has_cells(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> bool:
        """Whether there are levels of these numbers, and others above them."""
        return bool(((cell >= 0) & (cell < self.code_ends[1][inputs])).all())

    def cells(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> Cells:
        """The levels of these numbers and the next ones."""
        if not self.has_cells(inputs, cell):
            raise InputError(NO_CELLS)
        # each of the few cells once
        columns = self.table.shape[1]
        chosen, place = np.unique(inputs.astype(np.int64) * columns + cell, return_inverse=True)
        i, c = np.divmod(chosen, columns)
        origin, width = self.table[i, c], self.table[i, c + 1] - self.table[i, c]
        lift = _lift(self.table[i], origin, self.table[i, c + 1], width)
        place = place.reshape(inputs.shape)
        return Cells(origin[place], width[place], lift[place])

    def length(self, inputs: NDArray[np.int32], cell: NDArray[np.int32]) -> float:
        """The largest width of these cells; 1 of none."""
        widths = self.table[inputs, cell + 1] - self.table[inputs, cell]
        return float(widths.max(initial=0.0)) if widths.size else 1.0

    @property
    def n(self) -> int:
        """Number of weights."""
        return len(self.table)

    def contains(self, other: ValueSet) -> bool:
        """Whether each level of `other` is one here."""
        levels, table = other.levels_table, self.table
        if levels is None or other.n != self.n:
            return False
        if levels.strides[0] == table.strides[0] == 0:  # all rows are one
            levels, table = levels[:1], table[:1]
        if levels.shape == table.shape and np.array_equal(levels, table):
            return True
        return all(bool(np.isin(row, own).all()) for row, own in zip(levels, table, strict=True))

    def check(self) -> None:
        """Refuse levels that are not finite or do not rise."""
        table = self.table
        if not (
            isinstance(table, np.ndarray) and table.dtype == np.float64 and table.ndim == 2 and table.size
        ):
            raise InputError("The table of levels must be a float64 array, a row for each input.")
        if table.strides[0] == 0:  # all rows are one
            table = table[:1]
        if not np.isfinite(table).all():
            raise InputError(f"The levels of input {np.argwhere(~np.isfinite(table))[0, 0]} are not finite.")
        wrong = np.argwhere(~rises(table))
        if len(wrong):
            row, place = wrong[0]
            a, b = table[row, place : place + 2]
            raise InputError(
                f"The levels of input {row} must rise, but after {a:g} comes {b:g}: sort them, each once; "
                "only the last may be repeated."
            )

    @property
    def lowest(self) -> Array:
        """Least level of each weight."""
        return np.asarray(self.table[:, 0], dtype=np.float64)

    @property
    def highest(self) -> Array:
        """Largest level of each weight."""
        return np.asarray(self.table[:, -1], dtype=np.float64)

    @property
    def numbers(self) -> Array:
        """The levels."""
        return self.table

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The levels."""
        return {"levels": self.table}

    def __str__(self) -> str:
        most = int(self.code_ends[1].max()) + 1
        ends = f"{self.table.min():.3g} to {self.table.max():.3g}"
        return f"{'' if (self.table == self.table[0]).all() else 'up to '}{most} levels from {ends}"

    @property
    def code_ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """0, and the number of the first level that is the last one."""
        last = (self.table < self.table[:, -1:]).sum(axis=1)
        return np.zeros(self.n, dtype=np.int64), np.asarray(last, dtype=np.int64)

    def has_zero(self) -> NDArray[np.bool_]:
        """Whether 0 is among the levels."""
        return np.asarray((self.table == 0.0).any(axis=1))

    def zero_codes(self) -> NDArray[np.int64]:
        """The number of level 0."""
        return np.asarray((self.table == 0.0).argmax(axis=1), dtype=np.int64)

    def nearest(self, weight: Array) -> NDArray[np.int64]:
        """Number of the nearest level, the lower one on ties."""
        return np.asarray(np.abs(self.table - weight[:, None]).argmin(axis=1), dtype=np.int64)

    def weight_of(self, codes: NDArray[np.int64]) -> Array:
        """The levels of these numbers.

        Raises
        ------
        InputError
            If a level has no such number.
        """
        if ((codes < 0) | (codes >= self.table.shape[1])).any():
            raise InputError(f"Codes of levels are numbers from 0 to {self.table.shape[1] - 1}.")
        return np.asarray(self.table[np.arange(self.n), codes], dtype=np.float64)

    def displacement(self, codes: NDArray[np.int64], weight: Array) -> tuple[Array, Array]:
        """``v - w``, exactly."""
        return difference(self.weight_of(codes), weight)

    def least_costs(self, weight: Array, lam: Array, nu: Array) -> Array:
        """Over all levels."""
        table = self.table
        high, low = difference(table, np.broadcast_to(weight[:, None], table.shape))
        costs = parabola(high, low, lam[:, None], nu[:, None])[0]
        return np.asarray(costs.min(axis=1), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Levels(Tabulated):
    """Sorted levels of each input: rows that have fewer than the longest repeat their last one."""

    levels: Array
    """Shape (n, m), ascending along each row."""

    def held(self) -> Levels:
        """The same levels; rows that share memory go on sharing it."""
        kept = _held(self.levels)
        return self if kept is self.levels else replace(self, levels=kept)

    @property
    def table(self) -> Array:
        """The levels."""
        return self.levels

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> Levels:
        """Those of some inputs."""
        return Levels(self.levels[inputs])

    def times(self, power: int | NDArray[np.int64]) -> Levels:
        """The levels times ``2**power``."""
        return Levels(np.ldexp(self.levels, np.reshape(power, (-1, 1))))


@dataclass(frozen=True, eq=False)
class Reals(ValueSet):
    """All of ℝ: weights that are re-fitted freely."""

    is_finite: ClassVar[bool] = False
    count: int

    @property
    def n(self) -> int:
        """Number of weights."""
        return self.count

    @property
    def lowest(self) -> Array:
        """Minus infinity."""
        return np.full(self.count, -np.inf)

    @property
    def highest(self) -> Array:
        """Infinity."""
        return np.full(self.count, np.inf)

    @property
    def numbers(self) -> Array:
        """None."""
        return np.zeros(0)

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """None."""
        return {}

    def __str__(self) -> str:
        return "any values"

    @property
    def code_ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A real number has no code."""
        raise InputError(NO_CODES)

    def has_zero(self) -> NDArray[np.bool_]:
        """Each may be zero."""
        return np.ones(self.count, dtype=np.bool_)

    def zero_codes(self) -> NDArray[np.int64]:
        """A real number has no code."""
        raise InputError(NO_CODES)

    def contains(self, other: ValueSet) -> bool:
        """Every set of as many weights."""
        return other.n == self.n

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> Reals:
        """Those of some inputs."""
        return Reals(int(np.count_nonzero(inputs)) if inputs.dtype == np.bool_ else len(inputs))

    def times(self, power: int | NDArray[np.int64]) -> Reals:
        """Themselves."""
        return self

    def nearest(self, weight: Array) -> NDArray[np.int64]:
        """A real number has no code."""
        raise InputError(NO_CODES)

    def weight_of(self, codes: NDArray[np.int64]) -> Array:
        """A real number has no code."""
        raise InputError(NO_CODES)

    def rounded(self, weight: Array) -> Array:
        """The weights as they are."""
        return weight

    def displacement(self, codes: NDArray[np.int64], weight: Array) -> tuple[Array, Array]:
        """A real number has no code."""
        raise InputError(NO_CODES)

    def least_costs(self, weight: Array, lam: Array, nu: Array) -> Array:
        """-nu²/lam; where lam is not positive, 0 for a flat line and -inf for all others."""
        flat = (lam == 0.0) & (nu == 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            quotient = nu**2 / np.where(lam > 0.0, lam, 1.0)
            least = -(quotient * (1.0 + 8.0 * UNIT) + np.where(nu != 0.0, TINY, 0.0))
        return np.where(lam > 0.0, least, np.where(flat, 0.0, -np.inf))


def rises(table: Array) -> NDArray[np.bool_]:
    """Where each level of rows, shape (rows, m), is below the next one or both are the row's last one."""
    step, ended = np.diff(table), table[:, :-1] == table[:, -1:]
    return np.asarray((step > 0.0) | ((step == 0.0) & ended))


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _lift(table: Array, low: Array, high: Array, width: Array) -> Array:
    """The least lift of :class:`Cells` with these levels, shape (k, m), rounded up, shape (k,).

    Outside the cell {u}(1 - {u}) <= u(u - 1) whatever u is: it is at most |u| - u² within one of it, and 1/4.
    """
    u = (table - low[:, None]) / width[:, None]
    off = 4.0 * UNIT * np.abs(u)  # three roundings, relative to it
    part = u - np.floor(u)
    above = part * (1.0 - part) + off + 4.0 * UNIT
    below = u * (u - 1.0) - (3.0 * np.abs(u) + 3.0) * off
    lift = np.where((below > 0.0) & (above < below), above / below * (1.0 + 4.0 * UNIT) + TINY, 1.0)
    inside = (table == low[:, None]) | (table == high[:, None])
    return np.asarray(np.where(inside, 0.0, lift).max(axis=1), dtype=np.float64)


def _held(array: NDArray[Any]) -> NDArray[Any]:
    """The array, if neither it nor what it is a part of can be written into; else a copy of that kind."""
    whole: object = array
    while isinstance(whole, np.ndarray) and not whole.flags.writeable:
        whole = whole.base
    if whole is None:
        return array
    repeats = array.ndim == 2 and array.strides[0] == 0
    copy = np.array(array[0] if repeats else array)
    copy.flags.writeable = False
    return np.broadcast_to(copy, array.shape) if repeats else copy


def _is_vector(array: object, kind: str) -> bool:
    return isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype == np.dtype(kind)


def parabola(high: Array, low: Array, lam: Array, nu: Array) -> tuple[Array, Array]:
    """Lower and upper bounds on lam d² + 2 nu d at d = high + low, an unevaluated pair.

    `lam` may be off by one rounding; all else exact.
    """
    square, linear = lam * high * high, 2.0 * nu * high
    # one rounding in lam, one in d (the part `low`), and those of the five operations
    radius = 16.0 * UNIT * (np.abs(square) + np.abs(linear)) + TINY
    radius += 2.0 * (np.abs(lam * high) + np.abs(nu)) * np.abs(low)
    value = square + linear
    return np.nextafter(value - radius, -np.inf), np.nextafter(value + radius, np.inf)


def _over_reals(lam: Array, nu: Array) -> Array:
    """Lower bounds on the minimum over all reals, for lam > 0 that may be off by one rounding."""
    with np.errstate(over="ignore", invalid="ignore"):
        square = nu**2 * (1.0 + 8.0 * UNIT) + TINY
        return np.asarray(np.where(nu == 0.0, 0.0, -square / (lam * (1.0 - 8.0 * UNIT))), dtype=np.float64)
