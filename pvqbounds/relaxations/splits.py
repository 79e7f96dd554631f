"""Split inequalities: what integrality says about sums of two or three codes.

For whole numbers a_i, k and codes z the number aᵀz is whole, so that it lies in no open interval
(k, k + 1):

    (aᵀz - k)(aᵀz - k - 1) = (aᵀz - k - 1/2)² - 1/4 >= 0.

The tangents of the box-hull SDP are those with one entry; here a has two or three entries of +-1.
Like the triangle inequalities of the max-cut problem they say what the SDP does not know about
the codes of several inputs together. Added with multipliers y >= 0 to the dual they keep its
form: with d = s z - w and b = aᵀw - s (k + 1/2)

    E = dᵀGd >= dᵀAd - 2 pᵀd + kappa,      A = G - sum y a aᵀ,   p = sum y b a,
                                           kappa = sum y (s²/4 - b²),

a form that takes the place of dᵀGd in everything that is proved of it. Where inputs have steps of
their own, z_i = (d_i + w_i)/s_i puts a_i s/s_i in the place of a_i, s the largest step. Source: Burer and
Letchford, "Unbounded convex sets for non-convex mixed-integer quadratic programming", Math.
Programming 143, 2014 (split inequalities); Buchheim and Traversi, "On the separation of split
inequalities for non-convex quadratic integer programming", Discrete Optimization 15, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import TINY, down, gamma
from pvqbounds.errors import InputError
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units
from pvqbounds.relaxations.forms import ErrorForm

__all__ = ["ENTRIES", "MOST_SPLITS", "NO_SPLITS", "Splits", "subtracted_splits"]

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
    """y, in units of the Gram (of the error over the square of the largest step), shape (m,)."""

    def __len__(self) -> int:
        return len(self.multiplier)

    def part(self, start: int, stop: int) -> Splits:
        """Those from a number to before another one."""
        chosen = slice(start, stop)
        return Splits(self.index[chosen], self.sign[chosen], self.low[chosen], self.multiplier[chosen])

    def times(self, share: float) -> Splits:
        """The same inequalities with a share of their multipliers."""
        return replace(self, multiplier=share * self.multiplier)

    def in_units(self, units: Units) -> Splits:
        """The same inequalities with multipliers in units of the Gram over ``2**units.gram``."""
        with np.errstate(over="ignore", under="ignore"):
            return replace(self, multiplier=np.ldexp(self.multiplier, -units.gram))

    def fit(self, n: int) -> bool:
        """Whether they are inequalities about n codes with multipliers that may be used."""
        parts = (self.index, self.sign, self.low, self.multiplier)
        if not all(isinstance(part, np.ndarray) for part in parts) or self.multiplier.ndim != 1:
            return False
        # an inequality holds because its numbers are whole: numbers of another kind state none
        if [part.dtype.kind for part in parts] != ["i", "i", "i", "f"] or self.multiplier.dtype != np.float64:
            return False
        m = len(self)
        return bool(
            m <= MOST_SPLITS * n
            and self.index.shape == self.sign.shape == (m, ENTRIES)
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
        return Splits(self.index[kept], self.sign[kept], self.low[kept], self.multiplier[kept])

    def among(self, inputs: NDArray[np.bool_]) -> Splits:
        """Those of :meth:`about` in the numbering of the inputs of the mask."""
        chosen = self.about(inputs)
        number = np.maximum(np.cumsum(inputs, dtype=np.int32) - 1, 0)
        return replace(chosen, index=number[chosen.index])

    def spread(self, inputs: NDArray[np.bool_]) -> Splits:
        """Back from the numbering of :meth:`among` to that of all inputs."""
        return replace(self, index=np.flatnonzero(inputs).astype(np.int32)[self.index])


NO_SPLITS = Splits(
    np.zeros((0, ENTRIES), np.int32), np.zeros((0, ENTRIES), np.int8), np.zeros(0, np.int64), np.zeros(0)
)
"""No inequality."""


@np.errstate(over="ignore", invalid="ignore")  # what overflows is not finite, and proves nothing
def subtracted_splits(problem: Problem, splits: Splits) -> ErrorForm:
    """The form that the inequalities make of the error, with every rounding paid for.

    Parameters
    ----------
    splits
        That :meth:`Splits.fit` the problem, at least one.
    """
    n = problem.n
    steps = problem.values.lattice
    if steps is None:
        raise InputError("Split inequalities are about whole multiples of steps; these values have none.")
    y, s = splits.multiplier, float(steps.max())
    # a_i s / s_i: the signs themselves where all steps are one, else with one rounding each
    ratio = s / steps
    more = 0 if (ratio == 1.0).all() else 8
    alpha = splits.sign * ratio[splits.index]
    terms = np.where(splits.sign == 0, 0.0, problem.weight[splits.index]) * alpha
    step = s * (splits.low + 0.5)
    b = terms.sum(axis=1) - step
    b_radius = gamma(8 + more) * (np.abs(terms).sum(axis=1) + np.abs(step)) + TINY

    most = int(np.bincount(splits.index.ravel(), minlength=n).max()) + 4
    loose = gamma(ENTRIES * most + 8 + more)  # bounds the rounding of each sum below, and of its own bound

    def gather(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(splits.index.ravel(), values.ravel(), n), dtype=np.float64)

    linear = gather((y * b)[:, None] * alpha)
    size = gather((y * np.abs(b))[:, None] * np.abs(alpha))
    radius = loose * size + (1.0 + loose) * gather((y * b_radius)[:, None] * np.abs(alpha)) + TINY

    cells = (splits.index[:, :, None].astype(np.int64) * n + splits.index[:, None, :]).ravel()
    products = alpha[:, :, None] * alpha[:, None, :] * y[:, None, None]
    taken = np.bincount(cells, products.ravel(), n * n).reshape(n, n)
    sizes = np.bincount(cells, np.abs(products).ravel(), n * n).reshape(n, n)
    lower = np.tril(problem.gram - taken)
    matrix = lower + np.tril(lower, -1).T  # an input that stands twice in a row is summed in either order
    # |x_i x_j| <= (x_i² + x_j²)/2: errors of the entries are paid for on the diagonal
    errors = np.where(sizes > 0.0, loose * (sizes + np.abs(matrix)) + TINY, 0.0)
    diagonal = np.diag_indices(n)
    lowered = matrix[diagonal] - (1.0 + gamma(n + 8)) * errors.sum(axis=1)
    matrix[diagonal] = np.where(errors.any(axis=1), np.nextafter(lowered, -np.inf), matrix[diagonal])

    quarter = 0.25 * s * s
    constant = float((y * (quarter - b * b)).sum())
    rounding = gamma(len(y) + 16) * float((y * (quarter + b * b)).sum())
    rounding += 2.0 * float((y * (2.0 * np.abs(b) + b_radius) * b_radius).sum())
    rounding += TINY * (float(y.sum()) + len(y) + 1.0)  # what underflows in s², b² and their products with y
    return ErrorForm(matrix, linear, radius, down(constant - rounding, 4))
