"""The iterates of :mod:`.box_hull_dual`: what they are, where they start and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.box_hull import BoxHullSDP
from pvqbounds.solvers.native.linalg.arrays import NUMPY, Arrays

__all__ = [
    "VALUE_FLOOR",
    "Iterate",
    "State",
    "Task",
    "first_lam",
    "start",
    "task_of",
    "times",
    "trace_of",
    "values_of",
]

START_SHARE = 0.5
"""Share of the way to the boundary of definite S at which lam starts."""

START_LEVEL, START_GAP = 0.3, 0.1
"""Level at the start: in units of the median lam, and at least of the gap over the number of pairs."""

START_TRACE, START_RISE, START_RISES = 1000.0, 8.0, 100
"""tr(C S) at the start is at most so many levels an input; else the level is raised by a factor, so often."""

LEAST_VARIANCE = 1e-4
"""Least variance at the start, in squared units (codes)."""

POWER_STEPS = 8
"""Steps of the power iteration for the boundary of definite S."""

RIDGE = 1e-9
"""Share of the diagonal that is added to P where its inverse tells the shape of the first lam."""

VALUE_FLOOR = 1e-6
"""Values below this share of the trace of P count as this share in a relative gap."""


@dataclass(frozen=True, eq=False)
class Task:
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
    """Lower values of the tangents, counted from r, shape (B, n, m - 1), or (B, n, 1) for half-planes."""
    width: Any
    """The upper ones less the lower ones."""
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

    def only(self, chosen: Any) -> Task:
        """The task of the chosen channels."""
        names = ("linear", "constant", "tangent", "width", "features")
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
class Iterate:
    """Both sides of the dual pair, or changes of them, for a batch."""

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


@dataclass(eq=False)
class State(Iterate):
    """Iterates of a batch."""

    reach: Any
    """Lengths found last, primal and dual, shape (B, 2)."""

    def only(self, chosen: Any) -> State:
        """The chosen channels."""
        return State(*(getattr(self, field.name)[chosen] for field in fields(self)))


def task_of(sdps: Sequence[BoxHullSDP], arrays: Arrays) -> Task:
    """The data of relaxations that share their form, all of one kind."""
    first = sdps[0]
    if first.chord:
        features = np.stack([np.stack([y, 2.0 * x]) for x, y in (sdp.vertices for sdp in sdps)])
    else:
        features = np.ones((len(sdps), 0, first.n, 1))
    return Task(
        arrays,
        arrays.array(first.form),
        arrays.array(0.5 * first.form),
        arrays.array(np.stack([sdp.linear for sdp in sdps])),
        arrays.array(np.array([sdp.constant for sdp in sdps])),
        arrays.array(np.stack([sdp.edges[0] for sdp in sdps])),
        arrays.array(np.stack([sdp.edges[1] - sdp.edges[0] for sdp in sdps])),
        arrays.array(features),
    )


def values_of(task: Task, state: State, factor: Any) -> tuple[Any, Any]:
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
        (scale * times(product, scale)).sum(-1)
        for scale in (xp.sqrt(xp.where(lam > 0.0, least, inside) / variance), xp.sqrt(inside / variance))
    ]
    return dual, value + xp.minimum(*spread)


def _least_variance(task: Task, mean: Any) -> Any:
    """Variance that the tangents ask for at a mean, shape (B, n)."""
    off = mean[..., None] - task.tangent
    return task.arrays.xp.clip(task.arrays.xp.amax(off * (task.width - off), -1), 0.0, None)


def times(matrix: Any, vector: Any) -> Any:
    """Matrices (B, n, n) times vectors (B, n)."""
    return (matrix @ vector[..., None])[..., 0]


def start(task: Task, sdps: Sequence[BoxHullSDP]) -> State:
    """Iterates near the central path, with lam in proportion to the conditional variances of P."""
    arrays, xp = task.arrays, task.arrays.xp
    first = sdps[0]
    lam_of_form = first_lam(first.form)
    lam = arrays.array(np.tile(lam_of_form, (len(sdps), 1)))
    if task.bounded:
        points = [box_minimiser(sdp.form, sdp.centre, sdp.low, sdp.high) for sdp in sdps]
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
        return State(covariance, weight, mean, lam, -0.5 * lam, 0.0 * lam, slack, _no_reach(task))
    equal = arrays.array(np.stack([sdp.points.variance for sdp in sdps]))
    for _ in range(START_RISES):
        state, balanced = _spread_out(task, mean, lam, level, equal)
        if balanced.all():
            break
        level = xp.where(arrays.index(balanced), level, START_RISE * level)
    return state  # one that is not near the path, of numbers out of all proportion, ends at its first step


def _spread_out(task: Task, mean: Any, lam: Any, level: Any, equal: Any) -> tuple[State, NDArray[np.bool_]]:
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
    state = State(covariance, weight, mean, lam, mu, t, slack, _no_reach(task))
    trace = arrays.numpy(trace_of(task, state))
    return state, np.asarray(definite & (trace <= START_TRACE * task.n * arrays.numpy(level)))


def _no_reach(task: Task) -> Any:
    return task.arrays.array(np.ones((len(task.constant), 2)))


def first_lam(form: NDArray[np.float64]) -> NDArray[np.float64]:
    """A lam > 0 well inside S > 0, shape (n,): shares of the conditional variances, equal ones."""
    diagonal = form.diagonal()
    unit = np.where(diagonal > 0.0, diagonal, 1.0)
    for ridge in (RIDGE, 1e3 * RIDGE, 1e6 * RIDGE, 1.0):  # a singular P may have eigenvalues below zero
        factor, definite = NUMPY.cholesky((form + np.diag(ridge * unit))[None])
        if definite[0]:
            break
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


def trace_of(task: Task, state: State) -> Any:
    """tr(C S), shape (B,)."""
    whole = state.covariance.reshape(len(state.lam), -1) @ task.form.reshape(-1)
    return whole - (state.lam * state.covariance.diagonal(0, -2, -1)).sum(-1)
