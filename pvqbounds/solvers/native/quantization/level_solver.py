"""Levels and joint compression: their relaxation with codes, and their exact search.

What is cheap comes first, as for uniform steps (:mod:`.integer_solver`): the tree around the minimiser
between the least and the largest values closes most small problems without a support rule. What it leaves
is searched at mixtures of the relaxation's multipliers, which know about levels and budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.rounding import improve
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.code_grids import has_grid, in_codes
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.results.bounds import status_of
from pvqbounds.solvers.base import ExactSolution, Options
from pvqbounds.solvers.native.quantization.codes_dual import relax_in_codes
from pvqbounds.solvers.native.quantization.found import Found
from pvqbounds.solvers.native.quantization.hybrid import (
    better_codes,
    nodes_for,
    not_searched,
    raised_bound,
    raised_by,
    said_of_singular,
)
from pvqbounds.solvers.native.quantization.integer_codes import good_codes, many_codes, plain_codes
from pvqbounds.solvers.native.quantization.integer_search import NODES_A_SLICE, quick_search
from pvqbounds.solvers.native.quantization.integer_solver import (
    HOPELESS,
    PROVABLE,
    WITH_SPLITS,
    spent_share,
    unended,
)
from pvqbounds.solvers.native.quantization.integer_tree import expected_nodes
from pvqbounds.solvers.native.quantization.rising_search import NODES_A_SECOND, TreeSearches
from pvqbounds.solvers.native.quantization.search_trees import (
    NO_TREE,
    Minimiser,
    MultipliedTree,
    minimiser_of,
    mixed_trees,
    plain_tree,
    trees_fit,
)
from pvqbounds.solvers.native.quantization.split_dual import relax_with_splits, stages_for, takes_splits
from pvqbounds.solvers.relaxation import Relaxed

__all__ = ["relax_codes", "relaxed_codes", "solve_codes"]

TOLERANCE = 1e-3
"""Relative gap to which the relaxation is solved."""

TRIAL = 1e6
"""Nodes after which a search has to tell how many more it needs, where it may begin only what it ends."""

NO_GRID = "not searched: the values are neither steps nor in a table"

Solve = Callable[[LeastSquares, Clock, Options], Found]


def solve_codes(problem: LeastSquares, options: Options) -> ExactSolution:
    """Least error over the values, or the best interval that the time limit allows.

    With ``options.only_if_it_finishes`` a search that is expected to outlast the time limit ends early, and
    what it and the relaxation have proved by then is given.
    """
    return _on_live_inputs(_solved, problem, options).solution


def relax_codes(problem: LeastSquares, options: Options) -> ExactSolution:
    """:func:`relaxed_codes` as backends give it."""
    return relaxed_codes(problem, options).solution


def relaxed_codes(problem: LeastSquares, options: Options) -> Found:
    """Codes, and the bound of the relaxation, which a search raises where that is "hybrid"."""
    return _on_live_inputs(_relaxed, problem, options)


def _on_live_inputs(solve: Solve, problem: LeastSquares, options: Options) -> Found:
    """Solve for the inputs that are not always zero; the others get codes that cost nothing."""
    live = problem.shared.live
    codes = problem.values.zero_codes() if problem.is_restricted else problem.codes_of_nearest()
    if not live.any():
        return Found.nothing_to_solve(codes)
    clock = Clock(options.time_limit, options.cancelled)
    return solve(problem.among(live), clock, options).spread(codes, live, problem.values)


def _relaxed(problem: LeastSquares, clock: Clock, options: Options) -> Found:
    relaxed = relax_in_codes(problem, clock, options.tolerance or TOLERANCE)
    if options.relaxation in WITH_SPLITS:
        relaxed = _split(problem, relaxed, clock, options)
    if not (has_grid(problem.values) and trees_fit(problem.n, clock)):
        return _not_searched(problem, relaxed, clock)
    minimiser = minimiser_of(problem, clock)
    trees = mixed_trees(problem, relaxed.certificate, minimiser, clock=clock)
    hybrid = options.relaxation == "hybrid"
    nodes = nodes_for(options.search_share, options.time_limit) if hybrid else 0.0
    allowed = min(nodes, NODES_A_SECOND * clock.remaining)
    codes = good_codes(problem, relaxed, minimiser, trees, options.seed, allowed, clock)
    if not hybrid:
        return Found(codes, relaxed.certificate, relaxed.status, reported=relaxed.reported)
    return raised_bound(problem, relaxed, trees, codes, nodes, clock)


def _split(problem: LeastSquares, relaxed: Relaxed, clock: Clock, options: Options) -> Relaxed:
    """The relaxation with split inequalities that begins at one without, where that proves more."""
    if not takes_splits(problem) or not dual_bound(problem, relaxed.certificate) > 0.0:
        return relaxed
    stages = stages_for(options, problem.n, clock.remaining)
    split = relax_with_splits(problem, clock, stages[1:], relaxed.certificate)  # the first is for y = 0
    return max(relaxed, split, key=lambda one: dual_bound(problem, one.certificate))


def _not_searched(problem: LeastSquares, relaxed: Relaxed, clock: Clock) -> Found:
    """The relaxation's bound, and codes from few starts: for what is too large, or has no time."""
    if has_grid(problem.values):
        codes, status = plain_codes(problem, relaxed, clock), not_searched(problem.n)
    else:
        codes, status = problem.codes_of_nearest(), NO_GRID
    return Found.by(relaxed, codes, status)


def _better(problem: LeastSquares, *codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of least error."""
    return min(codes, key=lambda z: problem.error(z).upper)


def _solved(problem: LeastSquares, clock: Clock, options: Options) -> Found:
    if not (has_grid(problem.values) and trees_fit(problem.n, clock)):
        return _not_searched(problem, relax_in_codes(problem, clock, options.tolerance or TOLERANCE), clock)
    minimiser = minimiser_of(problem, clock)
    starts = np.vstack([minimiser.point, in_codes(problem).centre])
    codes = improve(problem, starts, clock=clock)
    plain = plain_tree(problem, minimiser)
    if plain is None:
        rest = _not_searched(problem, relax_in_codes(problem, clock, options.tolerance or TOLERANCE), clock)
        return replace(rest, codes=_better(problem, codes, rest.codes), status=NO_TREE)
    error = problem.error(codes).upper
    # budgets are not counted in what is expected, and the plain tree does not know of them
    bearable = NODES_A_SLICE * (1.0 if problem.is_restricted else HOPELESS)
    if expected_nodes(plain.tree, error) < bearable:
        outcome = quick_search(plain.tree, error)
        codes = better_codes(problem, codes, outcome, error)
        if outcome.exhausted:
            return Found(codes, plain.certificate(outcome), "optimal", exact=True)

    relaxed = relax_in_codes(problem, clock, options.tolerance or TOLERANCE)
    mixed = mixed_trees(problem, relaxed.certificate, minimiser, clock=clock)
    nodes = nodes_for(options.search_share, options.time_limit)
    allowed = 0.0 if problem.n <= PROVABLE else min(nodes, NODES_A_SECOND * clock.remaining)
    found = good_codes(problem, relaxed, minimiser, mixed, options.seed, allowed, clock)
    codes = _better(problem, codes, found)
    error, root = problem.error(codes).upper, dual_bound(problem, relaxed.certificate)
    if status_of(max(root, 0.0), error, problem.signal.lower) == "optimal":
        return Found.by(relaxed, codes, "optimal")
    more = partial(_more_codes, problem, relaxed, minimiser, mixed, options)
    return _searched(problem, relaxed, codes, TreeSearches([plain, *mixed], error), clock, options, more)


def _joined_by_splits(
    problem: LeastSquares,
    relaxed: Relaxed,
    codes: NDArray[np.int64],
    searches: TreeSearches,
    nodes: float,
    clock: Clock,
    options: Options,
) -> tuple[Relaxed, NDArray[np.int64]]:
    """The relaxation with split inequalities where that proves more, with its trees among those searched."""
    split = _split(problem, relaxed, clock, options)
    if split is relaxed:
        return relaxed, codes
    minimiser = minimiser_of(problem, clock)
    trees = mixed_trees(problem, split.certificate, minimiser, clock=clock)
    allowed = min(nodes, NODES_A_SECOND * clock.remaining)
    codes = _better(
        problem, codes, good_codes(problem, split, minimiser, trees, options.seed, allowed, clock)
    )
    searches.join(trees, problem.error(codes).upper)
    return split, codes


def _more_codes(
    problem: LeastSquares,
    relaxed: Relaxed,
    minimiser: Minimiser,
    trees: Sequence[MultipliedTree],
    options: Options,
    nodes: float,
    clock: Clock,
) -> list[NDArray[np.int64]]:
    """Codes from wider starts, for a search of so many nodes; from more of them where all time is spent."""
    allowed = min(nodes, NODES_A_SECOND * clock.remaining)
    found = [good_codes(problem, relaxed, minimiser, trees, options.seed, allowed, clock)]
    if nodes == np.inf:
        found.append(many_codes(problem, relaxed, minimiser, options.seed, clock))
    return found


def _searched(
    problem: LeastSquares,
    relaxed: Relaxed,
    codes: NDArray[np.int64],
    searches: TreeSearches,
    clock: Clock,
    options: Options,
    more_codes: Callable[[float, Clock], list[NDArray[np.int64]]],
) -> Found:
    """What a search of the trees makes of a relaxation's bound and the best codes known."""
    status, share = "time limit", options.search_share
    if options.only_if_it_finishes:
        trial = max(TRIAL, nodes_for(share, options.time_limit))
        if not (searches.may_end(trial, clock) and searches.ends_stage_by_stage(clock)):
            status = unended(searches.nodes_to_go)
            if share > 0.0:
                nodes = nodes_for(spent_share(share, problem.n), options.time_limit)
                codes = _better(problem, codes, *more_codes(nodes, clock))
                if options.relaxation in WITH_SPLITS:
                    relaxed, codes = _joined_by_splits(
                        problem, relaxed, codes, searches, nodes, clock, options
                    )
                searches.advance(nodes, clock)
                known = dual_bound(problem, relaxed.certificate)
                searches.advance_while_worthwhile(known, options.search_price, clock)
            chosen, outcome = searches.chosen
            if not outcome.exhausted or len(chosen.splits) > 0:  # with splits an end is no optimum
                found = replace(raised_by(problem, relaxed, codes, chosen, outcome), status=status)
                return said_of_singular(problem, found)
    searches.advance(np.inf, clock)
    chosen, outcome = searches.chosen
    if outcome.exhausted:
        codes = better_codes(problem, codes, outcome)
        proof = chosen.certificate(outcome)
        return Found(codes, proof, "optimal", exact=True, history=outcome.history)
    found = raised_by(problem, relaxed, codes, chosen, outcome)
    return replace(found, status=status, exact=found.certificate.searched)
