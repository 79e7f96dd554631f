"""Nearest plane: what GPTQ does, without damping."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import QuantizationMethod, alike
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.problems.integer import error_form

__all__ = ["NearestPlane"]


class NearestPlane(QuantizationMethod):
    """Inputs in their order, each making good the errors before it."""

    name: ClassVar[str] = "nearest-plane"
    label: ClassVar[str] = "nearest plane (GPTQ)"
    citation: ClassVar[str] = (
        'Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023; Babai, Combinatorica 6, 1986'
    )
    listed_up_to: ClassVar[float] = inf

    def propose(self, problems: Sequence[IntegerLeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Problems that share one Gram and one grid are rounded together, on one factor."""
        from pvqbounds.solvers.native.quantization.integer_codes import nearest_plane

        codes: dict[int, NDArray[np.int64]] = {}
        for members in alike(problems):
            first, centres = problems[members[0]], np.array([problems[i].centre for i in members])
            rounded = nearest_plane(error_form(first), centres, first.low, first.high)
            codes |= zip(members, rounded, strict=True)
        return [codes[i] for i in range(len(problems))]
