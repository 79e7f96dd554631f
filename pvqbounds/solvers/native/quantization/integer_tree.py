"""The search tree of a problem at given multipliers; the mathematics is in :mod:`.integer_search`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.definite import minorant, proof_margin
from pvqbounds.arithmetic.enclosures import TINY, UNIT, down, gamma, total, up
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.code_grids import CodeGrid, grid_of
from pvqbounds.problems.supports import Budget
from pvqbounds.relaxations.minorant import error_minorant
from pvqbounds.relaxations.slabs import Slabs
from pvqbounds.relaxations.splits import NO_SPLITS, Splits
from pvqbounds.solvers.native.quantization import integer_kernel
from pvqbounds.solvers.native.quantization.tolls import Tolls, tolls_of

__all__ = ["SearchTree", "build_tree", "expected_nodes"]

Array = NDArray[np.float64]

RIDGE = 1e-9
"""Share of its diagonal that is added to the form where an order is taken from it, which may be singular."""


UNDERFLOW = 2.0**-1070
"""Some times what a product that underflows is off by: in units of a small step lam s² and s R may."""


@dataclass(frozen=True, eq=False)
class SearchTree:
    """All that the search and its proof need, in search order and in units of the grid."""

    factor: Array
    """R times the units, upper triangular, shape (n, n)."""
    target: Array
    """x = w + m, shape (n,): the point that the quadratic part is centred on."""
    centre: Array
    lam: Array
    nu: Array
    floor: Array
    """h, shape (n,)."""
    order: NDArray[np.int64]
    """Input of each level; level n - 1 is fixed first."""
    grid: CodeGrid
    """The values of each level."""
    tolls: Tolls | None
    """What the support rule adds; None where all weights may be non-zero."""
    root: float
    """Proved bound on E before any search (rounded down): sum h - ||R m||² - Phi, and the tolls."""
    blur: float
    """eps, an upper bound."""
    slack: float
    """How much less the costs of a leaf near the target may prove in a tree with other roundings."""
    slack_blur: float
    """What its eps is there, for values next to the target."""

    @property
    def n(self) -> int:
        """Number of levels."""
        return len(self.order)

    @cached_property
    def levels(self) -> NDArray[np.void]:
        """The constants of each level as the compiled searches read them, shape (n,)."""
        levels = np.zeros(self.n, integer_kernel.LEVEL)
        for name in ("target", "centre", "lam", "nu", "floor"):
            levels[name] = getattr(self, name)
        for name in ("low", "high", "zero", "gap"):
            levels[name] = getattr(self.grid, name)
        levels["reach"] = np.maximum(np.abs(self.grid.lowest), np.abs(self.grid.highest))
        if self.tolls is not None:
            levels["above"] = self.tolls.above
        integer_kernel.prepare(self.factor, levels)
        return levels

    @property
    def compiled(self) -> tuple[Array, NDArray[np.void], Array | None, Array | None]:
        """The arguments of the compiled searches that say what is searched."""
        tolls = None if self.tolls is None else self.tolls.changes
        return self.factor, self.levels, self.grid.table, tolls

    def bound_at(self, threshold: float) -> float:
        """What is proved on E once no node with a partial sum below `threshold` is left."""
        if threshold <= 0.0:
            return self.root
        reduced = down(threshold * (1.0 - gamma(2 * self.n + 8)))
        loss = up(2.0 * self.blur * up(math.sqrt(reduced)), 2)
        return max(self.root, down(self.root + down(reduced - loss)))

    def threshold_for(self, value: float) -> float:
        """A threshold, as small as rounding allows, at which `value` is proved; inf if none is found."""
        if value <= self.root:
            return 0.0
        # where the bound reaches the value but for roundings: a quadratic equation in the threshold's root
        root = self.blur + math.sqrt(self.blur * self.blur + value - self.root)
        below, threshold = 0.0, (1.0 - 4.0 * UNIT) * root * root / (1.0 - gamma(2 * self.n + 8))
        step = max(UNIT * max(threshold, abs(value)), TINY)
        for _ in range(100):
            shortfall = value - self.bound_at(threshold)
            if shortfall <= 0.0:
                return self._least_between(below, threshold, value)
            below, threshold = threshold, threshold + max(shortfall, step)
            step *= 2.0
        return math.inf

    def _least_between(self, below: float, enough: float, value: float) -> float:
        """About the least threshold that proves a value, above one that does not and up to one that does."""
        for _ in range(60):
            middle = 0.5 * (below + enough)
            if enough - below <= 4.0 * UNIT * enough:
                break
            below, enough = (below, middle) if self.bound_at(middle) >= value else (middle, enough)
        return enough


@np.errstate(divide="ignore", over="ignore", invalid="ignore")  # a tree that overflows is refused at the end
def build_tree(
    problem: LeastSquares, lam: Array, nu: Array, splits: Splits = NO_SPLITS, within: Slabs | None = None
) -> SearchTree | None:
    """The search tree at these multipliers (units of the Gram), or None where S is not proved definite.

    Parameters
    ----------
    problem
        Whose values have a grid, without dead inputs: every diagonal entry of S must be positive.
    lam, nu
        Shape (n,) each.
    within
        Slabs that the weights lie in; None for all weights.
    """
    n, grid = problem.n, grid_of(problem.values)
    form = error_minorant(problem, splits, within)
    matrix = form.matrix.copy()
    diagonal = np.diag_indices(n)
    matrix[diagonal] -= lam
    exact_lam = np.diagonal(form.matrix) - matrix[diagonal]  # exact up to one rounding
    order = _search_order(matrix, form.matrix, grid.unit * grid.spacing, problem.budgets)
    if order is None:
        return None
    factor = minorant(matrix[np.ix_(order, order)])
    if factor is None:
        return None
    form, weight, lam, nu = form.among(order), problem.weight[order], exact_lam[order], nu[order]
    grid = grid.among(order)

    middle, pull, pull_error, image_norm = _middle_of(factor, weight, nu)

    # in units of the grid
    scale, low, high = grid.unit, grid.lowest, grid.highest
    centre, target = weight / scale, middle / scale
    linear, radius = form.separable_linear(pull)
    step_lam, step_nu = lam * scale * scale, linear * scale
    floor = _separable_floor(centre, step_lam, step_nu, grid)
    reach = np.maximum(np.abs(low - centre), np.abs(high - centre)) + np.abs(centre) + grid.spacing
    phi = 32.0 * UNIT * (np.abs(step_lam) * reach + 2.0 * np.abs(step_nu)) * reach
    phi += 2.0 * scale * (pull_error + radius) * reach
    phi += UNDERFLOW * (1.0 + scale) * (1.0 + reach) * (1.0 + reach)
    root = down(down(total(floor.tolist())) - up(image_norm))
    root = down(down(root - up(total(phi.tolist())) - TINY, 2) + form.constant)
    near = np.abs(target - centre) + grid.spacing_at(target)
    if problem.is_restricted:
        near = np.maximum(near, np.abs(centre))  # and for zeros
    loose, own = scale * (pull_error + radius), np.diagonal(matrix)[order]
    slack = _slack(near, scale * near, step_lam, step_nu, loose, own)

    factor = factor * scale
    blur, slack_blur = _blurs(factor, target, grid)
    # what is not finite is in no sum that is
    if not math.isfinite(factor.sum() + target.sum() + step_nu.sum() + floor.sum() + root + blur):
        return None  # multipliers at which the arithmetic overflows
    tolls = None
    if problem.is_restricted:
        zero = (step_lam * centre - 2.0 * step_nu) * centre - floor  # as the search finds it at u = -c
        if not np.isfinite(zero).all():
            return None
        tolls = tolls_of(problem.budgets, order, np.maximum(zero, 0.0))
        root = down(root + tolls.root)
        slack += 8.0 * n * UNIT * float(zero.sum())
    return SearchTree(
        factor, target, centre, step_lam, step_nu, floor, order, grid, tolls, root, blur, slack, slack_blur
    )


def _middle_of(factor: Array, weight: Array, nu: Array) -> tuple[Array, Array, Array, float]:
    """w + m; the nu that m is the minimiser for, with its error bound; ||R m||², rounded up."""
    n = len(weight)
    # m is *defined* by the float64 vector w + m
    middle = weight + _solve_normal(factor, nu)
    shift = middle - weight
    image = factor @ shift
    pull = factor.T @ image  # nu := RᵀR m
    sizes = np.abs(factor)
    size = sizes @ np.abs(shift)
    pull_error = gamma(2 * n + 8) * (sizes.T @ size)
    norm = up(float(np.sum((np.abs(image) + gamma(n + 4) * size) ** 2)) * (1.0 + gamma(n + 4)), 2)
    return middle, pull, pull_error, norm


def _slack(near: Array, distance: Array, lam: Array, nu: Array, loose: Array, diagonal: Array) -> float:
    """What rounding may add to the costs of values next to the target, and ||R d||² fall short of there."""
    costs = 32.0 * UNIT * (np.abs(lam) @ near**2 + 2.0 * np.abs(nu) @ near)
    costs += 2.0 * loose @ near
    short = 2.0 * proof_margin(len(near)) * diagonal @ distance**2
    return 2.0 * float(costs + short)


def _blurs(factor: Array, target: Array, grid: CodeGrid) -> tuple[float, float]:
    """Bound on the rounding of R(d - m) in units of the grid: of any values, and next to the target."""
    n = len(target)
    spread = np.maximum(np.abs(grid.lowest - target), np.abs(grid.highest - target))
    spread = spread + 2.0 * np.abs(target) + grid.spacing
    ends = np.stack([spread, 2.0 * np.abs(target) + 3.0 * grid.spacing_at(target)])
    rounding, beside = gamma(n + 16) * (ends @ np.abs(factor).T)
    rounding += UNDERFLOW * (n + spread.sum())
    blur = up(math.sqrt(float(rounding @ rounding)) * (1.0 + gamma(n + 4)), 2)
    return blur, math.sqrt(float(beside @ beside))


def _search_order(
    matrix: Array, form: Array, spacing: Array, budgets: Sequence[Budget]
) -> NDArray[np.int64] | None:
    """Greedy order: the last level is the input of least conditional variance, and so on up.

    The variance of input i given the ones already fixed is the diagonal of the inverse of the
    rest: the best determined input is fixed first. Variances count in distances of neighbouring values.
    Where several groups have budgets, all inputs of a group are fixed before the next group is begun, so
    that tolls are due soon; their order is that of the error's own form, which S has lost where lam is large
    (measured on 2:4: a tenth of the nodes and less).

    Parameters
    ----------
    matrix, form
        S, and the form that it was made from, shape (n, n) each.
    """
    groups = [members for members, most in budgets if most < len(members)]
    if len(groups) > 1:
        ridge = np.diag(RIDGE * np.diagonal(form))
        order = _greedy_order(form + ridge, spacing)
        return None if order is None else _group_by_group(order, groups)
    return _greedy_order(matrix, spacing)


def _greedy_order(matrix: Array, spacing: Array) -> NDArray[np.int64] | None:
    if not (spacing == spacing[0]).all():
        matrix = matrix * spacing[:, None] * spacing
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    order: NDArray[np.int64] = integer_kernel.greedy_order(inverse)
    return order


def _group_by_group(order: NDArray[np.int64], groups: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The order with the inputs of each group side by side, at the mean of their places."""
    place = np.empty(len(order))
    place[order] = np.arange(len(order))
    mean = place.copy()
    for number, members in enumerate(groups):
        mean[members] = place[members].mean() + number * 1e-9  # no two groups at one place
    return np.lexsort((place, mean))


def _solve_normal(factor: Array, vector: Array) -> Array:
    """Approximate solution of RᵀR m = `vector`."""
    from scipy.linalg import solve_triangular

    half = solve_triangular(factor, vector, trans=1, check_finite=False)
    solution: Array = solve_triangular(factor, half, check_finite=False)
    return solution


def _separable_floor(centre: Array, lam: Array, nu: Array, grid: CodeGrid) -> Array:
    """Least value, as computed by the kernel's formula, of lam u² + 2 nu u over values, u = value - c."""
    candidates = _near_and_ends(centre, lam, nu, grid) if grid.table is None else grid.table
    u = candidates - centre[:, None]
    return np.asarray(((lam[:, None] * u + 2.0 * nu[:, None]) * u).min(axis=1), dtype=np.float64)


def _near_and_ends(centre: Array, lam: Array, nu: Array, grid: CodeGrid) -> Array:
    """Codes of steps around where lam u² + 2 nu u is least, if it is convex, and both ends, shape (n, 6)."""
    convex, low, high = lam > 0.0, grid.low, grid.high
    stationary = np.where(convex, centre - nu / np.where(convex, lam, 1.0), 0.0)
    middle = np.floor(np.minimum(np.maximum(stationary, low), high))
    codes = np.empty((grid.n, 6))
    codes[:, 0], codes[:, 1] = np.maximum(middle - 1.0, low), middle
    codes[:, 2], codes[:, 3] = np.minimum(middle + 1.0, high), np.minimum(middle + 2.0, high)
    codes[:, 4], codes[:, 5] = low, high
    return codes


def expected_nodes(tree: SearchTree, error: float) -> float:
    """Rough count of the nodes below `error`: the volume heuristic, level by level.

    The number of values of the k levels fixed first that lie in the ball of squared radius
    rho = error - root is about pi^(k/2) rho^(k/2) / Gamma(k/2 + 1) over the product of the
    pivots and the distances of neighbouring values, where the curvature of a pivot includes that of a
    convex separable cost; the number of all values caps it. On Grams of trained layers it is within a
    factor of thirty of the truth, mostly above it. Support rules are not counted.
    """
    spacing = tree.grid.spacing_at(tree.target)[::-1]
    pivots = (np.diagonal(tree.factor)[::-1] ** 2 + np.maximum(tree.lam[::-1], 0.0)) * spacing**2
    k = np.arange(1, tree.n + 1)
    radius = max(error - tree.root, TINY)
    volume = 0.5 * k * math.log(math.pi * radius) - _log_gammas(tree.n) - 0.5 * np.cumsum(np.log(pivots))
    box = np.cumsum(np.log(tree.grid.high - tree.grid.low + 1.0)[::-1])
    return float(np.exp(np.minimum(np.minimum(volume, box), 600.0)).sum())


@cache
def _log_gammas(n: int) -> Array:
    """log Gamma(k/2 + 1) for k = 1 to n."""
    return np.array([math.lgamma(k / 2.0 + 1.0) for k in range(1, n + 1)])
