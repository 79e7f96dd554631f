"""Cases of a pruning: the perspective relaxation of each leaf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.dual import DualCertificate, dual_bound, dual_terms
from pvqbounds.relaxations.layer_dual import priced
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.results.history import Moment
from pvqbounds.solvers.native.directions.branching import Bounded, Ceiling, LeafSolver, branch
from pvqbounds.solvers.native.directions.near_null import NearNull
from pvqbounds.solvers.native.directions.shifted import Shifts
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective, maximise_priced

__all__ = ["Price", "pruning_cases"]


class _Stage(NamedTuple):
    """A path, from its beginning."""

    tolerance: float
    iterations: int
    work: float
    """Operations over n³, about."""


STAGES = (_Stage(1e-1, 8, 50.0), _Stage(1e-2, 16, 90.0), _Stage(1e-3, 60, 250.0))
"""At 384 inputs the first is about 1 dB from the relaxation's value, the second 0.2."""


PRICED = (_Stage(1e-1, 13, 70.0), _Stage(1e-2, 20, 110.0), _Stage(1e-3, 60, 250.0))
"""At a price: after 8 steps the first would be 2 dB away."""

OVERHEAD = 2e-3
"""Seconds of a path beside its operations."""


class Price(NamedTuple):
    """What a kept weight costs where channels share a budget, in units of E."""

    each: float
    kept: int
    """How many a channel keeps without cost: so many of the layer's budget are expected to be its own."""

    @property
    def spent(self) -> float:
        """What those cost."""
        return self.each * self.kept


class _PrunedLeaves(LeafSolver):
    """Leaves of a pruning under its own budget."""

    asked: Sequence[_Stage] = STAGES

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
        return len(self.asked)

    def seconds(self, stage: int) -> float:
        """What a stage takes, about."""
        return self.asked[stage].work * self._problem.n**3 / FLOPS_A_SECOND

    def bound(self, slabs: Slabs, stage: int, known: Bounded | None) -> Bounded | None:
        """The perspective relaxation within the slabs; where these have one end, the push alone."""
        if not slabs.box.is_bounded.all():
            dual = DualCertificate(np.zeros(self._problem.n), slabs.pull())
        else:
            shifted = self._shifts.within(slabs)
            dual = shifted.certificate(self.relaxed(shifted.problem, self.asked[stage]))
        return Bounded(dual, self.value(dual, slabs))

    def relaxed(self, problem: SparseLeastSquares, stage: _Stage) -> DualCertificate:
        """Multipliers of a leaf's problem."""
        return maximise_perspective(
            problem, tolerance=stage.tolerance, max_iterations=stage.iterations, clock=self._clock
        )

    def value(self, dual: DualCertificate, slabs: Slabs) -> float:
        """What multipliers prove in a leaf."""
        return dual_bound(self._problem, dual, slabs)


class _PricedLeaves(_PrunedLeaves):
    """Leaves of a pruning whose kept weights have a price: bounds on E plus what is kept beyond its share."""

    asked = PRICED

    def __init__(
        self, problem: SparseLeastSquares, near: NearNull, error: float, price: Price, clock: Clock
    ) -> None:
        super().__init__(problem, near, error, clock)
        self._price = price

    @property
    def beyond(self) -> float:
        """What E has to be where nothing at all may be kept."""
        return self.error + self._price.spent

    def seconds(self, stage: int) -> float:
        """What a stage takes, about, however small the problem."""
        return super().seconds(stage) + OVERHEAD

    @property
    def ceiling(self) -> Ceiling:
        """The price of all weights."""
        return Ceiling(self._price.each * self._problem.n, self._price.spent)

    def relaxed(self, problem: SparseLeastSquares, stage: _Stage) -> DualCertificate:
        """Multipliers of a leaf's problem at the price."""
        share = self.error / (self.error + self._price.spent)  # of the bound that the path knows
        return maximise_priced(
            problem,
            self._price.each,
            tolerance=share * stage.tolerance,
            max_iterations=stage.iterations,
            clock=self._clock,
        )

    def value(self, dual: DualCertificate, slabs: Slabs) -> float:
        """What multipliers prove in a leaf at the price."""
        terms = dual_terms(self._problem, dual, within=slabs)
        least = 0.0 if terms is None else priced(terms.constant, terms.extra, self._price.each)
        return least - self._price.spent


def pruning_cases(
    problem: SparseLeastSquares,
    near: NearNull,
    weight: NDArray[np.float64],
    allowed: float,
    clock: Clock,
    price: Price | None = None,
    told: list[Moment] | None = None,
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
    price
        Of a kept weight in place of the problem's budget; the value that the certificate states is then that
        of E plus the price of what is kept beyond `price.kept`.
    told
        Takes in how the bound rose.
    """
    error = problem.point(weight).upper
    solver = _PrunedLeaves(problem, near, error, clock)
    if price is not None:
        solver = _PricedLeaves(problem, near, error, price, clock)
    at = near.direction @ (weight - problem.weight)
    return branch(problem, near, solver, at, allowed, clock, told)
