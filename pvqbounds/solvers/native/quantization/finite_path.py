"""The path of :mod:`.finite_barrier` from a warm temperature to a cold one, by Newton's method.

A step goes to the lowest temperature for which its length in the Newton metric stays within a radius,
with the change of the gradient by mu taken along (a predictor and a corrector in one), once the point is
near the path. Every iterate is a proof in the making: the one with the largest dual value is kept.
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
    Iterate,
    Multipliers,
    Newton,
    Task,
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

RADIUS = 0.15
"""Squared length of a step in the Newton metric, over mu times the unknowns."""

FALL = 0.5
"""Least ratio of a temperature to the one before."""

CENTRED = 1.0
"""Squared length of the Newton step, over mu, below which a point is taken for one of the path.

From points beyond it the temperature does not fall: they drift away, and Newton's method creeps back."""

GOAL = 0.7
"""Share of the tolerance that the last temperature is to leave."""

TO_ZERO = 0.9
"""Share of the way to a price of zero that a step may go."""

SHARES = (1.0, 0.25, 0.05, 0.0)
"""Shares of a fall of the temperature, tried one after the other."""

SHORTER, SHORT, SHORTEST = 0.5, 1e-2, 1e-6
"""Ratio of the lengths of two trials, and the least lengths: with a fall of the temperature, and without."""

ROUNDING = 1e-12
"""What a step may lose of the barrier, relative to it."""


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
    best: Iterate
    """The point of the largest dual value."""
    last: Iterate
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
    seconds = FLOPS * task.n**3 / FLOPS_A_SECOND
    gap, solved, trail = math.inf, False, [(mu, start.at)]
    for _ in range(STEPS):
        place = _looked(task, point, mu) if seconds <= clock.remaining else None
        if place is None:
            break
        unit = max(abs(point.value), start.floor)
        if unit == 0.0:
            break  # weights so far from all values that these are one to them
        gap = (place.left + place.length) / unit
        solved = place.left <= tolerance * unit and place.length <= CENTRED * mu
        if solved:
            break
        goal = GOAL * tolerance * unit / place.left * mu
        colder = max(place.coldest(RADIUS * mu * task.size), min(mu, goal))
        taken = _descended(task, point, place, colder)
        if taken is None:
            break
        mu, point = taken
        trail.append((mu, point.at))
        if point.value > best.value:
            best = point
    return Path(start, best, point, mu, trail, gap, solved)


@dataclass(frozen=True, eq=False)
class _Place:
    """What Newton's method says at a point: the step from its temperature to any lower one."""

    mu: float
    ahead: Multipliers
    """The step at the same temperature."""
    change: Multipliers
    """Its derivative by the temperature."""
    squares: tuple[float, float, float]
    """Products of `ahead` and `change` in the Newton metric."""
    left: float
    """What a point of the path may lie below the optimum."""

    @property
    def length(self) -> float:
        """Squared length of `ahead`: about what the barrier may still rise."""
        return self.squares[0]

    def step(self, mu: float) -> Multipliers:
        """The step to a temperature."""
        return self.ahead.combined(mu - self.mu, self.change)

    def coldest(self, limit: float) -> float:
        """The lowest temperature whose step has a squared length of at most `limit`; mu where it has none."""
        here, mixed, change = self.squares
        if not (here < min(limit, CENTRED * self.mu) and change > 0.0):
            return self.mu
        down = (mixed + math.sqrt(mixed * mixed + change * (limit - here))) / change
        return max(self.mu - down, FALL * self.mu)


def _looked(task: Task, point: Iterate, mu: float) -> _Place | None:
    """The steps from a point; None where rounding leaves none."""
    newton = Newton(task, point, mu)
    if not newton.solvable:
        return None
    ahead, change = newton.step(newton.gradient), newton.step(newton.drift)
    squares = newton.gradient.dot(ahead), newton.drift.dot(ahead), newton.drift.dot(change)
    if not all(math.isfinite(square) for square in squares):
        return None
    return _Place(mu, ahead, change, squares, mu * task.size + point.loose)


def _descended(task: Task, point: Iterate, place: _Place, colder: float) -> tuple[float, Iterate] | None:
    """A lower temperature, or the same, and a point of a higher barrier there; None where there is none."""
    for share in SHARES:
        mu = place.mu + share * (colder - place.mu)
        found = _taken(task, point, place.step(mu), mu, SHORTEST if share == 0.0 else SHORT)
        if found is not None:
            return mu, found
    return None


def _taken(task: Task, point: Iterate, step: Multipliers, mu: float, shortest: float) -> Iterate | None:
    """The point as far along a step as the barrier allows; None where that is hardly anywhere."""
    length = 1.0
    cheaper = step.tau < 0.0
    if cheaper.any():
        length = min(1.0, TO_ZERO * float((-point.at.tau[cheaper] / step.tau[cheaper]).min()))
    barrier = point.barrier_at(task, mu)
    least = barrier - ROUNDING * abs(barrier)
    while length > shortest:
        found = point_at(task, point.at.plus(length, step, point.x), mu)
        if found is not None and found.barrier >= least:
            return found
        length *= SHORTER
    return None
