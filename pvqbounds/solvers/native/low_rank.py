"""The box-hull SDP on a low-rank covariance, for sizes where the interior point is too dear.

The relaxation's Z - zzᵀ is written as V Vᵀ with V of shape (n, r). For one input, everything
else fixed, the error is a multiple of the squared distance of the pair (z_i, |v_i|) from a point,
and what the polygon of input i allows of that pair is plain geometry: on or above the half circles
over every two neighbouring codes (the tangents), inside the half circle over the whole grid (the
chord). Each update is a projection, and costs O(n r). This is the mixing method of Wang, Chang
and Kolter ("The mixing method: low-rank coordinate descent for semidefinite programming with
diagonal constraints", arXiv 1706.00476), carried over to these circles. With r (r + 1) / 2 >= n
such factorisations have no local minima in general (Boumal, Voroninski and Bandeira, NeurIPS
2016); optimal covariances of real layers have a rank of 6 to 10.

Sweeps of such updates soon find the circle that each pair lies on, and then creep. From there steps of
a trust-region method on these circles (:mod:`pvqbounds.solvers.native.low_rank_newton`) take turns with
them, until the multipliers of the circles are a dual solution: (P V)_i = lam_i v_i. lam is lowered as
little as makes S definite, and nu brought to its best for that lam. Any multipliers are a proof, so that
stopping early only loosens the bound; but lam is only as exact as the root of what the error still falls.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pvqbounds.relaxations.box_hull import BoxHullSDP, definite_multipliers, dual_value
from pvqbounds.relaxations.definite import proved_shift
from pvqbounds.solvers.base import Clock, SDPSolution
from pvqbounds.solvers.native import low_rank_kernel
from pvqbounds.solvers.native.low_rank_newton import Descent, Preconditioner, feasible

__all__ = ["fitted", "solve_low_rank", "solve_low_ranks"]

Array = NDArray[np.float64]

RANK = 16
"""Rank of V at least, where n allows it: twice what layers of 144 and 288 inputs need."""

INPUTS_A_RANK = 96
"""One more for so many inputs: optimal ranks were 11, 15 and 22 at 576, 1152 and 2304 inputs."""

SWEEPS = 10
"""Sweeps over all inputs between two looks at the clock and at the progress."""

FIRST_ROUNDS, FIRST_FALL = 15, 1e-2
"""Rounds of sweeps alone: at most so many, as long as the error falls by so much in each."""

MOST_ROUNDS, STEPS = 100, 2
"""Rounds at most after that, and steps on the circles in each."""

EMPTY = 1e-6
"""Squared singular values of V, over the largest, of the columns that are left out."""

GAP = 1e-4
"""Relative gap that is good enough."""

DOUBT = 1e-6
"""Relative fall of the error over a round below which the dual is worth a look."""

END = 1e-12
"""Relative fall of the error over a round that ends the descent."""

LOWERINGS = (0.0, *(10.0**k for k in range(-10, 1)))
"""Shares by which the positive lam are lowered, one after the other, until S is definite."""

OTHER_DIRECTIONS = 0.1
"""Length of the random part of rows that start from another channel's, which have length one."""

NU_SWEEPS = 40
"""Sweeps that fit nu to a lam."""


def solve_low_rank(sdp: BoxHullSDP, clock: Clock, *, tolerance: float = 1e-6) -> SDPSolution:
    """Solve one relaxation; see :func:`solve_low_ranks`."""
    return solve_low_ranks([sdp], clock, tolerance=tolerance)[0]


def solve_low_ranks(
    sdps: Sequence[BoxHullSDP], clock: Clock, *, tolerance: float = 1e-6
) -> list[SDPSolution]:
    """Multipliers and moments of box-hull relaxations on one Gram, to what accuracy the clock allows.

    Parameters
    ----------
    sdps
        From :func:`pvqbounds.relaxations.box_hull.box_hull`, of more than one code. All tangents
        count, also those left out of ``sdp.tangent``. Each channel starts from the covariance of the
        one before it.
    clock
        Ends the descent; the channels that are left share its time evenly.
    tolerance
        Relative gap at which the descent ends, where it is above `GAP`.

    Returns
    -------
    Multipliers with P - diag(lam) positive definite. `value` is their dual value, and the status says
    at which relative gap the descent ended.
    """
    solutions = []
    factor: Array | None = None
    for done, sdp in enumerate(sdps):
        part = clock.part(1.0 / (len(sdps) - done))
        solution, factor = _solve(sdp, part, max(tolerance, GAP), factor)
        solutions.append(solution)
    return solutions


def _solve(sdp: BoxHullSDP, clock: Clock, tolerance: float, start: Array | None) -> tuple[SDPSolution, Array]:
    """The solution, and V: shape (n, r)."""
    form, centre = np.ascontiguousarray(sdp.form), sdp.centre
    ends = float(sdp.qmin), float(sdp.qmax)
    z = np.clip(centre, *ends)
    factor = _start(z, start, *ends)
    descent = Descent(form, centre, ends, clock)
    error = descent.error(z, factor)
    for _ in range(FIRST_ROUNDS):
        if clock.expired:
            break
        before = error
        error = _swept(form, centre, z, factor, ends)
        if before - error <= FIRST_FALL * error:
            break
    doubt, best, settled = DOUBT, None, False
    for _ in range(MOST_ROUNDS):
        if clock.expired:
            break
        before = error
        _swept(form, centre, z, factor, ends)
        z, factor = feasible(z, _without_empty_columns(factor), *ends)
        precondition = Preconditioner(form, descent.circles(z, factor).lam)
        for _ in range(STEPS):
            z, factor, _ = descent.step(z, factor, precondition)
        error = descent.error(z, factor)
        fall = (before - error) / error if error > 0.0 else 0.0
        if fall <= doubt:
            doubt = 0.1 * fall
            best = _better(best, _dual(sdp, descent, z, factor))
            settled = error - best[2] <= tolerance * error or fall <= END
            if settled:
                break
    if best is None or not settled:
        best = _better(best, _dual(sdp, descent, z, factor))
    lam, nu, value = best
    gap = (error - value) / error if error > 0.0 else 0.0
    status = f"low rank, to a relative gap of {max(gap, 0.0):.1e}"
    return SDPSolution(lam, nu, value, z, factor @ factor.T, status), factor


def _swept(form: Array, centre: Array, z: Array, factor: Array, ends: tuple[float, float]) -> float:
    """A round of sweeps, in place; the error after it."""
    pull, image = form @ (z - centre), form @ factor
    low_rank_kernel.sweep(form, z, factor, pull, image, *ends, SWEEPS)
    return float((z - centre) @ pull + (factor * image).sum())


def _without_empty_columns(factor: Array) -> Array:
    """V in the basis of its singular vectors, without those that it has no part in."""
    squares, basis = np.linalg.eigh(factor.T @ factor)
    kept = squares > EMPTY * squares[-1]
    return factor if kept.all() else np.ascontiguousarray(factor @ basis[:, kept])


Dual = tuple[Array, Array, float]
"""lam, nu and their dual value."""


def _better(one: Dual | None, other: Dual) -> Dual:
    return other if one is None or other[2] > one[2] else one


def _dual(sdp: BoxHullSDP, descent: Descent, z: Array, factor: Array) -> Dual:
    """The best dual that the circles' multipliers lead to."""
    found = _evaluated(sdp, _lowered(sdp, descent.circles(z, factor).lam, z), z)
    if found[2] > 0.0:
        return found
    return _better(found, _evaluated(sdp, _lowered(sdp, _equal_shares(sdp.form), z), z))


def _evaluated(sdp: BoxHullSDP, lam: Array, z: Array) -> Dual:
    """The better nu for a lam: that of z, and the one of :func:`fitted`."""
    offset = z - sdp.centre
    found: Dual | None = None
    for nu in (sdp.form @ offset - lam * offset, fitted(sdp, lam, z)[1]):
        found = _better(found, (lam, nu, dual_value(sdp, lam, nu)))
    assert found is not None
    return found


def _lowered(sdp: BoxHullSDP, lam: Array, z: Array) -> Array:
    """lam with its positive entries scaled down as little as makes S definite, within a factor of three."""
    diagonal = np.diagonal(sdp.form)
    margin = 4.0 * sdp.n * np.finfo(np.float64).eps * np.where(diagonal > 0.0, diagonal, 1.0)
    positive = np.maximum(lam, 0.0)

    def definite(share: float) -> bool:
        return _definite(sdp.form, lam - share * positive + margin)

    # S grows with the share: the first that is enough is found by bisection
    enough = bisect_left(LOWERINGS, True, key=definite)
    if enough == len(LOWERINGS):
        return definite_multipliers(sdp, lam, np.zeros(sdp.n), z)[0]
    share = LOWERINGS[enough]
    finer = 0.3 * share
    return np.asarray(lam - (finer if share > 0.0 and definite(finer) else share) * positive)


def _definite(form: Array, lam: Array) -> bool:
    matrix = np.array(form, order="F")
    matrix[np.diag_indices(len(lam))] -= lam
    return bool(lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)[1] == 0)


def fitted(sdp: BoxHullSDP, lam: Array, start: Array, sweeps: int = NU_SWEEPS) -> tuple[Array, Array]:
    """(z, nu), shape (n,) each, with nu near the best for this lam: O(n²) a sweep.

    For fixed lam the dual is that of minimising (z - c)ᵀS(z - c) plus the convex envelopes of
    lam_i (k - c_i)² over the codes; at its minimiser z the best nu is S (z - c).

    Parameters
    ----------
    lam
        Shape (n,), with S = P - diag(lam) positive definite.
    start
        z to start from, shape (n,); it is clipped to the box.
    sweeps
        Sweeps over all inputs.
    """
    matrix = sdp.form - np.diag(lam)
    z = np.clip(start, sdp.qmin, sdp.qmax)
    pull = matrix @ (z - sdp.centre)
    low_rank_kernel.envelope_sweeps(
        matrix, sdp.centre, lam, z, pull, float(sdp.qmin), float(sdp.qmax), sweeps
    )
    return z, np.asarray(matrix @ (z - sdp.centre), dtype=np.float64)


def _equal_shares(form: Array) -> Array:
    """The lam in proportion to the diagonal that leaves S a tenth of what P has, shape (n,).

    A bound above zero for every definite P, also where the descent had no time.
    """
    diagonal = np.diagonal(form)
    root = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    least = proved_shift(form / np.outer(root, root))
    return (0.0 if least is None else 0.9 * least) * diagonal


def _start(z: Array, other: Array | None, qmin: float, qmax: float) -> Array:
    """Rows with the least length that the tangents allow, shape (n, r), in random directions or others'."""
    n = len(z)
    rank = min(RANK + n // INPUTS_A_RANK, math.isqrt(2 * n) + 1)
    rows = np.random.default_rng(0).standard_normal((n, rank))
    if other is not None:
        rows *= OTHER_DIRECTIONS / math.sqrt(rank)
        shared = min(rank, other.shape[1])
        size = np.linalg.norm(other, axis=1)
        rows[:, :shared] += other[:, :shared] / np.where(size > 0.0, size, 1.0)[:, None]
    cell = np.clip(np.floor(z), qmin, qmax - 1.0)
    length = np.sqrt(np.maximum(0.25 - (z - cell - 0.5) ** 2, 0.0))
    return np.asarray(rows * (length / np.linalg.norm(rows, axis=1))[:, None])
