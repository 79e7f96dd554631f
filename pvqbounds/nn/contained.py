"""Weights found for one side of a layer count for every side that allows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import Problem, SparseLeastSquares
from pvqbounds.results.inclusion import allows_all_of
from pvqbounds.results.layer import Side, SliceResult
from pvqbounds.solving.candidates import with_candidates

__all__ = ["no_worse_than_contained"]


def no_worse_than_contained(sides: Sequence[Side]) -> list[Side]:
    """The sides, each with weights of sides that it contains where these are better than its own.

    They are evaluated again. Sides whose channels are bounded together, under one budget or free scale, and
    those of files that say not all of their values stay as they are.

    Raises
    ------
    ContradictionError
        If weights have less error than the certified lower end of a side that allows them: a fault of this
        package.
    """
    return [_improved(side, [other for other in sides if other is not side]) for side in sides]


def _improved(side: Side, others: Sequence[Side]) -> Side:
    """A side with the better weights of those of the others that it contains."""
    if side.shared is not None or side.one_scale is not None:
        return side
    better = [other for other in others if _any_better(side, other) and allows_all_of(side, other)]
    if not better:
        return side
    slices = []
    for result, *held in zip(side.slices, *(other.slices for other in better), strict=True):
        candidates = [point for own in held for point in _points(result.problem, own)]
        slices.append(replace(result, bounds=with_candidates(result.problem, result.bounds, candidates)))
    return replace(side, slices=tuple(slices))


def _any_better(side: Side, other: Side) -> bool:
    """Whether the other side has better weights of a slice: else there is nothing to take."""
    ends = zip(side.slices, other.slices, strict=True)
    return any(theirs.bounds.error_upper < own.bounds.error_upper for own, theirs in ends)


def _points(problem: Problem, held: SliceResult) -> list[NDArray[Any]]:
    """The best weights of a contained problem as this one takes them, and their re-fit where there is one."""
    weight, codes = held.bounds.weight, held.bounds.codes
    if isinstance(problem, SparseLeastSquares):
        return [weight, problem.refit(np.flatnonzero(weight))]
    assert codes is not None, "finite values are contained in finite ones alone"
    return [problem.values.codes_of(held.problem.values, codes)]
