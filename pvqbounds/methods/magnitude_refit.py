"""Magnitude pruning with a re-fit."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import PruningMethod
from pvqbounds.problems import SparseLeastSquares, magnitude_support

__all__ = ["MagnitudeRefit"]


class MagnitudeRefit(PruningMethod):
    """Keep the weights of largest magnitude, re-fitted by least squares on the inputs."""

    name: ClassVar[str] = "magnitude+refit"
    label: ClassVar[str] = "magnitude + re-fit"
    citation: ClassVar[str] = 'He, Zhang and Sun, "Channel pruning", ICCV 2017, for the re-fit'
    listed_up_to: ClassVar[float] = inf

    def propose(self, problems: Sequence[SparseLeastSquares], seed: int = 0) -> list[NDArray[np.float64]]:
        """Each problem by itself."""
        return [problem.refit(magnitude_support(problem)) for problem in problems]
