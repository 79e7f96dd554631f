"""A bound that is found once for problems that differ in their values alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pvqbounds.problems import Problem
from pvqbounds.relaxations.certificates import Certificate

__all__ = ["KeptBound", "Stated"]


class Stated(NamedTuple):
    """A certificate, and what it states."""

    certificate: Certificate
    value: float


class KeptBound:
    """A bound that no values change, of the Gram, weights and support rule that it was kept for."""

    def __init__(self) -> None:
        self._problem: Problem | None = None
        self._stated: Stated | None = None

    def keep(self, problem: Problem, stated: Stated) -> None:
        """Keep what is stated of a problem, and of all that differ from it in their values alone."""
        self._problem, self._stated = problem, stated

    def of(self, problem: Problem) -> Stated | None:
        """What is kept for a problem; None where that is nothing, or another Gram, other weights or rules."""
        known = self._problem
        if known is None or known.shared is not problem.shared or known.rule is not problem.rule:
            return None
        return self._stated if np.array_equal(known.weight, problem.weight) else None
