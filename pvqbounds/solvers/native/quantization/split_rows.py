"""The inequalities of the split dual: tangents, chords and split inequalities, one row each.

A row c stands for weight_c ((aᵀx + alpha)² - h) >= 0 with x = z - centre in units of codes: a has one
entry for tangents (h = 1/4) and chords (weight -1, h = (high - low)²/4), two or three for split
inequalities (h = 1/4), and alpha = aᵀcentre - k - 1/2. Of levels a < b next to one another a tangent has
alpha = centre - (a + b)/2 and h = (b - a)²/4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.relaxations.points import Points
from pvqbounds.relaxations.splits import ENTRIES

Array = NDArray[np.float64]

__all__ = ["Rows", "chord_rows", "split_rows", "tangent_rows"]

LARGEST = 1 << 14
"""Inputs that the number of an inequality has room for."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Inequalities and their multipliers."""

    index: NDArray[np.int32]
    """Inputs of the entries of a, shape (m, 3)."""
    sign: Array
    """Entries of a, shape (m, 3); zero where it has no further one."""
    low: Array
    """k of a tangent or split, the number of its lower value; (low + high - 1)/2 of a chord, shape (m,)."""
    weight: Array
    """1, or -1 for chords, shape (m,)."""
    limit: Array
    """h, shape (m,)."""
    offset: Array
    """alpha, shape (m,)."""
    multiplier: Array
    """y >= 0, shape (m,)."""

    def __len__(self) -> int:
        return len(self.low)

    @property
    def single(self) -> NDArray[np.bool_]:
        """Whether a row is about one code, shape (m,)."""
        return np.asarray(self.sign[:, 1] == 0.0)

    @property
    def parts(self) -> tuple[NDArray[np.int32], Array, Array, Array, Array]:
        """All but the multipliers and k, for compiled functions."""
        return self.index, self.sign, self.offset, self.weight, self.limit

    @property
    def charge(self) -> Array:
        """u = weight * y, shape (m,)."""
        return self.weight * self.multiplier

    def with_multiplier(self, multiplier: Array) -> Rows:
        """The same inequalities with other multipliers."""
        return replace(self, multiplier=multiplier)

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        """Those of a mask, shape (m,)."""
        return Rows(*(part[chosen] for part in vars(self).values()))

    def new_among(self, others: Rows) -> Rows:
        """Those of `others` that are not among these."""
        return others.only(~np.isin(others._numbers(), self._numbers()))

    def and_then(self, others: Rows) -> Rows:
        """These, and `others` after them."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return Rows(*(np.concatenate(pair) for pair in pairs))

    def _numbers(self) -> NDArray[np.int64]:
        """A number for each inequality, shape (m,): k modulo 64 tells the few near one point apart."""
        kind = (self.weight > 0.0) * 9 + (self.sign[:, 1] + 1.0) * 3 + self.sign[:, 2] + 1.0
        i, j, k = self.index.astype(np.int64).T
        place = (i * LARGEST + j) * LARGEST + k
        return np.asarray((place * 18 + kind.astype(np.int64)) * 64 + (self.low.astype(np.int64) & 63))


def tangent_rows(points: Points, inputs: NDArray[np.int64], number: Array, centre: Array) -> Rows:
    """Tangents of these inputs, shape (m,), whose lower values have a number, shape (n,), of all inputs."""
    below = points.at(number)
    width = (points.at(number + 1.0) - below)[inputs]
    offset = centre[inputs] - below[inputs] - 0.5 * width
    return _single_rows(inputs, number[inputs], offset, width, 1.0)


def chord_rows(points: Points, centre: Array) -> Rows:
    """The chord of each input."""
    low, high = points.low, points.high
    middle = 0.5 * (low + high - 1.0)
    return _single_rows(np.arange(len(centre)), middle, centre - middle - 0.5, high - low, -1.0)


def _single_rows(inputs: NDArray[np.int64], low: Array, offset: Array, width: Array, weight: float) -> Rows:
    m = len(inputs)
    index = np.repeat(inputs.astype(np.int32)[:, None], ENTRIES, axis=1)
    sign = np.zeros((m, ENTRIES))
    sign[:, 0] = 1.0
    return Rows(index, sign, low, np.full(m, weight), 0.25 * width * width, offset, np.zeros(m))


def split_rows(
    index: NDArray[np.int32], sign: NDArray[np.int8], low: NDArray[np.int64], centre: Array
) -> Rows:
    """Split inequalities, as :class:`~pvqbounds.relaxations.splits.Splits` states them."""
    m, entries, whole = len(low), sign.astype(np.float64), low.astype(np.float64)
    offset = (entries * centre[index]).sum(axis=1) - whole - 0.5
    return Rows(index, entries, whole, np.ones(m), np.full(m, 0.25), offset, np.zeros(m))
