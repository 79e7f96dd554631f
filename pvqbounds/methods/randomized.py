"""Randomized rounding of a semidefinite relaxation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.heuristics.rounding import randomized_rounding
from pvqbounds.methods.base import QuantizationMethod
from pvqbounds.problems import IntegerLeastSquares

__all__ = ["RandomizedRounding"]


class RandomizedRounding(QuantizationMethod):
    """Park and Boyd's rounding of their relaxation, kept inside the box: 3n samples, one-code moves."""

    name: ClassVar[str] = "randomized"
    label: ClassVar[str] = "randomized rounding"
    citation: ClassVar[str] = "Park and Boyd, Optimization Letters 12, 2018"
    listed_up_to: ClassVar[float] = 100  # above that its relaxation costs as much as the bound

    def propose(self, problems: Sequence[IntegerLeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Each problem by itself, with the same seed."""
        return [_rounded(problem, seed) for problem in problems]


def _rounded(problem: IntegerLeastSquares, seed: int) -> NDArray[np.int64]:
    from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
    from pvqbounds.solvers.relaxation import relax

    relaxed = relax(problem, "park-boyd", solve_box_hull)
    return randomized_rounding(problem, relaxed.mean, relaxed.covariance, seed=seed)
