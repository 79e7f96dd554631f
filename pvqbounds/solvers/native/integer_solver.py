"""Exact quantization of one channel: what is cheap first, the SDP's multipliers where it is not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.certificates import BoxHullCertificate, SearchCertificate, box_hull_bound
from pvqbounds.relaxations.rounding import improve
from pvqbounds.solvers.base import Clock, ExactSolution, Options
from pvqbounds.solvers.native.box_hull_engine import solve_sdp
from pvqbounds.solvers.native.hybrid import nodes_for, raised_bound, spread
from pvqbounds.solvers.native.integer_codes import (
    LARGEST_TREE,
    good_codes,
    plain_codes,
    shares_for,
    without_dead_moments,
)
from pvqbounds.solvers.native.integer_search import (
    NODES_A_SLICE,
    Outcome,
    claim,
    expected_nodes,
    live_inputs,
    quick_search,
    without_dead_inputs,
)
from pvqbounds.solvers.native.rising_search import NODES_A_SECOND, search_best
from pvqbounds.solvers.native.search_trees import minimiser_of, mixed_trees, plain_tree
from pvqbounds.solvers.relaxation import relax

__all__ = ["solve_integer"]

SDP_TOLERANCE = 1e-3
"""Relative gap to which the SDP is solved: its value is right to a tenth of that by then, and the search
starts from mixtures of its multipliers anyway. A third of the iterations to 1e-6 are saved."""

HOPELESS = 1e3
"""A search that the volume heuristic expects to outlast its budget so many times is not begun."""


def solve_integer(problem: IntegerLeastSquares, options: Options) -> ExactSolution:
    """Least error over the grid, or the best interval that the time limit allows.

    With ``options.only_if_it_finishes`` a search that is expected to outlast the time limit is not
    begun; the hybrid bound is given instead, or the SDP's where ``options.search_share`` is zero.
    """
    clock = Clock(options.time_limit, options.cancelled)
    live = live_inputs(problem)
    codes = problem.codes_of_nearest()
    if not live.any():
        zero = np.zeros(problem.n)
        return ExactSolution(codes, None, 0.0, BoxHullCertificate(zero, zero), "every input is zero")
    if options.relaxed is not None:
        options = replace(options, relaxed=without_dead_moments(options.relaxed, live))
    solution = _solve_live(without_dead_inputs(problem, live), clock, options)
    assert solution.codes is not None
    codes[live] = solution.codes
    assert isinstance(solution.certificate, BoxHullCertificate | SearchCertificate)
    certificate = spread(solution.certificate, live)
    return ExactSolution(codes, None, None, certificate, solution.status, solution.relaxation)


def _solve_live(problem: IntegerLeastSquares, clock: Clock, options: Options) -> ExactSolution:
    if problem.n > LARGEST_TREE and options.only_if_it_finishes:
        relaxed = options.relaxed or relax(
            problem, "box-hull", lambda sdp: solve_sdp(sdp, clock, tolerance=SDP_TOLERANCE)
        )
        codes, status = plain_codes(problem, relaxed), f"not searched: more than {LARGEST_TREE} live inputs"
        return ExactSolution(codes, None, None, relaxed.certificate, status, "box-hull")
    minimiser = minimiser_of(problem)
    codes = improve(problem, np.vstack([problem.centre, minimiser.point]))
    plain = plain_tree(problem, minimiser)
    error = problem.error(codes).upper
    if expected_nodes(plain.tree, error) < HOPELESS * NODES_A_SLICE:
        outcome = quick_search(plain.tree, error)
        codes = _better(problem, codes, outcome)
        if outcome.exhausted:
            value = claim(plain.tree, outcome)
            certificate = SearchCertificate(plain.lam, plain.nu, value, outcome.nodes)
            return ExactSolution(codes, None, None, certificate, "optimal")

    relaxed = options.relaxed or relax(
        problem, "box-hull", lambda sdp: solve_sdp(sdp, clock, tolerance=SDP_TOLERANCE)
    )
    mixed = mixed_trees(problem, relaxed.certificate, minimiser, shares_for(problem.n))
    trees = [plain, *mixed]
    found = good_codes(problem, relaxed, minimiser, mixed, options.seed)
    codes = min(codes, found, key=lambda z: problem.error(z).upper)
    error = problem.error(codes).upper
    expected = min(expected_nodes(candidate.tree, error) for candidate in trees)
    if options.only_if_it_finishes and expected > NODES_A_SECOND * clock.remaining:
        status = f"not searched to the end: about {expected:.0e} nodes expected"
        if options.search_share == 0.0:
            return ExactSolution(codes, None, None, relaxed.certificate, status, "box-hull")
        nodes = nodes_for(options.search_share, options.time_limit)
        hybrid = raised_bound(problem, relaxed, mixed, codes, nodes, clock)
        return ExactSolution(hybrid.codes, None, None, hybrid.certificate, hybrid.status, hybrid.relaxation)
    chosen, outcome = search_best(trees, error, math.inf, clock)
    codes = _better(problem, codes, outcome)
    certificate = SearchCertificate(chosen.lam, chosen.nu, claim(chosen.tree, outcome), outcome.nodes)
    if outcome.exhausted:
        return ExactSolution(codes, None, None, certificate, "optimal")
    if box_hull_bound(problem, relaxed.certificate) > certificate.value:
        return ExactSolution(codes, None, None, relaxed.certificate, "time limit", "box-hull")
    return ExactSolution(codes, None, None, certificate, "time limit")


def _better(problem: IntegerLeastSquares, codes: NDArray[np.int64], outcome: Outcome) -> NDArray[np.int64]:
    found = [codes] if outcome.codes is None else [outcome.codes, codes]
    return min(found, key=lambda z: problem.error(z).upper)
