"""Bounds for every scale: the scales at which bounds are proved, chosen one after the other.

What bounds at some scales prove for every scale (:mod:`pvqbounds.relaxations.scales`) ends at a gap between
two of them. A new scale goes there, with a quick relaxation; where its bound, and not its distance, is what
holds the value down, the problem there is solved as it would be by itself. What is left in the end is the
lowest bound at any scale, and next to nothing for the scales between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverFailedError
from pvqbounds.heuristics.scales import alternated
from pvqbounds.problems import AnyScaleLeastSquares, IntegerLeastSquares
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.scales import (
    Gap,
    ScaleRange,
    ScalesCertificate,
    first_gap,
    largest_value,
    range_of,
)
from pvqbounds.results.bounds import Bounds
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite

__all__ = ["SolveAt", "bound_every_scale"]

SolveAt = Callable[[IntegerLeastSquares, float], Bounds]
"""The bounds of a problem at one scale, within so many seconds."""

MOST = 64
"""Scales at most."""

QUICK = 0.1
"""Relative gap of a quick relaxation."""

LOSS = 0.005
"""Share of the lowest bound at any scale that may be lost between the scales: 0.02 dB."""

CLOSED, EQUAL = 2e-7, 2e-6
"""The same where that bound is the error of codes at hand, and what it may lie below it to count as that: a
search that ends may leave half as much."""

SHARE = 0.2
"""Of the time that is left, what the solve at one scale may take."""

SINGULAR = "the Gram is singular: steps of any size may lie along what costs nothing"
"""Status where no scale is too large."""

BELOW, BEYOND = 0.6, 1.6
"""A new scale over the end of a gap that has no scale beyond it, towards zero and towards infinity."""

BESIDE = 1e-9
"""By how much more than the largest value the gap is looked for."""


def bound_every_scale(problem: AnyScaleLeastSquares, solve_at: SolveAt, clock: Clock) -> ExactSolution:
    """Bounds for every scale, and the best codes found.

    Parameters
    ----------
    problem
        In units near 1.
    solve_at
        Solves it at one scale.
    clock
        Ends it between two scales.
    """
    codes = alternated(problem, problem.codes_of_nearest())
    if not problem.signal.lower > 0.0:
        return _without_bound(problem, codes, "every weight is zero")
    within = range_of(problem)
    cover = _Cover(problem, solve_at, clock, codes, within)
    cover.solve(float(problem.settled.step[0]))
    if within.largest > 0.0 and within.smallest == 0.0:
        return _without_bound(problem, cover.codes, SINGULAR)
    status = cover.closed()
    stated = [(part.scale, part.bound, part.proof) for part in cover.parts]
    certificate = ScalesCertificate.of(problem, stated)
    weakest = min((part for part in cover.parts if part.solved), key=lambda part: part.bound)
    relaxation = None if status == "optimal" else weakest.relaxation
    return ExactSolution(cover.codes, None, None, certificate, status, relaxation)


def _without_bound(problem: AnyScaleLeastSquares, codes: NDArray[np.int64], status: str) -> ExactSolution:
    zero = np.zeros(problem.n)
    return ExactSolution(codes, None, None, DualCertificate(zero, zero), status)


class _Part(NamedTuple):
    """What is known at one scale."""

    scale: float
    bound: float
    proof: Certificate
    solved: bool
    """Whether the problem was solved there, and not only relaxed."""
    relaxation: str | None = None
    """Name of the relaxation behind the bound of what was solved."""


class _Cover:
    """Bounds at some scales, and the best codes found on the way."""

    def __init__(
        self,
        problem: AnyScaleLeastSquares,
        solve_at: SolveAt,
        clock: Clock,
        codes: NDArray[np.int64],
        within: ScaleRange,
    ) -> None:
        self.problem, self.codes = problem, codes
        self.error = problem.error(codes).upper
        self.parts: list[_Part] = []
        self._solve_at, self._clock, self._range = solve_at, clock, within

    def closed(self) -> str:
        """Add scales until hardly anything is lost between them; how it ended."""
        while True:
            scales = np.array([part.scale for part in self.parts])
            bounds = np.array([part.bound for part in self.parts])
            value = largest_value(scales, bounds, self._range)
            goal = min(self.error, *(part.bound for part in self.parts if part.solved))
            exact = goal >= (1.0 - EQUAL) * self.error
            if value >= (1.0 - (CLOSED if exact else LOSS)) * goal:
                return "optimal" if exact else "solved"
            if len(self.parts) >= MOST:
                return f"stopped at {MOST} scales"
            if self._clock.expired:
                return f"stopped by the time limit after {len(self.parts)} scales"
            gap = first_gap(scales, bounds, self._range, value * (1.0 + BESIDE))
            if gap is None:  # no more than rounding is left
                return "solved"
            self._narrow(gap, goal)

    def _narrow(self, gap: Gap, goal: float) -> None:
        """Solve what is weak at a gap, or put a scale into it."""
        below = [part for part in self.parts if part.scale <= gap.low]
        above = [part for part in self.parts if part.scale >= gap.high]
        inside = [part for part in self.parts if gap.low < part.scale < gap.high]
        weak = [part for part in (*below[-1:], *inside, *above[:1]) if not part.solved and part.bound < goal]
        if weak:
            self.solve(min(weak, key=lambda part: part.bound).scale)
        elif below and above and below[-1].solved and above[0].solved:
            self.solve(math.sqrt(gap.low * gap.high))
        elif below and above:
            self._relax(math.sqrt(gap.low * gap.high))
        elif above:
            self._relax(max(BELOW * gap.high, gap.low))
        else:
            self._relax(min(BEYOND * gap.low, gap.high))

    def solve(self, scale: float) -> None:
        """Bound the problem at a scale as well as it can be by itself."""
        found = self._solve_at(self.problem.at(scale), SHARE * self._clock.remaining)
        proof = found.certificate
        if proof is None or found.codes is None:
            raise SolverFailedError("The bound at one scale is not certified; use --solver native.")
        self._keep(_Part(scale, found.error_lower, proof, solved=True, relaxation=found.relaxation))
        self._try(found.codes)

    def _relax(self, scale: float) -> None:
        """Bound the problem at a scale with little effort."""
        fixed = self.problem.at(scale)
        inner = fixed.normalised
        proof, _ = relax_finite(inner, self._clock, QUICK).certificate.claim(inner)
        moved = proof.in_units(fixed.units.inverse)
        self._keep(_Part(scale, max(moved.claim(fixed)[1], 0.0), moved, solved=False))

    def _keep(self, part: _Part) -> None:
        others = [other for other in self.parts if other.scale != part.scale]
        self.parts = sorted([*others, part], key=lambda part: part.scale)

    def _try(self, codes: NDArray[np.int64]) -> None:
        """Take codes that are better at their best scale, after descent."""
        better = alternated(self.problem, codes)
        error = self.problem.error(better).upper
        if error < self.error:
            self.codes, self.error = better, error
