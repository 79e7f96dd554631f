"""Bounds of one channel for every scale and zero point, and the best of both found with their codes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.scales import alternated
from pvqbounds.problems import AnyScaleLeastSquares
from pvqbounds.relaxations.zero_points import ZeroPointsCertificate, boxes_of
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.kept import KeptBound
from pvqbounds.solving.every_scale import Channel, Proved, SolveAt, nothing_of, proved_of
from pvqbounds.solving.scale_search import searched_scales

__all__ = ["bound_every_zero_point"]

SEARCH = 0.2
"""Share of the time for the best codes of zero points next to the one of least weight error."""

SHARE = 0.3
"""Of the time that is left, what one box may take: those away from the best are done at once."""

SURPLUS = 1.0 + 1e-9
"""A box need not prove more than so many times what is proved of another."""

NEAR = 2
"""Zero points on either side of that one whose scales are searched."""


def bound_every_zero_point(
    problem: AnyScaleLeastSquares, solve_at: SolveAt, clock: Clock, kept: KeptBound
) -> ExactSolution:
    """Bounds for every scale and zero point, and the best codes found.

    The box of the best codes comes first, then the others outwards from it: what is proved of it is enough
    of them, and its codes say what has to be exceeded.

    Parameters
    ----------
    problem
        In units near 1, with a span.
    solve_at
        Solves it at one scale.
    clock
        Ends it between two scales.
    kept
        Takes in a bound that no scale and zero point changes, once a solve has found it.
    """
    codes = _searched(problem, clock.part(SEARCH))
    if not problem.signal.lower > 0.0:
        return ExactSolution(codes, None, None, nothing_of(problem), "every weight is zero")
    best, boxes = _Best(problem, codes), boxes_of(problem.values)
    low = min(int(codes.min()), 0)
    boxes.sort(key=lambda box: abs(box[0] - low))
    proved: list[Proved] = []
    for i, box in enumerate(boxes):
        inner, part = problem.in_box(*box), clock.part(max(SHARE, 1.0 / (len(boxes) - i)))
        prover = Channel(inner, solve_at, part, _clipped(inner, best.codes), kept)
        prover.error = min(prover.error, best.error)
        start = float(inner.settled.step[0])
        first = prover.relax(start) if proved else prover.solve(start)
        enough = SURPLUS * min((other.value for other in proved), default=math.inf)
        proved.append(proved_of(prover, first, part, enough))
        best.try_codes(prover.codes)
        if proved[-1].certificate is None:
            return ExactSolution(best.codes, None, None, nothing_of(problem), proved[-1].status)
    weakest = min(proved, key=lambda found: found.value)
    lows, highs = np.array(boxes, dtype=np.int64).T
    proofs = tuple(found.certificate for found in proved if found.certificate is not None)
    certificate = ZeroPointsCertificate(lows, highs, proofs, weakest.value)
    relaxation = None if weakest.status == "optimal" else weakest.relaxation
    return ExactSolution(best.codes, None, None, certificate, weakest.status, relaxation)


class _Best:
    """The best codes of any box, of those that one zero point allows."""

    def __init__(self, problem: AnyScaleLeastSquares, codes: NDArray[np.int64]) -> None:
        self._problem, self.codes, self.error = problem, codes, problem.error(codes).upper

    def try_codes(self, codes: NDArray[np.int64]) -> None:
        """Take codes that are better, and allowed."""
        error = self._problem.error(codes).upper
        if error < self.error and self._problem.values.within(codes):
            self.codes, self.error = codes, error


def _searched(problem: AnyScaleLeastSquares, clock: Clock) -> NDArray[np.int64]:
    """The best codes found at zero points next to that of least weight error."""
    best = _Best(problem, problem.codes_of_nearest())
    boxes, usual = problem.values.boxes, int(problem.settled.low[0])
    near = sorted((box for box in boxes if abs(box[0] - usual) <= NEAR), key=lambda box: abs(box[0] - usual))
    for i, box in enumerate(near):
        if clock.expired:
            break
        best.try_codes(searched_scales(problem.in_box(*box), clock.part(1.0 / (len(near) - i))))
    return best.codes


def _clipped(problem: AnyScaleLeastSquares, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes of a box next to these."""
    ends = problem.values.qmin, problem.values.qmax
    return alternated(problem, np.clip(codes, *ends))
