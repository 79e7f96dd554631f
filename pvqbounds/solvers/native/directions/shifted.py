"""The problem that a form with slabs makes: another Gram, and another target.

Where A d0 = p, dᵀAd - 2 pᵀd + kappa = (d - d0)ᵀA(d - d0) + kappa - pᵀd0: within slabs the error is bounded by
that of the weights w + d0 with the Gram A, which every engine takes as it is. Multipliers (lam, nu') of that
problem are (lam, nu' + S d0) of the first one, S = A - diag(lam) less what split inequalities take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import Gram, Problem
from pvqbounds.problems.least_squares import moved
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.relaxations.splits import Splits, cells_of, length_of
from pvqbounds.solvers.native.directions.near_null import NearNull

__all__ = ["Shifted", "Shifts"]

Array = NDArray[np.float64]

P = TypeVar("P", bound=Problem)


@dataclass(frozen=True, eq=False)
class Shifted(Generic[P]):
    """A problem within slabs as one of its own, but for a constant."""

    problem: P
    offset: Array
    """d0, shape (n,)."""
    constant: float
    """kappa - pᵀd0."""

    def certificate(self, found: DualCertificate) -> DualCertificate:
        """Multipliers of this problem as those of the first one within the slabs."""
        image = self.problem.gram @ self.offset - found.lam * self.offset
        taken = _image_of(found.splits, self.problem, self.offset)
        return replace(found, nu=found.nu + image - taken)


class Shifts(Generic[P]):
    """The shifted problems of one problem; Grams of the same multipliers are made once."""

    def __init__(self, problem: P, near: NearNull) -> None:
        self._problem, self._near = problem, near
        self._grams: dict[bytes, Gram] = {}

    def within(self, slabs: Slabs) -> Shifted[P]:
        """The problem within slabs along the near-null directions."""
        chord, push = slabs.effective
        bounded = slabs.box.is_bounded
        low, high = np.where(bounded, slabs.box.low, 0.0), np.where(bounded, slabs.box.high, 0.0)
        slope = 0.5 * chord * (low + high) + push
        power = np.maximum(self._near.power, 1e-12 * self._near.next) + chord
        offset = (slope / power) @ slabs.direction
        end = np.where(push == 0.0, 0.0, np.where(push > 0.0, slabs.box.low, slabs.box.high))
        constant = float((chord * low * high + 2.0 * push * end - slope * slope / power).sum())
        weight = self._problem.weight + offset
        return Shifted(moved(self._problem, shared=self._gram(chord), weight=weight), offset, constant)

    def _gram(self, chord: Array) -> Gram:
        """A = G + sum rho aaᵀ."""
        key = chord.tobytes()
        if key not in self._grams:
            directions = self._near.direction
            self._grams[key] = self._problem.shared.plus((chord[:, None] * directions).T @ directions)
        return self._grams[key]


def _image_of(splits: Splits, problem: Problem, offset: Array) -> Array:
    """What split inequalities take of A, times d0: sum y ((a_rᵀd0) a_r + g r² d0), shape (n,)."""
    if len(splits) == 0:
        return np.zeros_like(offset)
    cells = cells_of(splits, problem)
    ratio = length_of(splits, problem.values) / cells.width
    entries = splits.sign * ratio
    along = splits.multiplier * (entries * offset[splits.index]).sum(axis=1)
    lifted = splits.multiplier[:, None] * cells.lift * ratio * ratio * offset[splits.index]
    taken = np.bincount(splits.index.ravel(), (along[:, None] * entries + lifted).ravel(), len(offset))
    return np.asarray(taken, dtype=np.float64)
