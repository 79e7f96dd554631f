"""The certificate of a search over supports."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units, scaled_down
from pvqbounds.relaxations.certificates import SearchedCertificate, is_number

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["SubsetCertificate"]


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
