"""The values of the inputs as numbered points, in the units of a box-hull SDP.

A polygon's vertices and tangents belong to neighbouring values. Of uniform steps the number of a value is
its code and the value, in steps, the code itself; of sorted levels it is their number, and the value is
looked up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.values import Cells, ValueSet

__all__ = ["CodePoints", "Points", "ValuePoints"]

Array = NDArray[np.float64]


class Points(ABC):
    """Values in rising order, by number; numbers are whole float64, at least two for each input.

    Where an input has one value and others have more it gets another one above: a polygon of one point
    among others would leave the primal side of the SDP no interior.
    """

    first: Array
    """Number of the smallest value of each input, shape (n,)."""
    last: Array
    """Number of the largest, shape (n,)."""

    @abstractmethod
    def at(self, number: Array) -> Array:
        """The values of numbers, shape (n,) or (n, m)."""

    @abstractmethod
    def below(self, point: Array) -> Array:
        """Number of the largest value that is not above a point, from the first to the last but one, (n,)."""

    @abstractmethod
    def nearest(self, point: Array) -> Array:
        """The value next to a point between the ends, shape (n,)."""

    @abstractmethod
    def cell_of(self, number: Array) -> NDArray[np.int32]:
        """What split inequalities count from where the lower neighbour has a number, shape (n,) each."""

    @abstractmethod
    def cells(self, cell: NDArray[np.int32]) -> Cells:
        """The neighbours that these stand for in the units of the points, shape (n,) each."""

    @abstractmethod
    def among(self, inputs: NDArray[np.bool_]) -> Points:
        """Those of the inputs of a mask, shape (n,)."""

    @property
    def low(self) -> Array:
        """Smallest value of each input, shape (n,)."""
        return self.at(self.first)

    @property
    def high(self) -> Array:
        """Largest value of each input, shape (n,)."""
        return self.at(self.last)

    @property
    def variance(self) -> Array:
        """Variance of the values with equal weights, were they equally far apart, shape (n,)."""
        steps, span = self.last - self.first, self.high - self.low
        return np.asarray(span * (span * (steps + 2.0) / steps) / 12.0)


@dataclass(frozen=True, eq=False)
class CodePoints(Points):
    """Codes."""

    first: Array
    last: Array

    def at(self, number: Array) -> Array:
        """The numbers themselves."""
        return number

    def below(self, point: Array) -> Array:
        """Rounded down."""
        return np.clip(np.floor(point), self.first, np.maximum(self.first, self.last - 1.0))

    def nearest(self, point: Array) -> Array:
        """Rounded to nearest."""
        return np.asarray(np.rint(point))

    def cell_of(self, number: Array) -> NDArray[np.int32]:
        """The code 0, wherever the point is."""
        return np.zeros(len(number), np.int32)

    def cells(self, cell: NDArray[np.int32]) -> Cells:
        """Codes as they are."""
        nothing = np.zeros(len(cell))
        return Cells(nothing, np.ones(len(cell)), nothing)

    def among(self, inputs: NDArray[np.bool_]) -> CodePoints:
        """Those of some inputs."""
        return CodePoints(self.first[inputs], self.last[inputs])


@dataclass(frozen=True, eq=False)
class ValuePoints(Points):
    """Values of any finite set whose codes rise with them."""

    values: ValueSet
    scale: float
    """What the values are counted in."""

    def __post_init__(self) -> None:
        low, high = (end.astype(np.float64) for end in self.values.code_ends)
        object.__setattr__(self, "first", low)
        object.__setattr__(self, "last", np.maximum(high, low + 1.0))

    def at(self, number: Array) -> Array:
        """The values of these codes."""
        codes = number.astype(np.int64).reshape(self.values.n, -1)
        low, high = self.values.code_ends
        inside = np.clip(codes, low[:, None], high[:, None])
        found = np.stack([self.values.weight_of(column) for column in inside.T], axis=1) / self.scale
        return np.asarray(found + (codes - inside)).reshape(number.shape)

    def below(self, point: Array) -> Array:
        """The code next to a point, or the one before."""
        number = np.asarray(self.values.nearest(point * self.scale), dtype=np.float64)
        number -= self.at(number) > point
        return np.clip(number, self.first, np.maximum(self.first, self.last - 1.0))

    def nearest(self, point: Array) -> Array:
        """The value of the code next to a point."""
        return self.at(np.asarray(self.values.nearest(point * self.scale), dtype=np.float64))

    def cell_of(self, number: Array) -> NDArray[np.int32]:
        """What the values say; -1 where an input has one alone."""
        return self.values.cell_of(number.astype(np.int64))

    def cells(self, cell: NDArray[np.int32]) -> Cells:
        """Values of these numbers and the next ones; of an input with one value that and one above."""
        several = cell >= 0
        inputs = np.arange(len(cell), dtype=np.int32)
        known = self.values.cells(inputs[several], cell[several])
        cells = Cells(self.low.copy(), np.ones(len(cell)), np.ones(len(cell)))
        cells.origin[several] = known.origin / self.scale
        cells.width[several] = known.width / self.scale
        cells.lift[several] = known.lift
        return cells

    def among(self, inputs: NDArray[np.bool_]) -> ValuePoints:
        """Those of some inputs."""
        return ValuePoints(self.values.among(inputs), self.scale)
