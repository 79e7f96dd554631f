"""Where a path of the split dual stands: its inequalities and multipliers, what it remembers, its best point.

What is computed from matrices is done by who follows the path: one channel by compiled code
(:mod:`.split_dual`), or many on a device (:mod:`.split_batch`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.box_hull import BoxHullSDP
from pvqbounds.relaxations.splits import Splits
from pvqbounds.solvers.base import SDPSolution
from pvqbounds.solvers.native.quantization.split_rows import Local, Rows, chord_rows, tangent_rows

__all__ = ["DEPTH", "MEMORY", "SPLITS_AN_INPUT", "Iterate"]

Array = NDArray[np.float64]

MEMORY = 10
"""Pairs of steps and changes of the gradient that are kept."""

DEPTH = 0.01
"""Violation that a split inequality is added for; 1/4 is the most there is."""

TANGENT_DEPTH = 1e-3
"""The same for tangents, over the squared distance of their values."""

SPLITS_AN_INPUT = 5
"""Split inequalities added in a round, as a multiple of n."""

NEAR = 0.2
"""Gap of the last barrier, relative to the value, at which a path has come to its end."""


class Iterate:
    """The iterate, from y = 0 onwards, over the inputs of a mask: those that are always zero are left out."""

    def __init__(self, sdp: BoxHullSDP, live: NDArray[np.bool_], clock: Clock | None = None) -> None:
        self.live = live
        self._start = np.clip(sdp.centre, sdp.low, sdp.high)
        self.form = np.ascontiguousarray(sdp.form if live.all() else sdp.form[np.ix_(live, live)])
        self.centre, self._points = sdp.centre[live], sdp.points if live.all() else sdp.points.among(live)
        self.n = len(self.centre)
        self.take(self._first_rows(clock))
        self.level = self.mu = 0.0
        """What the dual value is expected to be; the weight of the barrier."""
        self._best = self.rows, 0.0
        self.end = ""

    def take(self, rows: Rows) -> None:
        """Take other inequalities and multipliers, with nothing remembered."""
        self.rows = rows
        self.unit = np.ones(len(rows))
        self.moves, self.changes = np.zeros((2, MEMORY, len(rows)))
        self.count = 0
        """Of pairs that are remembered."""

    def _first_rows(self, clock: Clock | None) -> Rows:
        """The tangents next to the continuous minimiser, and the chords."""
        points = self._points
        near = box_minimiser(self.form, self.centre, points.low, points.high, clock)
        tangents = tangent_rows(points, np.arange(self.n), points.below(near), self.centre)
        return tangents.and_then(chord_rows(points, self.centre))

    def begin(self, value: float, variance: Array) -> None:
        """From the value at the first multipliers, and the diagonal of S⁻¹ there, shape (n,)."""
        self.level = 0.25 * float((1.0 / variance).sum())
        self.mu = self.level / self.n
        self._best = self.rows, value

    def rescale(self, unit: Array) -> None:
        """Take other units for the variables, shape (m,)."""
        self.moves *= self.unit / unit
        self.changes /= self.unit / unit
        self.unit = unit

    def reach(self, multiplier: Array, value: float) -> None:
        """Move to multipliers with this dual value."""
        self.rows = self.rows.with_multiplier(multiplier)
        if value > self._best[1]:
            self._best = self.rows, value
        self.level = max(value, 0.5 * self.level)

    def local(self, x: Array) -> Local:
        """The neighbouring values around the point x of the path."""
        return Local.at(self._points, self._points.below(self.centre + x))

    def exchange(self, x: Array, variance: Array, slope: Array, found: Rows | None) -> None:
        """Drop rows that are not active, add those that the point of the path violates.

        Parameters
        ----------
        x
            The point's mean, shape (n,).
        variance
            The diagonal of its covariance mu S⁻¹, shape (n,).
        slope
            Derivative of the barrier by y, shape (m,).
        found
            Split inequalities that it violates; None where they were not looked for.
        """
        points, rows, z = self._points, self.rows, self.centre + x
        kept = rows.single | (rows.multiplier > 0.0) | (slope > 0.0)
        number = points.below(z)
        below = points.at(number)
        width = points.at(number + 1.0) - below
        slack = variance + (z - below) * (z - below - width)
        new = tangent_rows(points, np.flatnonzero(slack < -TANGENT_DEPTH * width**2), number, self.centre)
        if found is not None:
            new = new.and_then(found)
        rows = rows.only(kept)
        new = rows.new_among(new)
        self.rows = rows.and_then(new)
        self.unit = np.concatenate([self.unit[kept], np.ones(len(new))])
        self.moves, self.changes = (_exchanged(part, kept, len(new)) for part in (self.moves, self.changes))
        known = min(self.count, MEMORY)
        if ((self.moves * self.changes).sum(axis=1)[:known] <= 0.0).any():
            self.count = 0

    def solution_at(self, x: Array, covariance: Array) -> tuple[SDPSolution, Splits]:
        """Multipliers of the best point, and the moments of the last one: all inputs, units of the SDP."""
        (rows, value), live = self._best, self.live
        charge, single = rows.charge, rows.single
        lam, nu = np.zeros(len(live)), np.zeros(len(live))
        lam[live] = np.bincount(rows.index[single, 0], charge[single], self.n)
        pulls = (charge * rows.offset)[:, None] * rows.sign + charge[:, None] * rows.lift * rows.middle
        nu[live] = np.bincount(rows.index.ravel(), pulls.ravel(), self.n)
        used = rows.only(~single & (rows.multiplier > 0.0))
        sign, low = np.sign(used.sign).astype(np.int8), used.low.astype(np.int64)
        splits = Splits(used.index, sign, low, used.multiplier, used.cell)
        status, gap = self.end, self.n * self.mu
        if value <= 0.0:
            status = "no bound above zero was found"
        elif gap > NEAR * value:
            status = f"stopped at a relative gap of about {gap / value:.1e}"
        mean = self._start.copy()
        mean[live] = self.centre + x
        whole = np.zeros((len(live), len(live)))
        whole[np.ix_(live, live)] = covariance
        return SDPSolution(lam, nu, value, mean, whole, status), splits.spread(live)


def _exchanged(vectors: Array, kept: NDArray[np.bool_], new: int) -> Array:
    """The rows of `vectors` without the entries outside a mask, and with so many zeros after them."""
    old = int(kept.sum())
    exchanged = np.zeros((len(vectors), old + new))
    exchanged[:, :old] = vectors[:, kept]
    return exchanged
