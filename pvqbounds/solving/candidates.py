"""Whatever is listed beside a bound is a candidate for its upper end: the better of the two counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import up
from pvqbounds.errors import ContradictionError
from pvqbounds.problems import Problem, SparseLeastSquares
from pvqbounds.results.bounds import Bounds, status_of

__all__ = ["at_least_methods", "at_least_methods_together", "combined", "with_candidates", "with_point"]

NOT_AT_ONCE = "which of its values the file allowed at once is not known"
"""Why an interval stays open where values hold more than could be chosen."""


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


def at_least_methods_together(
    problems: Sequence[SparseLeastSquares],
    bounds: Sequence[Bounds],
    error_lower: float,
    spent: Sequence[SparseLeastSquares],
    methods: Mapping[str, Sequence[NDArray[np.float64]]],
) -> tuple[list[SparseLeastSquares], list[Bounds]]:
    """Channels under one budget, together no worse than what any of the `methods` makes of them.

    Parameters
    ----------
    problems, bounds
        Each channel with the number of weights that the best supports found leave it.
    error_lower
        Certified bound on their summed error.
    spent
        Each channel with the number that the methods spend on it.
    methods
        By name, weights of each channel.

    Returns
    -------
    problems, bounds
        Those of the best spending; a channel's own lower end is 0 where it is a method's, as what was
        proved of the channel is about another number of weights.

    Raises
    ------
    ContradictionError
        If a method has less error than the certified lower end: a fault of this package.
    """
    total = math.fsum(found.error_upper for found in bounds)
    best: Sequence[NDArray[np.float64]] | None = None
    for points in methods.values():
        errors = (max(p.error(v).upper, 0.0) for p, v in zip(spent, points, strict=True))
        error = math.fsum(errors)
        if error < total:
            best, total = points, error
    if best is None:
        return list(problems), list(bounds)
    if error_lower > up(total):
        certificates = [found.certificate for found in bounds]
        raise ContradictionError(list(spent), certificates, list(best), error_lower, up(total))
    own = [replace(found, error_lower=0.0, error_upper=math.inf, history=()) for found in bounds]
    return list(spent), at_least_methods(spent, own, {"best": best})


def combined(problem: Problem, one: Bounds, other: Bounds) -> Bounds:
    """The better ends of two results of one problem, and the seconds of both.

    A proved end is kept before one that a solver only states, whichever is higher; with the lower end go
    its certificate and what is said of how it was found.

    Raises
    ------
    ContradictionError
        If what one proved lies above the error of the other's weights: a fault of this package.
    """

    def strength(bounds: Bounds) -> tuple[bool, float]:
        return bounds.lower_kind == "certified" and bounds.error_lower > 0.0, bounds.error_lower

    kept = max(one, other, key=strength)
    points = [found.weight if found.codes is None else found.codes for found in (one, other)]
    best = with_candidates(problem, kept, points)
    note = "" if best.status == "optimal" else kept.note
    return replace(best, seconds=one.seconds + other.seconds, note=note)


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
        point = problem.point(candidate)
        if point.upper < best.error_upper:
            best = replace(
                best,
                error_upper=point.upper,
                weight=point.weight,
                codes=point.codes,
                support=point.support,
                scale=point.scale,
            )
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
        best = replace(best, error_lower=0.0, note=note, history=())
    status = status_of(best.error_lower, best.error_upper, problem.signal.lower)
    return replace(best, status=status)


def with_point(problem: Problem, bounds: Bounds, allowed: NDArray[Any]) -> Bounds:
    """The bounds with these weights, and no better ones, as those that are reached.

    For values that hold more than could be chosen: what was found may be none that could.

    Parameters
    ----------
    allowed
        Codes (quantization) or weights (pruning), shape (n,).
    """
    reached = replace(bounds, error_upper=math.inf, history=())
    found = with_candidates(problem, reached, [allowed])
    if found.status == "optimal":
        return found
    return replace(found, note="; ".join(filter(None, (found.note, NOT_AT_ONCE))))
