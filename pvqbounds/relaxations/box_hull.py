"""The box-hull SDP of values without a support rule and the Park-Boyd SDP, as plain data.

**Primal.** Every value v of an input, in units of the SDP, gives a point (v, v²): codes k of uniform
steps, (k, k²), or levels. The pair (z_i, Z_ii) lies in the polygon with those points as vertices,

    tangents   Z_ii >= (a+b) z_i - a b                for neighbouring values a < b, codes k and k+1
    one chord  Z_ii <= (l+h) z_i - l h                for the ends l and h

and [[1, zᵀ], [z, Z]] is positive semidefinite. The relaxation minimises the error, linear in
(z, Z). **Box-hull** has all tangents and the chord; of long lists of values it has those tangents near
the continuous minimiser, and :func:`tightened` adds the ones that a solution violates (at most one an
input can be: Z_ii >= z_i², so that only the tangent at the values around z_i can fail). **Park-Boyd**
("A semidefinite programming method for integer convex quadratic minimization", Optimization
Letters 12, 2018), of codes, has the single tangent at k = floor(c_i), no chord and no box.

**Dual.** Let r be a vector of values near the solution, d = z - r, e = c - r and q = -P e, so that
E = eᵀPe + 2qᵀd + dᵀPd in numbers of moderate size even where c is far outside the grid. With
(x_iv, y_iv) the vertices of polygon i in these coordinates, all engines here pose

    maximise  eᵀPe - g + sum_i t_i   over lam, mu, t, g
    with      lam_i y_iv + 2 mu_i x_iv >= t_i            for all vertices v
              [[P - diag(lam), q - mu], [(q - mu)ᵀ, g]]  positive semidefinite.

For Park-Boyd, with r = floor(c), the polygon is the half-plane D_ii >= d_i: lam_i >= 0,
mu_i = -lam_i/2 and t_i = 0. The matrix dual to the constraint is [[D, d], [dᵀ, 1]]. Of the box-hull
dual both sides always have interior points (for more than one value): any mixture of vertices
gives a positive definite matrix, and any lam far enough below zero is feasible.

**The same multipliers around c.** With nu = mu + lam e this is the bound of
:mod:`pvqbounds.relaxations.dual`; :func:`dual_value` evaluates it in plain float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from pvqbounds.problems import IntegerLeastSquares, LeastSquares
from pvqbounds.problems.integer import error_form
from pvqbounds.relaxations.box import KeptInverse, box_minimiser
from pvqbounds.relaxations.points import CodePoints, Points, ValuePoints

__all__ = [
    "BoxHullSDP",
    "box_hull",
    "definite_multipliers",
    "dual_value",
    "in_gram_units",
    "of_gram_units",
    "park_boyd",
    "point_multipliers",
    "tightened",
    "without_tangents",
]

ALL_TANGENTS = 16
"""Lists of at most so many values get all their tangents."""

WINDOW = 4
"""Longer ones get the tangents of so many values on each side of the continuous minimiser."""

VIOLATION = 1e-7
"""Violation of a tangent that counts, over the squared distance of its values (it is at most 1/4)."""


@dataclass(frozen=True, eq=False)
class BoxHullSDP:
    """Minimise the error over the polygons and the positive semidefinite cone, in units of codes.

    Of levels the unit is a number near their distances.
    """

    form: NDArray[np.float64]
    """P over `unit`, shape (n, n): mean diagonal 1, or all zero."""
    unit: float
    """Values of the SDP times `unit` are errors E: the mean of s_i² G_ii."""
    centre: NDArray[np.float64]
    """c = w/s, shape (n,)."""
    scale: float | NDArray[np.float64]
    """The step s, or one for each input; the unit of levels."""
    points: Points
    """The values of each input: one more where a single one is left beside others."""
    reference: NDArray[np.float64]
    """r, the values that d = z - r is counted from, shape (n,)."""
    tangent: NDArray[np.float64]
    """Numbers of the lower values a of the tangents of each input (codes k), ascending, shape (n, m).

    Repetitions are allowed. Box-hull: a row begins with the first value and ends with the last but one.
    """
    chord: bool
    """False: the polygons are open above and the box is dropped (Park-Boyd)."""

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.centre)

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Smallest value of each input, shape (n,)."""
        return self.points.low

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Largest value of each input, shape (n,)."""
        return self.points.high

    @property
    def is_point(self) -> bool:
        """Whether every input has a single value."""
        return bool((self.points.first == self.points.last).all())

    @cached_property
    def linear(self) -> NDArray[np.float64]:
        """q = P (r - c), shape (n,)."""
        return self.form @ (self.reference - self.centre)

    @cached_property
    def constant(self) -> float:
        """(r - c)ᵀP(r - c)."""
        return float((self.reference - self.centre) @ self.linear)

    @cached_property
    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both values of each tangent in the coordinates d, both of shape (n, m)."""
        reference = self.reference[:, None]
        return self.points.at(self.tangent) - reference, self.points.at(self.tangent + 1.0) - reference

    @cached_property
    def vertices(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y of the polygons' vertices in the coordinates d, both of shape (n, m + 1).

        A repeated tangent gives a point within its edge. Without a chord the polygon is a
        half-plane; its one point is (0, 0).
        """
        if not self.chord:
            return np.zeros((self.n, 1)), np.zeros((self.n, 1))
        ends = np.stack([self.low, self.high], axis=1) - self.reference[:, None]
        if self.is_point:
            return ends[:, :1], ends[:, :1] ** 2
        a, b = self.edges
        total, square = a + b, (b - a) ** 2
        rise = total[:, 1:] - total[:, :-1]
        # where two tangents meet: at the middle of one that is repeated
        bend = (square[:, 1:] - square[:, :-1]) / np.where(rise > 0.0, rise, 1.0)
        x = np.minimum(0.25 * (total[:, :-1] + total[:, 1:] - bend), ends[:, 1:])
        y = total[:, :-1] * x - a[:, :-1] * b[:, :-1]
        return (
            np.hstack([ends[:, :1], x, ends[:, 1:]]),
            np.hstack([ends[:, :1] ** 2, y, ends[:, 1:] ** 2]),
        )

    def nu_of(self, lam: NDArray[np.float64], mu: NDArray[np.float64]) -> NDArray[np.float64]:
        """Multipliers nu around c of the multipliers mu around r, shape (n,)."""
        return mu + lam * (self.centre - self.reference)


def box_hull(problem: LeastSquares, form: NDArray[np.float64] | None = None) -> BoxHullSDP:
    """The box-hull relaxation; of more than 16 values with the tangents near the minimiser.

    The tangents left out only loosen it: solve, then ask :func:`tightened` for the rest.

    Parameters
    ----------
    problem
        Uniform steps or levels; its support rule plays no part.
    form
        `form` of another channel's SDP on the same Gram, so that a layer holds it once.
    """
    sdp = without_tangents(problem, form)
    points, first, last = sdp.points, sdp.points.first, sdp.points.last - 1.0
    minimiser = sdp.reference
    span = int((points.last - first).max())
    if span < ALL_TANGENTS:
        tangent = np.minimum(first[:, None] + np.arange(span), last[:, None])
    else:
        window = _window(points.below(minimiser), first, last)
        tangent = np.sort(np.hstack([first[:, None], last[:, None], window]), axis=1)
    return replace(sdp, reference=points.nearest(minimiser), tangent=tangent)


def without_tangents(
    problem: LeastSquares, form: NDArray[np.float64] | None = None, inverse: KeptInverse | None = None
) -> BoxHullSDP:
    """The same without tangents, and with the continuous minimiser in the place of r.

    Parameters
    ----------
    inverse
        Keeps the inverse of the form for other channels, which then have their minimisers sooner.
    """
    if isinstance(problem, IntegerLeastSquares):
        return _of_codes(problem, form, inverse)
    return _of_levels(problem, form, inverse)


def _of_codes(
    problem: IntegerLeastSquares, form: NDArray[np.float64] | None, inverse: KeptInverse | None
) -> BoxHullSDP:
    """The SDP in units of codes without tangents, with the continuous minimiser in the place of r."""
    form, unit = _normalised(problem, form)
    low, high = problem.low, problem.high
    minimiser = box_minimiser(form, problem.centre, low, high, inverse=inverse)
    if (low < high).any():
        high = np.maximum(high, low + 1.0)
    points = CodePoints(low, high)
    nothing = np.zeros((problem.n, 0))
    return BoxHullSDP(form, unit, problem.centre, problem.scale, points, minimiser, nothing, chord=True)


def _of_levels(
    problem: LeastSquares, form: NDArray[np.float64] | None, inverse: KeptInverse | None
) -> BoxHullSDP:
    """The same in units of a power of two near the distances of the levels next to the weights."""
    values = problem.values
    inside = np.clip(problem.weight, values.lowest, values.highest)
    points = ValuePoints(values, 1.0)
    number = points.below(inside)
    distance = float(np.median(points.at(number + 1.0) - points.at(number)))
    scale = float(np.ldexp(1.0, int(np.rint(np.log2(distance)))))
    mean = float(np.mean(np.diagonal(problem.gram)))
    if form is None:
        form = problem.shared.over_mean
    centre, low, high = (v / scale for v in (problem.weight, values.lowest, values.highest))
    minimiser = box_minimiser(form, centre, low, high, inverse=inverse)
    unit = scale**2 * (mean if mean > 0.0 else 1.0)
    nothing = np.zeros((problem.n, 0))
    return BoxHullSDP(form, unit, centre, scale, ValuePoints(values, scale), minimiser, nothing, chord=True)


def park_boyd(problem: IntegerLeastSquares, form: NDArray[np.float64] | None = None) -> BoxHullSDP:
    """The relaxation of Park and Boyd: one tangent an input, at floor(c), and no box.

    `form` is as for :func:`box_hull`.
    """
    form, unit = _normalised(problem, form)
    floor = np.floor(problem.centre)
    return BoxHullSDP(
        form,
        unit,
        problem.centre,
        problem.scale,
        CodePoints(problem.low, problem.high),
        reference=floor,
        tangent=floor[:, None],
        chord=False,
    )


def tightened(
    sdp: BoxHullSDP, mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> BoxHullSDP | None:
    """`sdp` with more tangents where the solution violates one that was left out, else None.

    Parameters
    ----------
    mean, covariance
        Relaxed z, shape (n,), and Z - zzᵀ, shape (n, n), of a solution of `sdp`.
    """
    first, last = sdp.points.first, sdp.points.last - 1.0
    if not sdp.chord or (last - first).max() + 1.0 < ALL_TANGENTS:
        return None
    cell = sdp.points.below(mean)
    below = sdp.points.at(cell)
    width = sdp.points.at(cell + 1.0) - below
    missing = ~(sdp.tangent == cell[:, None]).any(axis=1)
    # Z_ii - (a+b) z_i + ab = variance + (z_i - a)(z_i - b)
    slack = np.diagonal(covariance) + (mean - below) * (mean - below - width)
    violated = missing & (slack < -VIOLATION * width**2)
    if not violated.any():
        return None
    added = np.where(violated[:, None], _window(cell, first, last), first[:, None])
    return replace(sdp, tangent=np.sort(np.hstack([sdp.tangent, added]), axis=1))


def dual_value(sdp: BoxHullSDP, lam: NDArray[np.float64], nu: NDArray[np.float64]) -> float:
    """Dual value of any multipliers in plain float64, -inf where S = P - diag(lam) is not definite.

    The inner minimum runs over *all* values, or all integers for Park-Boyd, not only
    over the vertices of the tangents present: it is a bound on the error over `unit`, up to
    rounding (:func:`pvqbounds.relaxations.dual.dual_bound` proves it).
    """
    try:
        factor = np.linalg.cholesky(sdp.form - np.diag(lam))
    except np.linalg.LinAlgError:
        return -np.inf
    half = solve_triangular(factor, nu, lower=True, check_finite=False)
    separable = _separable_minima(sdp, lam, nu).sum()
    value = float(separable - half @ half)
    return value if np.isfinite(value) else -np.inf


def in_gram_units(
    sdp: BoxHullSDP, lam: NDArray[np.float64], nu: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lam, nu) as a certificate states them: in units of the Gram, and of Gram times weight."""
    return lam * (sdp.unit / sdp.scale) / sdp.scale, nu * (sdp.unit / sdp.scale)


def of_gram_units(
    sdp: BoxHullSDP, lam: NDArray[np.float64], nu: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lam, nu) of a certificate in units of the SDP."""
    return lam * (sdp.scale / sdp.unit) * sdp.scale, nu * (sdp.scale / sdp.unit)


def definite_multipliers(
    sdp: BoxHullSDP, lam: NDArray[np.float64], nu: NDArray[np.float64], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lam, nu) with lam lowered as little as makes S = P - diag(lam) definite in float64.

    Solvers stop on either side of the boundary. First the positive lam are scaled down, which
    keeps the inner minima close to z; a shift of all lam is the last resort. Either way nu moves
    so that the change counts from the relaxed z, not from c.

    Parameters
    ----------
    mean
        Relaxed z, shape (n,).
    """
    diagonal = np.diagonal(sdp.form)
    unit = np.where(diagonal > 0.0, diagonal, 1.0)
    margin = 4.0 * sdp.n * np.finfo(np.float64).eps
    start = lam if sdp.chord else np.maximum(lam, 0.0)
    for direction in (np.maximum(lam, 0.0), unit):
        for step in (0.0, *(margin * 4.0**k for k in range(22))):
            lowered = start - step * direction
            if _is_definite(sdp.form - np.diag(lowered + margin * unit)):
                break
        else:
            continue
        break
    else:
        lowered = np.minimum(start, -unit)
    if not sdp.chord and (lowered >= 0.0).all():
        return lowered, sdp.nu_of(lowered, -0.5 * lowered)
    return lowered, nu + (lam - lowered) * (mean - sdp.centre)


def point_multipliers(sdp: BoxHullSDP) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Optimal (lam, nu) where inputs have one value, whose polygons are points and whose S may be any.

    For all lam the best nu is S (v - c), and its value is the error itself.
    """
    lam = np.full(sdp.n, -1.0)
    offset = sdp.low - sdp.centre
    return lam, sdp.form @ offset - lam * offset


def _is_definite(matrix: NDArray[np.float64]) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _normalised(
    problem: IntegerLeastSquares, form: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], float]:
    largest = float(problem.step.max())
    mean = float(np.mean(np.diagonal(problem.gram) * (problem.step / largest) ** 2))
    return error_form(problem) if form is None else form, largest**2 * (mean if mean > 0.0 else 1.0)


def _window(
    near: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Tangents of the values around the number `near` that stay on the list, shape (n, 2 WINDOW + 1)."""
    inside = np.maximum(np.minimum(near, last - WINDOW), first + WINDOW)
    return np.clip(inside[:, None] + np.arange(-WINDOW, WINDOW + 1), first[:, None], last[:, None])


def _separable_minima(
    sdp: BoxHullSDP, lam: NDArray[np.float64], nu: NDArray[np.float64]
) -> NDArray[np.float64]:
    """min over v of lam (v-c)² + 2 nu (v-c), shape (n,): convex next to c - nu/lam, concave at an end."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        stationary = np.nan_to_num(np.where(lam > 0.0, sdp.centre - nu / lam, sdp.centre))
    if sdp.chord:
        number = sdp.points.below(stationary)
        beside = sdp.points.at(number), np.minimum(sdp.points.at(number + 1.0), sdp.high)
        values = np.stack([*beside, sdp.low, sdp.high])
    else:
        values = np.stack([np.floor(stationary), np.floor(stationary) + 1.0])
    u = values - sdp.centre
    with np.errstate(over="ignore", invalid="ignore"):
        minima: NDArray[np.float64] = (lam * u * u + 2.0 * nu * u).min(axis=0)
    if not sdp.chord:
        minima[(lam < 0.0) | ((lam == 0.0) & (nu != 0.0))] = -np.inf
    return minima
