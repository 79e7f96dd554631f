"""Exact quantization of one channel: what is cheap first, the SDP's multipliers where it is not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.certificates import BoxHullCertificate, SearchCertificate, box_hull_bound
from pvqbounds.relaxations.rounding import gaussian_starts, improve
from pvqbounds.solvers.base import Clock, ExactSolution, Options
from pvqbounds.solvers.native.box_hull_engine import solve_sdp
from pvqbounds.solvers.native.integer_search import (
    Outcome,
    SearchTree,
    build_tree,
    claim,
    expected_nodes,
    k_best,
    live_inputs,
    quick_search,
    staged_search,
    without_dead_inputs,
)
from pvqbounds.solvers.relaxation import Relaxed, relax

__all__ = ["best_known_codes", "solve_integer"]

MIXTURES = (0.5, 0.7, 0.8, 0.9)
"""Fractions of the SDP's multipliers that are tried; the tree of fewest expected nodes is searched."""

NODES_A_SECOND = 1e7
"""Speed of the search, rounded down, against which a time limit is held."""

STARTS = 30
"""Random starts of the local search."""

WIDTH = 500
"""Width of the K-best search."""


def solve_integer(problem: IntegerLeastSquares, options: Options) -> ExactSolution:
    """Least error over the grid, or the best interval that the time limit allows.

    With ``options.only_if_it_finishes`` a search that is expected to outlast the time limit is not
    begun; the SDP's certificate is given instead.
    """
    clock = Clock(options.time_limit, options.cancelled)
    live = live_inputs(problem)
    codes = problem.codes_of_nearest()
    if not live.any():
        zero = np.zeros(problem.n)
        return ExactSolution(codes, None, 0.0, BoxHullCertificate(zero, zero), "every input is zero")
    inner = without_dead_inputs(problem, live)
    if options.relaxed is not None:
        options = replace(options, relaxed=_inside(options.relaxed, live))
    inner_codes, certificate, status = _solve_live(inner, clock, options)
    codes[live] = inner_codes
    return ExactSolution(codes, None, None, _spread(certificate, live), status)


def _solve_live(
    problem: IntegerLeastSquares, clock: Clock, options: Options
) -> tuple[NDArray[np.int64], BoxHullCertificate | SearchCertificate, str]:
    minimiser = box_minimiser(problem.gram, problem.centre, problem.qmin, problem.qmax)
    gradient = problem.scale * (problem.gram @ (minimiser - problem.centre))
    centre_starts = np.vstack([problem.centre, minimiser])
    codes = improve(problem, centre_starts)
    tree, lam = _plain_tree(problem, gradient)
    outcome = quick_search(tree, problem.error(codes).upper)
    if outcome.exhausted:
        codes = _better(problem, codes, outcome)
        return codes, SearchCertificate(lam, gradient, claim(tree, outcome), outcome.nodes), "optimal"

    relaxed = options.relaxed or relax(problem, "box-hull", lambda sdp: solve_sdp(sdp, clock))
    trees = [_Multiplied(tree, lam, gradient), *_mixtures(problem, relaxed.certificate, gradient)]
    codes = _better(problem, codes, outcome, _good_codes(problem, relaxed, trees, options.seed))
    error = problem.error(codes).upper
    chosen = min(trees, key=lambda candidate: expected_nodes(candidate.tree, error))
    nodes = expected_nodes(chosen.tree, error)
    if options.only_if_it_finishes and nodes > NODES_A_SECOND * clock.remaining:
        return codes, relaxed.certificate, f"not searched: about {nodes:.0e} nodes expected"
    outcome = staged_search(chosen.tree, error, clock)
    codes = _better(problem, codes, outcome)
    certificate = SearchCertificate(chosen.lam, chosen.nu, claim(chosen.tree, outcome), outcome.nodes)
    if outcome.exhausted:
        return codes, certificate, "optimal"
    if box_hull_bound(problem, relaxed.certificate) > certificate.value:
        return codes, relaxed.certificate, "time limit"
    return codes, certificate, "time limit"


@dataclass(frozen=True, eq=False)
class _Multiplied:
    """A search tree and the multipliers that it was built at, in units of the Gram."""

    tree: SearchTree
    lam: NDArray[np.float64]
    nu: NDArray[np.float64]


def _mixtures(
    problem: IntegerLeastSquares, certificate: BoxHullCertificate, gradient: NDArray[np.float64]
) -> list[_Multiplied]:
    """Trees between the box-constrained minimiser's multipliers and the SDP's."""
    trees = []
    for share in MIXTURES:
        lam = share * certificate.lam
        nu = share * certificate.nu + (1.0 - share) * gradient
        tree = build_tree(problem, lam, nu)
        if tree is not None:
            trees.append(_Multiplied(tree, lam, nu))
    return trees


def best_known_codes(problem: IntegerLeastSquares, relaxed: Relaxed, seed: int) -> NDArray[np.int64]:
    """Good codes around a relaxation: randomized rounding, K-best search, then moves of one and two codes.

    Parameters
    ----------
    relaxed
        A relaxation of the problem, from any backend.
    seed
        Seed of the random starts.
    """
    live = live_inputs(problem)
    codes = problem.codes_of_nearest()
    if live.any():
        inner = without_dead_inputs(problem, live)
        inside = _inside(relaxed, live)
        certificate = inside.certificate
        minimiser = box_minimiser(inner.gram, inner.centre, inner.qmin, inner.qmax)
        gradient = inner.scale * (inner.gram @ (minimiser - inner.centre))
        tree, lam = _plain_tree(inner, gradient)
        trees = [_Multiplied(tree, lam, gradient), *_mixtures(inner, certificate, gradient)]
        codes[live] = _good_codes(inner, inside, trees, seed)
    return codes


def _inside(relaxed: Relaxed, live: NDArray[np.bool_]) -> Relaxed:
    """The relaxation over the live inputs."""
    if live.all():
        return relaxed
    certificate = BoxHullCertificate(relaxed.certificate.lam[live], relaxed.certificate.nu[live])
    covariance = relaxed.covariance[np.ix_(live, live)]
    return replace(relaxed, certificate=certificate, mean=relaxed.mean[live], covariance=covariance)


def _good_codes(
    problem: IntegerLeastSquares, relaxed: Relaxed, trees: list[_Multiplied], seed: int
) -> NDArray[np.int64]:
    starts = gaussian_starts(relaxed.mean, relaxed.covariance, STARTS, seed)
    searched = np.array([k_best(candidate.tree, WIDTH) for candidate in trees], dtype=np.float64)
    return improve(problem, np.vstack([starts, searched]))


def _plain_tree(
    problem: IntegerLeastSquares, gradient: NDArray[np.float64]
) -> tuple[SearchTree, NDArray[np.float64]]:
    """Tree around the box-constrained minimiser; a singular Gram borrows curvature from the box.

    lam_i = -e sum_j |G_ij| makes S definite and charges its share of d_i² to the separable part,
    exactly: the Gram is not damped. The least e that works is taken.
    """
    spread = np.abs(problem.gram).sum(axis=1)  # at most so much makes S diagonally dominant
    for exponent in (-np.inf, *range(-15, 2)):
        lam = -(10.0**exponent) * spread
        tree = build_tree(problem, lam, gradient)
        if tree is not None:
            return tree, lam
    raise AssertionError("a diagonally dominant matrix is positive definite")


def _better(
    problem: IntegerLeastSquares,
    codes: NDArray[np.int64],
    outcome: Outcome,
    *others: NDArray[np.int64],
) -> NDArray[np.int64]:
    found = [codes, *others] if outcome.codes is None else [outcome.codes, codes, *others]
    return min(found, key=lambda z: problem.error(z).upper)


def _spread(
    certificate: BoxHullCertificate | SearchCertificate, live: NDArray[np.bool_]
) -> BoxHullCertificate | SearchCertificate:
    """The certificate with zero multipliers for the inputs that were left out."""
    lam, nu = np.zeros(len(live)), np.zeros(len(live))
    lam[live], nu[live] = certificate.lam, certificate.nu
    return replace(certificate, lam=lam, nu=nu)
