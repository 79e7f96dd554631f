"""The certificate of a search over codes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.code_grids import has_grid
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units, scaled_down
from pvqbounds.problems.values import ValueSet
from pvqbounds.relaxations.certificates import (
    LeafCertificate,
    SearchedCertificate,
    is_number,
    is_vector,
    multipliers_in_units,
    over_inputs,
)
from pvqbounds.relaxations.dual import DualCertificate, splits_fit
from pvqbounds.relaxations.splits import NO_SPLITS, Splits

if TYPE_CHECKING:
    from pvqbounds.clock import Clock
    from pvqbounds.relaxations.slabs import Slabs

__all__ = ["CodeCertificate", "SearchCertificate"]


@dataclass(frozen=True, eq=False)
class SearchCertificate(SearchedCertificate, LeafCertificate):
    """The search at these multipliers meets no codes with an error below `value`.

    Its proof is the search itself, repeated (:mod:`.integer_search`).
    """

    kind: ClassVar[str] = "integer search"
    lam: NDArray[np.float64]
    """lambda, shape (n,), in units of the Gram."""
    nu: NDArray[np.float64]
    """nu, shape (n,), in units of Gram times weight."""
    value: float
    nodes: int
    splits: Splits = NO_SPLITS
    """Split inequalities with their multipliers."""

    @property
    def relaxation(self) -> str:
        """The hybrid bound, unless it is that of an exact search."""
        return "hybrid"

    def fits(self, problem: Problem) -> bool:
        """Whether it holds finite multipliers about the inputs and a claim, and may be proved."""
        n = problem.n
        if not (has_grid(problem.values) and is_number(self.value) and is_number(self.nodes)):
            return False
        return is_vector(self.lam, n) and is_vector(self.nu, n) and splits_fit(self.splits, problem)

    def in_units(self, units: Units) -> SearchCertificate:
        """The same claim about the problem in these units."""
        lam, nu = multipliers_in_units(self.lam, self.nu, units)
        value = scaled_down(self.value, -units.error)
        return replace(self, lam=lam, nu=nu, value=value, splits=self.splits.in_units(units))

    def spread(self, live: NDArray[np.bool_], values: ValueSet) -> SearchCertificate:
        """The same about all inputs, of which it is now about those of a mask: these alone are searched."""
        lam, nu = over_inputs(self.lam, live), over_inputs(self.nu, live)
        return replace(self, lam=lam, nu=nu, splits=self.splits.spread(live))

    def stated(self, problem: Problem) -> float:
        """The bound that it is made for: its value."""
        return self.value

    def repeated(self, problem: Problem, clock: Clock) -> bool:
        """Whether the search, repeated, proves the value."""
        from pvqbounds.problems import LeastSquares
        from pvqbounds.solvers.native.quantization.integer_search import prove

        return isinstance(problem, LeastSquares) and prove(problem, self, clock)

    def claimed_within(self, problem: Problem, within: Slabs) -> tuple[SearchCertificate, float]:
        """Itself: it was made to be repeated."""
        return self, self.value

    def proved_within(self, problem: Problem, within: Slabs, enough: float, clock: Clock) -> float:
        """The value, or enough of it, where the search, repeated, meets nothing below it."""
        from pvqbounds.problems import LeastSquares
        from pvqbounds.solvers.native.quantization.integer_search import prove

        asked = replace(self, value=min(self.value, enough))
        proved = isinstance(problem, LeastSquares) and prove(problem, asked, clock, within)
        return asked.value if proved else -math.inf


CodeCertificate = DualCertificate | SearchCertificate
"""What proves a bound on the error of codes: multipliers, alone or with a search on what they leave."""
