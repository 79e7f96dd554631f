"""The inequalities of the split dual: tangents, chords and split inequalities, one row each.

A row c stands for weight_c ((aᵀx + alpha)² - h) >= 0 with x = z - centre in units of codes: a has one
entry for tangents (h = 1/4) and chords (weight -1, h = (high - low)²/4), two or three for split
inequalities (h = 1/4), and alpha = aᵀcentre - k - 1/2. Of levels a < b next to one another a tangent has
alpha = centre - (a + b)/2 and h = (b - a)²/4. A split inequality of levels counts each of its inputs from two
neighbours and in their distance r: a has entries +-1/r, and lifts add g ((x_i + beta_i)² - r²/4) with
g = lift/r² and beta_i = centre_i - (a_i + b_i)/2 (:mod:`pvqbounds.relaxations.splits`); h holds r²/4 of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.values import Cells
from pvqbounds.relaxations.points import Points
from pvqbounds.relaxations.splits import ENTRIES

Array = NDArray[np.float64]

__all__ = ["Local", "Rows", "chord_rows", "rows_of_multipliers", "tangent_rows"]

LARGEST = 1 << 14
"""Inputs that the number of an inequality has room for."""


CELL_FACTORS = np.array([1, 1 << 20, 1 << 40], np.uint64)
MIXED = np.uint64(0x9E3779B97F4A7C15)
"""An odd number without pattern: 2^64 over the golden ratio."""


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
    lift: Array
    """g of each entry, shape (m, 3)."""
    middle: Array
    """beta of each entry, shape (m, 3)."""
    cell: NDArray[np.int32]
    """What each entry of a split inequality counts from, shape (m, 3)."""
    multiplier: Array
    """y >= 0, shape (m,)."""

    def __len__(self) -> int:
        return len(self.low)

    @property
    def single(self) -> NDArray[np.bool_]:
        """Whether a row is about one code, shape (m,)."""
        return np.asarray(self.sign[:, 1] == 0.0)

    @property
    def parts(self) -> tuple[NDArray[np.int32], Array, Array, Array, Array, Array, Array]:
        """What compiled functions ask for."""
        return self.index, self.sign, self.offset, self.weight, self.limit, self.lift, self.middle

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
        """A number for each inequality, shape (m,): k modulo 64 tells the few near one point apart.

        Cells are mixed into all of its bits; of two inequalities with one number one is not added.
        """
        kind = (self.weight > 0.0) * 9 + (np.sign(self.sign[:, 1]) + 1.0) * 3 + np.sign(self.sign[:, 2]) + 1.0
        i, j, k = self.index.astype(np.int64).T
        place = (i * LARGEST + j) * LARGEST + k
        number = (place * 18 + kind.astype(np.int64)) * 64 + (self.low.astype(np.int64) & 63)
        cells = self.cell.astype(np.uint64) @ CELL_FACTORS
        return np.asarray(number ^ (cells * MIXED).view(np.int64))


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
    limit, nothing = 0.25 * width * width, np.zeros((m, ENTRIES))
    cell = np.zeros((m, ENTRIES), np.int32)
    return Rows(index, sign, low, np.full(m, weight), limit, offset, nothing, nothing, cell, np.zeros(m))


@dataclass(frozen=True, eq=False)
class Local:
    """A point in units of neighbouring values: where split inequalities are looked for, and stated."""

    cell: NDArray[np.int32]
    """What each input counts from, -1 where it has one value alone, shape (n,)."""
    cells: Cells
    """Those neighbours in units of the points, shape (n,) each."""

    @classmethod
    def at(cls, points: Points, number: Array) -> Local:
        """By the values of which the lower ones have a number, shape (n,)."""
        cell = points.cell_of(number)
        return cls(cell, points.cells(cell))

    def mean(self, point: Array) -> Array:
        """The point, shape (n,)."""
        return np.asarray((point - self.cells.origin) / self.cells.width)

    def covariance(self, point: Array, covariance: Array) -> Array:
        """Its covariance, shape (n, n), with what lifts take of a violation added to the variances.

        An inequality of a sum with mean t and variance v fails by (t - k)(k + 1 - t) - v, k the whole part of
        t, less the lifts times the slacks of the tangents: what is added to variances is added to v.
        """
        width, lift = self.cells.width, self.cells.lift
        if (width == 1.0).all() and not lift.any():
            return covariance
        own, mean = covariance / width[:, None] / width, self.mean(point)
        diagonal = np.diag_indices(len(own))
        own[diagonal] += lift * np.maximum(own[diagonal] + mean * (mean - 1.0), 0.0)
        own[diagonal] += self.cell < 0  # an input of one value has no neighbours: with 1 more no sum fails
        return own

    def rows(
        self, index: NDArray[np.int32], sign: NDArray[np.int8], low: NDArray[np.int64], centre: Array
    ) -> Rows:
        """Split inequalities, as :class:`~pvqbounds.relaxations.splits.Splits` states them."""
        m, entry, whole = len(low), sign != 0, low.astype(np.float64)
        width, lift = self.cells.width[index], np.where(entry, self.cells.lift[index], 0.0)
        entries = sign.astype(np.float64) / width
        from_origin = (centre - self.cells.origin)[index]
        offset = (entries * from_origin).sum(axis=1) - whole - 0.5
        limit = 0.25 + 0.25 * lift.sum(axis=1)
        middle = np.where(entry, from_origin - 0.5 * width, 0.0)
        cell = np.where(entry, self.cell[index], 0)
        return Rows(
            index, entries, whole, np.ones(m), limit, offset, lift / width**2, middle, cell, np.zeros(m)
        )


def rows_of_multipliers(points: Points, centre: Array, lam: Array, nu: Array) -> Rows:
    """Tangents and chords that say what lam (z - centre)² + 2 nu (z - centre) does, shape (n,) each.

    Let that be phi, and least at the value e. Then phi - phi(e) = (z - e)(lam z + q) with
    q = lam (e - 2 centre) + 2 nu is positive at all values, and with the neighbours a < e < b

        lam z + q = y (z - a) + y' (z - b),   y = (lam b + q)/(b - a) >= 0,   y' = -(lam a + q)/(b - a) >= 0:

    the tangents of (a, e) and of (e, b). At an end e with the neighbour b and the other end o it is
    y (z - b) - c (z - o) with c = (lam b + q)/(o - b) >= 0 and y = lam + c >= 0: a tangent and the chord.
    """
    number = _least(points, centre, lam, nu)
    at_low, at_high = number == points.first, number == points.last
    down, up = np.maximum(number - 1.0, points.first), np.minimum(number, points.last - 1.0)
    a, e, b = points.at(down), points.at(number), points.at(up + 1.0)
    q = lam * (e - 2.0 * centre) + 2.0 * nu
    near, other = np.where(at_low, b, a), np.where(at_low, points.high, points.low)
    gap = np.where(at_low | at_high, other - near, 0.0)
    # of two values the tangent is the chord: no rows tell them apart, and these say what lam does
    chord = np.where(gap == 0.0, np.maximum(-lam, 0.0), (lam * near + q) / np.where(gap == 0.0, 1.0, gap))
    inside = ~(at_low | at_high)
    chord = np.where(inside, 0.0, chord)
    left = np.where(inside, (lam * b + q) / (b - a), np.where(at_high, lam + chord, 0.0))
    right = np.where(inside, -(lam * a + q) / (b - a), np.where(at_low, lam + chord, 0.0))
    inputs, two = np.arange(len(centre)), up > down
    below = tangent_rows(points, inputs, down, centre)
    below = below.with_multiplier(np.maximum(np.where(two, left, left + right), 0.0))
    above = tangent_rows(points, inputs[two], up, centre).with_multiplier(np.maximum(right[two], 0.0))
    return below.and_then(above).and_then(chord_rows(points, centre).with_multiplier(np.maximum(chord, 0.0)))


def _least(points: Points, centre: Array, lam: Array, nu: Array) -> Array:
    """Number of the value at which lam (z - centre)² + 2 nu (z - centre) is least, shape (n,)."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        stationary = np.nan_to_num(np.where(lam > 0.0, centre - nu / lam, centre))
    below = points.below(np.clip(stationary, points.low, points.high))
    tried = np.stack([below, below + 1.0, points.first, points.last])
    offset = np.stack([points.at(number) for number in tried]) - centre
    chosen = (lam * offset**2 + 2.0 * nu * offset).argmin(axis=0)
    return np.asarray(np.take_along_axis(tried, chosen[None], axis=0)[0])
