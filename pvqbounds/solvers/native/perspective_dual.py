"""The best perspective bound: an interior-point method on the dual of the relaxation.

The sum of the m smallest of the numbers r_i is the maximum over theta of m theta - sum_i
max(0, theta - r_i). With that, :mod:`pvqbounds.relaxations.perspective` becomes

    maximise   -nuᵀ(G - diag(D))⁻¹nu + sum_g m_g theta_g - sum_i s_i
    subject to s_i D_i >= nu_i²,   s_i >= theta_g(i) - D_i w_i² + 2 w_i nu_i,   G - diag(D) PSD.

Newton's method follows the central path of the logarithmic barriers; s and theta are eliminated
by hand, which leaves one system of 2 n equations a step. Any iterate is a bound: the best one in
exact evaluation is returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.certificates import PerspectiveCertificate
from pvqbounds.relaxations.perspective import perspective_bound

__all__ = ["NormalForm", "maximise_perspective", "normal_form"]

LARGEST_STEP = 0.8
"""Fraction of the way to the boundary."""

CENTRED = 0.5
"""Promised rise, in units of mu, under which an iterate is near enough to the central path."""

SHRINK = 0.15
"""Ratio of one mu to the next."""


@dataclass
class _Iterate:
    """Variables of one input each, shape (n,), and theta of one group each."""

    D: NDArray[np.float64]
    nu: NDArray[np.float64]
    s: NDArray[np.float64]
    theta: NDArray[np.float64]


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
    smallest: float
    """Least eigenvalue of `gram`, up to rounding."""
    power: NDArray[np.float64]
    """Root mean square of each input, shape (n,)."""
    unit: float
    """Root of the signal: errors are in units of its square."""

    def certificate(self, D: NDArray[np.float64], nu: NDArray[np.float64]) -> PerspectiveCertificate:
        """(D, nu), each of shape (n,), in units of the problem."""
        return PerspectiveCertificate(diagonal=D * self.power**2, nu=nu * self.power * self.unit)


def normal_form(problem: SparseLeastSquares) -> NormalForm | None:
    """Scale the problem; None where the bound is 0 (singular Gram, nothing to remove, no signal)."""
    live = np.asarray(problem.gram.any(axis=1))
    group = np.full(problem.n, -1, dtype=np.int64)
    need: list[float] = []
    for inputs, kept in problem.budgets:
        inside = inputs[live[inputs]]
        # a group that keeps none has no finite theta: one kept is a bound for it as well
        removals = min(len(inside) - kept, len(inside) - 1)
        if removals > 0:
            group[inside] = len(need)
            need.append(float(removals))
    power = np.sqrt(np.where(live, np.diagonal(problem.gram), 1.0))
    gram = problem.gram / np.outer(power, power) + np.diag(np.where(live, 0.0, 1.0))
    weight = np.where(live, problem.weight * power, 0.0)
    signal = float(weight @ gram @ weight)
    smallest = float(np.linalg.eigvalsh(gram)[0])
    if not need or not signal > 0.0 or smallest <= 1e-13 * problem.n:
        return None
    unit = float(np.sqrt(signal))
    return NormalForm(gram, weight / unit, group, np.array(need), smallest, power, unit)


def maximise_perspective(
    problem: SparseLeastSquares, *, tolerance: float = 1e-3, max_iterations: int = 60
) -> PerspectiveCertificate:
    """Find (D, nu) whose perspective bound is within about `tolerance` of the best, relatively.

    A singular Gram, a budget that removes nothing, or a zero weight give D = nu = 0 (the bound 0).
    """
    none = PerspectiveCertificate(diagonal=np.zeros(problem.n), nu=np.zeros(problem.n))
    form = normal_form(problem)
    if form is None:
        return none
    D, nu = _central_path(
        form.gram, form.weight, form.group, form.need, form.smallest, tolerance, max_iterations
    )
    best = form.certificate(D, nu)
    return best if perspective_bound(problem, best) > 0.0 else none


def _central_path(
    gram: NDArray[np.float64],
    weight: NDArray[np.float64],
    group: NDArray[np.int64],
    need: NDArray[np.float64],
    smallest: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """D and nu for a Gram with unit diagonal and a weight with unit signal, 0 outside all groups."""
    n = len(weight)
    used = np.flatnonzero(group >= 0)
    w, g = weight[used], group[used]
    D = np.full(len(used), 0.5 * smallest)
    theta = np.array([np.median(D[g == k] * w[g == k] ** 2) for k in range(len(need))])
    mu = 1.0 / n
    point = _Iterate(D, np.zeros(len(used)), np.maximum(theta[g] - D * w * w, 0.0) + mu, theta)
    best, best_value = (np.zeros(n), np.zeros(n)), 0.0
    for _ in range(max_iterations):
        rest = gram.copy()
        rest[used, used] -= point.D
        try:
            inverse = cho_solve(cho_factor(rest, lower=True), np.eye(n))[np.ix_(used, used)]
        except LinAlgError:
            break
        value = _value(inverse, w, g, need, point)
        if value > best_value:
            best_value = value
            best = (np.zeros(n), np.zeros(n))
            best[0][used], best[1][used] = point.D, point.nu
        newton = _newton(inverse, w, g, need, point, mu)
        if newton is None:
            break
        direction, decrement = newton
        reach = _reach(inverse, w, g, point, direction)
        step = min(1.0, LARGEST_STEP * reach)
        point = _Iterate(
            point.D + step * direction.D,
            point.nu + step * direction.nu,
            point.s + step * direction.s,
            point.theta + step * direction.theta,
        )
        if decrement < mu * CENTRED:
            if 4 * n * mu < tolerance * best_value:
                break
            mu *= SHRINK
    return best


def _value(
    inverse: NDArray[np.float64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    need: NDArray[np.float64],
    point: _Iterate,
) -> float:
    """The bound at the iterate, with the best s and theta."""
    kept = -(point.nu**2) / point.D
    extra = point.D * w * w - 2.0 * point.nu * w - kept
    order = np.lexsort((extra, g))
    rank = np.arange(len(g)) - np.searchsorted(g[order], g[order])
    cheapest = extra[order][rank < need[g[order]]].sum()
    return float(kept.sum() + cheapest - point.nu @ inverse @ point.nu)


def _newton(
    inverse: NDArray[np.float64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    need: NDArray[np.float64],
    point: _Iterate,
    mu: float,
) -> tuple[_Iterate, float] | None:
    """Newton's direction for the barrier problem and the rise that it promises, None where it fails."""
    m, D, nu, s = len(w), point.D, point.nu, point.s
    y = inverse @ nu
    q = s * D - nu * nu
    p = s - point.theta[g] + D * w * w - 2.0 * w * nu
    # gradients of q and p in (D, nu, s); that of p in theta is -1
    dq = np.stack([s, -2.0 * nu, D], axis=1) / q[:, None]
    dp = np.stack([w * w, -2.0 * w, np.ones(m)], axis=1) / p[:, None]
    gradient = mu * (dq + dp)
    gradient[:, 0] += -y * y - mu * np.diagonal(inverse)
    gradient[:, 1] += -2.0 * y
    gradient[:, 2] -= 1.0
    local = -mu * (dq[:, :, None] * dq[:, None, :] + dp[:, :, None] * dp[:, None, :])
    local[:, 0, 2] += mu / q
    local[:, 2, 0] += mu / q
    local[:, 1, 1] -= 2.0 * mu / q
    cross = mu * dp / p[:, None]  # with theta
    corner = -mu / p**2
    rise = need - mu * _group_sums(g, 1.0 / p, len(need))  # gradient in theta
    # eliminate s
    pivot = local[:, 2, 2]
    ratio = local[:, :2, 2] / pivot[:, None]
    block = local[:, :2, :2] - ratio[:, :, None] * local[:, None, 2, :2]
    right = gradient[:, :2] - ratio * gradient[:, 2:]
    border = cross[:, :2] - ratio * cross[:, 2:]
    corner = _group_sums(g, corner - cross[:, 2] ** 2 / pivot, len(need))
    slope = rise - _group_sums(g, cross[:, 2] * gradient[:, 2] / pivot, len(need))
    # eliminate theta
    right -= border * (slope / corner)[g][:, None]
    same = np.where(g[:, None] == g, 1.0 / corner[g], 0.0)
    K = np.empty((2, m, 2, m))
    K[0, :, 0] = -2.0 * np.outer(y, y) * inverse - mu * inverse**2
    K[0, :, 1] = -2.0 * y[:, None] * inverse
    K[1, :, 0] = K[0, :, 1].T
    K[1, :, 1] = -2.0 * inverse
    diagonal = np.arange(m)
    for a in range(2):
        for b in range(2):
            K[a, :, b] -= np.outer(border[:, a], border[:, b]) * same
            K[a, diagonal, b, diagonal] += block[:, a, b]
    system = -K.reshape(2 * m, 2 * m)
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(system), 1e-300))
    system *= scale[:, None] * scale
    system[np.diag_indices(2 * m)] += 1e-15
    factor, info = lapack.dpotrf(system, lower=1)
    if info != 0:
        return None
    step = scale * lapack.dpotrs(factor, scale * right.T.ravel(), lower=1)[0]
    if not np.isfinite(step).all():
        return None
    x = step.reshape(2, m).T
    theta = -(slope + _group_sums(g, (border * x).sum(axis=1), len(need))) / corner
    ds = -(gradient[:, 2] + (local[:, 2, :2] * x).sum(axis=1) + cross[:, 2] * theta[g]) / pivot
    promised = float((gradient[:, :2] * x).sum() + gradient[:, 2] @ ds + rise @ theta)
    return _Iterate(x[:, 0], x[:, 1], ds, theta), promised


def _group_sums(group: NDArray[np.int64], values: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    return np.bincount(group, values, groups).astype(np.float64)


def _reach(
    inverse: NDArray[np.float64],
    w: NDArray[np.float64],
    g: NDArray[np.int64],
    point: _Iterate,
    direction: _Iterate,
) -> float:
    """Longest step that stays in all cones."""
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
    half = np.linalg.cholesky(inverse + 1e-14 * np.trace(inverse) * np.eye(len(inverse)))
    largest = float(np.linalg.eigvalsh(half.T @ (direction.D[:, None] * half))[-1])
    bounds.append(np.array([1.0 / largest if largest > 0.0 else np.inf]))
    return float(min(x.min() for x in bounds))
