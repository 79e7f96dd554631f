"""What to do with a box-hull SDP on which the interior point breaks off far from its solution.

On singular forms of a few inputs it may run away along a direction that costs nothing. The path over the
values themselves (:mod:`.finite_path`) has no primal side that could do so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.box_hull import BoxHullSDP, definite_multipliers, dual_value
from pvqbounds.solvers.base import SDPSolution
from pvqbounds.solvers.native.quantization.finite_barrier import Task
from pvqbounds.solvers.native.quantization.finite_path import follow, start_of

__all__ = ["rescued"]

Array = NDArray[np.float64]


def rescued(sdp: BoxHullSDP, solution: SDPSolution, clock: Clock, tolerance: float) -> SDPSolution:
    """A solution that proves at least as much, and as much as the continuous minimiser's multipliers do."""
    candidates = [solution, _continuous(sdp, solution, clock), *_by_values(sdp, clock, tolerance)]
    return max(candidates, key=lambda candidate: candidate.value)


def _continuous(sdp: BoxHullSDP, solution: SDPSolution, clock: Clock) -> SDPSolution:
    """lam = 0, as nearly as S allows it, with the moments of another solution."""
    x = box_minimiser(sdp.form, sdp.centre, sdp.low, sdp.high, clock)
    lam, nu = definite_multipliers(sdp, np.zeros(sdp.n), sdp.form @ (x - sdp.centre), x)
    return SDPSolution(lam, nu, dual_value(sdp, lam, nu), solution.mean, solution.covariance, solution.status)


def _by_values(sdp: BoxHullSDP, clock: Clock, tolerance: float) -> list[SDPSolution]:
    """The path over the values next to the tangents, of the inputs that have power; where it has a start."""
    live = np.asarray(sdp.form.any(axis=1))
    if not live.any():
        return []
    root = np.sqrt(np.diagonal(sdp.form)[live])
    task = _task(sdp, live, root)
    low, high = ((end - sdp.centre)[live] * root for end in (sdp.low, sdp.high))
    near = box_minimiser(task.form, np.zeros(task.n), low, high, clock)
    nearest = np.where(task.present, np.abs(task.offset), np.inf).argmin(axis=1)
    rounded = task.offset[np.arange(task.n), nearest]
    path = follow(start_of(task, near, float(rounded @ task.form @ rounded)), clock, tolerance)
    if path is None:
        return []
    lam, nu, mean = np.zeros(sdp.n), np.zeros(sdp.n), np.clip(sdp.centre, sdp.low, sdp.high)
    covariance = np.zeros((sdp.n, sdp.n))
    lam[live], nu[live] = path.best.at.lam * root**2, path.best.at.nu * root
    mean[live] = sdp.centre[live] + path.last.x / root
    covariance[np.ix_(live, live)] = path.covariance() / np.outer(root, root)
    lam, nu = definite_multipliers(sdp, lam, nu, mean)
    return [SDPSolution(lam, nu, dual_value(sdp, lam, nu), mean, covariance, path.status)]


def _task(sdp: BoxHullSDP, live: NDArray[np.bool_], root: Array) -> Task:
    """The values of both ends of each tangent, in units that give the form a unit diagonal."""
    number = np.sort(np.hstack([sdp.tangent, sdp.tangent + 1.0]), axis=1)
    present = np.ones(number.shape, dtype=np.bool_)
    present[:, 1:] = number[:, 1:] > number[:, :-1]
    offset = (sdp.points.at(number) - sdp.centre[:, None])[live] * root[:, None]
    return Task(
        form=np.asfortranarray(sdp.form[np.ix_(live, live)] / np.outer(root, root)),
        pull=np.zeros(len(root)),
        constant=0.0,
        offset=offset,
        present=present[live],
        nonzero=np.zeros_like(offset),
        group=np.zeros(len(root), dtype=np.int64),
        most=np.zeros(0),
    )
