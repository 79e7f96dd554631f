"""Presolve of a pruning for other solvers: units in which tolerances make sense, a warm start, multipliers.

A Gram and weights of size one: both units are powers of two, so that nothing is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.units import Units
from pvqbounds.relaxations.dual import DualCertificate

__all__ = ["PresolvedPruning", "presolve_pruning"]


@dataclass(frozen=True, eq=False)
class PresolvedPruning:
    """A pruning in units of size one; supports carry over to the original."""

    problem: SparseLeastSquares
    units: Units
    """Its units, in those of the original."""
    clock: Clock | None = None
    """Ends the native relaxation and the search for a good support."""

    @property
    def unit(self) -> float:
        """Unit of the error."""
        return 2.0**self.units.error

    @cached_property
    def support(self) -> NDArray[np.int64]:
        """A good support: the warm start of solvers."""
        from pvqbounds.solvers.native.pruning.subset_search import good_support

        return good_support(self.problem, self.clock)

    @cached_property
    def relaxed(self) -> DualCertificate:
        """The best perspective relaxation, in these units; zero where it proves nothing."""
        from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective

        return maximise_perspective(self.problem, clock=self.clock)

    def certificate(self, diagonal: NDArray[np.float64], nu: NDArray[np.float64]) -> DualCertificate:
        """(D, nu) in units of the original problem; nothing is rounded."""
        return DualCertificate(diagonal, nu).in_units(self.units.inverse)


def presolve_pruning(problem: SparseLeastSquares, clock: Clock | None = None) -> PresolvedPruning:
    """The same pruning in units of size one; the clock is that of what is computed of it natively."""
    gram = math.frexp(float(np.mean(np.diagonal(problem.gram))))[1]
    square = math.frexp(float(np.mean(problem.weight**2)))[1]
    units = Units(gram, square // 2)
    try:
        return PresolvedPruning(problem.in_units(units), units, clock)
    except InputError:  # numbers as far apart as float64 has them have no better units
        return PresolvedPruning(problem, Units(0, 0), clock)
