"""Pruning of one output channel as a sparse least-squares problem."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.arithmetic.enclosures import Enclosure, difference, quadratic_form
from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.integer import checked_pair, moved, scaled_weights
from pvqbounds.problems.supports import largest_kept
from pvqbounds.problems.units import Units, enclosure_scaled, exponent_of
from pvqbounds.problems.validation import as_real_array, whole_number

__all__ = ["SparseLeastSquares", "checked_pattern", "magnitude_support"]


@dataclass(frozen=True, eq=False)
class SparseLeastSquares:
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

    task: ClassVar[str] = "pruning"
    """Kind of the problem, as sides of a layer are told apart by it."""
    shared: Gram
    """The Gram, which the channels of a layer have in common."""
    gram: NDArray[np.float64]
    """Its matrix."""
    weight: NDArray[np.float64]
    nnz: int | None
    pattern: tuple[int, int] | None
    stride: int

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
        object.__setattr__(self, "shared", shared)
        object.__setattr__(self, "gram", shared.matrix)
        object.__setattr__(self, "weight", vector)
        object.__setattr__(self, "nnz", None if nnz is None else whole_number(nnz, "nnz", 0, len(vector)))
        object.__setattr__(self, "pattern", None if pattern is None else checked_pattern(pattern))
        stride = whole_number(stride, "The stride of a pattern", 1, max(1, len(vector)))
        if len(vector) % stride or (pattern is None and stride != 1):
            raise InputError(
                f"A stride of {stride} needs an N:M pattern and a number of weights that it divides, "
                f"not {len(vector)} weights."
            )
        object.__setattr__(self, "stride", stride)
        self.in_units(self.units)  # refuses weights that lie too far apart

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.weight)

    @cached_property
    def units(self) -> Units:
        """Units in which the largest numbers are near 1."""
        return Units(self.shared.exponent, exponent_of(float(np.abs(self.weight).max())))

    @cached_property
    def normalised(self) -> SparseLeastSquares:
        """The same problem in :attr:`units`: what solvers and proofs work on."""
        return self.in_units(self.units)

    def in_units(self, units: Units) -> SparseLeastSquares:
        """The problem with its Gram over ``2**units.gram`` and its weights over ``2**units.weight``.

        Raises
        ------
        InputError
            If a number is lost by underflow or overflows.
        """
        if units == (0, 0):
            return self
        weight = scaled_weights(self.weight, -units.weight)
        return moved(self, self.shared.in_units(units.gram), weight)

    @property
    def budgets(self) -> list[tuple[NDArray[np.int64], int]]:
        """Groups of inputs and how many of each may be kept: one group for `nnz`, n/M for N:M."""
        if self.nnz is not None:
            return [(np.arange(self.n), self.nnz)]
        assert self.pattern is not None
        return [(group, min(self.pattern[0], len(group))) for group in self.groups]

    @property
    def groups(self) -> list[NDArray[np.int64]]:
        """Inputs of each group of `pattern`, rising; one kernel position after another."""
        assert self.pattern is not None
        size, inputs = self.pattern[1], np.arange(self.n)
        rows = [inputs[position :: self.stride] for position in range(self.stride)]
        return [row[i : i + size] for row in rows for i in range(0, len(row), size)]

    def with_nnz(self, nnz: int) -> SparseLeastSquares:
        """The same channel, of the same Gram array, with `nnz` non-zeros allowed."""
        other = copy(self)
        other.__dict__.pop("normalised", None)
        object.__setattr__(other, "nnz", whole_number(nnz, "nnz", 0, self.n))
        object.__setattr__(other, "pattern", None)
        object.__setattr__(other, "stride", 1)
        return other

    @cached_property
    def signal(self) -> Enclosure:
        """Enclosure of wᵀGw."""
        form = quadratic_form(self.normalised.gram, self.normalised.weight)
        return enclosure_scaled(form, self.units.error)

    def checked_support(self, support: ArrayLike) -> NDArray[np.int64]:
        """`support` as sorted int64 indices.

        Raises
        ------
        InputError
            If an index is repeated, out of range, or the budget is exceeded.
        """
        try:
            array = np.asarray(support)
        except ValueError as error:
            raise InputError("The support must be a list of input indices.") from error
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InputError("The support must be a list of input indices.")
        indices = np.unique(array.astype(np.int64))
        if len(indices) != array.size:
            raise InputError("The support names an input twice.")
        if len(indices) and (indices[0] < 0 or indices[-1] >= self.n):
            raise InputError(f"The support names an input outside 0..{self.n - 1}.")
        for group, kept in self.budgets:
            found = int(np.isin(indices, group).sum())
            if found > kept:
                apart = f" ({self.stride} apart)" if self.stride > 1 else ""
                raise InputError(
                    f"The support keeps {found} of inputs {group[0]}..{group[-1]}{apart}, "
                    f"where {kept} are allowed."
                )
        return indices

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
        move = np.linalg.lstsq(block / np.outer(power, power), pull / power, rcond=None)[0]
        v[support] = self.weight[support] + move / power
        return v

    def error(self, weight: NDArray[np.float64]) -> Enclosure:
        """Enclosure of E(v), the mean squared output error of the weights v, shape (n,)."""
        inner = self.normalised
        weight = scaled_weights(as_real_array(weight, "The weight", ndim=1), -self.units.weight)
        if len(weight) != self.n:
            raise InputError(f"The error is that of {self.n} weights, not of {len(weight)}.")
        form = quadratic_form(inner.gram, *difference(weight, inner.weight))
        return enclosure_scaled(form, self.units.error)


def common_units(problems: Sequence[SparseLeastSquares]) -> Units:
    """Units in which the largest numbers of all these problems are near 1, so that errors add up."""
    gram = exponent_of(max(float(np.abs(problem.gram).max()) for problem in problems))
    return Units(gram, exponent_of(max(float(np.abs(problem.weight).max()) for problem in problems)))


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


def checked_pattern(pattern: tuple[int, int]) -> tuple[int, int]:
    """(N, M) as whole numbers with 0 <= N <= M and M >= 1.

    Raises
    ------
    InputError
        If they are anything else.
    """
    try:
        first, second = pattern
    except (TypeError, ValueError) as error:
        raise InputError(f"The pattern must be two whole numbers N, M, not {shown(pattern)}.") from error
    size = whole_number(second, "M of the pattern N:M", 1, 2**31)
    return whole_number(first, "N of the pattern N:M", 0, size), size
