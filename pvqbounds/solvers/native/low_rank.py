"""The box-hull SDP by coordinate descent on a low-rank covariance, for sizes where O(n³) is too dear.

The relaxation's Z - zzᵀ is written as V Vᵀ with V of shape (n, r). For one input, everything
else fixed, the error is a multiple of the squared distance of the pair (z_i, |v_i|) from a point,
and what the polygon of input i allows of that pair is plain geometry: on or above the half circles
over every two neighbouring codes (the tangents), inside the half circle over the whole grid (the
chord). Each update is a projection, and costs O(n r). This is the mixing method of Wang, Chang
and Kolter ("The mixing method: low-rank coordinate descent for semidefinite programming with
diagonal constraints", arXiv 1706.00476), carried over to these circles. With r (r + 1) / 2 >= n
such factorisations have no local minima in general (Boumal, Voroninski and Bandeira, NeurIPS
2016); optimal covariances of real layers have a rank of 6 to 10.

At a stationary point lam follows from (P V)_i = lam_i v_i; it is then lowered as little as makes
S definite (:func:`pvqbounds.relaxations.box_hull.definite_multipliers`), and nu is brought to its
best for that lam. Any multipliers are a proof, so that stopping early only loosens the bound.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pvqbounds.relaxations.box_hull import BoxHullSDP, definite_multipliers, dual_value
from pvqbounds.relaxations.definite import proved_shift
from pvqbounds.solvers.base import Clock, SDPSolution
from pvqbounds.solvers.native import low_rank_kernel

__all__ = ["fitted", "solve_low_rank"]

Array = NDArray[np.float64]

LARGEST_RANK = 16
"""Rank of V at most: twice what layers of 144 and 288 inputs need."""

SWEEPS_A_ROUND, MOST_ROUNDS = 25, 60
"""Sweeps over all inputs between two looks at the clock and at the progress."""

NU_SWEEPS = 40
"""Sweeps that fit nu to a lam."""


def solve_low_rank(sdp: BoxHullSDP, clock: Clock, *, tolerance: float = 1e-6) -> SDPSolution:
    """Multipliers and moments of a box-hull relaxation, to what accuracy the clock allows.

    Parameters
    ----------
    sdp
        From :func:`pvqbounds.relaxations.box_hull.box_hull`, of more than one code. All its
        tangents count, also those left out of ``sdp.tangent``.
    clock
        Ends the descent between two rounds of sweeps.
    tolerance
        Relative decrease of the error over a round at which the descent ends.

    Returns
    -------
    Multipliers with P - diag(lam) positive definite. `value` is their dual value.
    """
    form, centre = np.ascontiguousarray(sdp.form), sdp.centre
    ends = float(sdp.qmin), float(sdp.qmax)
    z = np.clip(centre, *ends)
    rank = min(LARGEST_RANK, math.isqrt(2 * sdp.n) + 1)
    factor = _start(z, rank, *ends)
    before = math.inf
    for _ in range(MOST_ROUNDS):
        pull, image = form @ (z - centre), form @ factor
        error = float((z - centre) @ pull + (factor * image).sum())
        if clock.expired or before - error <= tolerance * abs(error):
            break
        before = error
        low_rank_kernel.sweep(form, z, factor, pull, image, *ends, SWEEPS_A_ROUND)
    pull, image = form @ (z - centre), form @ factor
    lam = _multipliers(z, factor, pull, image, *ends)
    best, nu = -math.inf, pull
    for proposed in (lam, _equal_shares(form)):
        definite, _ = definite_multipliers(sdp, proposed, pull - proposed * (z - centre), z)
        _, moved = fitted(sdp, definite, z)
        value = dual_value(sdp, definite, moved)
        if value > best:
            best, lam, nu = value, definite, moved
    return SDPSolution(lam, nu, best, z, factor @ factor.T, "low rank")


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


def _start(z: Array, rank: int, qmin: float, qmax: float) -> Array:
    """Rows of random direction and the least length that the tangents allow, shape (n, rank)."""
    factor = np.random.default_rng(0).standard_normal((len(z), rank))
    cell = np.clip(np.floor(z), qmin, qmax - 1.0)
    length = np.sqrt(np.maximum(0.25 - (z - cell - 0.5) ** 2, 0.0))
    return np.asarray(factor * (length / np.linalg.norm(factor, axis=1))[:, None])


def _multipliers(z: Array, factor: Array, pull: Array, image: Array, qmin: float, qmax: float) -> Array:
    """lam of the circle that each pair (z_i, |v_i|) lies on, 0 where it lies on none, shape (n,)."""
    square = (factor * factor).sum(axis=1)
    tangent = np.clip(np.floor(z), qmin, qmax - 1.0) + 0.5
    chord, radius = 0.5 * (qmin + qmax), 0.5 * (qmax - qmin)
    above = (z - tangent) ** 2 + square - 0.25
    inside = radius**2 - (z - chord) ** 2 - square
    on_chord = inside < above
    middle = np.where(on_chord, chord, tangent)
    size = np.where(on_chord, radius**2, 0.25)
    active = np.minimum(above, inside) < low_rank_kernel.ON_CIRCLE
    lam = (pull * (z - middle) + (image * factor).sum(axis=1)) / size
    return np.where(active, lam, 0.0)
