"""Round to nearest."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import CodingMethod
from pvqbounds.problems import LeastSquares

__all__ = ["RoundToNearest"]


class RoundToNearest(CodingMethod):
    """The values next to the weights."""

    name: ClassVar[str] = "rtn"
    label: ClassVar[str] = "round to nearest"
    citation: ClassVar[str] = "folklore"
    listed_up_to: ClassVar[float] = inf

    def propose(self, problems: Sequence[LeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Each weight by itself."""
        return [problem.codes_of_nearest() for problem in problems]
