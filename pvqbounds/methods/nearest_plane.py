"""Nearest plane: what GPTQ does, without damping."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.heuristics.nearest_plane import nearest_plane
from pvqbounds.methods.base import RoundingMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.gram import Gram

__all__ = ["NearestPlane"]


class NearestPlane(RoundingMethod):
    """Inputs in their order, each making good the errors before it.

    A singular Gram gets the least ridge that lets it be factored, 1e-15 to 10 of each input's power.
    """

    name: ClassVar[str] = "nearest-plane"
    label: ClassVar[str] = "nearest plane"
    citation: ClassVar[str] = (
        'Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023; Babai, Combinatorica 6, 1986'
    )
    listed_up_to: ClassVar[float] = inf
    on_singular: ClassVar[str] = "takes a factor of the Gram with the least ridge that has one"

    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """All channels of one Gram together, on one factor."""
        return for_each_gram(problems, lambda gram: gram, _rounded)


def _rounded(gram: Gram, channels: Channels) -> NDArray[np.float64]:
    return nearest_plane(gram.over_mean, channels.weight, channels.nearest)
