"""Slabs: what is known where a linear function of the weights lies between two ends.

Let t = aᵀd, d = v - w, for any vector a. Wherever low <= t <= high, for all rho, alpha, beta >= 0

    E >= dᵀGd - rho (t - low)(high - t) - 2 alpha (t - low) - 2 beta (high - t)
       = dᵀ(G + rho aaᵀ)d - 2 pᵀd + kappa,     p = (rho (low + high)/2 + alpha - beta) a,
                                               kappa = rho low high + 2 alpha low - 2 beta high:

a form below the error on that part of the weights. Its gain is curvature: a Gram with a direction of next to
no power keeps every diagonal lam below it next to zero, and A = G + rho aaᵀ has none. It costs at most
rho ((high - low)/2)². A :class:`Cover` is a tree of cuts of t = (a_1ᵀd, ..., a_mᵀd): whatever the cuts are,
its leaves hold every t, so that the least of their bounds is a bound.

Sources: secants of t² on intervals that are cut where it matters: Falk and Soland, Management Science 15,
1969, and McCormick, Math. Programming 10, 1976 (spatial branch and bound); cases of a linear function: Balas,
"Disjunctive programming", Annals of Discrete Math. 5, 1979.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import TINY, UNIT, down, gamma, total, up
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units
from pvqbounds.relaxations.forms import ErrorForm

__all__ = ["MOST_DIRECTIONS", "MOST_LEAVES", "Box", "Cover", "Slabs", "added_slabs", "whole_box"]

Array = NDArray[np.float64]

MOST_DIRECTIONS = 8
"""Directions that a cover may have."""
MOST_LEAVES = 4096
"""Leaves that a cover may have."""
ABSORBED = 2.0**-44
"""Share of its diagonal that a form may lose for the rounding of p: it buys its square over that share."""


@dataclass(frozen=True, eq=False)
class Box:
    """low_j <= a_jᵀd <= high_j."""

    low: Array
    """Shape (m,); -inf where there is no such end."""
    high: Array
    """Shape (m,); inf where there is none."""

    @property
    def is_empty(self) -> bool:
        """Whether no weights lie in it."""
        return bool((self.low > self.high).any())

    @property
    @np.errstate(invalid="ignore")
    def middle(self) -> Array:
        """Shape (m,); the finite end, or 0, of a slab without the other."""
        ends = np.where(np.isfinite(self.low), self.low, self.high)
        middle = np.where(self.is_bounded, self.low + 0.5 * (self.high - self.low), ends)
        return np.where(np.isfinite(middle), middle, 0.0)

    @property
    def half_width(self) -> Array:
        """Shape (m,)."""
        return np.asarray(0.5 * (self.high - self.low))

    @property
    def is_bounded(self) -> NDArray[np.bool_]:
        """Whether both ends are finite, shape (m,)."""
        return np.asarray(np.isfinite(self.low) & np.isfinite(self.high))

    def cut(self, axis: int, at: float) -> tuple[Box, Box]:
        """The parts below and above a cut."""
        low, high = self.low.copy(), self.high.copy()
        low[axis], high[axis] = max(at, low[axis]), min(at, high[axis])
        return Box(self.low, high), Box(low, self.high)


@dataclass(frozen=True, eq=False)
class Slabs:
    """A box of t with the multipliers of its slabs."""

    direction: Array
    """a_1, ..., a_m, shape (m, n)."""
    box: Box
    chord: Array
    """rho >= 0, in units of the Gram, shape (m,); it counts where both ends are finite."""
    push: Array
    """alpha where positive, -beta where negative, in units of Gram times weight, shape (m,).

    It counts where the end that it pushes from, low or high, is finite.
    """

    def among(self, inputs: NDArray[np.bool_] | NDArray[np.int64]) -> Slabs:
        """Those of the inputs of a mask, where all else is zero, or in another order of inputs."""
        return replace(self, direction=self.direction[:, inputs])

    @property
    def effective(self) -> tuple[Array, Array]:
        """rho and the push that count, shape (m,) each."""
        end = np.where(self.push > 0.0, self.box.low, self.box.high)
        chord = np.where(self.box.is_bounded, self.chord, 0.0)
        return chord, np.where(np.isfinite(end), self.push, 0.0)

    def pull(self) -> Array:
        """p, shape (n,), in plain float64."""
        chord, push = self.effective
        bounded = self.box.is_bounded
        low, high = np.where(bounded, self.box.low, 0.0), np.where(bounded, self.box.high, 0.0)
        return np.asarray((0.5 * chord * (low + high) + push) @ self.direction)


def added_slabs(form: ErrorForm, slabs: Slabs) -> ErrorForm:
    """A form below the error where the weights lie in the slabs, every rounding paid for.

    What p is off by is absorbed by the square of d: 2 |e_i d_i| <= c_i d_i² + e_i²/c_i.

    Parameters
    ----------
    form
        Below the error wherever the weights lie; its diagonal is positive.
    slabs
        Of as many inputs, zero at inputs that are always zero.
    """
    n = len(form.linear)
    matrix, linear, parts = form.matrix, form.linear, [form.constant]
    errors, drift = np.zeros(n), np.zeros(n)
    chord, push = slabs.effective
    lows, highs = slabs.box.low, slabs.box.high
    for a, rho, pushed, low, high in zip(slabs.direction, chord, push, lows, highs, strict=True):
        size = np.abs(a)
        if rho > 0.0:
            lower = np.tril((rho * a)[:, None] * a)
            taken = lower + np.tril(lower, -1).T
            matrix = matrix + taken
            # of the product, and of the sum; row sums bound what the entries do to dᵀAd
            errors += gamma(n + 16) * (rho * size * size.sum()) + UNIT * np.abs(matrix).sum(axis=1)
            parts.append(_product_down(rho, low, high))
        # rho first: half of the least float64 is nothing, which an end of any size would make something
        slope = pushed if rho == 0.0 else 0.5 * (rho * (low + high)) + pushed
        slope_size = abs(pushed) if rho == 0.0 else 0.5 * (rho * (abs(low) + abs(high))) + abs(pushed)
        linear = linear + slope * a
        drift += gamma(16) * (slope_size * size) + 2.0 * UNIT * np.abs(linear) + TINY * (1.0 + size)
        if pushed != 0.0:
            end = low if pushed > 0.0 else -high
            parts.append(2.0 * _times_down(abs(pushed), end))
    if not (chord.any() or push.any()):
        return form
    diagonal = np.diag_indices(n)
    absorbing = ABSORBED * np.maximum(matrix[diagonal], 0.0)
    # the quotient first: the square of a drift may be less than any float64 where the diagonal is as small
    cost = drift * np.divide(drift, absorbing, out=np.zeros(n), where=absorbing > 0.0)
    matrix = matrix.copy()
    lowered = matrix[diagonal] - (1.0 + gamma(n + 16)) * (errors + absorbing) - TINY
    matrix[diagonal] = np.nextafter(lowered, -np.inf)
    paid = up(total(cost.tolist()) * (1.0 + gamma(8)) + TINY, 2)
    constant = down(down(total(parts)) - paid) if np.isfinite(parts).all() else -math.inf
    radius = np.where(absorbing > 0.0, form.radius, (1.0 + gamma(4)) * (form.radius + drift))
    return ErrorForm(matrix, linear, radius, constant)


def _times_down(factor: float, number: float) -> float:
    """A lower bound on ``factor * number``, factor >= 0."""
    return down(factor * number - TINY)


def _product_down(rho: float, low: float, high: float) -> float:
    """A lower bound on rho low high."""
    product = low * high
    return down(rho * product - (4.0 * UNIT * abs(rho * product) + TINY * (1.0 + rho)))


@dataclass(frozen=True, eq=False)
class Cover:
    """Boxes that hold every t = (a_1ᵀd, ..., a_mᵀd): the leaves of a tree of cuts.

    The nodes stand in preorder: a cut, all below it, all above it.
    """

    direction: Array
    """Shape (m, n)."""
    axis: NDArray[np.int64]
    """Which t a node cuts, -1 for a leaf, shape (nodes,)."""
    cut: Array
    """Where, shape (nodes,)."""

    def fits(self, problem: Problem) -> bool:
        """Whether it is a tree about the problem's inputs."""
        parts = (self.direction, self.axis, self.cut)
        if not all(isinstance(part, np.ndarray) for part in parts):
            return False
        if [part.dtype for part in parts] != [np.float64, np.int64, np.float64]:
            return False
        if not (self.direction.ndim == 2 and self.axis.ndim == 1):
            return False
        m, nodes = len(self.direction), len(self.axis)
        return bool(
            self.direction.shape == (m, problem.n)
            and 1 <= m <= MOST_DIRECTIONS
            and self.cut.shape == (nodes,)
            and 1 <= nodes < 2 * MOST_LEAVES
            and np.isfinite(self.direction).all()
            and np.isfinite(self.cut).all()
            and ((self.axis >= -1) & (self.axis < m)).all()
            and _is_tree(self.axis < 0)
        )

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return int((self.axis < 0).sum())

    def in_units(self, units: Units) -> Cover:
        """The same cover of the problem in these units: cuts that round stay cuts."""
        with np.errstate(over="ignore", under="ignore"):
            return replace(self, cut=np.ldexp(self.cut, -units.weight))

    def live_directions(self, problem: Problem) -> Array:
        """The directions, zero at inputs that are always zero: t is about the others."""
        return np.where(problem.shared.live, self.direction, 0.0)

    def boxes(self, problem: Problem) -> list[Box]:
        """The box of each leaf, as far as the problem's values reach."""
        found, stack = [], [whole_box(problem, self.live_directions(problem))]
        for axis, cut in zip(self.axis.tolist(), self.cut.tolist(), strict=True):
            box = stack.pop()
            if axis < 0:
                found.append(box)
            else:
                below, above = box.cut(axis, cut)
                stack += [above, below]
        return found


def _is_tree(leaf: NDArray[np.bool_]) -> bool:
    """Whether these are the nodes of one binary tree in preorder."""
    open_ends = 1 + np.cumsum(np.where(leaf, -1, 1))  # after each node
    return bool(open_ends[-1] == 0 and (open_ends[:-1] > 0).all())


def whole_box(problem: Problem, direction: Array) -> Box:
    """How far t reaches, rounded outwards, shape (m,) each: all of ℝ where values have no ends.

    The same numbers on every machine, and with or without inputs at which the directions are zero: whether a
    leaf is empty must not depend on the order of a sum.
    """
    endless = np.full(len(direction), np.inf)
    if not problem.values.is_finite:
        return Box(-endless, endless)
    lowest, highest, weight = problem.values.lowest, problem.values.highest, problem.weight
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is no end
        ends = direction * (lowest - weight), direction * (highest - weight)
        size = _row_sums(np.abs(direction) * (np.abs(lowest) + np.abs(highest) + 2.0 * np.abs(weight)))
        room = gamma(16) * size + TINY
        low, high = _row_sums(np.minimum(*ends)) - room, _row_sums(np.maximum(*ends)) + room
    return Box(np.where(np.isfinite(low), low, -endless), np.where(np.isfinite(high), high, endless))


def _row_sums(terms: Array) -> Array:
    """The sum of each row, rounded once, nan where it overflows, shape (m,)."""
    return np.array([total(row) for row in terms.tolist()])
