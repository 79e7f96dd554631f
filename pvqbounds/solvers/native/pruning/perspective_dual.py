"""The best perspective bound: an interior-point method on the dual of the relaxation.

The sum of the m smallest of the numbers r_i is the maximum over theta of m theta - sum_i
max(0, theta - r_i). With that, :mod:`pvqbounds.relaxations.dual` becomes

    maximise   -nuᵀ(G - diag(D))⁻¹nu + sum_g m_g theta_g - sum_i s_i
    subject to s_i D_i >= nu_i²,   s_i >= theta_g(i) - D_i w_i² + 2 w_i nu_i,   G - diag(D) PSD.

Newton's method follows the central path of the logarithmic barriers; s and theta are eliminated
by hand, which leaves one system of 2 n equations a step. Any iterate is a bound: the best one in
exact evaluation is returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, eigh_tridiagonal, lapack

from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.solvers.native.linalg.lanczos import lanczos
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.pruning.perspective_splitting import (
    RowBudget,
    ScaledGram,
    scaled_gram,
    shared_multipliers,
)

__all__ = [
    "LARGEST_NEWTON",
    "NormalForm",
    "central_path",
    "maximise_perspective",
    "maximise_priced",
    "normal_form",
    "path_fits",
    "priced_form",
]

BOLD = 0.8
"""Fraction of the way to the boundary that a path of few steps goes: it breaks off where it is."""

CAREFUL = 0.6
"""The same of a path that may take its steps. What comes very close to the boundary no more than doubles in
each later step: bold paths creep for a dozen steps at each mu where the spectrum is wide."""

CENTRED = 0.5
"""Promised rise, in units of mu, under which an iterate is near enough to the central path."""

SHRINK = 0.15
"""Ratio of one mu to the next."""

MANY_STEPS = 40
"""Steps that a path may take from where on it is careful: most need 30 to 50."""

START = 0.5
"""Fraction of the starting diagonal that the path begins with."""

FIRST = 2.5
"""First mu, in units of a rough bound over n."""

LARGEST_NEWTON = 2304
"""Inputs up to which D is optimised: a step takes about 3 n³ multiplications."""

BRIEF = 0.1
"""A path that is expected to take fewer seconds runs to its end, whatever the time limit."""

FLOPS_A_STEP, STEPS = 3.0, 40
"""Operations of a step over n³, and how many steps a path takes, about."""

LANCZOS_STEPS = 10
"""Steps for the distance to the boundary of H >= 0; a Cholesky factorisation checks the outcome."""


@dataclass
class _Iterate:
    """Variables of one input each, shape (n,), and theta of one group each."""

    D: NDArray[np.float64]
    nu: NDArray[np.float64]
    s: NDArray[np.float64]
    theta: NDArray[np.float64]

    def along(self, direction: _Iterate, step: float) -> _Iterate:
        """The iterate so far along a direction."""
        return _Iterate(
            self.D + step * direction.D,
            self.nu + step * direction.nu,
            self.s + step * direction.s,
            self.theta + step * direction.theta,
        )


@dataclass(frozen=True, eq=False)
class NormalForm:
    """The same dual for inputs of unit power and a weight of unit signal."""

    gram: NDArray[np.float64]
    """Shape (n, n), unit diagonal; an input that is always zero stands alone."""
    weight: NDArray[np.float64]
    """Shape (n,), unit signal."""
    group: NDArray[np.int64]
    """Number of each input's group, -1 where nothing has to be removed, shape (n,)."""
    need: NDArray[np.float64]
    """Removals of each group, shape (groups,)."""
    start: NDArray[np.float64]
    """A diagonal D > 0 with G - D positive definite, up to rounding, shape (n,)."""
    power: NDArray[np.float64]
    """Root mean square of each input, shape (n,)."""
    unit: float
    """Root of the signal: errors are in units of its square."""

    def certificate(self, D: NDArray[np.float64], nu: NDArray[np.float64]) -> DualCertificate:
        """(D, nu), each of shape (n,), in units of the problem."""
        return DualCertificate(lam=D * self.power**2, nu=nu * self.power * self.unit)


def normal_form(problem: SparseLeastSquares) -> NormalForm | None:
    """Scale the problem; None where the bound is 0 (singular Gram, nothing to remove, no signal)."""
    live = problem.shared.live
    group = np.full(problem.n, -1, dtype=np.int64)
    need: list[float] = []
    for inputs, kept in problem.budgets:
        inside = inputs[live[inputs]]
        # a group that keeps none has no finite theta: one kept is a bound for it as well
        removals = min(len(inside) - kept, len(inside) - 1)
        if removals > 0:
            group[inside] = len(need)
            need.append(float(removals))
    if not need:
        return None
    shared = scaled_gram(problem.gram)
    weight = problem.weight * shared.power
    signal = float(weight @ shared.gram @ weight)
    if shared.inverse is None or not signal > 0.0:
        return None
    unit = float(np.sqrt(signal))
    return NormalForm(shared.gram, weight / unit, group, np.array(need), shared.start, shared.power, unit)


def priced_form(shared: ScaledGram, weight: NDArray[np.float64]) -> NormalForm:
    """The normal form of a channel whose kept weights have a price: one group of all live inputs.

    Parameters
    ----------
    weight
        w times the power of the inputs, shape (n,).
    """
    unit = math.sqrt(max(float(weight @ shared.gram @ weight), 1e-300))
    group = np.where(shared.power > 0.0, 0, -1)
    return NormalForm(shared.gram, weight / unit, group, np.zeros(0), shared.start, shared.power, unit)


def path_fits(n: int, clock: Clock) -> bool:
    """Whether a central path of n inputs is expected to end in time, or so soon that it does not matter."""
    return _expected_seconds(n) < max(BRIEF, clock.remaining)


def _expected_seconds(n: int) -> float:
    return STEPS * FLOPS_A_STEP * float(n) ** 3 / FLOPS_A_SECOND


def maximise_perspective(
    problem: SparseLeastSquares,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 60,
    clock: Clock | None = None,
) -> DualCertificate:
    """Find (D, nu) whose perspective bound is within about `tolerance` of the best, relatively.

    A singular Gram, a budget that removes nothing, or a zero weight give D = nu = 0 (the bound 0).
    Above `LARGEST_NEWTON` inputs, and where the clock does not leave the time for a path or ends it, D
    stays where it starts, and nu alone is optimised.
    """
    none = DualCertificate(lam=np.zeros(problem.n), nu=np.zeros(problem.n))
    budget = RowBudget.of(problem)
    if problem.n > LARGEST_NEWTON or (clock is not None and not path_fits(problem.n, clock)):
        best = shared_multipliers(problem.gram, problem.weight[None], budget)[0]
    else:
        form = normal_form(problem)
        if form is None:
            return none
        best = form.certificate(
            *central_path(form, tolerance=tolerance, max_iterations=max_iterations, clock=clock)
        )
        if clock is not None and clock.expired and _expected_seconds(problem.n) >= BRIEF:
            other = shared_multipliers(problem.gram, problem.weight[None], budget)[0]
            best = max(best, other, key=lambda found: dual_bound(problem, found))
    return best if dual_bound(problem, best) > 0.0 else none


def maximise_priced(
    problem: SparseLeastSquares,
    price: float,
    *,
    tolerance: float,
    max_iterations: int,
    clock: Clock,
) -> DualCertificate:
    """Find (D, nu) for the best bound on E plus a price for each weight that is kept; no budget plays a part.

    A singular Gram gives D = nu = 0.

    Parameters
    ----------
    price
        In units of E.
    tolerance
        Relative, of the bound with the price of what is kept.
    """
    shared = scaled_gram(problem.gram)
    if shared.inverse is None:
        return DualCertificate(lam=np.zeros(problem.n), nu=np.zeros(problem.n))
    form = priced_form(shared, problem.weight * shared.power)
    D, nu = central_path(
        form,
        price=price / form.unit**2,
        tolerance=tolerance,
        max_iterations=max_iterations,
        clock=clock,
    )
    if not D.any():  # the price removes everything: the point v = 0 of the relaxation, where it is best
        D = form.start
        nu = D * form.weight - form.gram @ form.weight
    return form.certificate(D, nu)


@np.errstate(all="ignore")  # in the thread that runs it: an iterate that overflows is thrown away
def central_path(
    form: NormalForm,
    *,
    price: float | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 80,
    clock: Clock | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Follow the central path to the best D and nu, shape (n,), 0 outside all groups.

    Parameters
    ----------
    price
        None for the budget of `form`. Else theta, in units of the signal, for all inputs: what an
        input that is kept costs, in place of a budget.
    tolerance
        Relative.
    clock
        Ends the path between two steps, but for one that is expected to take less than `BRIEF` seconds.
    """
    if _expected_seconds(len(form.weight)) < BRIEF:
        clock = None
    gram, n = form.gram, len(form.weight)
    used = np.flatnonzero(form.group >= 0)
    w, g, need = form.weight[used], form.group[used], form.need
    longest = CAREFUL if max_iterations >= MANY_STEPS else BOLD
    if price is not None:
        g, need = np.zeros(len(used), dtype=np.int64), np.zeros(0)
    point, mu = _first(START * form.start[used], w, g, need, price, n)
    factor = _factor(gram, used, point.D)
    best, best_value = (np.zeros(n), np.zeros(n)), 0.0
    for _ in range(max_iterations):
        if factor is None or (clock is not None and clock.expired):
            break
        inverse = _inverse(factor)
        if len(used) < n:
            inverse = np.asfortranarray(inverse[np.ix_(used, used)])
        value = _value(inverse, w, g, need, point)
        if value > best_value:
            best_value = value
            best = (np.zeros(n), np.zeros(n))
            best[0][used], best[1][used] = point.D, point.nu
        newton = _newton(inverse, w, g, need, point, mu)
        if newton is None:
            break
        direction, decrement = newton
        step = min(1.0, longest * _reach(factor, used, w, g, point, direction))
        for _ in range(30):
            factor = _factor(gram, used, point.D + step * direction.D)
            if factor is not None:
                break
            step *= 0.7
        point = point.along(direction, step)
        if decrement < mu * CENTRED:
            if 4 * n * mu < tolerance * best_value:
                break
            mu *= SHRINK
    return best


def _first(
    D: NDArray[np.float64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    need: NDArray[np.float64],
    price: float | None,
    n: int,
) -> tuple[_Iterate, float]:
    """The first iterate of a path, with nu = 0, and its barrier parameter."""
    if price is None:  # midway between the dearest removal and the cheapest kept input
        theta = np.array([_rank(D[g == k] * w[g == k] ** 2, int(m)) for k, m in enumerate(need)])
    else:
        theta = np.array([price])
    extra = D * w * w
    rough = float(np.minimum(extra, theta[g]).sum())
    mu = max(rough, 1e-6) * FIRST / n
    return _Iterate(D, np.zeros(len(D)), np.maximum(theta[g] - extra, 0.0) + mu, theta), mu


def _rank(values: NDArray[np.float64], m: int) -> float:
    """A number between the m-th and the next of `values` in rising order."""
    return float(np.sort(values)[m - 1 : m + 1].mean())


def _factor(
    gram: NDArray[np.float64], used: NDArray[np.int64], D: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Lower Cholesky factor of H = G - diag(D), D of the used inputs; None where H is not definite."""
    rest = gram.copy(order="F")
    rest[used, used] -= D
    factor, info = lapack.dpotrf(rest, lower=1, clean=1, overwrite_a=1)
    return factor if info == 0 else None


def _inverse(factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower triangle of the inverse of a matrix, from its lower Cholesky factor; zeros above it."""
    return np.asarray(lapack.dpotri(factor, lower=1)[0])


def _times(lower: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A symmetric matrix, given by its lower triangle, times a vector."""
    return np.asarray(blas.dsymv(1.0, lower, x, lower=1))


def _value(
    inverse: NDArray[np.float64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    need: NDArray[np.float64],
    point: _Iterate,
) -> float:
    """The bound at the iterate, with the best s and theta; without groups, less theta * (inputs kept)."""
    kept = -(point.nu**2) / point.D
    extra = point.D * w * w - 2.0 * point.nu * w - kept
    if len(need) == 0:
        return float(kept.sum() + np.minimum(extra, point.theta).sum() - point.nu @ _times(inverse, point.nu))
    order = np.lexsort((extra, g))
    rank = np.arange(len(g)) - np.searchsorted(g[order], g[order])
    cheapest = extra[order][rank < need[g[order]]].sum()
    return float(kept.sum() + cheapest - point.nu @ _times(inverse, point.nu))


def _newton(
    inverse: NDArray[np.float64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    need: NDArray[np.float64],
    point: _Iterate,
    mu: float,
) -> tuple[_Iterate, float] | None:
    """Newton's direction for the barrier problem and the rise that it promises, None where it fails.

    In place of dnu the unknown is e = dnu + y dD with y = H⁻¹nu: the quadratic part of the model
    is then -2 eᵀH⁻¹e alone, e and D meet on the diagonal only, and e is eliminated by the inverse
    of 2 H⁻¹ + diag: two inverses and one factorisation of n-by-n matrices make a step. Of all
    symmetric matrices here only the lower triangles count.
    """
    m, groups = len(w), len(need)
    y = _times(inverse, point.nu)
    gradient, local, cross, p = _local_model(np.diagonal(inverse), y, w, g, point, mu)
    corner = mu / p**2
    rise = need - mu * _group_sums(g, 1.0 / p, groups)  # gradient in theta
    # eliminate s
    pivot = local[:, 2, 2]
    ratio = local[:, :2, 2] / pivot[:, None]
    block = local[:, :2, :2] - ratio[:, :, None] * local[:, None, 2, :2]
    right = gradient[:, :2] - ratio * gradient[:, 2:]
    border = cross[:, :2] - ratio * cross[:, 2:]
    slope = rise - _group_sums(g, cross[:, 2] * gradient[:, 2] / pivot, groups)
    # eliminate e
    middle = 2.0 * inverse  # in Fortran's order, as `inverse` is
    middle[np.diag_indices(m)] += block[:, 1, 1]
    R = _scaled_inverse(middle)
    if R is None:
        return None
    member = np.zeros((m, groups))
    if groups:
        member[np.arange(m), g] = border[:, 1]
    system = np.empty((m + groups, m + groups), order="F")
    c = block[:, 0, 1]
    Rt, Rg = blas.dsymm(1.0, R, member, lower=1), _times(R, right[:, 1])
    np.multiply(inverse, inverse, out=system[:m, :m])
    system[:m, :m] *= mu
    system[:m, :m] -= c[:, None] * R * c
    system[np.arange(m), np.arange(m)] += block[:, 0, 0]
    system[m:, :m] = -(c[:, None] * Rt).T
    if groups:
        system[m + g, np.arange(m)] += border[:, 0]
    system[m:, m:] = -member.T @ Rt
    system[np.arange(m, m + groups), np.arange(m, m + groups)] += _group_sums(
        g, corner - cross[:, 2] ** 2 / pivot, groups
    )
    target = np.concatenate([right[:, 0] - c * Rg, slope - member.T @ Rg])
    x = _scaled_solve(system, target)
    if x is None:
        return None
    dD, theta = x[:m], x[m:]
    along = theta[g] if groups else np.zeros(m)
    e = Rg - _times(R, c * dD) - Rt @ theta
    ds = (gradient[:, 2] - local[:, 2, 0] * dD - local[:, 2, 1] * e - cross[:, 2] * along) / pivot
    promised = float(gradient[:, 0] @ dD + gradient[:, 1] @ e + gradient[:, 2] @ ds + rise @ theta)
    return _Iterate(dD, e - y * dD, ds, theta if groups else np.zeros(1)), promised


def _local_model(
    variance: NDArray[np.float64],
    y: NDArray[np.float64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    point: _Iterate,
    mu: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Gradient (m, 3) and Hessian (m, 3, 3) of each input's terms in (D, e, s), (m, 3) with theta; and p.

    `variance` is the diagonal of H⁻¹, shape (m,).
    """
    D, nu, s = point.D, point.nu, point.s
    q = s * D - nu * nu
    p = s - point.theta[g] + D * w * w - 2.0 * w * nu
    # gradients of q and p in (D, nu, s); that of p in theta is -1
    dq = np.stack([s, -2.0 * nu, D], axis=1) / q[:, None]
    dp = np.stack([w * w, -2.0 * w, np.ones(len(w))], axis=1) / p[:, None]
    gradient = mu * (dq + dp)
    gradient[:, 0] += -y * y - mu * variance
    gradient[:, 1] += -2.0 * y
    gradient[:, 2] -= 1.0
    local = mu * (dq[:, :, None] * dq[:, None, :] + dp[:, :, None] * dp[:, None, :])
    local[:, 0, 2] -= mu / q
    local[:, 2, 0] -= mu / q
    local[:, 1, 1] += 2.0 * mu / q
    cross = -mu * dp / p[:, None]  # with theta
    # from (D, nu) to (D, e)
    for vector in (gradient, cross):
        vector[:, 0] -= y * vector[:, 1]
    local[:, 0, :] -= y[:, None] * local[:, 1, :]
    local[:, :, 0] -= y[:, None] * local[:, :, 1]
    return gradient, local, cross, p


def _scaled_inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Lower triangle of the inverse of a positive definite matrix given by its own, or None."""
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(matrix), 1e-300))
    matrix *= scale[:, None]
    matrix *= scale
    factor, info = lapack.dpotrf(matrix, lower=1, clean=1, overwrite_a=1)
    if info != 0:
        return None
    inverse = _inverse(factor)
    inverse *= scale[:, None]
    inverse *= scale
    return inverse


def _scaled_solve(system: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Solve a positive definite system given by its lower triangle, or None."""
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(system), 1e-300))
    with np.errstate(over="ignore", invalid="ignore"):  # no factor then, and no step
        system *= scale[:, None]
        system *= scale
    system[np.diag_indices(len(system))] += 1e-15
    factor, info = lapack.dpotrf(system, lower=1, clean=0, overwrite_a=1)
    if info != 0:
        return None
    x = scale * lapack.dpotrs(factor, scale * right, lower=1)[0]
    return x if np.isfinite(x).all() else None


def _group_sums(group: NDArray[np.int64], values: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """Sums over the members of each group; of shape (0,) where a price takes the place of groups."""
    return np.bincount(group, values, groups).astype(np.float64)[:groups]


def _reach(
    factor: NDArray[np.float64],
    used: NDArray[np.int64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    point: _Iterate,
    direction: _Iterate,
) -> float:
    """Longest step that stays in all cones; that of H is estimated from below by a few Lanczos steps."""
    p = point.s - point.theta[g] + point.D * w * w - 2.0 * w * point.nu
    dp = direction.s - direction.theta[g] + direction.D * w * w - 2.0 * w * direction.nu
    # (s + t ds)(D + t dD) - (nu + t dnu)² = a t² + b t + c
    a = direction.s * direction.D - direction.nu**2
    b = point.s * direction.D + point.D * direction.s - 2.0 * point.nu * direction.nu
    c = point.s * point.D - point.nu**2
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = [np.where(dp < 0.0, -p / dp, np.inf)]
        bounds.append(np.where(direction.D < 0.0, -point.D / direction.D, np.inf))
        root = np.sqrt(np.maximum(b * b - 4.0 * a * c, 0.0))
        # smallest positive root, in the form without cancellation
        first = np.where(b < 0.0, 2.0 * c / (-b + root), np.where(a < 0.0, (b + root) / (-2.0 * a), np.inf))
        bounds.append(np.where((b * b >= 4.0 * a * c) & (first > 0.0), first, np.inf))
    # H - t diag(dD) >= 0
    change = np.zeros(len(factor))
    change[used] = direction.D
    largest = _largest_eigenvalue(factor, change)
    bounds.append(np.array([1.0 / largest if largest > 0.0 else np.inf]))
    return float(min(x.min() for x in bounds))


def _largest_eigenvalue(factor: NDArray[np.float64], change: NDArray[np.float64]) -> float:
    """Lanczos estimate of the largest eigenvalue of F⁻¹ diag(change) F⁻ᵀ."""

    def times(x: NDArray[np.float64]) -> NDArray[np.float64]:
        half = blas.dtrsv(factor, x, lower=1, trans=1)
        return np.asarray(blas.dtrsv(factor, change * half, lower=1))

    alpha, beta = lanczos(times, len(factor), LANCZOS_STEPS)
    return float(eigh_tridiagonal(alpha, beta[:-1], eigvals_only=True)[-1])
