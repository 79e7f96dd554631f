"""Round to nearest."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import QuantizationMethod
from pvqbounds.problems import IntegerLeastSquares

__all__ = ["RoundToNearest"]


class RoundToNearest(QuantizationMethod):
    """Codes next to the weights, clipped to the grid."""

    name: ClassVar[str] = "rtn"
    label: ClassVar[str] = "round to nearest"
    citation: ClassVar[str] = "folklore"
    listed_up_to: ClassVar[float] = inf

    def propose(self, problems: Sequence[IntegerLeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Each weight by itself."""
        return [problem.codes_of_nearest() for problem in problems]
