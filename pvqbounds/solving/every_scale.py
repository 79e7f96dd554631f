"""Bounds of one channel for every scale, and the best scale and codes found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverFailedError
from pvqbounds.heuristics.scales import alternated
from pvqbounds.problems import AnyScaleLeastSquares, IntegerLeastSquares
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.scales import ScalesCertificate, range_of
from pvqbounds.results.bounds import Bounds
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
from pvqbounds.solving.scale_cover import AtScale, covered
from pvqbounds.solving.scale_search import searched_scales

__all__ = ["AMPLE", "SINGULAR", "SolveAt", "bound_every_scale", "relaxed_at"]

SolveAt = Callable[[IntegerLeastSquares, float], Bounds]
"""The bounds of a problem at one scale, within so many seconds."""

QUICK = 0.1
"""Relative gap of a quick relaxation."""

SHARE = 0.2
"""Of the time that is left, what the solve at one scale may take, and the search for codes before it."""

AMPLE = 2.0
"""A bound over the least error found with which the ends of the grid alone are enough at a scale."""

SINGULAR = "the Gram is singular: steps of any size may lie along what costs nothing"
"""Status where no scale is too large."""


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
    codes = searched_scales(problem, clock.part(SHARE))
    if not problem.signal.lower > 0.0:
        return _without_bound(problem, codes, "every weight is zero")
    within = range_of(problem)
    prover = _Channel(problem, solve_at, clock, codes)
    first = prover.solve(float(problem.settled.step[0]))
    if within.largest > 0.0 and within.smallest == 0.0:
        return _without_bound(problem, prover.codes, SINGULAR)
    parts, status = covered(prover, first, within, clock)
    certificate = ScalesCertificate.of(problem, [(part.scale, part.bound, part.proof) for part in parts])
    weakest = min((part for part in parts if part.solved), key=lambda part: part.bound)
    relaxation = None if status == "optimal" else weakest.relaxation
    return ExactSolution(prover.codes, None, None, certificate, status, relaxation)


def _without_bound(problem: AnyScaleLeastSquares, codes: NDArray[np.int64], status: str) -> ExactSolution:
    zero = np.zeros(problem.n)
    return ExactSolution(codes, None, None, DualCertificate(zero, zero), status)


def relaxed_at(problem: IntegerLeastSquares, enough: float, clock: Clock) -> tuple[float, Certificate]:
    """A bound at one scale by little effort, and what proves it.

    Parameters
    ----------
    problem
        The problem at that scale.
    enough
        A bound with which the least effort ends: what the ends of the grid alone cost, nearly all where a
        scale is small.
    """
    inner = problem.normalised
    ends = _clipped(inner, clock)
    relaxed = None if _stated(problem, ends)[0] >= enough else relax_finite(inner, clock, QUICK).certificate
    return _stated(problem, ends if relaxed is None else relaxed)


def _clipped(problem: IntegerLeastSquares, clock: Clock) -> DualCertificate:
    """The multipliers of the least error between the ends of the grid; units near 1."""
    ends = problem.values.lowest, problem.values.highest
    offset = box_minimiser(problem.gram, problem.weight, *ends, clock) - problem.weight
    return DualCertificate(np.zeros(problem.n), problem.gram @ offset)


def _stated(problem: IntegerLeastSquares, found: Certificate) -> tuple[float, Certificate]:
    """What a certificate in units near 1 states of a problem, and itself in the problem's own."""
    proof, _ = found.claim(problem.normalised)
    moved = proof.in_units(problem.units.inverse)
    return max(moved.claim(problem)[1], 0.0), moved


class _Channel:
    """One channel at one scale after the other, and the best codes found on the way."""

    def __init__(
        self, problem: AnyScaleLeastSquares, solve_at: SolveAt, clock: Clock, codes: NDArray[np.int64]
    ) -> None:
        self.problem, self.codes, self.error = problem, codes, problem.error(codes).upper
        self._solve_at, self._clock = solve_at, clock

    def solve(self, scale: float) -> AtScale[Certificate]:
        """Its bounds at a scale; the codes, at their own best scale, are candidates."""
        found = self._solve_at(self.problem.at(scale), SHARE * self._clock.remaining)
        if found.certificate is None or found.codes is None:
            raise SolverFailedError("The bound at one scale is not certified; use --solver native.")
        better = alternated(self.problem, found.codes)
        error = self.problem.error(better).upper
        if error < self.error:
            self.codes, self.error = better, error
        return AtScale(scale, found.error_lower, found.certificate, solved=True, relaxation=found.relaxation)

    def relax(self, scale: float) -> AtScale[Certificate]:
        """A quick relaxation at a scale."""
        bound, proof = relaxed_at(self.problem.at(scale), AMPLE * self.error, self._clock)
        return AtScale(scale, bound, proof, solved=False)
