"""Randomized rounding of a semidefinite relaxation."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.rounding import randomized_rounding
from pvqbounds.methods.base import CodingMethod
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, Problem, Task
from pvqbounds.problems.code_grids import has_grid, unit_of

__all__ = ["RandomizedRounding"]


class RandomizedRounding(CodingMethod):
    """Park and Boyd's rounding of their relaxation, or of that with the problem's own values and budgets."""

    name: ClassVar[str] = "randomized"
    label: ClassVar[str] = "randomized rounding"
    citation: ClassVar[str] = "Park and Boyd, Optimization Letters 12, 2018: 3n samples, one-code moves"
    tasks: ClassVar[tuple[Task, ...]] = ("quantization", "joint")
    listed_up_to: ClassVar[float] = 100  # above that its relaxation costs as much as the bound

    def proposes_for(self, problem: Problem) -> bool:
        """Whether values are steps or in a table."""
        return super().proposes_for(problem) and has_grid(problem.values)

    def propose(self, problems: Sequence[LeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Each problem by itself, with the same seed."""
        return [_rounded(problem, seed) for problem in problems]


def _rounded(problem: LeastSquares, seed: int) -> NDArray[np.int64]:
    from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
    from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
    from pvqbounds.solvers.relaxation import relax

    if isinstance(problem, IntegerLeastSquares) and not problem.is_restricted:
        relaxed = relax(problem, "park-boyd", solve_box_hull)
        return randomized_rounding(problem, relaxed.mean, relaxed.covariance, seed=seed)
    inner = problem.normalised
    with np.errstate(all="ignore"):  # what overflows on the way to a proposal proves nothing
        relaxed, unit = relax_finite(inner, Clock(inf)), unit_of(inner.values)
    return randomized_rounding(
        inner, relaxed.mean / unit, relaxed.covariance / np.outer(unit, unit), seed=seed
    )
