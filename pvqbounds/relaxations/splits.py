"""Split inequalities: what integrality says about sums of two or three codes, and of levels.

For whole numbers a_i, k and codes z the number aᵀz is whole, so that it lies in no open interval
(k, k + 1):

    (aᵀz - k)(aᵀz - k - 1) = (aᵀz - k - 1/2)² - 1/4 >= 0.

The tangents of the box-hull SDP are those with one entry; here a has two or three entries of +-1.
Like the triangle inequalities of the max-cut problem they say what the SDP does not know about
the codes of several inputs together. Source: Burer and
Letchford, "Unbounded convex sets for non-convex mixed-integer quadratic programming", Math.
Programming 143, 2014 (split inequalities); Buchheim and Traversi, "On the separation of split
inequalities for non-convex quadratic integer programming", Discrete Optimization 15, 2015.

**Levels.** Sorted levels are no whole numbers, but two neighbours l < h of input i are where it is counted
in u_i = (v_i - l)/(h - l). With t = aᵀu and {t} the part of t above a whole number,

    (t - k)(t - k - 1) >= -{t}(1 - {t}) >= -sum over the entries of {u_i}(1 - {u_i}),

since x(1 - x), repeated with period 1, is concave between whole numbers and zero at them, and so
subadditive. u(u - 1) is zero at both neighbours and positive at all other levels: with the lift g_i, the
least number with {u}(1 - {u}) <= g_i u(u - 1) at all of them,

    (t - k)(t - k - 1) + sum of g_i u_i(u_i - 1) >= 0    for all levels.

Where the lifts are 0, as those of whole codes are, this is the split inequality; they are 1/3 where the step
next to a cell is half of its own, as in E2M1, and some hundredths where steps change as slowly as those of
NF4. What the lift adds is the tangent of the two neighbours, which holds by itself.

**The form.** With multipliers y >= 0 in the dual they keep its form: with d = v - w, s a length and
r_i = s/(h - l) (for codes r_i = s/s_i, l = 0), b = sum a_i r_i (w_i - l_i) - s (k + 1/2) and
e_i = w_i - (l_i + h_i)/2

    E = dᵀGd >= dᵀAd - 2 pᵀd + kappa,      A = G - sum y (a_r a_rᵀ + diag(g r²)),   a_r = a r,
                                           p = sum y (b a_r + g r² e),
                                           kappa = sum y (s²/4 (1 + sum g) - b² - sum g r² e²),

a form that takes the place of dᵀGd in everything that is proved of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import TINY, down, gamma
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units
from pvqbounds.problems.values import Cells, ValueSet
from pvqbounds.relaxations.forms import ErrorForm

__all__ = ["ENTRIES", "MOST_SPLITS", "NO_SPLITS", "Splits", "cells_of", "length_of", "subtracted_splits"]

ENTRIES = 3
"""Most entries that a has."""
MOST_SPLITS = 1000
"""Most inequalities for each code that a certificate may have: a solver finds some dozens."""
LARGEST_LOW = 2**40
"""Most that the lower code k may be: sums of three codes of 32 bits are less."""


@dataclass(frozen=True, eq=False)
class Splits:
    """Split inequalities and their multipliers."""

    index: NDArray[np.int32]
    """Inputs at which a is not zero, shape (m, 3); any input where `sign` is zero."""
    sign: NDArray[np.int8]
    """Entries of a: -1, 0 or 1, shape (m, 3)."""
    low: NDArray[np.int64]
    """k, shape (m,)."""
    multiplier: NDArray[np.float64]
    """y, in units of the Gram (of the error over s², :func:`length_of` them), shape (m,)."""
    cell: NDArray[np.int32]
    """Codes of the lower neighbours that entries count from, shape (m, 3): 0 for steps."""

    @classmethod
    def of_codes(
        cls,
        index: NDArray[np.int32],
        sign: NDArray[np.int8],
        low: NDArray[np.int64],
        multiplier: NDArray[np.float64],
    ) -> Splits:
        """Those of steps."""
        return cls(index, sign, low, multiplier, np.zeros(np.shape(index), np.int32))

    def __len__(self) -> int:
        return len(self.multiplier)

    def part(self, start: int, stop: int) -> Splits:
        """Those from a number to before another one."""
        chosen = slice(start, stop)
        return self._only(chosen)

    def times(self, share: float) -> Splits:
        """The same inequalities with a share of their multipliers."""
        return replace(self, multiplier=share * self.multiplier)

    def recounted(self, before: ValueSet, after: ValueSet) -> Splits:
        """The same inequalities about values of more inputs, or fewer: steps count in the largest of all."""
        if len(self) == 0:
            return self
        nothing = np.zeros(0, np.int32)
        ratio = before.length(nothing, nothing) / after.length(nothing, nothing)
        return self if ratio == 1.0 else self.times(ratio * ratio)

    def in_units(self, units: Units) -> Splits:
        """The same inequalities with multipliers in units of the Gram over ``2**units.gram``."""
        with np.errstate(over="ignore", under="ignore"):
            return replace(self, multiplier=np.ldexp(self.multiplier, -units.gram))

    def fit(self, n: int) -> bool:
        """Whether they are inequalities about n codes with multipliers that may be used."""
        parts = (self.index, self.sign, self.low, self.cell, self.multiplier)
        if not all(isinstance(part, np.ndarray) for part in parts) or self.multiplier.ndim != 1:
            return False
        # an inequality holds because its numbers are whole: numbers of another kind state none
        kinds = "".join(part.dtype.kind for part in parts)
        if kinds != "iiiif" or self.multiplier.dtype != np.float64:
            return False
        m = len(self)
        return bool(
            m <= MOST_SPLITS * n
            and self.index.shape == self.sign.shape == self.cell.shape == (m, ENTRIES)
            and self.low.shape == (m,)
            and ((self.index >= 0) & (self.index < n)).all()
            and ((self.sign >= -1) & (self.sign <= 1)).all()
            and ((self.low >= -LARGEST_LOW) & (self.low <= LARGEST_LOW)).all()
            and np.isfinite(self.multiplier).all()
            and (self.multiplier >= 0.0).all()
        )

    def about(self, inputs: NDArray[np.bool_]) -> Splits:
        """Those about the inputs of a mask, shape (n,), alone."""
        kept = (inputs[self.index] | (self.sign == 0)).all(axis=1)
        return self._only(kept)

    def _only(self, chosen: slice | NDArray[np.bool_]) -> Splits:
        return Splits(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def among(self, inputs: NDArray[np.bool_]) -> Splits:
        """Those of :meth:`about` in the numbering of the inputs of the mask."""
        chosen = self.about(inputs)
        number = np.maximum(np.cumsum(inputs, dtype=np.int32) - 1, 0)
        return replace(chosen, index=number[chosen.index])

    def spread(self, inputs: NDArray[np.bool_]) -> Splits:
        """Back from the numbering of :meth:`among` to that of all inputs."""
        return replace(self, index=np.flatnonzero(inputs).astype(np.int32)[self.index])


NO_SPLITS = Splits.of_codes(
    np.zeros((0, ENTRIES), np.int32), np.zeros((0, ENTRIES), np.int8), np.zeros(0, np.int64), np.zeros(0)
)
"""No inequality."""


def length_of(splits: Splits, values: ValueSet) -> float:
    """The length s that their multipliers are counted in: the largest step, or the widest cell of levels."""
    entry = splits.sign != 0
    return values.length(splits.index[entry], splits.cell[entry])


def cells_of(splits: Splits, problem: Problem) -> Cells:
    """What each entry counts from, shape (m, 3); of those that are zero the width is :func:`length_of` all.

    Raises
    ------
    InputError
        If the values of the problem have no such neighbours.
    """
    entry, shape = splits.sign != 0, splits.sign.shape
    known = problem.values.cells(splits.index[entry], splits.cell[entry])
    cells = Cells(np.zeros(shape), np.full(shape, length_of(splits, problem.values)), np.zeros(shape))
    for part, own in zip(vars(cells).values(), vars(known).values(), strict=True):
        part[entry] = own
    return cells


@np.errstate(over="ignore", invalid="ignore")  # what overflows is not finite, and proves nothing
def subtracted_splits(problem: Problem, splits: Splits) -> ErrorForm:
    """The form that the inequalities make of the error, with every rounding paid for.

    Parameters
    ----------
    splits
        That :meth:`Splits.fit` the problem, at least one.
    """
    n, y, index, s = problem.n, splits.multiplier, splits.index, length_of(splits, problem.values)
    cells, weight = cells_of(splits, problem), problem.weight[index]
    # a_i r_i: the signs themselves where all steps are one, else with two roundings each
    ratio = s / cells.width
    more = 0 if (ratio == 1.0).all() else 8
    alpha = splits.sign * ratio
    terms = np.where(splits.sign == 0, 0.0, weight - cells.origin) * alpha
    step = s * (splits.low + 0.5)
    b = terms.sum(axis=1) - step
    b_radius = gamma(8 + more) * (np.abs(terms).sum(axis=1) + np.abs(step)) + TINY
    charge = y[:, None] * alpha  # s is no less than any width: nothing underflows that a later factor raises
    lifted = _Lifted.of(cells, weight, y, s)

    most = int(np.bincount(index.ravel(), minlength=n).max()) + 4
    terms_of_one = ENTRIES + 1 if lifted.charge.any() else ENTRIES
    loose = gamma(
        terms_of_one * most + 8 + more
    )  # bounds the rounding of each sum below, and of its own bound

    def gather(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(index.ravel(), values.ravel(), n), dtype=np.float64)

    linear = gather(charge * b[:, None] + lifted.charge * lifted.offset)
    size = gather(np.abs(charge * b[:, None]) + lifted.charge * np.abs(lifted.offset))
    unsure = np.abs(charge) * b_radius[:, None] + lifted.charge * lifted.radius
    radius = loose * size + (1.0 + loose) * gather(unsure) + TINY

    place = (index[:, :, None].astype(np.int64) * n + index[:, None, :]).ravel()
    products = charge[:, :, None] * alpha[:, None, :]
    taken = np.bincount(place, products.ravel(), n * n).reshape(n, n)
    sizes = np.bincount(place, np.abs(products).ravel(), n * n).reshape(n, n)
    diagonal = np.diag_indices(n)
    if lifted.charge.any():
        taken[diagonal] = taken[diagonal] + gather(lifted.charge)
        sizes[diagonal] = sizes[diagonal] + gather(lifted.charge)
    lower = np.tril(problem.gram - taken)
    matrix = lower + np.tril(lower, -1).T  # an input that stands twice in a row is summed in either order
    # |x_i x_j| <= (x_i² + x_j²)/2: errors of the entries are paid for on the diagonal
    errors = np.where(sizes > 0.0, loose * (sizes + np.abs(matrix)) + TINY, 0.0)
    lowered = matrix[diagonal] - (1.0 + gamma(n + 8)) * errors.sum(axis=1)
    matrix[diagonal] = np.where(errors.any(axis=1), np.nextafter(lowered, -np.inf), matrix[diagonal])

    quarter = 0.25 * s * s
    constant = float((y * (quarter - b * b)).sum())
    rounding = gamma(len(y) + 16) * float((y * (quarter + b * b)).sum())
    rounding += 2.0 * float((y * (2.0 * np.abs(b) + b_radius) * b_radius).sum())
    rounding += TINY * (float(y.sum()) + len(y) + 1.0)  # what underflows in s², b² and their products with y
    if lifted.charge.any():
        constant += lifted.constant
        rounding += lifted.rounding
    return ErrorForm(matrix, linear, radius, down(constant - rounding, 4))


@dataclass(frozen=True, eq=False)
class _Lifted:
    """What lifts add to inequalities, sum of y g r² ((d + e)² - (h - l)²/4), an entry each: shape (m, 3)."""

    charge: NDArray[np.float64]
    """y g r², with some roundings."""
    offset: NDArray[np.float64]
    """e."""
    radius: NDArray[np.float64]
    """How far it may be off."""
    constant: float
    """The sum of y g (s²/4 - r² e²)."""
    rounding: float
    """How far that may be off."""

    @classmethod
    def of(cls, cells: Cells, weight: NDArray[np.float64], y: NDArray[np.float64], s: float) -> _Lifted:
        """With these multipliers, shape (m,)."""
        ratio, lift = s / cells.width, cells.lift
        charge = y[:, None] * ratio * ratio * lift  # in this order: y may be subnormal, and r² is large
        own = (y * (0.25 * s * s))[:, None] * lift
        offset = (weight - cells.origin) - 0.5 * cells.width
        radius = gamma(8) * (np.abs(weight - cells.origin) + cells.width) + TINY
        square = charge * offset * offset
        constant = float((own - square).sum())
        rounding = gamma(square.size + 32) * float((own + square).sum())
        rounding += 2.0 * float((charge * (2.0 * np.abs(offset) + radius) * radius).sum())
        rounding += TINY * (float(charge.sum() + y.sum()) + 3.0 * square.size + 1.0)
        return cls(charge, offset, radius, constant, rounding)
