"""The box-hull and Park-Boyd SDPs by a feasible primal-dual interior-point method of their own.

It solves the dual pair of :mod:`pvqbounds.relaxations.box_hull`. Written for its structure: the
constraints touch only the diagonal and the last column of the matrix variable

    X = [[D, d], [dᵀ, 1]]      with slack      Z = [[P - diag(lam), q - mu], [(q - mu)ᵀ, g]],

so that the Newton matrix is put together from element-wise products of X and Z⁻¹ (as in the
max-cut method of Helmberg, Rendl, Vanderbei and Wolkowicz, SIAM J. Optim. 6, 1996), the
polygons add 2 x 2 blocks, and an iteration costs O(n³) whatever the number of vertices. The
search direction is theirs (HKM), with Mehrotra's predictor and corrector. Both iterates start
feasible and stay so up to rounding; every dual iterate therefore is a proof in the making.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pvqbounds.relaxations.box_hull import BoxHullSDP, definite_multipliers, dual_value
from pvqbounds.solvers.base import SDPSolution
from pvqbounds.solvers.conic import single_point

__all__ = ["solve_box_hull"]

Array = NDArray[np.float64]

STEP = (0.9, 0.98)
"""Fractions of the way to the boundary that are taken: of short and of full Newton steps."""

FINE, SHRINK = 0.02, 0.8
"""Trial lengths in the positive definite cone: least decrease near a full step, factor elsewhere."""

VALUE_FLOOR = 1e-6
"""Values below this share of the trace of P count as this share in a relative gap."""

SHORTEST = 1e-6
"""A step shorter than this ends the iteration."""

NULL_VALUE = 1e-9
"""Eigenvalues of P, scaled to unit diagonal, that count as zero in the Park-Boyd dual."""

NULL_WEIGHT = 1e-12
"""Squared share in a null vector that ties an input to the null space."""


def solve_box_hull(sdp: BoxHullSDP, *, tolerance: float = 1e-6, max_iterations: int = 60) -> SDPSolution:
    """Solve the relaxation to a relative gap of `tolerance`.

    Parameters
    ----------
    sdp
        From :func:`pvqbounds.relaxations.box_hull.box_hull` or ``park_boyd``.
    tolerance
        Largest difference of the primal and the dual value, relative to the value (or to
        1e-6 of the trace of P where the value is smaller than that).
    max_iterations
        Newton steps at most.

    Returns
    -------
    Multipliers with P - diag(lam) positive definite, and the primal moments. `value` is the dual
    value at the multipliers, so never above the SDP's optimum. The status is "solved", or says
    at which relative gap rounding (or `max_iterations`) ended the iteration.

    Notes
    -----
    A singular P leaves the dual of Park and Boyd without interior: the inputs that take part in the
    null space are eliminated first. S then is definite only because lam is a few roundings below
    zero there, which the box of a certificate pays for.
    """
    if not sdp.chord:
        return _made_definite(sdp, _without_null_space(sdp, tolerance, max_iterations))
    if sdp.qmin == sdp.qmax:
        return single_point(sdp)
    return _made_definite(sdp, _solve(sdp, tolerance, max_iterations))


@dataclass(frozen=True, eq=False)
class _Polygons:
    """The polygons' share of the Newton system; k = 2 multipliers an input, or 1 for half-planes."""

    features: Array
    """Slack s_iv = sum_k features_kiv multiplier_ki - t_i, shape (k, n, m)."""
    bounded: bool
    """Box-hull: t is free and the weights of the vertices sum to 1. Park-Boyd: t = 0."""

    @classmethod
    def of(cls, sdp: BoxHullSDP) -> _Polygons:
        if not sdp.chord:
            return cls(np.ones((1, sdp.n, 1)), False)
        x, y = sdp.vertices
        return cls(np.stack([y, 2.0 * x]), True)

    def heights(self, multipliers: Array) -> Array:
        """sum_k features_k multiplier_k, shape (n, m)."""
        total: Array = (self.features * multipliers[:, :, None]).sum(axis=0)
        return total

    def moments(self, weights: Array) -> Array:
        """sum_v features_kiv weight_iv, shape (k, n)."""
        total: Array = np.einsum("kim,im->ki", self.features, weights)
        return total

    def unfold(self, multipliers: Array) -> tuple[Array, Array]:
        """(lam, mu), each of shape (n,)."""
        if self.bounded:
            return multipliers[0], multipliers[1]
        return multipliers[0], -0.5 * multipliers[0]

    def fold(self, lam_part: Array, mu_part: Array) -> Array:
        """Adjoint of :meth:`unfold` along the last axis: shape (..., k n)."""
        if self.bounded:
            return np.concatenate([lam_part, mu_part], axis=-1)
        return lam_part - 0.5 * mu_part


def _solve(sdp: BoxHullSDP, tolerance: float, max_iterations: int) -> SDPSolution:
    polygons = _Polygons.of(sdp)
    form = sdp.form
    state = _start(form, sdp.linear, polygons)
    floor = VALUE_FLOOR * sdp.n
    best = -np.inf
    chosen, moments = state.multipliers, state.matrix
    gap = np.inf
    for _ in range(max_iterations):
        inverse = _inverse(state.slack_matrix)
        if inverse is None:
            break
        # g and the t at their best for these lam and mu
        dual = sdp.constant - state.g + 1.0 / inverse[-1, -1]
        if polygons.bounded:
            dual += float((state.t + state.slack.min(axis=1)).sum())
        mean = state.matrix[:-1, -1]
        primal = sdp.constant + float((form * state.matrix[:-1, :-1]).sum() + 2.0 * (sdp.linear @ mean))
        if dual > best:
            best, chosen, moments = dual, state.multipliers, state.matrix
        gap = (primal - best) / max(abs(best), floor)
        if gap <= tolerance or not _advance(state, inverse, form, sdp.linear, polygons):
            break
    lam, mu = polygons.unfold(chosen)
    mean = moments[:-1, -1]
    covariance = moments[:-1, :-1] - np.outer(mean, mean)
    nu = sdp.nu_of(lam, mu)
    if best == -np.inf:
        best = dual_value(sdp, lam, nu)
    status = "solved" if gap <= tolerance else f"stopped at a relative gap of {gap:.1e}"
    return SDPSolution(lam, nu, best, sdp.reference + mean, covariance, status)


def _without_null_space(sdp: BoxHullSDP, tolerance: float, max_iterations: int) -> SDPSolution:
    """Park-Boyd for any P.

    On a null vector v of P feasibility asks for sum_i lam_i v_i² <= 0, so that lam is zero on every
    input that takes part in the null space. Those inputs are free of constraints: minimising over
    them leaves the same problem in the others, with the Schur complement for P and the same c.
    """
    diagonal = sdp.form.diagonal()
    root = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(sdp.form / np.outer(root, root))
    null = vectors[:, values <= NULL_VALUE]
    tied = (null * null).sum(axis=1) > NULL_WEIGHT
    if not tied.any():
        return _solve(sdp, tolerance, max_iterations)
    rest = ~tied
    lam, nu = np.zeros(sdp.n), np.zeros(sdp.n)
    mean, covariance = sdp.centre.copy(), np.zeros((sdp.n, sdp.n))
    if not rest.any():
        return SDPSolution(lam, nu, 0.0, mean, covariance, "solved")
    follow = -np.linalg.pinv(sdp.form[np.ix_(tied, tied)], hermitian=True) @ sdp.form[np.ix_(tied, rest)]
    form = sdp.form[np.ix_(rest, rest)] + sdp.form[np.ix_(rest, tied)] @ follow
    part = _solve(
        replace(
            sdp,
            form=0.5 * (form + form.T),
            centre=sdp.centre[rest],
            reference=sdp.reference[rest],
            tangent=sdp.tangent[rest],
        ),
        tolerance,
        max_iterations,
    )
    lam[rest], nu[rest], mean[rest] = part.lam, part.nu, part.mean
    mean[tied] += follow @ (part.mean - sdp.centre[rest])
    lift = np.zeros((sdp.n, len(part.lam)))
    lift[rest], lift[tied] = np.eye(len(part.lam)), follow
    return SDPSolution(lam, nu, part.value, mean, lift @ part.covariance @ lift.T, part.status)


def _made_definite(sdp: BoxHullSDP, solution: SDPSolution) -> SDPSolution:
    lam, nu = definite_multipliers(sdp, solution.lam, solution.nu, solution.mean)
    return replace(solution, lam=lam, nu=nu)


@dataclass(eq=False)
class _State:
    matrix: Array
    """X, shape (n + 1, n + 1)."""
    weight: Array
    """Weights of the vertices (Park-Boyd: primal slacks), shape (n, m)."""
    multipliers: Array
    """(lam, mu) or lam, shape (k, n)."""
    t: Array
    g: float
    slack: Array
    """s, shape (n, m)."""
    slack_matrix: Array
    """Z, shape (n + 1, n + 1)."""

    def complementarity(self, step: _Step | None = None, primal: float = 0.0, dual: float = 0.0) -> float:
        """Mean of the products of the pairs (X, Z) and (weight, s), after `step` if one is given."""
        x, w, z, s = self.matrix, self.weight, self.slack_matrix, self.slack
        if step is not None:
            x, w = x + primal * step.matrix, w + primal * step.weight
            z, s = z + dual * step.slack_matrix, s + dual * step.slack
        return float(np.vdot(x, z) + np.vdot(w, s)) / (len(x) + w.size)


def _start(form: Array, linear: Array, polygons: _Polygons) -> _State:
    """Strictly feasible iterates not far from the central path."""
    n = len(form)
    if polygons.bounded:
        # a mixture of vertices that favours those near z = r, and lam far below zero
        x = 0.5 * polygons.features[1]
        weight = 1.0 / np.sqrt(1.0 + x * x)
        weight /= weight.sum(axis=1, keepdims=True)
        second, twice_first = polygons.moments(weight)
        first = 0.5 * twice_first
        covariance = np.diag(second - first * first)
        lam = np.full(n, -float(form.diagonal().max()) or -1.0)
        stiff = form - np.diag(lam)
        mu = linear + stiff @ first
        multipliers = np.stack([lam, mu])
        level = float(np.mean(covariance.diagonal() * stiff.diagonal()))
        t = polygons.heights(multipliers).min(axis=1) - level
        g = float(first @ stiff @ first) + level
    else:
        # lam halfway to the least eigenvalue relative to the diagonal, and X a multiple of Z⁻¹
        root = np.sqrt(form.diagonal())
        least = float(np.linalg.eigvalsh(form / np.outer(root, root))[0])
        lam = 0.5 * least * form.diagonal()
        mu = -0.5 * lam
        multipliers = lam[None]
        inverse = np.linalg.inv(form - np.diag(lam))
        first = inverse @ (mu - linear)
        level = 0.5 / float(inverse.diagonal().min())
        covariance = level * inverse
        weight = (covariance.diagonal() + first * (first - 1.0))[:, None]
        t = np.zeros(n)
        g = float(first @ (mu - linear)) + level
    slack_matrix = _slack_matrix(form, linear, lam, mu, g)
    while _cholesky(slack_matrix) is None:  # g was too small by a rounding
        level *= 4.0
        slack_matrix[n, n] = g = g + level
    matrix = np.empty((n + 1, n + 1))
    matrix[:n, :n] = np.outer(first, first) + covariance
    matrix[:n, n] = matrix[n, :n] = first
    matrix[n, n] = 1.0
    slack = polygons.heights(multipliers) - t[:, None]
    return _State(matrix, weight, multipliers, t, g, slack, slack_matrix)


@dataclass(frozen=True, eq=False)
class _Step:
    """A search direction: the changes of the fields of :class:`_State`."""

    matrix: Array
    weight: Array
    multipliers: Array
    t: Array
    g: float
    slack: Array
    slack_matrix: Array


class _Newton:
    """The factored Newton system at one iterate, in the unknowns (lam, mu, -g/2) or (lam, -g/2)."""

    def __init__(
        self, state: _State, inverse: Array, polygons: _Polygons, factor: Array, mean: Array
    ) -> None:
        self.state = state
        self.inverse = inverse
        self.polygons = polygons
        self.factor = factor
        self.mean = mean
        self.ratio = state.weight / state.slack

    @classmethod
    def at(cls, state: _State, inverse: Array, polygons: _Polygons) -> _Newton | None:
        """None where rounding has made the system indefinite."""
        ratio = state.weight / state.slack
        mean = polygons.moments(ratio) / ratio.sum(axis=1)
        factor = _cholesky(_newton_matrix(state.matrix, inverse, ratio, mean, polygons))
        return None if factor is None else cls(state, inverse, polygons, factor, mean)

    def step(self, level: float, predictor: _Step | None = None) -> _Step:
        """The direction to complementarity `level`, corrected by the predictor's products."""
        state, w, polygons, ratio = self.state, self.inverse, self.polygons, self.ratio
        n = len(w) - 1
        target = np.full_like(state.slack, level)
        diagonal, border = level * w.diagonal(), 2.0 * level * w[:, n]
        product = None
        if predictor is not None:
            target -= predictor.weight * predictor.slack
            product = _times_arrow(predictor.matrix, predictor.slack_matrix)
            diagonal = diagonal - np.einsum("ij,ij->i", product, w)
            border = border - product @ w[:, n] - w @ product[n]
        target /= state.slack
        # the weights of each polygon still sum to 1 after the step: that fixes the change of t
        excess = 1.0 - target.sum(axis=1) if polygons.bounded else np.zeros(n)
        right = np.empty(len(self.factor))
        right[:-1] = (polygons.moments(target) + self.mean * excess).ravel()
        right[:-1] -= polygons.fold(diagonal[:n], border[:n])
        right[-1] = 2.0 - border[n]
        unknowns, _ = lapack.dpotrs(self.factor, right, lower=0)

        multipliers = unknowns[:-1].reshape(-1, n)
        g = -2.0 * float(unknowns[-1])
        slack = polygons.heights(multipliers)
        t = np.zeros(n)
        if polygons.bounded:
            t = (excess + (ratio * slack).sum(axis=1)) / ratio.sum(axis=1)
            slack = slack - t[:, None]
        weight = target - state.weight - ratio * slack
        slack_matrix = _slack_matrix(np.zeros((n, n)), np.zeros(n), *polygons.unfold(multipliers), g)
        change = _times_arrow(state.matrix, slack_matrix)
        if product is not None:
            change += product
        change = change @ w
        matrix = level * w - state.matrix - 0.5 * (change + change.T)
        return _Step(matrix, weight, multipliers, t, g, slack, slack_matrix)


def _advance(state: _State, inverse: Array, form: Array, linear: Array, polygons: _Polygons) -> bool:
    """One predictor-corrector step; False if rounding allows none."""
    newton = _Newton.at(state, inverse, polygons)
    if newton is None:
        return False
    now = state.complementarity()
    predictor = newton.step(0.0)
    then = state.complementarity(predictor, *_lengths(state, predictor))
    step = newton.step(max(min(then / now, 1.0) ** 2, 1e-6) * now, predictor)
    primal, dual = _lengths(state, step)
    fraction = STEP[0] + (STEP[1] - STEP[0]) * min(primal, dual, 1.0)
    primal, dual = min(1.0, fraction * primal), min(1.0, fraction * dual)
    if max(primal, dual) < SHORTEST:
        return False
    state.matrix = state.matrix + primal * step.matrix
    state.weight = state.weight + primal * step.weight
    state.multipliers = state.multipliers + dual * step.multipliers
    state.t = state.t + dual * step.t
    state.g += dual * step.g
    # from their definitions, so that the dual iterate stays feasible to the last digit
    state.slack = polygons.heights(state.multipliers) - state.t[:, None]
    state.slack_matrix = _slack_matrix(form, linear, *polygons.unfold(state.multipliers), state.g)
    return bool((state.slack > 0.0).all())


def _newton_matrix(x: Array, w: Array, ratio: Array, mean: Array, polygons: _Polygons) -> Array:
    """tr(A_i X A_j Z⁻¹) for W = Z⁻¹ and the constraints' A_i, plus the polygons' blocks; lower rows."""
    n = len(x) - 1
    k = len(polygons.features)
    x_last, w_last = x[:n, n], w[:n, n]
    outer = np.outer(x_last, w_last)
    lam_lam = x[:n, :n] * w[:n, :n]
    mu_lam = x_last * w[:n, :n] + w_last * x[:n, :n]
    mu_mu = outer + outer.T + w[n, n] * x[:n, :n] + x[n, n] * w[:n, :n]
    newton = np.empty((k * n + 1, k * n + 1))
    if polygons.bounded:
        newton[:n, :n] = lam_lam
        newton[n:-1, :n] = mu_lam
        newton[n:-1, n:-1] = mu_mu
    else:
        newton[:n, :n] = lam_lam - 0.5 * (mu_lam + mu_lam.T) + 0.25 * mu_mu
    newton[-1, :-1] = polygons.fold(2.0 * x_last * w_last, 2.0 * (x_last * w[n, n] + x[n, n] * w_last))
    newton[-1, -1] = 4.0 * x[n, n] * w[n, n]
    # with t eliminated the blocks are covariances of the features under the weights `ratio`
    features = polygons.features - mean[:, :, None] if polygons.bounded else polygons.features
    i = np.arange(n)
    for a in range(k):
        for b in range(a + 1):
            newton[a * n + i, b * n + i] += np.einsum("im,im,im->i", ratio, features[a], features[b])
    return newton


def _slack_matrix(form: Array, linear: Array, lam: Array, mu: Array, g: float) -> Array:
    """Z = [[P - diag(lam), q - mu], [(q - mu)ᵀ, g]]."""
    n = len(lam)
    z = np.empty((n + 1, n + 1))
    z[:n, :n] = form
    z[np.arange(n), np.arange(n)] -= lam
    z[:n, n] = z[n, :n] = linear - mu
    z[n, n] = g
    return z


def _times_arrow(x: Array, arrow: Array) -> Array:
    """x @ arrow, for a matrix that is zero off its diagonal, its last row and its last column."""
    product = x * arrow.diagonal()
    product[:, -1] += x[:, :-1] @ arrow[:-1, -1]
    product[:, :-1] += np.outer(x[:, -1], arrow[-1, :-1])
    return product


def _lengths(state: _State, step: _Step) -> tuple[float, float]:
    """Primal and dual step to about the boundary of the cones, at most 1 / STEP[0]."""
    return (
        _longest(state.matrix, step.matrix, _ratio_test(state.weight, step.weight)),
        _longest(state.slack_matrix, step.slack_matrix, _ratio_test(state.slack, step.slack)),
    )


def _ratio_test(values: Array, change: Array) -> float:
    """Longest step, at most 1 / STEP[0], that keeps values + step * change non-negative."""
    steepest = float((-change / values).max())
    return 1.0 / max(steepest, STEP[0])


def _longest(matrix: Array, change: Array, length: float) -> float:
    """A step not longer than `length` to a positive definite matrix, by trial: fine near 1."""
    while length >= SHORTEST:
        if _cholesky(matrix + length * change) is not None:
            return length
        length = max(SHRINK * length, length - FINE - abs(1.0 - length))
    return 0.0


def _cholesky(matrix: Array) -> Array | None:
    """Factor of a symmetric matrix given by its lower rows, as LAPACK's upper one, or None."""
    factor, info = lapack.dpotrf(matrix.T, lower=0, clean=0)
    return factor if info == 0 else None


def _inverse(matrix: Array) -> Array | None:
    """Inverse of a symmetric positive definite matrix, or None."""
    factor = _cholesky(matrix)
    if factor is None:
        return None
    half, info = lapack.dpotri(factor, lower=0, overwrite_c=1)
    if info != 0:
        return None
    inverse: Array = np.triu(half) + np.triu(half, 1).T
    return inverse
