"""The box-hull and Park-Boyd SDPs by a primal-dual interior-point method, many at a time.

It solves the dual pair of :mod:`pvqbounds.relaxations.box_hull`. On the dual side stand lam and y,
with S = P - diag(lam) and mu = q - S y, so that the g of that module is yᵀSy: whatever lam with S
definite and whatever y there is, they are a proof. On the primal side stand the mean d = -y, shared
with the dual, the covariance C of shape (n, n) and the weights w of the polygons' vertices. They
are to satisfy, with s_iv = lam_i y_iv + 2 mu_i x_iv - t_i >= 0,

    C S = level I      w_iv s_iv = level      sum_v w_iv (1, x_iv, y_iv) = (1, d_i, d_i² + C_ii)

for a level that tends to zero. The directions are those of Helmberg, Rendl, Vanderbei and Wolkowicz
(SIAM J. Optim. 6, 1996; "HKM") with Mehrotra's corrector. The constraints touch the diagonal alone,
so that the polygons and mu are eliminated by hand. With W = S⁻¹, the slope a_i and the spread b_i of
the vertices of an input (:meth:`.Arrays.polygon_blocks`), one system in the n changes of lam is left:

    C ∘ W + diag(k) V diag(k) + diag(rest),    k = a + y,    V = (S/2 + diag(1/b))⁻¹,

a sum of semidefinite matrices in which nothing cancels. An iteration costs two inverses, one
factorisation, two products and three or four trial factorisations, whatever the number of vertices.
The linear constraints hold only in the limit; what is returned does not lean on them: any multipliers
are a proof, and the primal value is that of a nearby feasible point (:func:`_values`).

The channels of a layer share P. They are solved in batches, in step with one another, on NumPy
arrays or PyTorch tensors (:mod:`pvqbounds.solvers.native.arrays`): the first axis of every array
is the batch, and a channel leaves the batch when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.box_hull import BoxHullSDP, definite_multipliers, dual_value
from pvqbounds.solvers.base import Clock, SDPSolution
from pvqbounds.solvers.conic import single_point
from pvqbounds.solvers.native.arrays import NUMPY, Arrays

__all__ = ["solve_box_hull", "solve_box_hulls"]

STEP = (0.9, 0.98)
"""Fractions of the way to the boundary that are taken: of short and of full Newton steps."""

SHRINK = 0.7
"""Factor from one trial length in the positive definite cone to the next."""

GROWTH = 1.6
"""The first trial is at most so many times the length found in the iteration before: most trials
of a longer one would fail, and each costs a factorisation."""

HOPE = 0.3
"""The first trial is at least this, however short the last length was."""

CENTRING = 0.2
"""Least ratio of a target level to the level of an iterate."""

START_SHARE = 0.5
"""Share of the way to the boundary of definite S at which lam starts."""

START_LEVEL, START_GAP = 0.3, 0.1
"""Level at the start: in units of the median lam, and at least of the gap over the number of pairs."""

START_TRACE, START_RISE = 1000.0, 8.0
"""tr(C S) at the start is at most so many levels an input; else the level is raised by a factor."""

LEAST_VARIANCE = 1e-4
"""Least variance at the start, in squared codes."""

POWER_STEPS = 8
"""Steps of the power iteration for the boundary of definite S."""

RIDGE = 1e-9
"""Share of the diagonal that is added to P where its inverse tells the shape of the first lam."""

VALUE_FLOOR = 1e-6
"""Values below this share of the trace of P count as this share in a relative gap."""

NEAR, NARROWER, PATIENCE = 1e-3, 0.9, 4
"""Below such a gap so many iterations in which it does not shrink by the factor end the iteration:
rounding allows no more, and S only comes so near the boundary that nothing is proved."""

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
    """The data of a batch."""

    arrays: Arrays
    form: Any
    """P, shape (n, n): shared."""
    half: Any
    """P/2."""
    linear: Any
    """q, shape (B, n)."""
    constant: Any
    """Shape (B,)."""
    tangent: Any
    """Lower codes of the tangents, counted from r, shape (B, n, m - 1), or (B, n, 1) for half-planes."""
    features: Any
    """Box-hull: y and 2 x of the vertices, shape (B, 2, n, m). Park-Boyd: shape (B, 0, n, 1)."""

    @property
    def n(self) -> int:
        """Fan-in."""
        return int(self.linear.shape[-1])

    @property
    def bounded(self) -> bool:
        """Box-hull: t is free and the weights of the vertices sum to 1. Park-Boyd: t = 0."""
        return bool(self.features.shape[1])

    @property
    def pairs(self) -> int:
        """Number of complementary pairs of one channel."""
        return self.n * (1 + int(self.features.shape[-1]))

    def only(self, chosen: Any) -> _Task:
        """The task of the chosen channels."""
        names = ("linear", "constant", "tangent", "features")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def times(self, lam: Any, vector: Any) -> Any:
        """S times a vector of each channel, shape (B, n)."""
        return vector @ self.form - lam * vector

    def heights(self, lam: Any, mu: Any) -> Any:
        """lam y + 2 mu x at the vertices, shape (B, n, m); lam itself for half-planes."""
        if self.bounded:
            return self.features[:, 0] * lam[..., None] + self.features[:, 1] * mu[..., None]
        return lam[..., None]


@dataclass(eq=False)
class _State:
    """Iterates of a batch."""

    covariance: Any
    """C, shape (B, n, n)."""
    weight: Any
    """w (Park-Boyd: primal slacks), shape (B, n, m)."""
    mean: Any
    """d, shape (B, n)."""
    lam: Any
    """Shape (B, n)."""
    mu: Any
    """Shape (B, n)."""
    t: Any
    """Shape (B, n)."""
    slack: Any
    """s, shape (B, n, m)."""
    reach: Any
    """Lengths found last, primal and dual, shape (B, 2)."""

    def only(self, chosen: Any) -> _State:
        """The chosen channels."""
        return _State(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class _Step:
    """A search direction: changes of the fields of :class:`_State`."""

    covariance: Any
    weight: Any
    mean: Any
    lam: Any
    mu: Any
    t: Any
    slack: Any


def _task_of(sdps: Sequence[BoxHullSDP], arrays: Arrays) -> _Task:
    first = sdps[0]
    if first.chord:
        features = np.stack([np.stack([y, 2.0 * x]) for x, y in (sdp.vertices for sdp in sdps)])
    else:
        features = np.ones((len(sdps), 0, first.n, 1))
    return _Task(
        arrays,
        arrays.array(first.form),
        arrays.array(0.5 * first.form),
        arrays.array(np.stack([sdp.linear for sdp in sdps])),
        arrays.array(np.array([sdp.constant for sdp in sdps])),
        arrays.array(np.stack([sdp.tangent - sdp.reference[:, None] for sdp in sdps])),
        arrays.array(features),
    )


def _solve(sdps: Sequence[BoxHullSDP], limits: _Limits, arrays: Arrays) -> list[SDPSolution]:
    task = _task_of(sdps, arrays)
    state = _start(task, sdps)
    run = _Run(sdps, limits, task.n)
    for _ in range(limits.max_iterations):
        factor, definite = arrays.cholesky(arrays.minus_diagonal(task.form, state.lam))
        if not definite.all():
            task, state, _ = run.keep(definite, task, state)
            if run.over():
                break
            factor, _ = arrays.cholesky(arrays.minus_diagonal(task.form, state.lam))
        task, state, going_on = run.keep(run.note(task, state, factor), task, state)
        if run.over():
            break
        inverse = arrays.inverse(factor if going_on is None else factor[going_on])
        task, state, _ = run.keep(_advance(task, state, inverse), task, state)
        if run.over():
            break
    run.keep(np.zeros(len(run.members), dtype=np.bool_), task, state)
    return run.solutions()


class _Run:
    """The channels of a batch on their way: what is known of each, and which are still moving."""

    def __init__(self, sdps: Sequence[BoxHullSDP], limits: _Limits, n: int) -> None:
        self._sdps, self._limits = sdps, limits
        self._floor = VALUE_FLOOR * n
        count = len(sdps)
        self.members = np.arange(count)
        """Number of each channel of the batch in `sdps`."""
        self._best, self._primal = np.full(count, -np.inf), np.full(count, np.inf)
        self._mark, self._idle = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
        self._multipliers = np.zeros((count, 2, n))
        self._moments: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def over(self) -> bool:
        """Whether no channel is left, or no time."""
        clock = self._limits.clock
        return len(self.members) == 0 or (clock is not None and clock.expired)

    def note(self, task: _Task, state: _State, factor: Any) -> NDArray[np.bool_]:
        """Take down the values of the iterates; True for the channels that are not solved."""
        members, numpy = self.members, task.arrays.numpy
        dual, primal = (numpy(values) for values in _values(task, state, factor))
        better = dual > self._best[members]
        if better.any():
            risen = members[better]
            self._best[risen] = dual[better]
            self._multipliers[risen, 0] = numpy(state.lam)[better]
            self._multipliers[risen, 1] = numpy(state.mu)[better]
        self._primal[members] = np.fmin(self._primal[members], primal)
        gap = self._gap()[members]
        narrower = ~(gap > NARROWER * self._mark[members])
        self._mark[members] = np.where(narrower, gap, self._mark[members])
        self._idle[members] = np.where(narrower | (gap > NEAR), 0, self._idle[members] + 1)
        return np.asarray(~(gap <= self._limits.tolerance) & (self._idle[members] < PATIENCE))

    def keep(
        self, wanted: NDArray[np.bool_], task: _Task, state: _State
    ) -> tuple[_Task, _State, NDArray[np.int64] | None]:
        """The batch without the channels that are done, and the index of the rest if any are."""
        if wanted.all():
            return task, state, None
        numpy = task.arrays.numpy
        for position in np.flatnonzero(~wanted):
            moments = numpy(state.mean[position]), numpy(state.covariance[position])
            self._moments[self.members[position]] = moments
        self.members = self.members[wanted]
        index = task.arrays.index(np.flatnonzero(wanted))
        return task.only(index), state.only(index), index

    def solutions(self) -> list[SDPSolution]:
        """What the channels ended with."""
        gaps = self._gap()
        return [self._solution(sdp, i, gaps[i]) for i, sdp in enumerate(self._sdps)]

    def _gap(self) -> NDArray[np.float64]:
        return np.asarray((self._primal - self._best) / np.maximum(np.abs(self._best), self._floor))

    def _solution(self, sdp: BoxHullSDP, i: int, gap: float) -> SDPSolution:
        lam, mu = self._multipliers[i]
        mean, covariance = self._moments[i]
        nu = sdp.nu_of(lam, mu)
        status = "solved" if gap <= self._limits.tolerance else f"stopped at a relative gap of {gap:.1e}"
        value = self._best[i] if self._best[i] > -np.inf else dual_value(sdp, lam, nu)
        return SDPSolution(lam, nu, float(value), sdp.reference + mean, covariance, status)


def _values(task: _Task, state: _State, factor: Any) -> tuple[Any, Any]:
    """Dual values with the t at their best, and values of feasible primal points, shape (B,) each.

    The primal point has a mean inside the box and a covariance scaled row by row, so that every
    diagonal entry lies between what the tangents and what the chord allow of it: at the tangents
    where lam is positive, or where it was; the better of the two.
    """
    xp = task.arrays.xp
    lam, covariance = state.lam, state.covariance
    slope = task.linear - state.mu
    pull = task.arrays.solve(factor, 1.0 * slope)
    # slopeᵀS⁻¹slope, in a form in which the error of the solution counts but squared
    dual = task.constant - ((2.0 * slope - task.times(lam, pull)) * pull).sum(-1)
    mean, variance = state.mean, covariance.diagonal(0, -2, -1)
    if task.bounded:
        dual = dual + xp.amin(task.heights(lam, state.mu), -1).sum(-1)
        first, last = 0.5 * task.features[:, 1, :, 0], 0.5 * task.features[:, 1, :, -1]
        mean = xp.minimum(xp.maximum(mean, first), last)
    least = _least_variance(task, mean)
    inside = xp.maximum(variance, least)
    if task.bounded:
        inside = xp.minimum(inside, (mean - first) * (last - mean))
    value = task.constant + ((2.0 * task.linear + mean @ task.form) * mean).sum(-1)
    product = task.form * covariance
    spread = [
        (scale * _times(product, scale)).sum(-1)
        for scale in (xp.sqrt(xp.where(lam > 0.0, least, inside) / variance), xp.sqrt(inside / variance))
    ]
    return dual, value + xp.minimum(*spread)


def _least_variance(task: _Task, mean: Any) -> Any:
    """Variance that the tangents ask for at a mean, shape (B, n)."""
    off = mean[..., None] - task.tangent
    return task.arrays.xp.clip(task.arrays.xp.amax(off * (1.0 - off), -1), 0.0, None)


def _times(matrix: Any, vector: Any) -> Any:
    """Matrices (B, n, n) times vectors (B, n)."""
    return (matrix @ vector[..., None])[..., 0]


def _start(task: _Task, sdps: Sequence[BoxHullSDP]) -> _State:
    """Iterates near the central path, with lam in proportion to the conditional variances of P."""
    arrays, xp = task.arrays, task.arrays.xp
    first = sdps[0]
    lam_of_form = _first_lam(first.form)
    lam = arrays.array(np.tile(lam_of_form, (len(sdps), 1)))
    if task.bounded:
        points = [box_minimiser(sdp.form, sdp.centre, sdp.qmin, sdp.qmax) for sdp in sdps]
        mean = arrays.array(np.stack([x - sdp.reference for x, sdp in zip(points, sdps, strict=True)]))
    else:
        factor, _ = arrays.cholesky(arrays.minus_diagonal(task.form, lam))
        mean = arrays.solve(factor, -task.linear - 0.5 * lam)
    mu = task.linear + task.times(lam, mean)
    dual = ((task.linear - mu) * mean + 0.0 * lam).sum(-1)
    if task.bounded:
        dual = dual + xp.amin(task.heights(lam, mu), -1).sum(-1)
    spread = (_least_variance(task, mean) * task.form.diagonal(0, -2, -1)).sum(-1)
    primal = ((2.0 * task.linear + mean @ task.form) * mean).sum(-1) + spread
    floor = max(
        START_LEVEL * float(np.median(lam_of_form)),
        VALUE_FLOOR * (float(first.form.diagonal().max()) or 1.0),
    )
    level = xp.clip(START_GAP * (primal - dual) / task.pairs, floor, None)
    if not task.bounded:
        slack = lam[..., None]
        inverse = arrays.inverse(arrays.cholesky(arrays.minus_diagonal(task.form, lam))[0])
        covariance = level[:, None, None] * inverse
        weight = level[:, None, None] / slack
        return _State(covariance, weight, mean, lam, -0.5 * lam, 0.0 * lam, slack, _no_reach(task))
    span = float(first.qmax - first.qmin)
    while True:
        state, balanced = _spread_out(task, mean, lam, level, span * (span + 2.0) / 12.0)
        if balanced.all():
            return state
        level = xp.where(arrays.index(balanced), level, START_RISE * level)


def _spread_out(
    task: _Task, mean: Any, lam: Any, level: Any, equal: float
) -> tuple[_State, NDArray[np.bool_]]:
    """Iterates of a level whose primal side is feasible, and whether they are near the central path.

    Inputs that hardly count get the variance of `equal` weights.
    """
    arrays, xp = task.arrays, task.arrays.xp
    lam = lam - level[:, None] / equal
    factor, definite = arrays.cholesky(arrays.minus_diagonal(task.form, lam))
    if not definite.all():  # what stands there is thrown away
        lam = xp.where(arrays.index(definite)[:, None], lam, 0.0 * lam - 1.0)
        factor, _ = arrays.cholesky(arrays.minus_diagonal(task.form, lam))
    mu = task.linear + task.times(lam, mean)
    heights = task.heights(lam, mu)
    t = _centred(xp, heights, level)
    slack = heights - t[..., None]
    weight = level[:, None, None] / slack
    weight = weight / weight.sum(-1)[..., None]
    y, x = task.features[:, 0], 0.5 * task.features[:, 1]
    mean = (weight * x).sum(-1)
    # without cancellation; where tangents were left out a mixture may lie below the parabola
    variance = (weight * ((x - mean[..., None]) ** 2 + (y - x * x))).sum(-1)
    covariance = arrays.inverse(factor)
    root = xp.sqrt(xp.clip(variance, LEAST_VARIANCE, None) / covariance.diagonal(0, -2, -1))
    covariance = covariance * root[:, :, None] * root[:, None]
    state = _State(covariance, weight, mean, lam, mu, t, slack, _no_reach(task))
    trace = arrays.numpy(_trace(task, state))
    return state, np.asarray(definite & (trace <= START_TRACE * task.n * arrays.numpy(level)))


def _no_reach(task: _Task) -> Any:
    return task.arrays.array(np.ones((len(task.constant), 2)))


def _first_lam(form: NDArray[np.float64]) -> NDArray[np.float64]:
    """A lam > 0 well inside S > 0, shape (n,): shares of the conditional variances, equal ones."""
    diagonal = form.diagonal()
    ridged = form + np.diag(RIDGE * np.where(diagonal > 0.0, diagonal, 1.0))
    factor, _ = NUMPY.cholesky(ridged[None])
    inverse = NUMPY.inverse(factor)[0]
    conditional = 1.0 / inverse.diagonal()
    root = np.sqrt(conditional)
    vector = root.copy()
    growth = 1.0
    for _ in range(POWER_STEPS):
        vector = root * (inverse @ (root * vector))
        growth = float(np.linalg.norm(vector))
        vector /= growth
    lam = START_SHARE / growth * conditional
    for _ in range(30):
        if NUMPY.cholesky(NUMPY.minus_diagonal(form, lam[None]))[1][0]:
            break
        lam = 0.25 * lam
    return np.asarray(lam)


def _centred(xp: Any, heights: Any, level: Any) -> Any:
    """t, (B, n), at which the weights level / (heights - t) of each polygon sum to about 1."""
    t = xp.amin(heights, -1) - level[:, None]
    for _ in range(6):  # Newton on 1 / sum, which is nearly linear in t
        part = 1.0 / (heights - t[..., None])
        total = part.sum(-1)
        t = t - (level[:, None] * total - 1.0) * total / (part * part).sum(-1)
    return t


class _Newton:
    """The factored Newton system at one iterate, in the changes of lam."""

    def __init__(self, task: _Task, state: _State, inverse: Any) -> None:
        self.task, self.state, self.inverse = task, state, inverse
        arrays = task.arrays
        self.ratio = state.weight / state.slack
        if task.bounded:
            rest, self.slope, self.softness, self.mean, self.total = arrays.polygon_blocks(
                self.ratio, task.features
            )
            factor, definite = arrays.cholesky(
                arrays.minus_diagonal(task.half, 0.5 * state.lam - self.softness)
            )
            self.soft = arrays.inverse(factor)
        else:
            rest, self.slope, self.softness = self.ratio[..., 0], 0.5, 0.0
            self.soft, definite = 2.0 * inverse, np.ones(len(inverse), dtype=np.bool_)
        self.lean = self.slope - state.mean
        matrix = arrays.newton_matrix(state.covariance, inverse, self.soft, self.lean, rest)
        self.factor, solvable = arrays.cholesky(matrix)
        self.definite = solvable & definite
        """Whether each system is definite, as it is but for rounding."""

    def step(self, level: Any, predictor: _Step | None = None) -> _Step:
        """The direction to the level, (B,), corrected by the products of the predictor's changes."""
        task, state, inverse = self.task, self.state, self.inverse
        arrays, mean = task.arrays, state.mean
        target = level[:, None, None] / state.slack
        square = mean * mean + level[:, None] * inverse.diagonal(0, -2, -1)
        load = task.linear - state.mu + task.times(state.lam, mean)
        product = None
        if predictor is not None:
            target = target - predictor.weight * predictor.slack / state.slack
            product = predictor.covariance * predictor.lam[:, None]
            load = load - predictor.lam * predictor.mean
            square = square + predictor.mean * predictor.mean + (product * inverse).sum(-1)
        if task.bounded:
            moments, excess = arrays.polygon_targets(target, task.features, self.mean)
            tilt = moments[:, 1] - 2.0 * mean
            bend = moments[:, 0] - square - mean * tilt
            load = load + 0.5 * task.times(state.lam, tilt)
        else:
            tilt = 0.0
            bend = target[..., 0] + mean - square
        lam = arrays.solve(self.factor, bend - self.lean * _times(self.soft, load))
        force = _times(self.soft, self.lean * lam + load)
        mu = self.softness * force - self.slope * lam
        if task.bounded:
            t, slack, weight = arrays.polygon_step(
                lam, mu, task.features, self.ratio, self.total, excess, target, state.weight
            )
        else:
            t, slack = 0.0 * lam, lam[..., None]
            weight = target - state.weight - self.ratio * slack
        change = state.covariance * lam[:, None]
        if product is not None:
            change += product
        covariance = arrays.covariance_step(change @ inverse, level, inverse, state.covariance)
        return _Step(covariance, weight, 0.5 * (tilt - force), lam, mu, t, slack)


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
    products = (state.weight * state.slack).sum((-2, -1))
    now = (products + _trace(task, state)) / task.pairs
    predictor = newton.step(0.0 * now)
    primal = xp.clip(_ratio_test(arrays, state.weight, predictor.weight), None, 1.0)[:, None, None]
    dual = xp.clip(_ratio_test(arrays, state.slack, predictor.slack), None, 1.0)[:, None, None]
    after = (state.weight + primal * predictor.weight) * (state.slack + dual * predictor.slack)
    centring = xp.clip(xp.clip(after.sum((-2, -1)) / products, None, 1.0) ** 2, CENTRING, None)
    step = newton.step(centring * now, predictor)
    return _take(task, state, step)


def _trace(task: _Task, state: _State) -> Any:
    """tr(C S), shape (B,)."""
    whole = state.covariance.reshape(len(state.lam), -1) @ task.form.reshape(-1)
    return whole - (state.lam * state.covariance.diagonal(0, -2, -1)).sum(-1)


def _take(task: _Task, state: _State, step: _Step) -> NDArray[np.bool_]:
    """Go along `step` to near the boundary, in place; False for the channels that hardly move."""
    xp, arrays = task.arrays.xp, task.arrays

    def covariances(chosen: Any, length: Any) -> Any:
        return arrays.sum_lower(state.covariance[chosen], length, step.covariance[chosen])

    def slack_matrices(chosen: Any, length: Any) -> Any:
        return arrays.minus_diagonal(task.form, state.lam[chosen] + length[:, None] * step.lam[chosen])

    hoped = np.maximum(GROWTH * arrays.numpy(state.reach), HOPE)
    primal = arrays.numpy(_ratio_test(arrays, state.weight, step.weight))
    dual = arrays.numpy(_ratio_test(arrays, state.slack, step.slack))
    primal = _longest(arrays, covariances, np.minimum(primal, hoped[:, 0]))
    dual = _longest(arrays, slack_matrices, np.minimum(dual, hoped[:, 1]))
    state.reach = arrays.array(np.stack([primal, dual], axis=1))
    fraction = STEP[0] + (STEP[1] - STEP[0]) * np.minimum(np.minimum(primal, dual), 1.0)
    primal, dual = np.minimum(fraction * primal, 1.0), np.minimum(fraction * dual, 1.0)
    long_enough = np.maximum(primal, dual) >= SHORTEST
    length = arrays.array(primal)[:, None, None]
    state.covariance = state.covariance + length * step.covariance
    state.weight = state.weight + length * step.weight
    state.mean = state.mean + length[..., 0] * step.mean
    length = arrays.array(dual)[:, None]
    state.lam = state.lam + length * step.lam
    state.mu = state.mu + length * step.mu
    state.t = state.t + length * step.t
    # from its definition, so that the dual iterate stays feasible to the last digit
    state.slack = task.heights(state.lam, state.mu) - state.t[..., None]
    return np.asarray(long_enough & (arrays.numpy(xp.amin(xp.amin(state.slack, -1), -1)) > 0.0))


def _ratio_test(arrays: Arrays, values: Any, change: Any) -> Any:
    """Longest steps, (B,), at most 1 / STEP[0], that keep values + step * change non-negative."""
    steepest = arrays.xp.amax((-change / values).reshape(len(values), -1), -1)
    return 1.0 / arrays.xp.clip(steepest, STEP[0], None)


def _longest(
    arrays: Arrays, trial: Callable[[Any, Any], Any], length: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Steps not longer than `length` at which `trial` of (channels, steps) is positive definite."""
    length = length.copy()
    todo = np.arange(len(length))
    while len(todo):
        chosen = slice(None) if len(todo) == len(length) else arrays.index(todo)
        todo = todo[~arrays.cholesky(trial(chosen, arrays.array(length[todo])))[1]]
        shorter = SHRINK * length[todo]
        length[todo] = np.where(shorter < SHORTEST, 0.0, shorter)
        todo = todo[length[todo] > 0.0]
    return length
