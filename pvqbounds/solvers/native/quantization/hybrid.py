"""The hybrid bound: a relaxation's multipliers, and a search on what they leave.

The relaxation's bound is the root of a search tree (:mod:`.search_trees`); every threshold below which
the search of a tree ends raises it. No input is chosen for an exact block: the first levels of the
tree are that block, as deep as the budget carries. Its certificate is that of a search: the
multipliers and the value, proved by repeating it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import proved_shift
from pvqbounds.clock import Clock
from pvqbounds.problems import IntegerLeastSquares, LeastSquares
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.results.notes import times
from pvqbounds.solvers.native.quantization.codes_dual import relax_steps
from pvqbounds.solvers.native.quantization.found import Found
from pvqbounds.solvers.native.quantization.integer_codes import (
    good_codes,
    plain_codes,
    without_dead_moments,
)
from pvqbounds.solvers.native.quantization.integer_search import Outcome
from pvqbounds.solvers.native.quantization.rising_search import NODES_A_SECOND, TreeSearches
from pvqbounds.solvers.native.quantization.search_trees import (
    LARGEST_TREE,
    MultipliedTree,
    minimiser_of,
    mixed_trees,
    trees_fit,
)
from pvqbounds.solvers.relaxation import Relaxed

__all__ = [
    "better_codes",
    "hybrid_bound",
    "nodes_for",
    "not_searched",
    "or_the_box_hull",
    "raised_bound",
    "raised_by",
    "said_of_singular",
]

NARROW = 0.05
"""Up to this gap, relative to the error, the SDP alone may prove more than a path to it that ends early."""

SINGULAR = "the Gram is singular to working precision, and the relaxation proves nothing above 0"
"""What fewer positions than inputs, or copies of inputs, lead to."""

SMALL = 128
"""Inputs up to which the SDP alone takes milliseconds."""


def nodes_for(share: float, time_limit: float) -> float:
    """Nodes that a search may visit in this share of a time limit in seconds; inf for all of it.

    A number of nodes and not of seconds: the bound of a small share is the same in each run.
    """
    return math.inf if share >= 1.0 else share * time_limit * NODES_A_SECOND


def hybrid_bound(
    problem: IntegerLeastSquares, relaxed: Relaxed, nodes: float, clock: Clock, seed: int
) -> Found:
    """The hybrid bound of a problem with a solved relaxation, never weaker than the relaxation's.

    Parameters
    ----------
    relaxed
        The relaxation, from any backend.
    nodes
        Nodes that the search may visit.
    clock
        Ends the search, too.
    seed
        Seed of the random starts of the local search.
    """
    live = problem.shared.live
    codes = problem.codes_of_nearest()
    if not live.any():
        return Found.by(relaxed, codes, relaxed.status)
    inner, inside = problem.among(live), without_dead_moments(relaxed, live, problem.values)
    if not trees_fit(inner.n, clock):
        codes[live] = plain_codes(inner, inside, clock)
        return Found.by(relaxed, codes, not_searched(inner.n))
    minimiser = minimiser_of(inner, clock)
    trees = mixed_trees(inner, inside.certificate, minimiser, clock=clock)
    allowed = min(nodes, NODES_A_SECOND * clock.remaining)
    good = good_codes(inner, inside, minimiser, trees, seed, allowed, clock)
    return raised_bound(inner, inside, trees, good, nodes, clock).spread(codes, live, problem.values)


def or_the_box_hull(problem: IntegerLeastSquares, found: Found, clock: Clock) -> Found:
    """The same with the certificate of the box-hull SDP where that proves more.

    A path with split inequalities ends some per cent below its value. That is more than the splits
    gain where inputs of hardly any power leave the SDP next to no gap.
    """
    error, value = problem.error(found.codes).upper, found.bound(problem)
    if problem.n > SMALL or not 0.0 < error - value < NARROW * error or clock.expired:
        return found
    sdp = relax_steps(problem, clock)
    better = dual_bound(problem, sdp.certificate) > value
    return replace(found, certificate=sdp.certificate, status=sdp.status) if better else found


def said_of_singular(problem: LeastSquares, found: Found) -> Found:
    """The same with a word on the Gram where that is why nothing is proved."""
    if found.bound(problem) > 0.0 or proved_shift(problem.gram) is not None:
        return found
    return replace(found, status=f"{found.status}; {SINGULAR}")


def not_searched(n: int) -> str:
    """Why no tree was built for n inputs."""
    if n > LARGEST_TREE:
        return f"not searched: more than {LARGEST_TREE} live inputs"
    return "not searched: the time limit is too short for a search of so many inputs"


def raised_bound(
    problem: LeastSquares,
    relaxed: Relaxed,
    trees: Sequence[MultipliedTree],
    codes: NDArray[np.int64],
    nodes: float,
    clock: Clock,
    price: float = math.inf,
) -> Found:
    """Search the most promising of `trees`; the relaxation's certificate stays where that proves no more.

    Parameters
    ----------
    problem
        Without dead inputs.
    codes
        Feasible codes, the best known.
    price
        Decibels by which each second beyond `nodes` has to raise the bound.
    """
    if not trees:
        return Found.by(relaxed, codes, "no tree could be built at the multipliers")
    searches = TreeSearches(trees, problem.error(codes).upper)
    searches.advance(nodes, clock)
    searches.advance_while_worthwhile(dual_bound(problem, relaxed.certificate), price, clock)
    return raised_by(problem, relaxed, codes, *searches.chosen)


def raised_by(
    problem: LeastSquares,
    relaxed: Relaxed,
    codes: NDArray[np.int64],
    chosen: MultipliedTree,
    outcome: Outcome,
) -> Found:
    """The better of a relaxation and what the search of a tree proved, and of the codes of both."""
    root = dual_bound(problem, relaxed.certificate)
    codes = better_codes(problem, codes, outcome)
    certificate = chosen.certificate(outcome)
    value = certificate.value
    if not value > max(root, 0.0):
        unraised = Found.by(relaxed, codes, "the search did not raise the bound of the relaxation")
        return replace(unraised, history=outcome.history)
    gain = 10.0 * math.log10(value / root) if root > 0.0 else math.inf
    gained = f" by {gain:.2f} dB" if 0.005 <= gain < math.inf else ""
    search = (
        f"a search of {times(outcome.nodes)} nodes" if outcome.nodes else "a search that ended at its root"
    )
    status = f"{search} raised the bound of the relaxation{gained}"
    return Found(codes, certificate, status, history=outcome.history)


def better_codes(
    problem: LeastSquares, codes: NDArray[np.int64], outcome: Outcome, error: float | None = None
) -> NDArray[np.int64]:
    """What a search found, if that has less error than the codes known before (`error`, where at hand)."""
    if outcome.codes is None or np.array_equal(outcome.codes, codes):
        return codes
    before = problem.error(codes).upper if error is None else error
    return outcome.codes if problem.error(outcome.codes).upper < before else codes
