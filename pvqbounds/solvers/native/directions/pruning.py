"""Cases of a pruning: the perspective relaxation of each leaf."""

from __future__ import annotations

from typing import NamedTuple

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


class _Stage(NamedTuple):
    """A path, from its beginning."""

    tolerance: float
    iterations: int
    work: float
    """Operations over n³, about."""


STAGES = (_Stage(1e-1, 8, 50.0), _Stage(1e-2, 16, 90.0), _Stage(1e-3, 60, 250.0))
"""At 384 inputs the first is about 1 dB from the relaxation's value, the second 0.2."""


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
        return len(STAGES)

    def seconds(self, stage: int) -> float:
        """What a stage takes, about."""
        return STAGES[stage].work * self._problem.n**3 / FLOPS_A_SECOND

    def bound(self, slabs: Slabs, stage: int, known: Bounded | None) -> Bounded | None:
        """The perspective relaxation within the slabs; where these have one end, the push alone."""
        if not slabs.box.is_bounded.all():
            alone = DualCertificate(np.zeros(self._problem.n), slabs.pull())
            return Bounded(alone, dual_bound(self._problem, alone, slabs))
        shifted = self._shifts.within(slabs)
        tolerance, most, _ = STAGES[stage]
        found = maximise_perspective(
            shifted.problem, tolerance=tolerance, max_iterations=most, clock=self._clock
        )
        dual = shifted.certificate(found)
        return Bounded(dual, dual_bound(self._problem, dual, slabs))


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
