"""Finite values as searches and descents read them: in units of each input, told apart by their codes.

Uniform steps are counted in steps, so that a code is its own value and no table is needed. All other
values stay in units of the weights and stand in a table, where a code is the number of a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.integer import error_form
from pvqbounds.problems.least_squares import LeastSquares
from pvqbounds.problems.values import ValueSet

__all__ = ["CodeGrid", "CodeProblem", "grid_of", "has_grid", "in_codes", "unit_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CodeGrid:
    """The values of n inputs: value = unit times code, or the unit times what a table says of the code."""

    unit: Array
    """Shape (n,)."""
    low: Array
    """Smallest code, a whole number, shape (n,)."""
    high: Array
    """Largest code, shape (n,)."""
    zero: Array
    """The code of 0, any where there is none, shape (n,)."""
    table: Array | None
    """Values of the codes 0, 1, ... in these units, shape (n, m), ascending; None where codes are values."""

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.unit)

    @property
    def lowest(self) -> Array:
        """Least value in these units, shape (n,)."""
        return self.low if self.table is None else self.table[:, 0]

    @property
    def highest(self) -> Array:
        """Largest value in these units, shape (n,)."""
        return self.high if self.table is None else self.table[:, -1]

    @cached_property
    def gap(self) -> Array:
        """Least distance of two values in these units, shape (n,); inf where there is one value."""
        if self.table is None:
            return np.ones(self.n)
        gaps = np.diff(self.table, axis=1, append=np.inf)
        return np.asarray(np.where(gaps > 0.0, gaps, np.inf).min(axis=1), dtype=np.float64)

    @cached_property
    def spacing(self) -> Array:
        """Mean distance of neighbouring values in these units, shape (n,); 1 where there is one value."""
        if self.table is None:
            return np.ones(self.n)
        return np.where(self.high > self.low, (self.highest - self.lowest) / np.maximum(self.high, 1.0), 1.0)

    def spacing_at(self, points: Array) -> Array:
        """Distance of the two values around each of n points in these units, or at the end next to it."""
        if self.table is None:
            return np.ones(self.n)
        below = (self.table <= points[:, None]).sum(axis=1) - 1
        place = np.clip(below, 0, np.maximum(self.high.astype(np.int64) - 1, 0))
        inputs = np.arange(self.n)
        width = self.table[inputs, np.minimum(place + 1, self.table.shape[1] - 1)] - self.table[inputs, place]
        return np.where(width > 0.0, width, 1.0)

    def values_of(self, codes: Array) -> Array:
        """Values of codes in these units, shape (..., n)."""
        if self.table is None:
            return codes
        return np.asarray(self.table[np.arange(self.n), codes.astype(np.int64)], dtype=np.float64)

    def nearest(self, points: Array) -> Array:
        """Codes of the values next to points in these units, shape (..., n)."""
        if self.table is None:
            return np.minimum(np.maximum(np.rint(points), self.low), self.high)
        from pvqbounds.problems.code_kernel import codes_next_to

        rows = np.ascontiguousarray(points.reshape(-1, self.n))
        return np.asarray(codes_next_to(self.table, self.high, rows).reshape(points.shape), dtype=np.float64)

    def nearest_of(self, i: int, points: Array) -> Array:
        """Codes of the values of one input next to points in these units, shape (k,)."""
        return self.among(np.array([i])).nearest(points[:, None])[:, 0]

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> CodeGrid:
        """That of the inputs of a mask, or in another order."""
        table = None if self.table is None else self.table[inputs]
        return CodeGrid(self.unit[inputs], self.low[inputs], self.high[inputs], self.zero[inputs], table)


@dataclass(frozen=True, eq=False)
class CodeProblem:
    """The error (x - c)ᵀP(x - c), up to a factor, of values x in the units of a grid."""

    form: Array
    """P over its mean diagonal, shape (n, n)."""
    centre: Array
    """c, shape (n,): the weights."""
    grid: CodeGrid


def has_grid(values: ValueSet) -> bool:
    """Whether the values are steps or known by a table, as searches need them."""
    return values.lattice is not None or values.levels_table is not None


def unit_of(values: ValueSet) -> Array:
    """The units of :func:`grid_of`: the steps, else ones, shape (n,)."""
    steps = values.lattice
    return np.ones(values.n) if steps is None else steps


@lru_cache(maxsize=4)  # by identity: one solve asks several times, and a layer's tables would add up
def grid_of(values: ValueSet) -> CodeGrid:
    """The grid of values that :func:`has_grid`.

    Raises
    ------
    InputError
        If they are neither steps nor in a table.
    """
    low, high = (ends.astype(np.float64) for ends in values.code_ends)
    zero = values.zero_codes().astype(np.float64)
    if values.lattice is not None:
        return CodeGrid(unit_of(values), low, high, zero, None)
    if values.levels_table is None:
        raise InputError("Values are searched that are steps or have a table of levels; these have neither.")
    return CodeGrid(unit_of(values), low, high, zero, np.array(values.levels_table))


def in_codes(problem: LeastSquares) -> CodeProblem:
    """A problem in units of codes."""
    grid = grid_of(problem.values)
    return CodeProblem(error_form(problem), problem.weight / grid.unit, grid)
