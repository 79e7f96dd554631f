"""K-best: nearest plane with the best beginnings kept side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import QuantizationMethod, alike
from pvqbounds.problems import IntegerLeastSquares

__all__ = ["KBest"]


@dataclass(frozen=True)
class KBest(QuantizationMethod):
    """The best determined input first; `width` beginnings go on from each input to the next."""

    name: ClassVar[str] = "k-best"
    label: ClassVar[str] = "K-best"
    citation: ClassVar[str] = "Guo and Nilsson, IEEE J. Sel. Areas Commun. 24, 2006"

    width: int = 64
    """1 is Babai's nearest plane, in that order."""

    def propose(self, problems: Sequence[IntegerLeastSquares], seed: int = 0) -> list[NDArray[np.int64]]:
        """Problems that share one Gram and one grid are searched on one factor."""
        from pvqbounds.solvers.native.quantization.integer_search import (
            k_best,
            live_inputs,
            without_dead_inputs,
        )
        from pvqbounds.solvers.native.quantization.search_trees import Minimiser, plain_tree

        codes = [problem.codes_of_nearest() for problem in problems]
        for members in alike(problems):
            first = problems[members[0]].normalised
            live = live_inputs(first)
            if not live.any():
                continue
            inner = without_dead_inputs(first, live)
            tree = plain_tree(inner, Minimiser(inner.centre, np.zeros(inner.n))).tree
            for i in members:
                # another step multiplies all costs alike, and its floors are the same for all beginnings
                centre = problems[i].centre[live][tree.order]
                found = k_best(replace(tree, centre=centre, target=centre), self.width)
                codes[i][live] = np.clip(found, inner.low, inner.high)
        return codes
