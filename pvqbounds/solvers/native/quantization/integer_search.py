"""Exact least squares over codes: Schnorr-Euchner search on a minorant, with a relaxation's multipliers.

**What is searched.** For any (lam, nu) with S = G - diag(lam) positive definite, let R be a
float64 minorant of S (dᵀSd >= ||Rd||² for all d, :mod:`pvqbounds.arithmetic.definite`) and
d = v - w. For every vector m, and nu := RᵀR m,

    E(v) >= ||R(d - m)||² + sum_i f_i(v_i) - ||R m||²,      f_i(v) = lam_i (v - w_i)² + 2 nu_i (v - w_i).

With h_i = min over the values of f_i, each term of ||R(d - m)||² + sum_i (f_i - h_i) is
non-negative, so that a depth-first search from the last row of R upwards may drop a node once
its partial sum reaches the incumbent. The constant sum_i h_i - ||R m||² is the dual bound of
:mod:`pvqbounds.relaxations.dual`: with the relaxation's multipliers the search starts from its
bound, with lam = 0 and nu = G(x - w) at the minimiser x between the least and the largest values it is the
classic search around x with the gradient's separable costs. A mixture of the two visits least nodes. Split
inequalities (:mod:`pvqbounds.relaxations.splits`) put A in the place of G and nu - p in that of nu
in f, and add kappa to the constant.

The costs of a level are a parabola of its value: where it is convex the values are met in order of their
costs to the left and to the right of where it is least, be they steps or levels of any spacing; where it is
concave, from the ends in. Under a support rule 0 is a third one that is pending, and tolls (:mod:`.tolls`)
are added to the costs: what the zeros that must still come will cost at least.

**What is proved.** Let theta be a threshold such that every leaf lies below a node whose partial
sum, as computed, is at least theta. Rounding moves each component of R(d - m) by at most
gamma_{n+8} sum_j |R_ij| B_j, where B_j bounds |v - x_j| + 2|x_j| over the values (in units of the grid), and
f_i by at most phi_i; with eps the norm of the former and Phi the sum of the latter

    E(v) >= sum_i h_i + tolls - ||R m||² - Phi + theta' - 2 eps sqrt(theta'),
    theta' = theta (1 - gamma_{2n+8}).

Each f_i counts once, in a cost where its level is fixed, else in h_i or in a toll, and the changes of the
tolls along a path add up without rounding: phi_i covers the roundings of f_i(0) - h_i + (a change) as well.

Sources: Schnorr and Euchner, Math. Programming 66, 1994; Agrell, Eriksson, Vardy, Zeger, IEEE
Trans. Inform. Theory 48, 2002; the separable costs at the box and the tolls are this project's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import TINY, UNIT, down
from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.results.history import Moment
from pvqbounds.solvers.native.quantization import integer_kernel
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.solvers.native.quantization.integer_tree import SearchTree, build_tree

__all__ = [
    "Outcome",
    "SearchRun",
    "claim",
    "goal_of",
    "in_problem_order",
    "k_best",
    "prove",
    "quick_search",
]

NODES_A_SLICE = 1_000_000
"""Nodes between two looks at the clock (about 40 ms)."""

CHILDREN = 3
"""Codes that each node of the K-best search offers."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search found and proved."""

    codes: NDArray[np.int64] | None
    """Codes of the best leaf below the first threshold, in the problem's order; None if none."""
    threshold: float
    """Every leaf lies below a node whose partial sum is at least this."""
    nodes: int
    exhausted: bool
    history: tuple[Moment, ...] = ()
    """What was known on the way."""


class SearchRun:
    """One depth-first run over a tree with one threshold; can be advanced in slices."""

    def __init__(self, tree: SearchTree, threshold: float) -> None:
        n = tree.n
        self._tree = tree
        self._path = np.zeros(n + 1, integer_kernel.STEP)
        self._path["stale"] = n - 1
        self._sums = np.zeros((n, n + 1))
        self._leaf = np.zeros(n)
        self._level = -n  # level n - 1, entered afresh
        self.best = threshold
        self.found = False
        self.nodes = 0

    def advance(self, budget: int) -> bool:
        """Visit up to `budget` nodes; True when the tree is exhausted."""
        self._level, self.best, found, nodes = integer_kernel.advance(
            *self._tree.compiled, self._path, self._sums, self._leaf, self._level, self.best, budget
        )
        self.found |= found
        self.nodes += nodes
        return bool(self._level == self._tree.n)

    @property
    def codes(self) -> NDArray[np.int64] | None:
        """Best leaf, in the problem's order."""
        return in_problem_order(self._tree, self._leaf) if self.found else None

    @property
    def open_threshold(self) -> float:
        """Least partial sum over the nodes not yet visited, and the best leaf's."""
        n, level, path = self._tree.n, self._level, self._path
        if level == n:
            return float(self.best)
        deepest = level
        least = float(self.best)
        if level < 0:  # about to be entered: its parent's partial sum is all that is known
            deepest = -level
            least = min(least, float(path["partial"][deepest]))
        parents, entered = path["partial"][deepest + 1 :], path[deepest:n]
        scanning = entered["mode"] == integer_kernel.SCAN  # what is pending there may not be the least
        pending = np.minimum(entered["left_cost"], entered["right_cost"])
        if self._tree.tolls is not None:
            pending = np.minimum(pending, entered["zero_cost"])
        return float((parents + np.where(scanning, 0.0, pending)).min(initial=least))


def in_problem_order(tree: SearchTree, leaf: NDArray[np.float64]) -> NDArray[np.int64]:
    """The codes of a leaf in the problem's order."""
    codes = np.zeros(tree.n, dtype=np.int64)
    codes[tree.order] = leaf.astype(np.int64)
    return codes


def k_best(tree: SearchTree, width: int) -> NDArray[np.int64]:
    """Good codes by breadth-first search that keeps `width` nodes a level; width 1 is nearest plane.

    Source: the K-best decoder, Guo and Nilsson, IEEE J. Sel. Areas Commun. 24, 2006.
    """
    children = CHILDREN if tree.tolls is None else CHILDREN + 1
    path = np.zeros(tree.n + 1, integer_kernel.STEP)
    values = integer_kernel.beam(*tree.compiled, path, width, children)
    return in_problem_order(tree, tree.grid.nearest(values))


def quick_search(tree: SearchTree, incumbent_error: float) -> Outcome:
    """One slice of the search: it proves most problems of 36 inputs in a millisecond."""
    run = SearchRun(tree, goal_of(tree, incumbent_error))
    exhausted = run.advance(NODES_A_SLICE)
    return Outcome(run.codes, run.open_threshold, run.nodes, exhausted)


def goal_of(tree: SearchTree, incumbent_error: float) -> float:
    """A threshold a hair above the incumbent, so that its own leaf is not lost to rounding."""
    return max((incumbent_error - tree.root) * (1.0 + 1e-9), 0.0) + TINY


def claim(tree: SearchTree, outcome: Outcome) -> float:
    """The bound to state: a hair under what the search proved, so that a proof can repeat it.

    A tree built elsewhere has another factor, even another order: at every leaf its costs add up to
    the same error within rounding, and the leaves that matter lie near the target.
    """
    threshold = outcome.threshold * (1.0 - 1e-12)
    proved = tree.bound_at(threshold)
    doubt = tree.slack + 4.0 * tree.slack_blur * math.sqrt(max(threshold, 0.0))
    return down(proved - doubt - 16.0 * UNIT * max(abs(tree.root), abs(proved)))


def prove(
    problem: LeastSquares, certificate: SearchCertificate, clock: Clock, within: Slabs | None = None
) -> bool:
    """Whether the search, repeated at the certificate's multipliers, proves its value in time.

    Parameters
    ----------
    within
        Slabs that the weights lie in; None for all weights.
    """
    live = problem.shared.live
    if not certificate.fits(problem):
        return False
    if not live.any():
        return certificate.value <= 0.0
    splits = certificate.splits.among(live)
    slabs = None if within is None else within.among(live)
    tree = build_tree(problem.among(live), certificate.lam[live], certificate.nu[live], splits, slabs)
    if tree is None or not math.isfinite(certificate.value):
        return False
    threshold = tree.threshold_for(certificate.value)
    if threshold <= 0.0:
        return True
    if not math.isfinite(threshold):
        return False
    run = SearchRun(tree, threshold)
    while not run.advance(NODES_A_SLICE):
        if run.found or clock.expired or run.nodes > 2 * certificate.nodes + NODES_A_SLICE:
            return False
    return not run.found
