"""The box-hull and Park-Boyd SDPs by a primal-dual interior-point method, many at a time.

It solves the dual pair of :mod:`pvqbounds.relaxations.box_hull`. On the dual side stand lam and mu,
with S = P - diag(lam) and g at its best, (q - mu)ᵀS⁻¹(q - mu): any lam with S definite and any mu are a
proof. On the primal side stand the mean d, the covariance C = D - ddᵀ of shape (n, n) and the weights w
of the polygons' vertices. They are to satisfy, with s_iv = lam_i y_iv + 2 mu_i x_iv - t_i >= 0,

    C S = level I      S d = mu - q      w_iv s_iv = level
    sum_v w_iv (1, x_iv, y_iv) = (1, d_i, d_i² + C_ii)

for a level that tends to zero. The directions are those of Helmberg, Rendl, Vanderbei and Wolkowicz
(SIAM J. Optim. 6, 1996; "HKM") with Mehrotra's corrector. The constraints touch the diagonal alone,
so that the polygons, mu and d are eliminated by hand. With W = S⁻¹, the slope a_i and the spread b_i of
the vertices of an input (:meth:`.Arrays.polygon_blocks`), one system in the n changes of lam is left:

    C ∘ W + diag(k) V diag(k) + diag(rest),    k = a - d,    V = (S/2 + diag(1/b))⁻¹,

a sum of semidefinite matrices in which nothing cancels. An iteration costs two inverses, one
factorisation, two products and three or four trial factorisations, whatever the number of vertices.
The primal constraints hold only in the limit; what is returned does not lean on them: any multipliers
are a proof, and the primal value is that of a nearby feasible point
(:func:`.box_hull_iterates.values_of`).

The channels of a layer share P. They are solved in batches, in step with one another, on NumPy
arrays or PyTorch tensors (:mod:`pvqbounds.solvers.native.linalg.arrays`): the first axis of every array
is the batch, and a channel leaves the batch when it is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.relaxations.box_hull import BoxHullSDP, definite_multipliers, dual_value
from pvqbounds.solvers.base import SDPSolution
from pvqbounds.solvers.cone.conic import single_point
from pvqbounds.solvers.native.linalg.arrays import NUMPY, Arrays
from pvqbounds.solvers.native.quantization.box_hull_iterates import (
    VALUE_FLOOR,
    State,
    Task,
    start,
    task_of,
    values_of,
)
from pvqbounds.solvers.native.quantization.box_hull_newton import advance
from pvqbounds.solvers.native.quantization.box_hull_rescue import rescued

__all__ = ["solve_box_hull", "solve_box_hulls"]

NEAR, NARROWER, PATIENCE = 1e-3, 0.9, 4
"""Below such a gap so many iterations in which it does not shrink by the factor end the iteration:
rounding allows no more, and S only comes so near the boundary that nothing is proved."""

FAR = 0.1
"""An iteration that breaks off with such a gap was not on its way to the solution."""

NULL_VALUE = 1e-9
"""Eigenvalues of P, scaled to unit diagonal, that count as zero in the Park-Boyd dual."""

NULL_WEIGHT = 1e-12
"""Squared share in a null vector that ties an input to the null space."""


def solve_box_hull(sdp: BoxHullSDP, *, tolerance: float = 1e-6, max_iterations: int = 60) -> SDPSolution:
    """Solve one relaxation; see :func:`solve_box_hulls`."""
    return solve_box_hulls([sdp], tolerance=tolerance, max_iterations=max_iterations)[0]


@np.errstate(all="ignore")  # an iterate that overflows is left: what was known before it counts, at its gap
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
    elif first.is_point:
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
    scaled = form / np.outer(root, root)
    if NUMPY.cholesky(NUMPY.minus_diagonal(scaled, np.full((1, n), NULL_VALUE)))[1][0]:
        return _solve(sdps, limits, arrays)
    values, vectors = np.linalg.eigh(scaled)
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


def _solve(sdps: Sequence[BoxHullSDP], limits: _Limits, arrays: Arrays) -> list[SDPSolution]:
    task = task_of(sdps, arrays)
    state = start(task, sdps)
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
        task, state, _ = run.keep(advance(task, state, inverse), task, state)
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

    def note(self, task: Task, state: State, factor: Any) -> NDArray[np.bool_]:
        """Take down the values of the iterates; True for the channels that are not solved."""
        members, numpy = self.members, task.arrays.numpy
        dual, primal = (numpy(values) for values in values_of(task, state, factor))
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
        self, wanted: NDArray[np.bool_], task: Task, state: State
    ) -> tuple[Task, State, NDArray[np.int64] | None]:
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
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):  # its last step overflowed
            mean, covariance = np.zeros_like(mean), np.zeros_like(covariance)
        nu = sdp.nu_of(lam, mu)
        status = "solved" if gap <= self._limits.tolerance else f"stopped at a relative gap of {gap:.1e}"
        value = self._best[i] if self._best[i] > -np.inf else dual_value(sdp, lam, nu)
        solution = SDPSolution(lam, nu, float(value), sdp.reference + mean, covariance, status)
        if sdp.chord and not gap <= FAR:
            clock = self._limits.clock or Clock(math.inf)
            return rescued(sdp, solution, clock, self._limits.tolerance)
        return solution
