"""Pruning of one output channel as a sparse least-squares problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.errors import InputError
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.least_squares import Point, Problem, checked_pair
from pvqbounds.problems.supports import largest_kept, rule_of
from pvqbounds.problems.validation import as_real_array
from pvqbounds.problems.values import Reals

__all__ = ["SparseLeastSquares", "magnitude_support", "nnz_of_density"]

INDEPENDENT = 1e-4
"""Share of its size that the inputs before it leave of an input, for Cholesky factors to be taken."""


@dataclass(frozen=True, eq=False, repr=False)
class SparseLeastSquares(Problem):
    """Minimise E(v) = (v - w)ᵀ G (v - w) over v with few non-zeros, kept weights re-fitted freely.

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n), or a :class:`Gram`.
    weight
        w, shape (n,).
    nnz
        At most so many non-zeros in all.
    pattern
        (N, M): at most N non-zeros in each group of M consecutive weights (a shorter last group
        may keep N too). Give either `nnz` or `pattern`.
    stride
        How far apart the weights of a group of `pattern` lie: 1 for consecutive ones. A
        convolution's weights, flattened as (channel, kernel), have groups along the input
        channels at one kernel position where it is the size of the kernel. It divides n.

    Raises
    ------
    InputError
        If a value is not finite, shapes disagree, the Gram is asymmetric or indefinite, or the
        budget is missing, given twice or out of range.
    """

    values: Reals
    """All numbers."""

    def __init__(
        self,
        gram: Gram | ArrayLike,
        weight: ArrayLike,
        nnz: int | None = None,
        pattern: tuple[int, int] | None = None,
        stride: int = 1,
    ) -> None:
        shared, vector = checked_pair(gram, weight)
        if (nnz is None) == (pattern is None):
            raise InputError("Give either nnz or pattern, not both and not neither.")
        rule = rule_of(len(vector), nnz, pattern, stride)
        super().__init__(shared, vector, Reals(len(vector)), rule)

    def with_nnz(self, nnz: int) -> SparseLeastSquares:
        """The same channel, of the same Gram array, with `nnz` non-zeros allowed."""
        return self.under(rule_of(self.n, nnz, None))

    def refit(self, support: NDArray[np.int64]) -> NDArray[np.float64]:
        """Best weights on `support` (least squares, least change of power where singular), shape (n,).

        With d = v - w the normal equations are G_KK d_K = G_KT w_T: the kept weights move by
        d_K, so that a support that loses nothing leaves them as they were.
        """
        if self.units != (0, 0):
            return np.ldexp(self.normalised.refit(support), self.units.weight)
        removed = np.setdiff1d(np.arange(self.n), support)
        v = np.zeros(self.n)
        if len(support) == 0:
            return v
        block = self.gram[np.ix_(support, support)]
        pull = self.gram[np.ix_(support, removed)] @ self.weight[removed]
        # a unit diagonal, so that an input of small power is not taken for a rounding error
        diagonal = np.diagonal(block)
        power = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
        move = _moved(block / np.outer(power, power), pull / power)
        v[support] = self.weight[support] + move / power
        return v

    def error(self, values: NDArray[Any]) -> Enclosure:
        """Enclosure of E(v), the mean squared output error of the weights v, shape (n,)."""
        return self.error_of(values)

    def checked(self, values: Any) -> NDArray[np.float64]:
        """Weights that keep to the budget, shape (n,)."""
        weight = as_real_array(values, "The weight", ndim=1)
        if len(weight) != self.n:
            raise InputError(f"There must be {self.n} weights, not {len(weight)}.")
        self.checked_support(np.flatnonzero(weight))
        return weight

    def point(self, values: NDArray[Any]) -> Point:
        """Weights, checked and evaluated."""
        weight = self.checked(values)
        return Point(weight, None, np.flatnonzero(weight), self.error(weight))

    def on_support(self, support: ArrayLike) -> Point:
        """The re-fit on a support, checked and evaluated."""
        kept = self.checked_support(support)
        weight = self.refit(kept)
        return Point(weight, None, kept, self.error(weight))

    def start(self) -> Point:
        """Magnitude pruning, re-fitted."""
        return self.on_support(magnitude_support(self))


def _moved(block: NDArray[np.float64], pull: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    """Solution of the normal equations of a unit diagonal; of least norm where inputs depend on others."""
    try:
        independent = np.diagonal(np.linalg.cholesky(block)).min() > INDEPENDENT
    except np.linalg.LinAlgError:
        independent = False
    if independent:  # by a tenth of the time
        return np.linalg.solve(block, pull)
    return np.linalg.lstsq(block, pull, rcond=None)[0]


def magnitude_support(problem: SparseLeastSquares) -> NDArray[np.int64]:
    """Magnitude pruning: the largest |w_i| of each group, the lower index first on ties."""
    return np.flatnonzero(largest_kept(np.abs(problem.weight)[None], problem.budgets)[0])


def nnz_of_density(density: float, n: int) -> int:
    """Largest whole number of non-zeros that is at most ``density * n``, up to rounding.

    Raises
    ------
    InputError
        If the density is not in (0, 1].
    """
    if not 0.0 < density <= 1.0:
        raise InputError(f"The density must lie in (0, 1], not {density}.")
    # 1e-9 so that 0.1 * 30 keeps 3 although the product may round to 2.999...
    return min(n, int(density * n + 1e-9))
