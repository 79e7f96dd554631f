"""The certificates of searches over supports: of one budget, and of every budget of a channel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units, scaled_down
from pvqbounds.relaxations.certificates import Certificate, SearchedCertificate, is_number, is_vector

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["CurveCertificate", "SubsetCertificate"]


@dataclass(frozen=True, eq=False)
class SubsetCertificate(SearchedCertificate):
    """A search over supports meets none with an error below `value`."""

    kind: ClassVar[str] = "subset search"
    value: float
    nodes: int
    radius: float = math.inf
    """Largest ||v - w|| of the re-fits that are covered: a bound covers all of them, and this is infinite.

    Version 0.1.0 wrote files with finite radii; they prove nothing.
    """

    def fits(self, problem: Problem) -> bool:
        """Whether it holds a claim, about re-fits of any size, and may be proved."""
        unlimited = isinstance(self.radius, float) and self.radius == math.inf
        return not problem.values.is_finite and is_number(self.value) and is_number(self.nodes) and unlimited

    def in_units(self, units: Units) -> SubsetCertificate:
        """The same claim about the problem in these units."""
        return replace(self, value=scaled_down(self.value, -units.error))

    def repeated(self, problem: Problem, clock: Clock) -> bool:
        """Whether the search, repeated, proves the value."""
        from pvqbounds.problems import SparseLeastSquares
        from pvqbounds.solvers.native.pruning.subset_search import prove_sparse

        return isinstance(problem, SparseLeastSquares) and prove_sparse(problem, self, clock)


@dataclass(frozen=True, eq=False)
class CurveCertificate(Certificate):
    """Searches over supports of every size: none of k inputs has an error below ``values[k]``."""

    kind: ClassVar[str] = "budget curve"
    searched: ClassVar[bool] = True
    restates: ClassVar[bool] = True
    values: NDArray[np.float64]
    """Shape (n + 1,), never rising: what holds of more inputs holds of fewer."""
    nodes: NDArray[np.int64]
    """Nodes that each search visited, shape (n + 1,)."""

    def fits(self, problem: Problem) -> bool:
        """Whether it holds such claims about the problem's inputs, and the problem has one budget."""
        size = problem.n + 1
        if problem.values.is_finite or problem.nnz is None or not is_vector(self.values, size):
            return False
        whole = isinstance(self.nodes, np.ndarray) and self.nodes.dtype == np.int64
        falling = (self.values >= 0.0).all() and (np.diff(self.values) <= 0.0).all()
        return whole and self.nodes.shape == (size,) and bool(falling)

    def in_units(self, units: Units) -> CurveCertificate:
        """The same claims about the problem in these units."""
        moved = [scaled_down(value, -units.error) for value in self.values.tolist()]
        return replace(self, values=np.array(moved))

    def claim(self, problem: Problem) -> tuple[CurveCertificate, float]:
        """Itself, and what it says of the problem's own budget."""
        return self, float(self.values[self._place(problem)])

    def prove(self, problem: Problem, clock: Clock) -> float:
        """What it says of the problem's own budget, where that search, repeated, meets nothing below it."""
        place = self._place(problem)
        alike = np.flatnonzero(self.values == self.values[place])
        return self._proved(problem, int(alike[-1]), clock)

    def proved(self, problem: Problem, clock: Clock) -> NDArray[np.float64]:
        """What every search proves, repeated: shape (n + 1,); the problem's own budget plays no part."""
        found = np.zeros(len(self.values) + 1)
        for place in range(problem.n, -1, -1):
            known = found[place + 1]
            again = self.values[place] > known
            found[place] = max(known, self._proved(problem, place, clock)) if again else known
        return found[:-1]

    def _place(self, problem: Problem) -> int:
        return min(problem.nnz or 0, problem.n)

    def _proved(self, problem: Problem, place: int, clock: Clock) -> float:
        from pvqbounds.problems.supports import AtMost

        claim = SubsetCertificate(float(self.values[place]), int(self.nodes[place]))
        return claim.prove(problem.under(AtMost(place)), clock)
