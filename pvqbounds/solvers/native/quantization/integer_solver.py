"""Exact quantization of one channel: what is cheap first, the SDP's multipliers where it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.heuristics.rounding import improve
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.results.bounds import status_of
from pvqbounds.results.history import after
from pvqbounds.results.notes import times
from pvqbounds.solvers.base import ExactSolution, Options
from pvqbounds.solvers.native.quantization.codes_dual import reaches_far_apart, relax_steps
from pvqbounds.solvers.native.quantization.found import Found
from pvqbounds.solvers.native.quantization.hybrid import (
    better_codes,
    nodes_for,
    not_searched,
    raised_bound,
    raised_by,
    said_of_singular,
)
from pvqbounds.solvers.native.quantization.integer_codes import (
    good_codes,
    many_codes,
    plain_codes,
    without_dead_moments,
)
from pvqbounds.solvers.native.quantization.integer_search import (
    NODES_A_SLICE,
    quick_search,
)
from pvqbounds.solvers.native.quantization.integer_tree import expected_nodes
from pvqbounds.solvers.native.quantization.rising_search import (
    NODES_A_SECOND,
    TreeSearches,
    search_best,
)
from pvqbounds.solvers.native.quantization.search_trees import (
    LARGEST_TREE,
    NO_TREE,
    Minimiser,
    MultipliedTree,
    minimiser_of,
    mixed_trees,
    plain_tree,
    trees_fit,
)
from pvqbounds.solvers.native.quantization.split_dual import relax_with_splits, stages_for
from pvqbounds.solvers.relaxation import Relaxed

__all__ = ["HOPELESS", "PROVABLE", "solve_integer", "spent_share", "unended"]

SDP_TOLERANCE = 1e-3
"""Relative gap to which the SDP is solved: its value is right to a tenth of that by then, and the search
starts from mixtures of its multipliers anyway. A third of the iterations to 1e-6 are saved."""

TIGHT_TOLERANCE = 1e-6
"""The same where its value may close the interval, or is the bound that is given."""

PROVABLE = 128
"""Inputs up to which a search may reach its end: larger problems get split inequalities at once."""

WITH_SPLITS = ("hybrid", "splits")
"""Relaxations that have split inequalities."""

SPENDING = 64
"""Inputs up to which a bound that is open at the end is raised for all of the time left."""

HOPELESS = 1e3
"""A search that the volume heuristic expects to outlast its budget so many times is not begun."""


def solve_integer(problem: IntegerLeastSquares, options: Options) -> ExactSolution:
    """Least error over the grid, or the best interval that the time limit allows.

    With ``options.only_if_it_finishes`` a search that is expected to outlast the time limit is not
    begun; the bound of ``options.relaxation`` is given instead.
    """
    clock = Clock(options.time_limit, options.cancelled)
    live = problem.shared.live
    codes = problem.codes_of_nearest()
    if not live.any():
        return Found.nothing_to_solve(codes).solution
    if options.relaxed is not None:
        options = replace(options, relaxed=without_dead_moments(options.relaxed, live, problem.values))
    return _solve_live(problem.among(live), clock, options).spread(codes, live, problem.values).solution


def _solve_live(problem: IntegerLeastSquares, clock: Clock, options: Options) -> Found:
    if not trees_fit(problem.n, clock) and (options.only_if_it_finishes or problem.n <= LARGEST_TREE):
        return _not_searched(problem, clock, options)
    minimiser = minimiser_of(problem, clock)
    codes = improve(problem, np.vstack([minimiser.point, problem.centre]), clock=clock)
    plain = plain_tree(problem, minimiser)
    if plain is None:
        return replace(_not_searched(problem, clock, options, codes), status=NO_TREE)
    error = problem.error(codes).upper
    if expected_nodes(plain.tree, error) < HOPELESS * NODES_A_SLICE:
        outcome = quick_search(plain.tree, error)
        codes = better_codes(problem, codes, outcome, error)
        if outcome.exhausted:
            return Found(codes, plain.certificate(outcome), "optimal", exact=True)

    if not trees_fit(problem.n, clock):
        return _not_searched(problem, clock, options, codes)
    provable = problem.n <= PROVABLE
    relaxed = options.relaxed or (_sdp(problem, clock) if provable else _fallback(problem, clock, options))
    mixed = mixed_trees(problem, relaxed.certificate, minimiser, clock=clock)
    trees = [plain, *mixed]
    nodes = nodes_for(options.search_share, options.time_limit)
    allowed = 0.0 if provable else min(nodes, NODES_A_SECOND * clock.remaining)
    found = good_codes(problem, relaxed, minimiser, mixed, options.seed, allowed, clock)
    codes = min(codes, found, key=lambda z: problem.error(z).upper)
    error = problem.error(codes).upper
    if options.relaxed is None and provable and _nearly_closes(problem, relaxed, error):
        relaxed = _sdp(problem, clock, TIGHT_TOLERANCE)  # milliseconds, where a search may take for ever
        root = dual_bound(problem, relaxed.certificate)
        if status_of(max(root, 0.0), error, problem.signal.lower) == "optimal":
            return Found.by(relaxed, codes, "optimal")
    if options.only_if_it_finishes:
        ending = [tree for tree in trees if len(tree.splits) == 0]  # with some of them an end is no optimum
        expected = min(expected_nodes(candidate.tree, error) for candidate in ending)
        if provable and ending:
            searches = TreeSearches(ending, error)
            if searches.ends_within(clock, expected):
                chosen, outcome = searches.chosen
                codes = better_codes(problem, codes, outcome)
                proof = chosen.certificate(outcome)
                return Found(codes, proof, "optimal", exact=True, history=outcome.history)
            left = _not_ended(problem, relaxed, codes, searches, minimiser, clock, options)
            return said_of_singular(problem, left)
        if expected > NODES_A_SECOND * clock.remaining:
            if options.search_share == 0.0:
                return Found.by(relaxed, codes, unended(expected))
            return raised_bound(problem, relaxed, mixed, codes, nodes, clock, options.search_price)
    searched = _searched(problem, trees, codes, clock)
    if searched.status == "optimal" and len(searched.certificate.splits) > 0:
        # no code is left below its bound, which is not an error yet
        mixed = mixed_trees(problem, _sdp(problem, clock).certificate, minimiser)
        again = _searched(problem, [plain, *mixed], searched.codes, clock)
        strongest = max(searched, again, key=lambda one: one.bound(problem))
        history = after(searched.history, again.history)
        searched = replace(again, certificate=strongest.certificate, history=history)
    if searched.status != "optimal" and dual_bound(problem, relaxed.certificate) > searched.bound(problem):
        return replace(Found.by(relaxed, searched.codes, "time limit"), history=searched.history)
    return searched


def _not_ended(
    problem: IntegerLeastSquares,
    relaxed: Relaxed,
    codes: NDArray[np.int64],
    searches: TreeSearches,
    minimiser: Minimiser,
    clock: Clock,
    options: Options,
) -> Found:
    """The best of all parts for a problem whose search is not expected to end: none is weaker alone."""
    status, share = unended(searches.nodes_to_go), options.search_share
    if share > 0.0:
        share = spent_share(share, problem.n)
    nodes, price = nodes_for(share, options.time_limit), options.search_price
    if options.relaxed is not None or options.relaxation not in WITH_SPLITS:
        if share > 0.0:
            searches.advance(nodes, clock)
            searches.advance_while_worthwhile(dual_bound(problem, relaxed.certificate), price, clock)
        tried = raised_by(problem, relaxed, codes, *searches.chosen)
        return replace(tried, status=status)
    tried = raised_by(problem, relaxed, codes, *searches.chosen)
    split = _fallback(problem, clock, replace(options, search_share=1.0 if share > 0.0 else 0.0))
    trees = mixed_trees(problem, split.certificate, minimiser, clock=clock)
    allowed = min(nodes, NODES_A_SECOND * clock.remaining)
    found = [tried.codes, good_codes(problem, split, minimiser, trees, options.seed, allowed, clock)]
    known = [split, relaxed]
    if share >= 1.0:
        known = [*known, _sdp(problem, clock, TIGHT_TOLERANCE), _fallback_alone(problem, clock, options)]
        found += [many_codes(problem, one, minimiser, options.seed, clock) for one in known]
    codes = min(found, key=lambda z: problem.error(z).upper)
    strongest = max(known, key=lambda one: dual_bound(problem, one.certificate))
    best = Found.by(strongest, codes, status)
    if share > 0.0:
        searches.join(trees, problem.error(codes).upper)
        searches.advance(nodes, clock)
        searches.advance_while_worthwhile(best.bound(problem), price, clock)
        best = raised_by(problem, strongest, codes, *searches.chosen)
    better = best if best.bound(problem) >= tried.bound(problem) else replace(tried, codes=best.codes)
    return replace(better, history=best.history or tried.history)


def _fallback_alone(problem: IntegerLeastSquares, clock: Clock, options: Options) -> Relaxed:
    """The longest path that the time allows, whose own bound counts."""
    return _fallback(problem, clock, replace(options, search_share=0.0))


def spent_share(share: float, n: int) -> float:
    """The share of the limit in which the bound of n inputs is raised that no search is expected to close."""
    return 1.0 if n <= SPENDING else share


def unended(expected: float) -> str:
    """Why a search was not gone on with."""
    about = f"about {times(expected)} nodes expected" if np.isfinite(expected) else "too many nodes"
    return f"not searched to the end: {about}"


def _not_searched(
    problem: IntegerLeastSquares,
    clock: Clock,
    options: Options,
    codes: NDArray[np.int64] | None = None,
) -> Found:
    """The relaxation's bound, and codes from few starts: for what is too large, or has no time."""
    relaxed = options.relaxed or _fallback(problem, clock, options)
    candidates = [plain_codes(problem, relaxed, clock), *([] if codes is None else [codes])]
    best = min(candidates, key=lambda z: problem.error(z).upper)
    return Found.by(relaxed, best, not_searched(problem.n))


def _searched(
    problem: IntegerLeastSquares, trees: Sequence[MultipliedTree], codes: NDArray[np.int64], clock: Clock
) -> Found:
    """The best codes, what a search proved, and whether it came to its end."""
    chosen, outcome = search_best(trees, problem.error(codes).upper, math.inf, clock)
    return Found(
        better_codes(problem, codes, outcome),
        chosen.certificate(outcome),
        "optimal" if outcome.exhausted else "time limit",
        exact=True,
        history=outcome.history,
    )


def _sdp(problem: IntegerLeastSquares, clock: Clock, tolerance: float = SDP_TOLERANCE) -> Relaxed:
    """The SDP alone: its multipliers leave a search that is to reach its end more curvature."""
    return relax_steps(problem, clock, tolerance)


def _nearly_closes(problem: IntegerLeastSquares, relaxed: Relaxed, error: float) -> bool:
    """Whether all that the relaxation leaves open is what its own tolerance explains."""
    return dual_bound(problem, relaxed.certificate) > (1.0 - SDP_TOLERANCE) * error > 0.0


def _fallback(problem: IntegerLeastSquares, clock: Clock, options: Options) -> Relaxed:
    """The relaxation to bound a problem with that is not searched to its end."""
    if options.relaxation in WITH_SPLITS and not reaches_far_apart(problem):
        stages = stages_for(options, problem.n, clock.remaining)
        return relax_with_splits(problem, clock, stages)
    return _sdp(problem, clock)
