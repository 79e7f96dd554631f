"""Magnitude pruning."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.methods.base import PruningMethod
from pvqbounds.problems import SparseLeastSquares, magnitude_support
from pvqbounds.problems.supports import largest_kept

__all__ = ["Magnitude", "shared_by_magnitude"]


class Magnitude(PruningMethod):
    """Keep the weights of largest magnitude as they are, the others zero."""

    name: ClassVar[str] = "magnitude"
    label: ClassVar[str] = "magnitude pruning"
    citation: ClassVar[str] = 'Han, Pool, Tran and Dally, "Learning both weights and connections", NIPS 2015'
    listed_up_to: ClassVar[float] = inf

    def propose(self, problems: Sequence[SparseLeastSquares], seed: int = 0) -> list[NDArray[np.float64]]:
        """Each problem by itself."""
        return [_kept(problem) for problem in problems]


def _kept(problem: SparseLeastSquares) -> NDArray[np.float64]:
    weight, kept = np.zeros(problem.n), magnitude_support(problem)
    weight[kept] = problem.weight[kept]
    return weight


def shared_by_magnitude(problems: Sequence[SparseLeastSquares], nnz: int) -> list[SparseLeastSquares]:
    """Each channel with the number of its weights that are among the `nnz` largest of all channels."""
    size = np.abs(np.stack([problem.weight for problem in problems]))
    kept = largest_kept(size.reshape(1, -1), [(np.arange(size.size), nnz)])
    numbers = kept.reshape(size.shape).sum(axis=1).tolist()
    return [problem.with_nnz(number) for problem, number in zip(problems, numbers, strict=True)]
