"""The best scale and codes that are found without a bound: a search over scales on the output error.

Around the scale of least weight error codes are found at some scales (K-best and descent), each at its own
best scale and with exchanges and scales in turn; then at scales close to the best of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.rounding import improve
from pvqbounds.heuristics.scales import alternated
from pvqbounds.methods.k_best import KBest
from pvqbounds.problems import AnyScaleLeastSquares, LeastSquares
from pvqbounds.problems.code_grids import unit_of

__all__ = ["codes_at", "searched_scales"]

FACTORS = (1.0, *(float(f) for f in np.exp(np.linspace(-0.32, 0.32, 9)) if f != 1.0))
"""Scales over that of least weight error: most of the best ones lie between 0.9 and 1.2."""

CLOSE = (0.985, 0.993, 1.007, 1.015)
"""The same over the best scale found."""


def searched_scales(problem: AnyScaleLeastSquares, clock: Clock) -> NDArray[np.int64]:
    """The best codes found, each set at its own best scale; those at hand when the time is up.

    Parameters
    ----------
    problem
        In units near 1.
    """
    codes = alternated(problem, problem.codes_of_nearest())
    error = problem.error(codes).upper
    for factors in (FACTORS, CLOSE):
        centre = float(problem.settled.step[0]) if factors is FACTORS else problem.scale_of(codes)
        for factor in factors:
            if clock.expired or error <= 0.0:
                return codes
            found = alternated(problem, codes_at(problem.at(factor * centre)))
            reached = problem.error(found).upper
            if reached < error:
                codes, error = found, reached
    return codes


def codes_at(problem: LeastSquares) -> NDArray[np.int64]:
    """Good codes of given values: K-best and descent."""
    start = problem.weight_of(KBest().propose([problem])[0])
    return improve(problem, (start / unit_of(problem.values))[None])
