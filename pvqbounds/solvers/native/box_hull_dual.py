"""The box-hull and Park-Boyd SDPs by a feasible primal-dual interior-point method, many at a time.

It solves the dual pair of :mod:`pvqbounds.relaxations.box_hull`. Written for its structure: the
constraints touch only the diagonal and the last column of the matrix variable

    X = [[D, d], [dᵀ, 1]]      with slack      Z = [[P - diag(lam), q - mu], [(q - mu)ᵀ, g]],

so that the Newton matrix is put together from element-wise products of X and Z⁻¹ (as in the
max-cut method of Helmberg, Rendl, Vanderbei and Wolkowicz, SIAM J. Optim. 6, 1996), the
polygons add 2 x 2 blocks, and an iteration costs O(n³) whatever the number of vertices. The
search direction is theirs (HKM), with Mehrotra's predictor and corrector. Both iterates start
feasible and stay so up to rounding; every dual iterate therefore is a proof in the making.

The channels of a layer share P. They are solved in batches, in step with one another, on NumPy
arrays or PyTorch tensors (:mod:`pvqbounds.solvers.native.arrays`): the first axis of every array
is the batch, and a channel leaves the batch when it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.relaxations.box_hull import BoxHullSDP, definite_multipliers, dual_value
from pvqbounds.solvers.base import Clock, SDPSolution
from pvqbounds.solvers.conic import single_point
from pvqbounds.solvers.native.arrays import NUMPY, Arrays

__all__ = ["solve_box_hull", "solve_box_hulls"]

STEP = (0.9, 0.98)
"""Fractions of the way to the boundary that are taken: of short and of full Newton steps."""

FINE, SHRINK, COARSE = 0.05, 0.7, 0.5
"""Trial lengths in the positive definite cone: least decrease near a full step, factor elsewhere;
factor for a predictor, whose length only sets the next target."""

GROWTH = 1.6
"""The first trial is at most so many times the length found in the iteration before: most trials
of a longer one would fail, and each costs a factorisation."""

HOPE = 0.3
"""The first trial is at least this, however short the last length was."""

VALUE_FLOOR = 1e-6
"""Values below this share of the trace of P count as this share in a relative gap."""

SHORTEST = 1e-6
"""A step shorter than this ends the iteration."""

NULL_VALUE = 1e-9
"""Eigenvalues of P, scaled to unit diagonal, that count as zero in the Park-Boyd dual."""

NULL_WEIGHT = 1e-12
"""Squared share in a null vector that ties an input to the null space."""


def solve_box_hull(sdp: BoxHullSDP, *, tolerance: float = 1e-6, max_iterations: int = 60) -> SDPSolution:
    """Solve one relaxation; see :func:`solve_box_hulls`."""
    return solve_box_hulls([sdp], tolerance=tolerance, max_iterations=max_iterations)[0]


def solve_box_hulls(
    sdps: Sequence[BoxHullSDP],
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 60,
    clock: Clock | None = None,
    arrays: Arrays = NUMPY,
) -> list[SDPSolution]:
    """Solve relaxations that share their form P, each to a relative gap of `tolerance`.

    Parameters
    ----------
    sdps
        From :func:`pvqbounds.relaxations.box_hull.box_hull` or ``park_boyd``, all of one kind.
    tolerance
        Largest difference of the primal and the dual value, relative to the value (or to
        1e-6 of the trace of P where the value is smaller than that).
    max_iterations
        Newton steps at most.
    clock
        Ends the iteration between two steps; what is known by then is a valid, weaker bound.
    arrays
        Where to compute.

    Returns
    -------
    Multipliers with P - diag(lam) positive definite, and the primal moments. `value` is the dual
    value at the multipliers, so never above the SDP's optimum. The status is "solved", or says
    at which relative gap rounding (or a limit) ended the iteration.

    Notes
    -----
    A singular P leaves the dual of Park and Boyd without interior: the inputs that take part in the
    null space are eliminated first. S then is definite only because lam is a few roundings below
    zero there, which the box of a certificate pays for.
    """
    if not sdps:
        return []
    first = sdps[0]
    limits = _Limits(tolerance, max_iterations, clock)
    if not first.chord:
        solutions = _without_null_space(sdps, limits, arrays)
    elif first.qmin == first.qmax:
        return [single_point(sdp) for sdp in sdps]
    else:
        solutions = _solve_by_vertices(sdps, limits, arrays)
    return [_made_definite(sdp, solution) for sdp, solution in zip(sdps, solutions, strict=True)]


@dataclass(frozen=True)
class _Limits:
    """When the iteration ends."""

    tolerance: float
    max_iterations: int
    clock: Clock | None


def _made_definite(sdp: BoxHullSDP, solution: SDPSolution) -> SDPSolution:
    lam, nu = definite_multipliers(sdp, solution.lam, solution.nu, solution.mean)
    return replace(solution, lam=lam, nu=nu)


def _solve_by_vertices(sdps: Sequence[BoxHullSDP], limits: _Limits, arrays: Arrays) -> list[SDPSolution]:
    """Solve those with equally many tangents together: their arrays have one shape."""
    solutions: dict[int, SDPSolution] = {}
    for count in {sdp.tangent.shape[1] for sdp in sdps}:
        members = [i for i, sdp in enumerate(sdps) if sdp.tangent.shape[1] == count]
        part = _solve([sdps[i] for i in members], limits, arrays)
        solutions.update(zip(members, part, strict=True))
    return [solutions[i] for i in range(len(sdps))]


def _without_null_space(sdps: Sequence[BoxHullSDP], limits: _Limits, arrays: Arrays) -> list[SDPSolution]:
    """Park-Boyd for any P.

    On a null vector v of P feasibility asks for sum_i lam_i v_i² <= 0, so that lam is zero on every
    input that takes part in the null space. Those inputs are free of constraints: minimising over
    them leaves the same problem in the others, with the Schur complement for P and the same c.
    """
    form, n = sdps[0].form, sdps[0].n
    diagonal = form.diagonal()
    root = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(form / np.outer(root, root))
    null = vectors[:, values <= NULL_VALUE]
    tied = (null * null).sum(axis=1) > NULL_WEIGHT
    if not tied.any():
        return _solve(sdps, limits, arrays)
    rest = ~tied
    if not rest.any():
        nothing = np.zeros(n)
        return [
            SDPSolution(nothing, nothing, 0.0, sdp.centre.copy(), np.zeros((n, n)), "solved") for sdp in sdps
        ]
    follow = -np.linalg.pinv(form[np.ix_(tied, tied)], hermitian=True) @ form[np.ix_(tied, rest)]
    reduced = form[np.ix_(rest, rest)] + form[np.ix_(rest, tied)] @ follow
    reduced = 0.5 * (reduced + reduced.T)
    parts = [
        replace(
            sdp,
            form=reduced,
            centre=sdp.centre[rest],
            reference=sdp.reference[rest],
            tangent=sdp.tangent[rest],
        )
        for sdp in sdps
    ]
    lift = np.zeros((n, int(rest.sum())))
    lift[rest], lift[tied] = np.eye(lift.shape[1]), follow
    solutions = []
    for sdp, part in zip(sdps, _solve(parts, limits, arrays), strict=True):
        lam, nu, mean = np.zeros(n), np.zeros(n), sdp.centre.copy()
        lam[rest], nu[rest], mean[rest] = part.lam, part.nu, part.mean
        mean[tied] += follow @ (part.mean - sdp.centre[rest])
        covariance = lift @ part.covariance @ lift.T
        solutions.append(SDPSolution(lam, nu, part.value, mean, covariance, part.status))
    return solutions


# ------------------------------------------------------------------------------------ iteration


@dataclass(frozen=True, eq=False)
class _Task:
    """The data of a batch; k = 2 multipliers an input, or 1 for half-planes."""

    arrays: Arrays
    form: Any
    """P, shape (n, n): shared."""
    linear: Any
    """q, shape (B, n)."""
    constant: Any
    """Shape (B,)."""
    features: Any
    """Slack s_iv = sum_k features_kiv multiplier_ki - t_i, shape (B, k, n, m)."""
    bounded: bool
    """Box-hull: t is free and the weights of the vertices sum to 1. Park-Boyd: t = 0."""

    @property
    def n(self) -> int:
        """Fan-in."""
        return int(self.linear.shape[-1])

    def only(self, chosen: Any) -> _Task:
        """The task of the chosen channels."""
        parts = {name: getattr(self, name)[chosen] for name in ("linear", "constant", "features")}
        return replace(self, **parts)

    def heights(self, multipliers: Any) -> Any:
        """sum_k features_k multiplier_k, shape (B, n, m)."""
        return (self.features * multipliers[..., None]).sum(1)

    def moments(self, weights: Any) -> Any:
        """sum_v features_kiv weight_iv, shape (B, k, n)."""
        return (self.features * weights[:, None]).sum(-1)

    def unfold(self, multipliers: Any) -> tuple[Any, Any]:
        """(lam, mu), each of shape (B, n)."""
        if self.bounded:
            return multipliers[:, 0], multipliers[:, 1]
        return multipliers[:, 0], -0.5 * multipliers[:, 0]

    def fold(self, lam_part: Any, mu_part: Any) -> Any:
        """Adjoint of :meth:`unfold` along the last axis: shape (B, k n)."""
        if self.bounded:
            return self.arrays.xp.concatenate([lam_part, mu_part], -1)
        return lam_part - 0.5 * mu_part

    def slack_matrix(self, multipliers: Any, g: Any) -> Any:
        """Z = [[P - diag(lam), q - mu], [(q - mu)ᵀ, g]], shape (B, n + 1, n + 1)."""
        n = self.n
        lam, mu = self.unfold(multipliers)
        z = self.arrays.empty(len(lam), n + 1, n + 1)
        z[:, :n, :n] = self.form
        i = np.arange(n)
        z[:, i, i] = z[:, i, i] - lam
        z[:, :n, n] = z[:, n, :n] = self.linear - mu
        z[:, n, n] = g
        return z


@dataclass(eq=False)
class _State:
    """Iterates of a batch."""

    matrix: Any
    """X, shape (B, n + 1, n + 1)."""
    weight: Any
    """Weights of the vertices (Park-Boyd: primal slacks), shape (B, n, m)."""
    multipliers: Any
    """(lam, mu) or lam, shape (B, k, n)."""
    t: Any
    """Shape (B, n)."""
    g: Any
    """Shape (B,)."""
    slack: Any
    """s, shape (B, n, m)."""
    slack_matrix: Any
    """Z, shape (B, n + 1, n + 1)."""
    reach: Any
    """Lengths found last, of the predictor and of the step, primal and dual, shape (B, 4)."""

    def only(self, chosen: Any) -> _State:
        """The chosen channels."""
        return _State(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def complementarity(self) -> Any:
        """Mean of the products of the pairs (X, Z) and (weight, s), shape (B,)."""
        total = (self.matrix * self.slack_matrix).sum((-2, -1)) + (self.weight * self.slack).sum((-2, -1))
        return total / self._pairs

    def complementarity_after(self, step: _Step, primal: Any, dual: Any) -> Any:
        """:meth:`complementarity` after a step of these lengths, shape (B,)."""
        x = self.matrix + primal[:, None, None] * step.matrix
        w = self.weight + primal[:, None, None] * step.weight
        s = self.slack + dual[:, None, None] * step.slack
        arrow = step.inner(x)
        total = (x * self.slack_matrix).sum((-2, -1)) + dual * arrow + (w * s).sum((-2, -1))
        return total / self._pairs

    @property
    def _pairs(self) -> int:
        return int(self.matrix.shape[-1] + self.weight.shape[-2] * self.weight.shape[-1])


@dataclass(frozen=True, eq=False)
class _Step:
    """A search direction: changes of the fields of :class:`_State`.

    The change of Z is an arrow, zero but for its diagonal, last row and last column:
    [[-diag(lam), -mu], [-muᵀ, g]].
    """

    matrix: Any
    weight: Any
    multipliers: Any
    lam: Any
    mu: Any
    t: Any
    g: Any
    slack: Any

    def times(self, x: Any) -> Any:
        """x @ arrow, for full matrices x (B, n + 1, n + 1)."""
        n = self.lam.shape[-1]
        product = x * 1.0
        product[:, :, :n] = x[:, :, :n] * -self.lam[:, None] - x[:, :, n:] * self.mu[:, None]
        product[:, :, n] = x[:, :, n] * self.g[:, None] - (x[:, :, :n] @ self.mu[..., None])[..., 0]
        return product

    def inner(self, x: Any) -> Any:
        """tr(x @ arrow) for symmetric x, shape (B,)."""
        n = self.lam.shape[-1]
        diagonal = x.diagonal(0, -2, -1)
        return (
            -(diagonal[:, :n] * self.lam).sum(-1)
            - 2.0 * (x[:, :n, n] * self.mu).sum(-1)
            + diagonal[:, n] * self.g
        )

    def arrow(self) -> Any:
        """The change of Z, (B, n + 1, n + 1)."""
        n = self.lam.shape[-1]
        z = self.matrix * 0.0
        i = np.arange(n)
        z[:, i, i] = -self.lam
        z[:, :n, n] = z[:, n, :n] = -self.mu
        z[:, n, n] = self.g
        return z


def _task_of(sdps: Sequence[BoxHullSDP], arrays: Arrays) -> _Task:
    first = sdps[0]
    if first.chord:
        features = np.stack([np.stack([y, 2.0 * x]) for x, y in (sdp.vertices for sdp in sdps)])
    else:
        features = np.ones((len(sdps), 1, first.n, 1))
    return _Task(
        arrays,
        arrays.array(first.form),
        arrays.array(np.stack([sdp.linear for sdp in sdps])),
        arrays.array(np.array([sdp.constant for sdp in sdps])),
        arrays.array(features),
        first.chord,
    )


def _solve(sdps: Sequence[BoxHullSDP], limits: _Limits, arrays: Arrays) -> list[SDPSolution]:
    task = _task_of(sdps, arrays)
    state = _start(task)
    floor = VALUE_FLOOR * task.n
    count = len(sdps)
    members = np.arange(count)
    """Number of each channel of the batch in `sdps`."""
    best, gap = np.full(count, -np.inf), np.full(count, np.inf)
    chosen = arrays.numpy(state.multipliers).copy()
    moments: list[NDArray[np.float64]] = [arrays.numpy(one) for one in state.matrix]
    for _ in range(limits.max_iterations):
        factor, definite = arrays.cholesky(state.slack_matrix)
        if not definite.all():
            task, state, members = _keep(definite, task, state, members)
            if len(members) == 0:
                break
            factor, _ = arrays.cholesky(state.slack_matrix)
        inverse = arrays.inverse(factor)
        dual, primal = (arrays.numpy(values) for values in _values(task, state, inverse))
        better = dual > best[members]
        for position in np.flatnonzero(better):
            member = members[position]
            best[member] = dual[position]
            chosen[member] = arrays.numpy(state.multipliers[position])
            moments[member] = arrays.numpy(state.matrix[position])
        gap[members] = (primal - best[members]) / np.maximum(np.abs(best[members]), floor)
        going_on = gap[members] > limits.tolerance
        if not going_on.all():
            inverse = inverse[arrays.index(np.flatnonzero(going_on))]
            task, state, members = _keep(going_on, task, state, members)
        if len(members) == 0 or (limits.clock is not None and limits.clock.expired):
            break
        moved = _advance(task, state, inverse)
        if not moved.all():
            task, state, members = _keep(moved, task, state, members)
        if len(members) == 0:
            break
    return [
        _solution(sdp, chosen[i], moments[i], best[i], gap[i], limits.tolerance) for i, sdp in enumerate(sdps)
    ]


def _solution(
    sdp: BoxHullSDP,
    multipliers: NDArray[np.float64],
    matrix: NDArray[np.float64],
    value: float,
    gap: float,
    tolerance: float,
) -> SDPSolution:
    lam, mu = multipliers if sdp.chord else (multipliers[0], -0.5 * multipliers[0])
    mean = matrix[:-1, -1]
    covariance = matrix[:-1, :-1] - np.outer(mean, mean)
    nu = sdp.nu_of(lam, mu)
    status = "solved" if gap <= tolerance else f"stopped at a relative gap of {gap:.1e}"
    if value == -np.inf:
        value = dual_value(sdp, lam, nu)
    return SDPSolution(lam, nu, float(value), sdp.reference + mean, covariance, status)


def _keep(
    wanted: NDArray[np.bool_], task: _Task, state: _State, members: NDArray[np.int64]
) -> tuple[_Task, _State, NDArray[np.int64]]:
    """The batch without the channels that are done."""
    index = task.arrays.index(np.flatnonzero(wanted))
    return task.only(index), state.only(index), members[wanted]


def _values(task: _Task, state: _State, inverse: Any) -> tuple[Any, Any]:
    """Dual and primal values, shape (B,); g and the t are taken at their best for lam and mu."""
    xp, n = task.arrays.xp, task.n
    dual = task.constant - state.g + 1.0 / inverse[:, n, n]
    if task.bounded:
        dual = dual + (state.t + xp.amin(state.slack, -1)).sum(-1)
    linear = (task.linear * state.matrix[:, :n, n]).sum(-1)
    primal = task.constant + (task.form * state.matrix[:, :n, :n]).sum((-2, -1)) + 2.0 * linear
    return dual, primal


def _start(task: _Task) -> _State:
    """Strictly feasible iterates not far from the central path."""
    arrays, xp, n = task.arrays, task.arrays.xp, task.n
    form = arrays.numpy(task.form)
    count = len(task.linear)
    if task.bounded:
        # a mixture of vertices that favours those near z = r, and lam far below zero
        x = 0.5 * task.features[:, 1]
        weight = (1.0 + x * x) ** -0.5
        weight = weight / weight.sum(-1)[..., None]
        second, twice_first = (task.moments(weight)[:, part] for part in (0, 1))
        first = 0.5 * twice_first
        variance = second - first * first
        depth = float(form.diagonal().max()) or 1.0
        lam = arrays.array(np.full((count, n), -depth))
        stiff = arrays.array(form + depth * np.eye(n))
        pushed = first @ stiff
        multipliers = xp.stack([lam, task.linear + pushed], 1)
        level = (variance * stiff.diagonal()).mean(-1)
        t = xp.amin(task.heights(multipliers), -1) - level[:, None]
        g = (first * pushed).sum(-1) + level
        covariance = arrays.array(np.zeros((count, n, n)))
        i = np.arange(n)
        covariance[:, i, i] = variance
    else:
        # lam halfway to the least eigenvalue relative to the diagonal, and X a multiple of Z⁻¹
        root = np.sqrt(form.diagonal())
        least = float(np.linalg.eigvalsh(form / np.outer(root, root))[0])
        lam_one = 0.5 * least * form.diagonal()
        lam = arrays.array(np.tile(lam_one, (count, 1)))
        multipliers = lam[:, None]
        inverse = np.linalg.inv(form - np.diag(lam_one))
        pull = -0.5 * lam - task.linear
        first = pull @ arrays.array(inverse)
        height = 0.5 / float(inverse.diagonal().min())
        level = arrays.array(np.full(count, height))
        covariance = arrays.array(np.tile(height * inverse, (count, 1, 1)))
        weight = (covariance.diagonal(0, -2, -1) + first * (first - 1.0))[..., None]
        t = 0.0 * lam
        g = (first * pull).sum(-1) + level
    slack_matrix = task.slack_matrix(multipliers, g)
    while True:  # g may be too small by a rounding
        definite = arrays.cholesky(slack_matrix)[1]
        if definite.all():
            break
        level = 4.0 * level
        g = g + xp.where(arrays.index(definite), 0.0 * level, level)
        slack_matrix[:, n, n] = g
    matrix = arrays.empty(count, n + 1, n + 1)
    matrix[:, :n, :n] = first[:, :, None] * first[:, None] + covariance
    matrix[:, :n, n] = matrix[:, n, :n] = first
    matrix[:, n, n] = 1.0
    slack = task.heights(multipliers) - t[..., None]
    reach = arrays.array(np.full((count, 4), np.inf))
    return _State(matrix, weight, multipliers, t, g, slack, slack_matrix, reach)


class _Newton:
    """The factored Newton system at one iterate, in the unknowns (lam, mu, -g/2) or (lam, -g/2)."""

    def __init__(self, task: _Task, state: _State, inverse: Any) -> None:
        self.task, self.state, self.inverse = task, state, inverse
        self.ratio = state.weight / state.slack
        self.mean = task.moments(self.ratio) / self.ratio.sum(-1)[:, None]
        self.factor, self.definite = task.arrays.cholesky(self._matrix())
        """Factors, and whether each system is definite, as it is but for rounding."""

    def _matrix(self) -> Any:
        """tr(A_i X A_j Z⁻¹) for W = Z⁻¹ and the constraints' A_i, plus the polygons' blocks; lower rows."""
        task, xp, x, w, ratio = self.task, self.task.arrays.xp, self.state.matrix, self.inverse, self.ratio
        n, k = task.n, task.features.shape[1]
        inner_x, inner_w = x[:, :n, :n], w[:, :n, :n]
        x_last, w_last = x[:, :n, n], w[:, :n, n]
        x_corner, w_corner = x[:, n, n], w[:, n, n]
        newton = task.arrays.empty(len(x), k * n + 1, k * n + 1)
        lam_lam = inner_x * inner_w
        mu_lam = x_last[:, None] * inner_w + w_last[:, None] * inner_x
        outer = x_last[:, :, None] * w_last[:, None]
        mu_mu = outer + xp.swapaxes(outer, -1, -2)
        mu_mu += w_corner[:, None, None] * inner_x
        mu_mu += x_corner[:, None, None] * inner_w
        if task.bounded:
            newton[:, :n, :n] = lam_lam
            newton[:, n:-1, :n] = mu_lam
            newton[:, n:-1, n:-1] = mu_mu
        else:
            newton[:, :n, :n] = lam_lam - 0.5 * (mu_lam + xp.swapaxes(mu_lam, -1, -2)) + 0.25 * mu_mu
        cross = x_last * w_corner[:, None] + x_corner[:, None] * w_last
        newton[:, -1, :-1] = task.fold(2.0 * x_last * w_last, 2.0 * cross)
        newton[:, -1, -1] = 4.0 * x_corner * w_corner
        # with t eliminated the blocks are covariances of the features under the weights `ratio`
        features = task.features - self.mean[..., None] if task.bounded else task.features
        i = np.arange(n)
        for a in range(k):
            weighted = ratio * features[:, a]
            for b in range(a + 1):
                rows, columns = a * n + i, b * n + i
                newton[:, rows, columns] = newton[:, rows, columns] + (weighted * features[:, b]).sum(-1)
        return newton

    def step(self, level: Any, predictor: _Step | None = None) -> _Step:
        """The direction to complementarity `level`, (B,), corrected by the predictor's products."""
        task, state, w, ratio = self.task, self.state, self.inverse, self.ratio
        n, xp = task.n, task.arrays.xp
        target = xp.zeros_like(state.slack) + level[:, None, None]
        diagonal = level[:, None] * w.diagonal(0, -2, -1)
        border = 2.0 * level[:, None] * w[:, :, n]
        product = None
        if predictor is not None:
            target -= predictor.weight * predictor.slack
            product = predictor.times(predictor.matrix)
            diagonal = diagonal - (product * w).sum(-1)
            border = border - (product @ w[:, :, n:])[..., 0] - (w @ product[:, n, :, None])[..., 0]
        target /= state.slack
        # the weights of each polygon still sum to 1 after the step: that fixes the change of t
        excess = 1.0 - target.sum(-1) if task.bounded else 0.0 * state.t
        gradient = task.moments(target) + self.mean * excess[:, None]
        right = xp.concatenate([gradient.reshape(len(w), -1), (2.0 - border[:, n])[:, None]], -1)
        right[:, :-1] -= task.fold(diagonal[:, :n], border[:, :n])
        unknowns = task.arrays.solve(self.factor, right)

        multipliers = unknowns[:, :-1].reshape(len(w), -1, n)
        g = -2.0 * unknowns[:, -1]
        slack = task.heights(multipliers)
        t = 0.0 * state.t
        if task.bounded:
            t = (excess + (ratio * slack).sum(-1)) / ratio.sum(-1)
            slack = slack - t[..., None]
        weight = target - state.weight - ratio * slack
        lam, mu = task.unfold(multipliers)
        step = _Step(state.matrix, weight, multipliers, lam, mu, t, g, slack)
        change = step.times(state.matrix)
        if product is not None:
            change += product
        change = change @ w
        matrix = level[:, None, None] * w
        matrix -= state.matrix
        matrix -= 0.5 * (change + xp.swapaxes(change, -1, -2))
        return replace(step, matrix=matrix)


def _advance(task: _Task, state: _State, inverse: Any) -> NDArray[np.bool_]:
    """One predictor-corrector step in place; False for the channels where rounding allows none."""
    xp, arrays = task.arrays.xp, task.arrays
    newton = _Newton(task, state, inverse)
    if not newton.definite.all():  # they leave the batch; the others are not held up for their sake
        if not newton.definite.any():
            return newton.definite
        index = arrays.index(np.flatnonzero(newton.definite))
        part = state.only(index)
        moved = newton.definite.copy()
        moved[newton.definite] = _advance(task.only(index), part, inverse[index])
        for field in fields(state):
            getattr(state, field.name)[index] = getattr(part, field.name)
        return moved
    now = state.complementarity()
    predictor = newton.step(0.0 * now)
    then = state.complementarity_after(predictor, *_lengths(arrays, state, predictor, 0, COARSE))
    centring = xp.clip(xp.clip(then / now, None, 1.0) ** 2, 1e-6, None)
    step = newton.step(centring * now, predictor)
    primal, dual = _lengths(arrays, state, step, 2, SHRINK)
    fraction = STEP[0] + (STEP[1] - STEP[0]) * xp.clip(xp.minimum(primal, dual), None, 1.0)
    primal, dual = xp.clip(fraction * primal, None, 1.0), xp.clip(fraction * dual, None, 1.0)
    long_enough = arrays.numpy(xp.maximum(primal, dual)) >= SHORTEST
    state.matrix = state.matrix + primal[:, None, None] * step.matrix
    state.weight = state.weight + primal[:, None, None] * step.weight
    state.multipliers = state.multipliers + dual[:, None, None] * step.multipliers
    state.t = state.t + dual[:, None] * step.t
    state.g = state.g + dual * step.g
    # from their definitions, so that the dual iterate stays feasible to the last digit
    state.slack = task.heights(state.multipliers) - state.t[..., None]
    state.slack_matrix = task.slack_matrix(state.multipliers, state.g)
    feasible = arrays.numpy(xp.amin(xp.amin(state.slack, -1), -1)) > 0.0
    return np.asarray(long_enough & feasible)


def _lengths(arrays: Arrays, state: _State, step: _Step, slot: int, shrink: float) -> tuple[Any, Any]:
    """Primal and dual steps to about the boundary of the cones, (B,), at most 1 / STEP[0].

    They are noted in two columns of ``state.reach``, from `slot` on.
    """
    pairs = (
        (state.weight, step.weight, state.matrix, step.matrix),
        (state.slack, step.slack, state.slack_matrix, step.arrow()),
    )
    for column, (values, change, matrix, matrix_change) in enumerate(pairs, start=slot):
        hoped = np.maximum(GROWTH * arrays.numpy(state.reach[:, column]), HOPE)
        longest = np.minimum(_ratio_test(arrays, values, change), hoped)
        state.reach[:, column] = _longest(arrays, matrix, matrix_change, longest, shrink)
    return state.reach[:, slot], state.reach[:, slot + 1]


def _ratio_test(arrays: Arrays, values: Any, change: Any) -> NDArray[np.float64]:
    """Longest steps, (B,), at most 1 / STEP[0], that keep values + step * change non-negative."""
    xp = arrays.xp
    steepest = arrays.numpy(xp.amax(xp.amax(-change / values, -1), -1))
    return np.asarray(1.0 / np.maximum(steepest, STEP[0]))


def _longest(arrays: Arrays, matrix: Any, change: Any, length: NDArray[np.float64], shrink: float) -> Any:
    """Steps not longer than `length` to positive definite matrices, by trial: fine near 1."""
    length = length.copy()
    todo = np.arange(len(length))
    while len(todo):
        step = arrays.array(length[todo])[:, None, None]
        if len(todo) == len(length):
            definite = arrays.cholesky(matrix + step * change)[1]
        else:
            index = arrays.index(todo)
            definite = arrays.cholesky(matrix[index] + step * change[index])[1]
        todo = todo[~definite]
        shorter = np.maximum(shrink * length[todo], length[todo] - FINE - np.abs(1.0 - length[todo]))
        length[todo] = np.where(shorter < SHORTEST, 0.0, shorter)
        todo = todo[length[todo] > 0.0]
    return arrays.array(length)
