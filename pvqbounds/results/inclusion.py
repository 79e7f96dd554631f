"""Which sides of a layer allow every weight that another one allows, so that they are never worse.

This is read off the problems as they were solved, or as a file has them. No interval takes part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pvqbounds.problems import AnyScaleLeastSquares, Problem
from pvqbounds.problems.inclusion import contains
from pvqbounds.problems.supports import AtMost

if TYPE_CHECKING:
    from pvqbounds.results.layer import Side, SliceResult

__all__ = ["allows_all_of"]


def allows_all_of(larger: Side, smaller: Side) -> bool:
    """Whether `larger` is known to allow every weight of the layer that `smaller` allows.

    False where that is not known, as of a file's weights whose values hold more than it could choose at once.
    """
    if larger.mixed or len(larger.slices) != len(smaller.slices):
        return False
    pairs = list(zip(larger.slices, smaller.slices, strict=True))
    return (
        all((one.channel, one.inputs) == (other.channel, other.inputs) for one, other in pairs)
        and (larger.one_scale is None or _has_one_step(smaller))
        and (larger.shared is None or _most_kept(smaller) <= larger.shared.nnz)
        and all(contains(_alone(larger, one), _alone(smaller, other)) for one, other in pairs)
    )


def _alone(side: Side, result: SliceResult) -> Problem:
    """What a slice may be if the others leave it all: the layer's scale to choose, or its whole budget."""
    problem = result.problem
    if side.one_scale is not None:
        low, high = (int(end[0]) for end in problem.values.code_ends)
        return AnyScaleLeastSquares(problem.shared, problem.weight, low, high)
    return problem if side.shared is None else problem.under(AtMost(min(side.shared.nnz, problem.n)))


def _has_one_step(side: Side) -> bool:
    """Whether all weights of the layer are multiples of one step, given or free."""
    if side.one_scale is not None:
        return True
    lattices = [result.problem.values.lattice for result in side.slices]
    steps = [lattice for lattice in lattices if lattice is not None]
    return len(steps) == len(lattices) and len(np.unique(np.concatenate(steps))) == 1


def _most_kept(side: Side) -> int:
    """How many weights the layer may keep."""
    if side.shared is not None:
        return side.shared.nnz
    return sum(most for result in side.slices for _, most in result.problem.budgets)
