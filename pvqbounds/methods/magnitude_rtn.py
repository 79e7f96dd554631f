"""Magnitude pruning and round to nearest, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import CodingMethod
from pvqbounds.problems import LeastSquares, Task

__all__ = ["MagnitudeRtn"]


class MagnitudeRtn(CodingMethod):
    """Keep the weights of largest magnitude, at the values next to them; the others zero."""

    name: ClassVar[str] = "magnitude+rtn"
    label: ClassVar[str] = "magnitude + round to nearest"
    citation: ClassVar[str] = 'Han, Mao and Dally, "Deep Compression", ICLR 2016, without its training'
    tasks: ClassVar[tuple[Task, ...]] = ("joint",)
    listed_up_to: ClassVar[float] = inf

    def propose(self, problems: Sequence[LeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Each problem by itself."""
        return [problem.codes_of_nearest() for problem in problems]
