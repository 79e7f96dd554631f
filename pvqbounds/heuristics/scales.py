"""Codes and their scale, one after the other: each has a best one for the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.heuristics.rounding import improve
from pvqbounds.problems import AnyScaleLeastSquares

__all__ = ["alternated"]

ROUNDS = 20
"""Alternations at most; most codes stay after two or three."""

GAINED = 1e-9
"""Share of the error that an alternation has to gain if another one is to follow."""


def alternated(problem: AnyScaleLeastSquares, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes no worse at their best scale: the scale that fits them, exchanges there, and again.

    Parameters
    ----------
    codes
        That the problem allows, shape (n,).
    """
    error = problem.error(codes).upper
    for _ in range(ROUNDS):
        better = improve(problem.at(problem.scale_of(codes)), codes[None].astype(np.float64))
        found = problem.error(better).upper
        if found < error:
            codes = better
        if not found < (1.0 - GAINED) * error:
            break
        error = found
    return codes
