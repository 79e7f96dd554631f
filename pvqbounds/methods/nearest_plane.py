"""Nearest plane: what GPTQ does, without damping."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.heuristics.nearest_plane import nearest_values
from pvqbounds.methods.base import RoundingMethod, alike, steps_apart
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.integer import error_form

__all__ = ["NearestPlane"]


class NearestPlane(RoundingMethod):
    """Inputs in their order, each making good the errors before it."""

    name: ClassVar[str] = "nearest-plane"
    label: ClassVar[str] = "nearest plane (GPTQ)"
    citation: ClassVar[str] = (
        'Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023; Babai, Combinatorica 6, 1986'
    )
    listed_up_to: ClassVar[float] = inf

    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """Problems of steps that share one Gram and one grid are rounded together, on one factor."""
        from pvqbounds.solvers.native.quantization.integer_codes import nearest_plane

        stepped, others = steps_apart(problems)
        codes = dict(zip(others, nearest_values(list(others.values())), strict=True))
        places = list(stepped)
        for members in alike(list(stepped.values())):
            first = stepped[places[members[0]]]
            centres = np.array([stepped[places[i]].centre for i in members])
            rounded = nearest_plane(error_form(first), centres, first.low, first.high)
            codes |= zip((places[i] for i in members), rounded, strict=True)
        return [codes[i] for i in range(len(problems))]
