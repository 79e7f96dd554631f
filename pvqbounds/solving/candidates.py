"""Whatever is listed beside a bound is a candidate for its upper end: the better of the two counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import ContradictionError
from pvqbounds.problems import IntegerLeastSquares, Problem
from pvqbounds.results.bounds import Bounds, status_of

__all__ = ["at_least_methods", "with_candidates"]


def at_least_methods(
    problems: Sequence[Problem], bounds: Sequence[Bounds], methods: Mapping[str, Sequence[NDArray[Any]]]
) -> list[Bounds]:
    """The bounds of many problems, each no worse than what any of the `methods` makes of its problem.

    Parameters
    ----------
    methods
        By name, codes (quantization) or weights (pruning) of each problem.
    """
    return [
        with_candidates(problem, found, [points[i] for points in methods.values()])
        for i, (problem, found) in enumerate(zip(problems, bounds, strict=True))
    ]


def with_candidates(problem: Problem, bounds: Bounds, candidates: Iterable[NDArray[Any]]) -> Bounds:
    """The bounds with the best of their own weights and of `candidates` for the upper end.

    Parameters
    ----------
    candidates
        Allowed codes (quantization) or weights (pruning), shape (n,) each; they are evaluated here.

    Raises
    ------
    InputError
        If one is not allowed.
    ContradictionError
        If one has less error than the certified lower end: a fault of this package.
    """
    best = bounds
    for candidate in candidates:
        if isinstance(problem, IntegerLeastSquares):
            codes, support = problem.checked_codes(candidate), None
            weight, error = problem.weight_of(codes), problem.error(codes)
        else:
            codes, weight = None, np.asarray(candidate, dtype=np.float64)
            support, error = problem.checked_support(np.flatnonzero(weight)), problem.error(weight)
        upper = max(error.upper, 0.0)
        if upper < best.error_upper:
            best = replace(best, error_upper=upper, weight=weight, codes=codes, support=support)
    if best is bounds:
        return bounds
    if best.error_lower > best.error_upper:
        if best.lower_kind == "certified":
            raise ContradictionError(
                problem, best.certificate, best.weight, best.error_lower, best.error_upper
            )
        note = (
            f"{best.solver} states the bound {best.error_lower:.6g}, above the error {best.error_upper:.6g} "
            "of weights that are allowed: its bound is false and was dropped."
        )
        best = replace(best, error_lower=0.0, note=note)
    status = status_of(best.error_lower, best.error_upper, problem.signal.upper)
    return replace(best, status=status)
