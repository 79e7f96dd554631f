"""Exact IntegerLeastSquares: Schnorr-Euchner search on a minorant, with the SDP's multipliers.

**What is searched.** For any (lam, nu) with S = G - diag(lam) positive definite, let R be a
float64 minorant of S (dᵀSd >= ||Rd||² for all d, :mod:`pvqbounds.arithmetic.definite`) and
d = s z - w. For every vector m, and nu := RᵀR m,

    E(z) >= ||R(d - m)||² + sum_i f_i(z_i) - ||R m||²,      f_i(k) = lam_i d_i² + 2 nu_i d_i.

With h_i = min over the box of f_i, each term of ||R(d - m)||² + sum_i (f_i - h_i) is
non-negative, so that a depth-first search from the last row of R upwards may drop a node once
its partial sum reaches the incumbent. The constant sum_i h_i - ||R m||² is the dual bound of
:mod:`pvqbounds.relaxations.dual`: with the SDP's multipliers the search starts from the
SDP's bound, with lam = 0 and nu = G(x - w) at the box-constrained minimiser x it is the classic
search around x with the gradient's separable costs. A mixture of the two visits least nodes. Split
inequalities (:mod:`pvqbounds.relaxations.splits`) put A in the place of G and nu - p in that of nu
in f, and add kappa to the constant.

**What is proved.** Let theta be a threshold such that every leaf lies below a node whose partial
sum, as computed, is at least theta. Rounding moves each component of R(d - m) by at most
gamma_{n+8} sum_j |R_ij| B_j, where B_j bounds |k - x_j| + 2|x_j| over the box (in steps), and
f_i by at most phi_i; with eps the norm of the former and Phi the sum of the latter

    E(z) >= sum_i h_i - ||R m||² - Phi + theta' - 2 eps sqrt(theta'),   theta' = theta (1 - gamma_{2n+8}).

Sources: Schnorr and Euchner, Math. Programming 66, 1994; Agrell, Eriksson, Vardy, Zeger, IEEE
Trans. Inform. Theory 48, 2002; the separable costs at the box are this project's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import minorant, proof_margin
from pvqbounds.arithmetic.enclosures import TINY, UNIT, down, gamma, total, up
from pvqbounds.clock import Clock
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.splits import NO_SPLITS, Splits, error_minorant
from pvqbounds.solvers.native.quantization import integer_kernel
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate

__all__ = [
    "Outcome",
    "Run",
    "SearchTree",
    "build_tree",
    "claim",
    "expected_nodes",
    "goal_of",
    "k_best",
    "live_inputs",
    "prove",
    "quick_search",
    "without_dead_inputs",
]

NODES_A_SLICE = 1_000_000
"""Nodes between two looks at the clock (about 40 ms)."""

CHILDREN = 3
"""Codes that each node of the K-best search offers."""


@dataclass(frozen=True, eq=False)
class SearchTree:
    """All that the search and its proof need, in search order and in units of the step."""

    factor: NDArray[np.float64]
    """s R, upper triangular, shape (n, n)."""
    target: NDArray[np.float64]
    """x = (w + m)/s, shape (n,): the point that the quadratic part is centred on."""
    centre: NDArray[np.float64]
    lam: NDArray[np.float64]
    nu: NDArray[np.float64]
    floor: NDArray[np.float64]
    """h, shape (n,)."""
    order: NDArray[np.int64]
    """Input of each level; level n - 1 is fixed first."""
    qmin: NDArray[np.float64]
    """Smallest code of each level, shape (n,)."""
    qmax: NDArray[np.float64]
    """Largest code of each level, shape (n,)."""
    root: float
    """Proved bound on E before any search (rounded down): sum h - ||R m||² - Phi."""
    blur: float
    """eps, an upper bound."""
    slack: float
    """How much less the costs of a leaf near the target may prove in a tree with other roundings."""
    slack_blur: float
    """What its eps is there, for codes next to the target."""

    @property
    def n(self) -> int:
        """Number of levels."""
        return len(self.order)

    def bound_at(self, threshold: float) -> float:
        """What is proved on E once no node with a partial sum below `threshold` is left."""
        if threshold <= 0.0:
            return self.root
        reduced = down(threshold * (1.0 - gamma(2 * self.n + 8)))
        loss = up(2.0 * self.blur * up(math.sqrt(reduced)), 2)
        return max(self.root, down(self.root + down(reduced - loss)))

    def threshold_for(self, value: float) -> float:
        """A threshold, as small as rounding allows, at which `value` is proved; inf if none is found."""
        threshold = max(0.0, value - self.root)
        step = max(threshold * UNIT, TINY)
        for _ in range(100):
            shortfall = value - self.bound_at(threshold)
            if shortfall <= 0.0:
                return threshold
            # the first step makes good the loss at this threshold, the next ones its rounding
            threshold += max(shortfall, step)
            step *= 2.0
        return math.inf


@np.errstate(over="ignore", invalid="ignore")  # a tree whose arithmetic overflows is refused at the end
def build_tree(
    problem: IntegerLeastSquares,
    lam: NDArray[np.float64],
    nu: NDArray[np.float64],
    splits: Splits = NO_SPLITS,
) -> SearchTree | None:
    """The search tree at these multipliers (units of the Gram), or None where S is not proved definite.

    Parameters
    ----------
    problem
        Without dead inputs: every diagonal entry of S must be positive.
    lam, nu
        Shape (n,) each.
    """
    n = problem.n
    form = error_minorant(problem, splits)
    matrix = form.matrix.copy()
    diagonal = np.diag_indices(n)
    matrix[diagonal] -= lam
    exact_lam = np.diagonal(form.matrix) - matrix[diagonal]  # exact up to one rounding
    # variances are compared in codes: of P = diag(s) S diag(s)
    order = _search_order(matrix if problem.is_uniform else matrix * problem.step[:, None] * problem.step)
    if order is None:
        return None
    factor = minorant(matrix[np.ix_(order, order)])
    if factor is None:
        return None
    form, weight, lam, nu = form.among(order), problem.weight[order], exact_lam[order], nu[order]

    # m is *defined* by the float64 vector w + m
    middle = weight + _solve_normal(factor, nu)
    shift = middle - weight
    image = factor @ shift
    pull = factor.T @ image  # nu := RᵀR m
    size = np.abs(factor) @ np.abs(shift)
    pull_error = gamma(2 * n + 8) * (np.abs(factor).T @ size)
    image_norm = up(float(np.sum((np.abs(image) + gamma(n + 4) * size) ** 2)) * (1.0 + gamma(n + 4)), 2)

    # in units of the steps
    scale, low, high = problem.step[order], problem.low[order], problem.high[order]
    centre, target = weight / scale, middle / scale
    linear, radius = form.separable_linear(pull)
    step_lam, step_nu = lam * scale * scale, linear * scale
    floor = _separable_floor(centre, step_lam, step_nu, low, high)
    reach = np.maximum(np.abs(low - centre), np.abs(high - centre)) + np.abs(centre) + 1.0
    phi = 32.0 * UNIT * (np.abs(step_lam) * reach + 2.0 * np.abs(step_nu)) * reach
    phi += 2.0 * scale * (pull_error + radius) * reach
    root = down(down(total(floor.tolist())) - up(image_norm))
    root = down(down(root - up(total(phi.tolist())) - TINY, 2) + form.constant)
    # the same for codes next to the target, where those of nearly least error are, and by how much
    # ||R d||² falls short of dᵀSd there
    near = np.abs(target - centre) + 1.0
    costs = 32.0 * UNIT * (np.abs(step_lam) @ near**2 + 2.0 * np.abs(step_nu) @ near)
    costs += 2.0 * (scale * (pull_error + radius)) @ near
    short = 2.0 * proof_margin(n) * np.diagonal(matrix)[order] @ (scale * near) ** 2
    slack = 2.0 * float(costs + short)

    factor = factor * scale
    spread = np.maximum(np.abs(low - target), np.abs(high - target)) + 2.0 * np.abs(target) + 1.0
    rounding = gamma(n + 16) * (np.abs(factor) @ spread)
    blur = up(math.sqrt(float(rounding @ rounding)) * (1.0 + gamma(n + 4)), 2)
    beside = gamma(n + 16) * (np.abs(factor) @ (2.0 * np.abs(target) + 3.0))
    slack_blur = math.sqrt(float(beside @ beside))
    if not all(np.isfinite(part).all() for part in (factor, target, step_nu, floor, root, blur)):
        return None  # multipliers at which the arithmetic overflows
    return SearchTree(
        factor,
        target,
        centre,
        step_lam,
        step_nu,
        floor,
        order,
        low,
        high,
        root,
        blur,
        slack,
        slack_blur,
    )


def _search_order(matrix: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Greedy order: the last level is the input of least conditional variance, and so on up.

    The variance of input i given the ones already fixed is the diagonal of the inverse of the
    rest: the best determined input is fixed first.
    """
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    order: NDArray[np.int64] = integer_kernel.greedy_order(inverse)
    return order


def _solve_normal(factor: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Approximate solution of RᵀR m = `vector`."""
    from scipy.linalg import solve_triangular

    half = solve_triangular(factor, vector, trans=1, check_finite=False)
    solution: NDArray[np.float64] = solve_triangular(factor, half, check_finite=False)
    return solution


def _separable_floor(
    centre: NDArray[np.float64],
    lam: NDArray[np.float64],
    nu: NDArray[np.float64],
    qmin: NDArray[np.float64],
    qmax: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Least value, as computed by the kernel's formula, of lam u² + 2 nu u over codes, u = k - c."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        stationary = np.where(lam > 0.0, centre - nu / lam, 0.0)
    middle = np.floor(np.clip(np.nan_to_num(stationary, posinf=np.inf, neginf=-np.inf), qmin, qmax))
    near = np.clip(middle[:, None] + np.array([-1.0, 0.0, 1.0, 2.0]), qmin[:, None], qmax[:, None])
    u = np.hstack([near, qmin[:, None], qmax[:, None]]) - centre[:, None]
    return np.asarray(((lam[:, None] * u + 2.0 * nu[:, None]) * u).min(axis=1), dtype=np.float64)


def expected_nodes(tree: SearchTree, error: float) -> float:
    """Rough count of the nodes below `error`: the volume heuristic, level by level.

    The number of codes of the k levels fixed first that lie in the ball of squared radius
    rho = error - root is about pi^(k/2) rho^(k/2) / Gamma(k/2 + 1) over the product of the
    pivots, whose curvature includes a convex separable cost; the box caps it. On Grams of trained
    layers it is within a factor of thirty of the truth, mostly above it.
    """
    pivots = np.diagonal(tree.factor)[::-1] ** 2 + np.maximum(tree.lam[::-1], 0.0)
    k = np.arange(1, tree.n + 1)
    radius = max(error - tree.root, TINY)
    volume = 0.5 * k * math.log(math.pi * radius) - _log_gammas(tree.n) - 0.5 * np.cumsum(np.log(pivots))
    box = np.cumsum(np.log(tree.qmax - tree.qmin + 1.0)[::-1])
    return float(np.exp(np.minimum(np.minimum(volume, box), 600.0)).sum())


@cache
def _log_gammas(n: int) -> NDArray[np.float64]:
    """log Gamma(k/2 + 1) for k = 1 to n."""
    return np.array([math.lgamma(k / 2.0 + 1.0) for k in range(1, n + 1)])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search found and proved."""

    codes: NDArray[np.int64] | None
    """Codes of the best leaf below the first threshold, in the problem's order; None if none."""
    threshold: float
    """Every leaf lies below a node whose partial sum is at least this."""
    nodes: int
    exhausted: bool


class Run:
    """One depth-first run over a tree with one threshold; can be advanced in slices."""

    def __init__(self, tree: SearchTree, threshold: float) -> None:
        n = tree.n
        self._tree = tree
        self._path = [np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, np.inf), np.full(n, np.inf)]
        self._mode = np.zeros(n, dtype=np.int64)
        self._partial, self._offsets, self._sums = np.zeros(n + 1), np.zeros(n), np.zeros((n, n + 1))
        self._stale = np.full(n, n - 1)
        self._level = -n  # level n - 1, entered afresh
        self._best_codes = np.zeros(n)
        self.best = threshold
        self.found = False
        self.nodes = 0

    def advance(self, budget: int) -> bool:
        """Visit up to `budget` nodes; True when the tree is exhausted."""
        tree = self._tree
        self._level, self.best, found, nodes = integer_kernel.advance(
            tree.factor, tree.target, tree.centre, tree.lam, tree.nu, tree.floor,
            tree.qmin, tree.qmax,
            *self._path, self._mode, self._partial, self._offsets, self._sums, self._stale,
            self._level, self.best, self._best_codes, budget,
        )  # fmt: skip
        self.found |= found
        self.nodes += nodes
        return bool(self._level == tree.n)

    @property
    def codes(self) -> NDArray[np.int64] | None:
        """Best leaf, in the problem's order."""
        if not self.found:
            return None
        codes = np.zeros(self._tree.n, dtype=np.int64)
        codes[self._tree.order] = self._best_codes.astype(np.int64)
        return codes

    @property
    def open_threshold(self) -> float:
        """Least partial sum over the nodes not yet visited, and the best leaf's."""
        n, level = self._tree.n, self._level
        if level == n:
            return float(self.best)
        least = float(self.best)
        deepest = level if level >= 0 else -1 - level
        if level < 0:  # about to be entered: its parent's partial sum is all that is known
            least = min(least, float(self._partial[deepest + 1]))
            deepest += 1
        left_cost, right_cost = self._path[3], self._path[4]
        for i in range(deepest, n):
            if self._mode[i] == integer_kernel.SCAN:
                least = min(least, float(self._partial[i + 1]))
            pending = min(left_cost[i], right_cost[i])
            least = min(least, float(self._partial[i + 1] + pending))
        return least


def k_best(tree: SearchTree, width: int) -> NDArray[np.int64]:
    """Good codes by breadth-first search that keeps `width` nodes a level; width 1 is nearest plane.

    Source: the K-best decoder, Guo and Nilsson, IEEE J. Sel. Areas Commun. 24, 2006.
    """
    leaf = integer_kernel.beam(
        tree.factor, tree.target, tree.centre, tree.lam, tree.nu, tree.floor,
        tree.qmin, tree.qmax, width, CHILDREN,
    )  # fmt: skip
    codes = np.zeros(tree.n, dtype=np.int64)
    codes[tree.order] = leaf.astype(np.int64)
    return codes


def quick_search(tree: SearchTree, incumbent_error: float) -> Outcome:
    """One slice of the search: it proves most problems of 36 inputs in a millisecond."""
    run = Run(tree, goal_of(tree, incumbent_error))
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


def prove(problem: IntegerLeastSquares, certificate: SearchCertificate, clock: Clock) -> bool:
    """Whether the search, repeated at the certificate's multipliers, proves its value in time."""
    live = live_inputs(problem)
    if not certificate.fits(problem):
        return False
    if not live.any():
        return certificate.value <= 0.0
    splits = certificate.splits.among(live)
    tree = build_tree(without_dead_inputs(problem, live), certificate.lam[live], certificate.nu[live], splits)
    if tree is None or not math.isfinite(certificate.value):
        return False
    threshold = tree.threshold_for(certificate.value)
    if threshold <= 0.0:
        return True
    if not math.isfinite(threshold):
        return False
    run = Run(tree, threshold)
    while not run.advance(NODES_A_SLICE):
        if run.found or clock.expired or run.nodes > 2 * certificate.nodes + NODES_A_SLICE:
            return False
    return not run.found


def live_inputs(problem: IntegerLeastSquares) -> NDArray[np.bool_]:
    """Mask of the inputs that are not always zero, shape (n,)."""
    return np.asarray(problem.gram.any(axis=1), dtype=np.bool_)


def without_dead_inputs(problem: IntegerLeastSquares, live: NDArray[np.bool_]) -> IntegerLeastSquares:
    """The problem over the inputs that are not always zero; the others add nothing to E."""
    return problem.among(live)
