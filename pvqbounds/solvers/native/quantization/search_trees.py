"""Search trees at multipliers between the box-constrained minimiser's and the SDP's.

At the SDP's own multipliers the root of the tree is the SDP's bound, but S = G - diag(lam) is
nearly singular there, and the search cannot tell its first levels apart; at lam = 0 the search
sees all of G and its root is the bound of the box-constrained minimiser. A mixture of 90 to 95 %
of the former and the rest of the latter gives up a tenth of a decibel at the root and gets back
several times as much from the same nodes. The path with split inequalities (:mod:`.split_dual`) that
a search follows ends where S is far from singular by itself: all of its multipliers prove most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.code_grids import in_codes, unit_of
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.relaxations.splits import NO_SPLITS, Splits
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.solvers.native.quantization.integer_search import Outcome, claim
from pvqbounds.solvers.native.quantization.integer_tree import SearchTree, build_tree

__all__ = [
    "LARGEST_TREE",
    "NO_TREE",
    "Minimiser",
    "MultipliedTree",
    "definite_tree",
    "minimiser_of",
    "mixed_trees",
    "plain_tree",
    "trees_fit",
]

SHARES = {160: (0.6, 0.75, 0.87, 0.95), 400: (0.75, 0.95), 1536: (0.95,)}
"""Shares of the SDP's multipliers that trees are built at, up to so many inputs: large ones pay at many."""

SPLIT_SHARES = (0.8, 0.95, 1.0)
"""The same for multipliers with split inequalities: the first ones find codes, the last proves most."""

BUDGET_SHARES = (0.9, 0.98)
"""The same under a support rule, whose part of the bound only the relaxation's multipliers know."""

BUILD = 4.0
"""Operations that a tree takes, over n³: an inverse, a factorisation and the order of its levels."""

BRIEF = 0.05
"""A tree that is expected to take fewer seconds is built, whatever the time limit."""

LARGEST_TREE = max(SHARES)
"""Inputs above which no tree is built: its inverse and its order cost O(n³) for each channel."""


NO_TREE = "no tree could be built: the numbers lie too far apart"
"""Status where a search cannot begin."""


@dataclass(frozen=True, eq=False)
class MultipliedTree:
    """A search tree and the multipliers that it was built at, in units of the Gram."""

    tree: SearchTree
    lam: NDArray[np.float64]
    nu: NDArray[np.float64]
    splits: Splits
    within: Slabs | None = None
    """Slabs that the weights lie in; None for all weights."""

    def certificate(self, outcome: Outcome) -> SearchCertificate:
        """What a search of this tree proved."""
        return SearchCertificate(self.lam, self.nu, claim(self.tree, outcome), outcome.nodes, self.splits)


@dataclass(frozen=True, eq=False)
class Minimiser:
    """The continuous minimiser between the least and largest values: x in the grid's units, and nu = G d."""

    point: NDArray[np.float64]
    nu: NDArray[np.float64]


def trees_fit(n: int, clock: Clock) -> bool:
    """Whether a tree for n inputs can be built in the time left, or so soon that it does not matter."""
    seconds = BUILD * float(n) ** 3 / FLOPS_A_SECOND
    return n <= LARGEST_TREE and seconds < max(BRIEF, clock.remaining)


def minimiser_of(problem: LeastSquares, clock: Clock | None = None) -> Minimiser:
    """The box-constrained minimiser of a problem and its multipliers at lam = 0."""
    inner = in_codes(problem)
    point = box_minimiser(inner.form, inner.centre, inner.grid.lowest, inner.grid.highest, clock)
    return Minimiser(point, problem.gram @ (inner.grid.unit * (point - inner.centre)))


def plain_tree(problem: LeastSquares, minimiser: Minimiser) -> MultipliedTree | None:
    """Tree around the box-constrained minimiser; a singular Gram borrows curvature from the box.

    lam_i = -e sum_j |G_ij| makes S definite and charges its share of (d_i - s x_i + w_i)² to the
    separable part, exactly: the Gram is not damped. The least e that works is taken. None where numbers
    lie so far apart that the arithmetic of a tree overflows.

    Parameters
    ----------
    problem
        Without dead inputs.
    """
    return definite_tree(problem, np.zeros(problem.n), minimiser.nu, NO_SPLITS, minimiser.point)


def mixed_trees(
    problem: LeastSquares,
    certificate: DualCertificate,
    minimiser: Minimiser,
    shares: Sequence[float] | None = None,
    clock: Clock | None = None,
) -> list[MultipliedTree]:
    """One tree for each share of a relaxation's multipliers, the rest the minimiser's.

    Parameters
    ----------
    problem
        Without dead inputs.
    certificate
        Multipliers of its relaxation, from any backend. Where S is not proved definite at a
        mixture, lam is lowered until it is; a share at which that fails is left out.
    shares
        Those that pay for so many inputs if None.
    clock
        Shares for which it leaves no time are left out.
    """
    if shares is None:
        shares = _shares_for(problem, certificate)
    trees = []
    for share in reversed(shares):  # the last one proves most
        if clock is not None and not trees_fit(problem.n, clock):
            break
        nu = share * certificate.nu + (1.0 - share) * minimiser.nu
        lam, splits = share * certificate.lam, certificate.splits.times(share)
        trees.append(definite_tree(problem, lam, nu, splits, minimiser.point))
    return [tree for tree in reversed(trees) if tree is not None]


def _shares_for(problem: LeastSquares, certificate: DualCertificate) -> tuple[float, ...]:
    """Shares of the multipliers at which trees are worth their building."""
    if problem.n > LARGEST_TREE:
        return ()
    if len(certificate.splits) > 0:
        return SPLIT_SHARES
    if problem.is_restricted:
        return BUDGET_SHARES
    return next(shares for largest, shares in SHARES.items() if problem.n <= largest)


def definite_tree(
    problem: LeastSquares,
    lam: NDArray[np.float64],
    nu: NDArray[np.float64],
    splits: Splits,
    point: NDArray[np.float64],
    within: Slabs | None = None,
) -> MultipliedTree | None:
    """Tree at these multipliers, lam lowered as little as needed; None for multipliers out of all proportion.

    Where lam is lowered, nu moves so that the change counts from `point`, in the grid's units, and not from
    the weights. Of weights within slabs the tree knows no others.
    """
    if not (np.isfinite(lam).all() and np.isfinite(nu).all()):
        return None
    spread = np.abs(problem.gram).sum(axis=1)  # at most so much makes S diagonally dominant at lam <= 0
    unit = unit_of(problem.values)
    offset = unit * (point - problem.weight / unit)
    for exponent in (-np.inf, *range(-15, 2)):
        step = 10.0**exponent * (spread + np.abs(lam))
        lowered, moved = lam - step, nu + step * offset
        tree = build_tree(problem, lowered, moved, splits, within)
        if tree is not None:
            return MultipliedTree(tree, lowered, moved, splits, within)
    return None
