"""Cases of a pruning: the perspective relaxation of each leaf."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.solvers.native.directions.branching import Bounded, LeafSolver, branch
from pvqbounds.solvers.native.directions.near_null import NearNull
from pvqbounds.solvers.native.directions.shifted import Shifts
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective

__all__ = ["pruning_cases"]

TOLERANCES = (1e-2, 1e-3)
"""Relative accuracy of the stages."""
WORK = 100.0
"""Operations of a stage, over n³, about."""


class _PrunedLeaves(LeafSolver):
    """Leaves of a pruning."""

    def __init__(self, problem: SparseLeastSquares, near: NearNull, error: float, clock: Clock) -> None:
        self._problem, self._clock, self._error = problem, clock, error
        self._shifts = Shifts(problem, near)

    @property
    def error(self) -> float:
        """The least error of weights known."""
        return self._error

    @property
    def stages(self) -> int:
        """How many there are."""
        return len(TOLERANCES)

    def seconds(self, stage: int) -> float:
        """What a stage takes, about."""
        return WORK * self._problem.n**3 / FLOPS_A_SECOND

    def bound(self, slabs: Slabs, stage: int, known: Bounded | None) -> Bounded | None:
        """The perspective relaxation within the slabs; where these have one end, the push alone."""
        if not slabs.box.is_bounded.all():
            alone = DualCertificate(np.zeros(self._problem.n), slabs.pull())
            return Bounded(alone, dual_bound(self._problem, alone, slabs))
        shifted = self._shifts.within(slabs)
        found = maximise_perspective(shifted.problem, tolerance=TOLERANCES[stage], clock=self._clock)
        value = dual_bound(shifted.problem, found) + shifted.constant
        return Bounded(shifted.certificate(found), value)


def pruning_cases(
    problem: SparseLeastSquares,
    near: NearNull,
    weight: NDArray[np.float64],
    allowed: float,
    clock: Clock,
) -> CasesCertificate | None:
    """The bound of a pruning by cases of its near-null directions; None where some t has none.

    Parameters
    ----------
    problem
        In units near 1.
    weight
        Good weights that it allows, shape (n,).
    allowed
        Seconds that the stages may be expected to take in all, beside the clock.
    """
    solver = _PrunedLeaves(problem, near, problem.point(weight).upper, clock)
    return branch(problem, near, solver, near.direction @ (weight - problem.weight), allowed, clock)
