"""Upper bounds for quantization: nearest plane, K-best search, randomized rounding, descent.

All of them only propose codes; their error is evaluated again from the codes. K-best search on
the trees of the hybrid bound finds the best codes by far, nearly always 2-opt ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.nearest_plane import nearest_plane
from pvqbounds.heuristics.rounding import gaussian_starts, improve
from pvqbounds.problems import IntegerLeastSquares, LeastSquares
from pvqbounds.problems.code_grids import in_codes
from pvqbounds.problems.values import ValueSet
from pvqbounds.solvers.native.quantization.integer_search import k_best
from pvqbounds.solvers.native.quantization.rising_search import NODES_A_SECOND
from pvqbounds.solvers.native.quantization.search_trees import (
    Minimiser,
    MultipliedTree,
    minimiser_of,
    mixed_trees,
    trees_fit,
)
from pvqbounds.solvers.relaxation import Relaxed

__all__ = [
    "best_known_codes",
    "good_codes",
    "many_codes",
    "plain_codes",
    "without_dead_moments",
]

FEW_INPUTS = 400
"""Inputs up to which the relaxation's covariance is factored for random roundings."""

WIDTH, WORK = 1000, 8e7
"""Nodes a level that the K-best search keeps: so many at most, and so many over n² at most."""

WIDEST, WORK_A_NODE = 10_000, 10.0
"""The same where a long search follows: at most so many, and so many over n² for each of its nodes."""

STARTS = 10
"""Random roundings."""

CODES_SHARES, CODES_PART = tuple(0.05 * k for k in range(1, 21)), 0.05
"""Shares of the multipliers whose trees are looked through for codes where the time is to be spent (1 to 5 dB
on singular Grams), and the share of the time for it."""


def best_known_codes(
    problem: IntegerLeastSquares, relaxed: Relaxed, seed: int, clock: Clock | None = None
) -> NDArray[np.int64]:
    """Good codes around a relaxation, shape (n,).

    Parameters
    ----------
    relaxed
        A relaxation of the problem, from any backend.
    seed
        Seed of the random starts.
    clock
        The less time it leaves, the fewer starts are tried.
    """
    clock = clock or Clock(math.inf)
    live = problem.shared.live
    codes = problem.codes_of_nearest()
    if live.any():
        inner, inside = problem.among(live), without_dead_moments(relaxed, live, problem.values)
        if not trees_fit(inner.n, clock):
            codes[live] = plain_codes(inner, inside, clock)
        else:
            minimiser = minimiser_of(inner, clock)
            trees = mixed_trees(inner, inside.certificate, minimiser, clock=clock)
            codes[live] = good_codes(inner, inside, minimiser, trees, seed, clock=clock)
    return codes


def good_codes(
    problem: LeastSquares,
    relaxed: Relaxed,
    minimiser: Minimiser,
    trees: Sequence[MultipliedTree],
    seed: int,
    nodes: float = 0.0,
    clock: Clock | None = None,
) -> NDArray[np.int64]:
    """Best codes from every start, for sizes that trees are built at: 1-opt from each, 2-opt from the best.

    The relaxation's moments are in units of the grid (:mod:`pvqbounds.problems.code_grids`).

    Starts are round to nearest, the box-constrained minimiser, the relaxation's mean, nearest plane,
    K-best leaves of each tree and, up to a few hundred inputs, random roundings. The more nodes a
    search on the trees may visit, the more time is spent here, too; starts that the clock leaves no time
    for are left out.
    """
    n, clock = problem.n, clock or Clock(math.inf)
    inner = in_codes(problem)
    simple = np.vstack([inner.centre, minimiser.point])
    greedy = simple[:0]
    if inner.grid.table is None:
        greedy = nearest_plane(inner.form, simple, inner.grid.nearest_of)
    width = int(max(1.0, min(WIDTH, WORK / n**2), min(WIDEST, WORK_A_NODE * nodes / n**2)))
    leaves = [
        inner.grid.values_of(k_best(candidate.tree, width).astype(np.float64))
        for candidate in trees
        if not clock.expired
    ]
    if n <= FEW_INPUTS and not clock.expired:
        random = gaussian_starts(relaxed.mean, relaxed.covariance, STARTS, seed)
    else:
        random = relaxed.mean[None]
    starts = np.vstack([*leaves, greedy, simple, random])  # the best first: time may not do for all
    codes = improve(problem, starts, pairs=False, clock=clock)
    best = inner.grid.values_of(codes.astype(np.float64))
    return improve(problem, best[None], clock=clock)


def many_codes(
    problem: LeastSquares, relaxed: Relaxed, minimiser: Minimiser, seed: int, clock: Clock
) -> NDArray[np.int64]:
    """The best codes from trees at many shares of a relaxation's multipliers."""
    few = mixed_trees(problem, relaxed.certificate, minimiser, clock=clock)
    alone = good_codes(problem, relaxed, minimiser, few, seed, clock=clock)  # as by name
    part = clock.part(CODES_PART)
    trees = mixed_trees(problem, relaxed.certificate, minimiser, CODES_SHARES, clock=part)
    allowed = NODES_A_SECOND * clock.remaining
    many = good_codes(problem, relaxed, minimiser, trees, seed, allowed, part)
    return min(alone, many, key=lambda z: problem.error(z).upper)


def plain_codes(problem: LeastSquares, relaxed: Relaxed, clock: Clock | None = None) -> NDArray[np.int64]:
    """Best of round to nearest, nearest plane (of steps) and the relaxation's mean, 1-opt each: any size."""
    inner = in_codes(problem)
    starts = np.vstack([inner.centre, relaxed.mean])
    if inner.grid.table is None:
        greedy = nearest_plane(inner.form, inner.centre[None], inner.grid.nearest_of)
        starts = np.vstack([greedy, starts])
    return improve(problem, starts, pairs=False, clock=clock)


def without_dead_moments(relaxed: Relaxed, live: NDArray[np.bool_], values: ValueSet) -> Relaxed:
    """The relaxation over the inputs that are not always zero, of all inputs with these values."""
    if live.all():
        return relaxed
    certificate = relaxed.certificate.among(live, values)
    covariance = relaxed.covariance[np.ix_(live, live)]
    return replace(relaxed, certificate=certificate, mean=relaxed.mean[live], covariance=covariance)
