"""The relaxation of finite value sets of any kind, under any support rule: multipliers by a path.

The hull of (v_i, v_i²) over the values of each input, and budgets on how many of them are non-zero:
box-hull SDP and perspective relaxation in one. The engine (:mod:`.finite_path`) maximises the
certificate's own bound. Of long value sets it sees some values; its multipliers are then looked at with
all of them, and the path is taken again with those that they would rather have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, Problem
from pvqbounds.problems.code_grids import unit_of
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.quantization.box_hull_engine import solve_sdp
from pvqbounds.solvers.native.quantization.box_hull_iterates import first_lam
from pvqbounds.solvers.native.quantization.finite_barrier import (
    Iterate,
    Multipliers,
    Task,
    is_definite,
    point_at,
)
from pvqbounds.solvers.native.quantization.finite_path import Path, follow, start_of
from pvqbounds.solvers.native.quantization.finite_values import Candidates, candidates
from pvqbounds.solvers.native.quantization.split_dual import solve_by_path
from pvqbounds.solvers.relaxation import Relaxed, relax, relax_levels

__all__ = ["reaches_far_apart", "relax_finite", "relax_in_codes", "relax_steps"]

Array = NDArray[np.float64]

ROUNDS = 5
"""Paths at most, each with the values that the one before left out and wants."""

WARMER, SHORTFALL = 30.0, 4.0
"""A later path starts so many times as warm as the path before ended, and at so many times what all
values prove less, over n."""

PINNED = 1e-8
"""Inputs that can change the error so much less than others, in its root, are taken at their nearest value:
multipliers for both do not fit into the digits of one factor."""

FREE = 1e-30
"""A price of being non-zero that is next to none."""

NO_START = "the numbers of the problem lie too far apart for the relaxation"
"""Status where float64 holds no first point."""

PATH = 100.0
"""Operations of a path, over n³. Where there is no time for them first-order steps give more."""

DEPTHS = tuple(10.0**k for k in range(4, 13))
"""What lam is below zero for inputs of one value, over their power: any number will do that is large."""


def relax_finite(problem: LeastSquares, clock: Clock, tolerance: float = 1e-3) -> Relaxed:
    """Solve the relaxation of a problem with finite value sets, under a support rule or without.

    Parameters
    ----------
    problem
        In units near 1 (:attr:`~pvqbounds.problems.least_squares.Problem.normalised`). The Gram may be
        singular; inputs that are always zero are left out.
    clock
        Ends the path between two steps; what is known by then is valid and weaker.
    tolerance
        Relative gap at which the path ends; the value is right to about a sixth of it by then.

    Returns
    -------
    A certificate, and the moments of the weights v: `mean`, shape (n,), and `covariance`, shape (n, n).
    The status is "solved", or says at which relative gap the path ended.
    """
    live = problem.shared.live
    lam, nu, mean = np.zeros(problem.n), np.zeros(problem.n), problem.start().weight
    covariance = np.zeros((problem.n, problem.n))
    reported, status = 0.0, "every input is zero"
    if not problem.is_restricted and PATH * problem.n**3 / FLOPS_A_SECOND > clock.remaining:
        return relax_levels(problem, lambda sdp: solve_by_path(sdp, clock))
    if live.any():
        inner = problem.among(live)
        found = _with_fixed(inner, clock, tolerance)
        mean[live] = inner.weight + found.mean
        if found.value > 0.0:  # E is a mean square: without, no multipliers at all say as much
            lam[live], nu[live] = found.lam, inner.gram @ found.x - found.lam * found.x
        covariance[np.ix_(live, live)] = found.covariance
        reported, status = max(found.value, 0.0), found.status
    return Relaxed(DualCertificate(lam, nu), mean, covariance, reported, status)


def relax_in_codes(problem: LeastSquares, clock: Clock, tolerance: float = 1e-3) -> Relaxed:
    """:func:`relax_finite` with moments in units of the grid: codes of steps, else weights."""
    relaxed = relax_finite(problem, clock, tolerance)
    unit = unit_of(problem.values)
    return replace(relaxed, mean=relaxed.mean / unit, covariance=relaxed.covariance / np.outer(unit, unit))


def relax_steps(problem: IntegerLeastSquares, clock: Clock, tolerance: float = 1e-6) -> Relaxed:
    """The box-hull relaxation of uniform steps: its SDP where that can be posed in units of codes."""
    if reaches_far_apart(problem):
        return relax_in_codes(problem, clock, tolerance)
    return relax(problem, "box-hull", lambda sdp: solve_sdp(sdp, clock, tolerance=tolerance), clock)


def reaches_far_apart(problem: Problem) -> bool:
    """Whether some inputs can change the error by next to nothing beside others; units near 1.

    Engines in units of codes then see numbers out of all proportion; :func:`relax_finite` puts such inputs
    aside.
    """
    reach = _reach(problem)
    return bool(((reach > 0.0) & (reach < PINNED * reach.max())).any())


def _reach(problem: Problem) -> Array:
    """How far the values of each input can move the root of the error, shape (n,)."""
    width = problem.values.highest - problem.values.lowest
    return np.asarray(np.sqrt(np.diagonal(problem.gram)) * width, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Found:
    """Multipliers and moments in the coordinates d = v - w."""

    lam: Array
    """Shape (n,)."""
    x: Array
    """S⁻¹nu, which says what nu is, shape (n,)."""
    mean: Array
    """Relaxed d, shape (n,)."""
    covariance: Array
    """Shape (n, n)."""
    value: float
    status: str


def _with_fixed(problem: LeastSquares, clock: Clock, tolerance: float) -> _Found:
    """The relaxation of inputs that all have power: those that have as good as one value are put aside.

    A very negative lam keeps such an input at its value, at no cost to the bound.
    """
    reach = _reach(problem)
    free = reach > PINNED * reach.max()
    for group, most in problem.budgets:
        free[group] &= most > 0
    if free.all():
        return _solved(_Scaled.of(problem, np.zeros(problem.n), 0.0), clock, tolerance)
    form, offset = problem.gram, problem.start().weight - problem.weight
    pull = form[:, ~free] @ offset[~free]
    value, status = float(offset[~free] @ pull[~free]), "solved"
    lam, x, covariance = np.zeros(problem.n), offset.copy(), np.zeros_like(form)
    if free.any():
        found = _solved(_Scaled.of(problem.among(free), pull[free], value), clock, tolerance)
        lam[free], x[free], offset[free] = found.lam, found.x, found.mean
        covariance[np.ix_(free, free)] = found.covariance
        value, status = found.value, found.status
    for depth in DEPTHS:
        lam[~free] = -depth * np.diagonal(form)[~free]
        if is_definite(form - np.diag(lam)):
            break
    return _Found(lam, x, offset, covariance, value, status)


def _solved(scaled: _Scaled, clock: Clock, tolerance: float) -> _Found:
    """The relaxation of inputs that all have power and several values."""
    near, n = scaled.minimiser(clock), scaled.problem.n
    chosen = candidates(scaled.problem.values, scaled.weight_of(near))
    start = start_of(scaled.task(chosen), near, scaled.rounding_error())
    path = follow(start, clock, tolerance)
    if path is None:  # numbers out of all proportion
        zero = np.zeros(n)
        return _Found(zero, zero, near / scaled.root, np.zeros((n, n)), 0.0, NO_START)
    points = [path.best]
    if not chosen.whole:
        path, points = _with_all_values(scaled, chosen, path, clock, tolerance)
    if not path.solved:
        points += _plain(start.task, near)
    best = max(points, key=scaled.value)
    value = scaled.value(best)
    mean, covariance = path.last.x / scaled.root, path.covariance() / np.outer(scaled.root, scaled.root)
    lam = best.at.lam * scaled.root**2
    return _Found(lam, best.x / scaled.root, mean, covariance, value, path.status)


def _with_all_values(
    scaled: _Scaled, chosen: Candidates, path: Path, clock: Clock, tolerance: float
) -> tuple[Path, list[Iterate]]:
    """The last path, and the best points of all: each path has the values that the one before wants."""
    points = [path.best]
    for _ in range(ROUNDS - 1):
        value = scaled.value(path.best)
        shortfall = path.best.value - value
        if shortfall <= tolerance * max(abs(value), path.start.floor) or clock.expired:
            break
        for offset in (scaled.wanted(path.best), path.last.x):
            chosen = chosen.and_near(scaled.problem.values, scaled.weight_of(offset))
        warm = max(WARMER * path.mu, SHORTFALL * shortfall / scaled.problem.n)
        later = follow(path.again(scaled.task(chosen), warm), clock, tolerance)
        if later is None:
            break
        path = later
        points.append(path.best)
    return path, points


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A problem in units of d that give its form a unit diagonal."""

    problem: LeastSquares
    root: Array
    """Units of d, shape (n,): square roots of the diagonal of G."""
    form: Array
    """P, in Fortran's order, shape (n, n)."""
    pull: Array
    """b, shape (n,): inputs of one value add 2 bᵀd to the error of the others, dᵀPd,"""
    constant: float
    """and this."""

    @classmethod
    def of(cls, problem: LeastSquares, pull: Array, constant: float) -> _Scaled:
        """The same with b in units of the problem."""
        root = np.sqrt(np.diagonal(problem.gram))
        form = np.asfortranarray(problem.gram / np.outer(root, root))
        return cls(problem, root, form, pull / root, constant)

    def weight_of(self, offset: Array) -> Array:
        """v = w + d in the problem's units, shape (n,)."""
        return np.asarray(self.problem.weight + offset / self.root)

    def minimiser(self, clock: Clock) -> Array:
        """The minimiser of dᵀPd + 2 bᵀd between the ends of the values, shape (n,)."""
        values, n = self.problem.values, self.problem.n
        centre = np.linalg.lstsq(self.form, -self.pull, rcond=None)[0] if self.pull.any() else np.zeros(n)
        low, high = ((end - self.problem.weight) * self.root for end in (values.lowest, values.highest))
        return box_minimiser(self.form, np.asarray(centre, dtype=np.float64), low, high, clock)

    def rounding_error(self) -> float:
        """The error of weights that need no solver."""
        offset = (self.problem.start().weight - self.problem.weight) * self.root
        return float(offset @ (self.form @ offset + 2.0 * self.pull)) + self.constant

    def task(self, chosen: Candidates) -> Task:
        """The smoothed dual with some values."""
        budgets = [(group, most) for group, most in self.problem.budgets if most < len(group)]
        number = np.full(self.problem.n, len(budgets))
        for i, (group, _) in enumerate(budgets):
            number[group] = i
        return Task(
            form=self.form,
            pull=self.pull,
            constant=self.constant,
            offset=(chosen.values - self.problem.weight[:, None]) * self.root[:, None],
            present=chosen.present,
            nonzero=(chosen.values != 0.0).astype(np.float64),
            group=number,
            most=np.array([float(most) for _, most in budgets]),
        )

    def wanted(self, point: Iterate) -> Array:
        """The d that each input would take were all values there, shape (n,)."""
        slope = point.at.nu + self.pull
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            stationary = np.where(point.at.lam > 0.0, -slope / point.at.lam, point.x)
        return np.where(np.isfinite(stationary), stationary, point.x)

    def value(self, point: Iterate) -> float:
        """What multipliers prove with all values, but for rounding."""
        lam = point.at.lam * self.root**2
        slope = (point.at.nu + self.pull) * self.root
        weight = self.problem.weight
        least = self.problem.values.least_costs(weight, lam, slope)
        total = self.constant - float(point.at.nu @ point.x) + float(least.sum())
        extra = np.maximum(lam * weight**2 - 2.0 * slope * weight - least, 0.0)
        for group, most in self.problem.budgets:
            total += float(np.sort(extra[group])[: len(group) - most].sum())
        return total


def _plain(task: Task, near: Array) -> list[Iterate]:
    """Multipliers that prove something without any step: with nu = 0 never less than nothing."""
    lam = first_lam(task.form)
    free = np.full(len(task.most), FREE)
    offsets = (near, np.zeros(task.n))
    points = [point_at(task, Multipliers(lam, task.form @ x - lam * x, free), 1.0) for x in offsets]
    return [point for point in points if point is not None]
