"""Bounds of one channel for every scale, and the best scale and codes found."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverFailedError
from pvqbounds.heuristics.scales import alternated
from pvqbounds.problems import AnyScaleLeastSquares, IntegerLeastSquares
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.box_hull import in_gram_units, without_tangents
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.scales import ScalesCertificate, range_of
from pvqbounds.results.bounds import Bounds
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.kept import KeptBound
from pvqbounds.solvers.native.quantization.codes_dual import reaches_far_apart, relax_finite
from pvqbounds.solvers.native.quantization.shared import fitted
from pvqbounds.solvers.native.quantization.split_dual import BRIEF, relax_with_splits
from pvqbounds.solvers.relaxation import BLOCKS
from pvqbounds.solving.scale_cover import AtScale, covered
from pvqbounds.solving.scale_search import searched_scales

__all__ = [
    "SINGULAR",
    "Channel",
    "Proved",
    "Relaxations",
    "SolveAt",
    "at_least_kept",
    "bound_every_scale",
    "nothing_of",
    "proved_of",
]


class SolveAt(Protocol):
    """What solves a problem at one scale."""

    def __call__(self, problem: IntegerLeastSquares, seconds: float, enough: float, *, brief: bool) -> Bounds:
        """Its bounds within so many seconds; a lower end of `enough` is not refined, a brief search short."""


QUICK = 0.1
"""Relative gap of a quick relaxation."""

SHARE = 0.2
"""Of the time that is left, what the solve at one scale may take, and the search for codes before it."""

AMPLE = 1.5
"""A bound over the least error found that is enough at a scale, where more effort would add little."""

SWEEPS = 1000
"""Sweeps that fit nu to a given lam."""

SINGULAR = "the Gram is singular: steps of any size may lie along what costs nothing"
"""Status where no scale is too large."""


def bound_every_scale(
    problem: AnyScaleLeastSquares, solve_at: SolveAt, clock: Clock, kept: KeptBound
) -> ExactSolution:
    """Bounds for every scale, and the best codes found.

    Parameters
    ----------
    problem
        In units near 1.
    solve_at
        Solves it at one scale.
    clock
        Ends it between two scales.
    kept
        Takes in a bound that no scale changes, once a solve has found it.
    """
    codes = searched_scales(problem, clock.part(SHARE))
    if not problem.signal.lower > 0.0:
        return ExactSolution(codes, None, None, nothing_of(problem), "every weight is zero")
    prover = Channel(problem, solve_at, clock, codes, kept)
    first = prover.solve(float(problem.settled.step[0]))
    found = proved_of(prover, first, clock)
    relaxation = None if found.status == "optimal" else found.relaxation
    certificate = found.certificate or nothing_of(problem)
    return ExactSolution(prover.codes, None, None, certificate, found.status, relaxation)


def at_least_kept(problem: AnyScaleLeastSquares, solution: ExactSolution, kept: KeptBound) -> ExactSolution:
    """The solution, or what no scale changes where that proves more."""
    known = kept.of(problem)
    if known is None or solution.certificate is None:
        return solution
    if not known.value > solution.certificate.claim(problem)[1]:
        return solution
    status = "solved" if solution.status == SINGULAR else solution.status
    return replace(solution, certificate=known.certificate, status=status, relaxation=BLOCKS)


class Proved(NamedTuple):
    """What is proved of a channel for every scale."""

    certificate: ScalesCertificate | None
    """None where nothing is."""
    status: str
    """How it ended, in words."""
    relaxation: str | None
    """Name of the relaxation behind the weakest bound of what was solved."""

    @property
    def value(self) -> float:
        """The bound that is stated."""
        return 0.0 if self.certificate is None else self.certificate.value


def proved_of(prover: Channel, first: AtScale[Certificate], clock: Clock, enough: float = math.inf) -> Proved:
    """The bound for every scale that grows out of what is known at one.

    Parameters
    ----------
    enough
        A value that need not be exceeded.
    """
    problem = prover.problem
    within = range_of(problem)
    if within.largest > 0.0 and within.smallest == 0.0:
        return Proved(None, SINGULAR, None)
    parts, status = covered(prover, first, within, clock, enough)
    certificate = ScalesCertificate.of(problem, [(part.scale, part.bound, part.proof) for part in parts])
    weakest = min((part for part in parts if part.solved), key=lambda part: part.bound, default=first)
    return Proved(certificate, status, weakest.relaxation)


def nothing_of(problem: AnyScaleLeastSquares) -> DualCertificate:
    """A certificate of 0."""
    return DualCertificate(*np.zeros((2, problem.n)))


class Relaxations:
    """Quick bounds of one channel at one scale after the other, by as little effort as each takes."""

    def __init__(self, problem: AnyScaleLeastSquares, clock: Clock) -> None:
        self._problem, self._clock = problem, clock
        self._lam: dict[float, NDArray[np.float64]] = {}

    def at(self, scale: float, error: float) -> tuple[float, Certificate]:
        """A bound at a scale, and what proves it.

        What the ends of the grid alone cost is nearly all where a scale is small, and the lam of another
        scale, to which nu is fitted, is not much worse than its own: they do where they prove more than is
        needed.

        Parameters
        ----------
        scale
            Of the codes.
        error
            The least error found at any scale: more than that is to be proved.
        """
        problem = self._problem.at(scale)
        inner = problem.normalised
        best = _stated(problem, _clipped(inner, self._clock))
        if best[0] < AMPLE * error and self._lam:
            near = min(self._lam, key=lambda other: abs(math.log(other / scale)))
            best = max(best, _stated(problem, _fitted(inner, self._lam[near])), key=lambda found: found[0])
        if best[0] >= AMPLE * error:
            return best
        relaxed = self._relaxed(inner, scale)
        return max(best, _stated(problem, relaxed), key=lambda found: found[0])

    def _relaxed(self, problem: IntegerLeastSquares, scale: float) -> DualCertificate:
        """A brief path with split inequalities, where a problem has them."""
        if not (problem.is_restricted or reaches_far_apart(problem)):
            return relax_with_splits(problem, self._clock, BRIEF).certificate
        relaxed = relax_finite(problem, self._clock, QUICK).certificate
        self._lam[scale] = relaxed.lam
        return relaxed


def _fitted(problem: IntegerLeastSquares, lam: NDArray[np.float64]) -> DualCertificate:
    """The multipliers with this lam; units near 1."""
    sdp = without_tangents(problem)
    step = float(problem.step[0])
    own = lam * (step / sdp.unit) * step
    _, nu = fitted(sdp, own, sdp.reference, SWEEPS)
    return DualCertificate(*in_gram_units(sdp, own, nu))


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


class Channel:
    """One channel at one scale after the other, and the best codes found on the way."""

    def __init__(
        self,
        problem: AnyScaleLeastSquares,
        solve_at: SolveAt,
        clock: Clock,
        codes: NDArray[np.int64],
        kept: KeptBound,
    ) -> None:
        self.problem, self.codes, self.error = problem, codes, problem.error(codes).upper
        self._solve_at, self._clock, self._kept = solve_at, clock, kept
        self._relaxations = Relaxations(problem, clock)
        self._longest = 0.0

    @property
    def everywhere(self) -> float:
        """What is proved of all scales at once."""
        known = self._kept.of(self.problem)
        return 0.0 if known is None else known.value

    def solve(self, scale: float, enough: float = math.inf, *, brief: bool = False) -> AtScale[Certificate]:
        """Its bounds at a scale; the codes, at their own best scale, are candidates."""
        left, start = self._clock.remaining, time.perf_counter()
        seconds = max(SHARE * left, min(2.0 * self._longest, left))
        found = self._solve_at(self.problem.at(scale), seconds, enough, brief=brief)
        self._longest = max(self._longest, time.perf_counter() - start)
        if found.certificate is None or found.codes is None:
            raise SolverFailedError("The bound at one scale is not certified; use --solver native.")
        better = alternated(self.problem, found.codes)
        error = self.problem.error(better).upper
        if error < self.error:
            self.codes, self.error = better, error
        return AtScale(scale, found.error_lower, found.certificate, solved=True, relaxation=found.relaxation)

    def relax(self, scale: float) -> AtScale[Certificate]:
        """A quick relaxation at a scale."""
        bound, proof = self._relaxations.at(scale, self.error)
        return AtScale(scale, bound, proof, solved=False)
