"""The path of :mod:`.finite_barrier` from a warm temperature to a cold one, by Newton's method.

A step goes to the lowest temperature for which its length in the Newton metric stays within a radius,
with the change of the gradient by mu taken along (a predictor and a corrector in one). It keeps clear of
the boundary of definite S: beyond it the iteration gets stuck in a corner where S has one tiny
eigenvalue. Every iterate is a proof in the making: the one with the largest dual value is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotri

from pvqbounds.clock import Clock
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.quantization.box_hull_iterates import first_lam
from pvqbounds.solvers.native.quantization.finite_barrier import (
    Multipliers,
    Newton,
    Point,
    Task,
    is_definite,
    point_at,
)

__all__ = ["Path", "Start", "follow", "start_of"]

Array = NDArray[np.float64]

WARM = 0.2
"""How far lam starts below what the curvature allows, in temperatures over the variance of the values."""

COLDEST = 1e-4
"""Least temperature of a start, as a share of the mean squared distance of neighbouring values."""

VALUE_FLOOR = 1e-6
"""Values below this share of the sum of those distances count as this in a relative gap."""

STEPS = 150
"""Steps at most; most problems take 15 to 30."""

FLOPS = 4.0
"""Operations of a step, over n³."""

RADIUS = 0.05
"""Squared length of a step in the Newton metric, over mu times the unknowns."""

FALL = 0.5
"""Least ratio of a temperature to the one before."""

CENTRED = 1.0
"""Squared length of the Newton step, over mu, below which a point is taken for one of the path."""

GOAL = 0.7
"""Share of the tolerance that the last temperature is to leave."""

BEYOND = 1.2
"""S must stay definite so many times as far as a step goes."""

SHORTER, SHORTEST = 0.5, 1e-6
"""Ratio of the lengths of two trials; a step below the second ends the iteration."""

ROUNDING = 1e-12
"""What a step may lose of the barrier, relative to it."""

WIDER, LEAST_RADIUS = 1.4, 0.02
"""How the radius recovers after a step that had to be shortened, and the least share of it."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where a path begins."""

    task: Task
    at: Multipliers
    mu: float
    """The first temperature."""
    floor: float
    """Values below it count as this much in a relative gap."""


def start_of(task: Task, near: Array, error: float) -> Start:
    """Where to begin, with what is known without a step.

    lam is what leaves S half as definite as P, less what makes the weights p as wide as the values where
    the temperature is high.

    Parameters
    ----------
    near
        The continuous minimiser d, shape (n,).
    error
        That of some values that are allowed: over n it is the first temperature.
    """
    distance = np.where(task.present, np.abs(task.offset - near[:, None]), np.inf)
    gaps = np.partition(distance, 1, axis=1)[:, :2].sum(axis=1) ** 2
    mu = max(error / task.n, COLDEST * float(gaps.mean()))
    share = task.present / task.present.sum(axis=1)[:, None]
    mean = (share * task.offset).sum(axis=1)
    variance = (share * (task.offset - mean[:, None]) ** 2).sum(axis=1)
    lam = first_lam(task.form) - WARM * mu / variance
    at = Multipliers(lam, task.form @ near - lam * near, np.full(len(task.most), mu))
    return Start(task, at, mu, VALUE_FLOOR * float(gaps.sum()))


@dataclass(frozen=True, eq=False)
class Path:
    """What a path ended with."""

    start: Start
    best: Point
    """The point of the largest dual value."""
    last: Point
    mu: float
    """The last temperature."""
    trail: list[tuple[float, Multipliers]]
    """The temperatures and multipliers of all points, in their order."""
    gap: float
    """What the last point may lie below the optimum, relative to the value."""
    solved: bool
    """Whether that is within the tolerance."""

    @property
    def status(self) -> str:
        """How it ended, in words."""
        if not math.isfinite(self.gap):
            return "stopped before its first step"
        return "solved" if self.solved else f"stopped at a relative gap of {self.gap:.1e}"

    def again(self, task: Task, mu: float) -> Start:
        """Where to begin with more values: at the last point that was not colder."""
        warm = [point for point in self.trail if point[0] >= mu] or self.trail[:1]
        mu, at = warm[-1]
        return replace(self.start, task=task, at=at, mu=mu)

    def covariance(self) -> Array:
        """The relaxation's covariance mu S⁻¹ at the last point, shape (n, n)."""
        lower = np.tril(dpotri(self.last.factor, lower=1)[0])
        return np.asarray(self.mu * (lower + np.tril(lower, -1).T))


def follow(start: Start, clock: Clock, tolerance: float = 1e-3) -> Path | None:
    """Follow the path to a relative gap of `tolerance`, or as far as the clock and rounding allow.

    None where the start is none: S is not definite there, or a number is not finite.
    """
    task, mu = start.task, start.mu
    point = best = point_at(task, start.at, mu)
    if point is None or best is None:
        return None
    radius, seconds = RADIUS, FLOPS * task.n**3 / FLOPS_A_SECOND
    gap, solved, trail = math.inf, False, [(mu, start.at)]
    for _ in range(STEPS):
        if seconds > clock.remaining:
            break
        newton = Newton(task, point, mu)
        if not newton.solvable:
            break
        ahead, change = newton.step(newton.gradient), newton.step(newton.drift)
        length = newton.gradient.dot(ahead)
        unit = max(abs(point.value), start.floor)
        if unit == 0.0:
            break  # weights so far from all values that these are one to them
        left = mu * task.size + point.loose
        gap = (left + max(length, 0.0)) / unit
        solved = left <= tolerance * unit and length <= CENTRED * mu
        if solved:
            break
        squares = length, newton.drift.dot(ahead), newton.drift.dot(change)
        goal = min(mu, GOAL * tolerance * unit / left * mu)
        colder = max(_temperature(mu, radius * mu * task.size, squares), goal)
        taken = _taken(task, point, ahead.combined(colder - mu, change), colder)
        if taken is None:
            break
        (point, whole), mu = taken, colder
        trail.append((mu, point.at))
        radius = min(WIDER * radius, RADIUS) if whole else max(SHORTER * radius, LEAST_RADIUS * RADIUS)
        if point.value > best.value:
            best = point
    return Path(start, best, point, mu, trail, gap, solved)


def _temperature(mu: float, limit: float, squares: tuple[float, float, float]) -> float:
    """The lowest temperature whose step has a squared length of at most `limit`; mu where it has none.

    The step is a + (colder - mu) b with the products (aa, ab, bb).
    """
    here, mixed, change = squares
    if not (here < limit and change > 0.0):
        return mu
    down = (mixed + math.sqrt(mixed * mixed + change * (limit - here))) / change
    return max(mu - down, FALL * mu)


def _taken(task: Task, point: Point, step: Multipliers, mu: float) -> tuple[Point, bool] | None:
    """The point as far along a step as the barrier allows, and whether that is all of it; None: nowhere."""
    length = 1.0
    cheaper = step.tau < 0.0
    if cheaper.any():
        nearest = float((-point.at.tau[cheaper] / step.tau[cheaper]).min())
        length = min(1.0, nearest / BEYOND)
    barrier = point.barrier_at(task, mu)
    least, whole = barrier - ROUNDING * abs(barrier), length == 1.0
    while length > SHORTEST:
        if is_definite(task.slack_matrix(point.at.lam + BEYOND * length * step.lam)):
            found = point_at(task, point.at.plus(length, step, point.x), mu)
            if found is not None and found.barrier >= least:
                return found, whole
        length *= SHORTER
        whole = False
    return None
