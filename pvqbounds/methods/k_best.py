"""K-best: nearest plane with the best beginnings kept side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.methods.base import RoundingMethod, alike, steps_apart
from pvqbounds.problems import LeastSquares, Problem
from pvqbounds.problems.code_grids import has_grid, in_codes

__all__ = ["KBest"]


@dataclass(frozen=True)
class KBest(RoundingMethod):
    """The best determined input first; `width` beginnings go on (with 1: Babai's nearest plane)."""

    name: ClassVar[str] = "k-best"
    label: ClassVar[str] = "K-best"
    citation: ClassVar[str] = "Guo and Nilsson, IEEE J. Sel. Areas Commun. 24, 2006"

    width: int = 64

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"K-best keeps at least one beginning, not {self.width}.")

    def proposes_for(self, problem: Problem) -> bool:
        """Whether values are steps or in a table."""
        return super().proposes_for(problem) and has_grid(problem.values)

    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """Problems of steps that share one Gram and one grid are searched on one factor."""
        from pvqbounds.solvers.native.quantization.integer_search import k_best
        from pvqbounds.solvers.native.quantization.search_trees import Minimiser, plain_tree

        stepped, others = steps_apart(problems)
        groups = [[list(stepped)[i] for i in members] for members in alike(list(stepped.values()))]
        codes = [problem.codes_of_nearest() for problem in problems]
        for members in [*groups, *([i] for i in others)]:
            live = problems[members[0]].shared.live
            if not live.any():
                continue
            inner = problems[members[0]].normalised.among(live)
            if (plain := plain_tree(inner, Minimiser(in_codes(inner).centre, np.zeros(inner.n)))) is None:
                continue
            tree = plain.tree
            for i in members:
                if i in stepped:  # another step multiplies all costs alike, and its floors are the same
                    centre = stepped[i].centre[live][tree.order]
                    tree = replace(tree, centre=centre, target=centre)
                codes[i][live] = np.clip(k_best(tree, self.width), *inner.values.code_ends)
        return codes
