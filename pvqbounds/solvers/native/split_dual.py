"""The box-hull SDP, with split inequalities or without: a path of barriers, by a quasi-Newton method.

**The dual.** With x = z - c in units of codes and the rows of :mod:`.split_rows`,

    E(z) >= -qᵀS⁻¹q - sum_c u_c (alpha_c² - h_c),   S = P - sum_c u_c a_c a_cᵀ,   q = sum_c u_c alpha_c a_c,

u = weight * y, for all y >= 0 with S positive definite. Its maximum over y is the relaxation's
value. What is maximised is that plus mu logdet S, whose derivative in y_c is

    -weight_c ((a_cᵀx + alpha_c)² + mu a_cᵀS⁻¹a_c - h_c)     at  x = S⁻¹q:

the inequality that the point (x, mu S⁻¹) of the central path fulfils. That point says which
inequalities are violated, and so which to add (as the cutting-plane methods for max-cut do;
Fischer, Gruber, Rendl and Sotirov, Math. Programming 105, 2006).

**The method.** Steps of the limited-memory BFGS method (Nocedal and Wright, "Numerical
Optimization", ch. 7) projected onto y >= 0, in variables scaled by the diagonal of the Hessian, while
mu falls in a few stages from where y = 0 is almost optimal. An evaluation is one Cholesky
factorisation and one inverse, whatever the number of rows; an interior-point method would need
a Newton matrix as large as that number, which is ten to fifty times n here. Every iterate is a
proof in the making: the largest dual value met is kept. The number of steps is fixed, so that
results do not depend on the machine, unless the clock allows fewer.

Without split inequalities it is a first-order method for the box-hull SDP, for sizes at which the
interior point (:mod:`.box_hull_dual`) is too dear: a few n² numbers and about 2 n³ operations a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import SolverFailedError
from pvqbounds.problems import IntegerLeastSquares
from pvqbounds.relaxations.box import box_minimiser
from pvqbounds.relaxations.box_hull import BoxHullSDP, box_hull
from pvqbounds.relaxations.certificates import BoxHullCertificate
from pvqbounds.relaxations.splits import Splits
from pvqbounds.solvers.base import Clock, SDPSolution
from pvqbounds.solvers.native import array_kernels, split_kernel
from pvqbounds.solvers.native.split_rows import Rows, single_rows, split_rows
from pvqbounds.solvers.relaxation import Relaxed

__all__ = ["relax_with_splits", "solve_by_path"]

Array = NDArray[np.float64]

MEMORY = 10
"""Pairs of steps and changes of the gradient that are kept."""

FIRST_MOVE = 0.05
"""Largest change of a scaled variable in a step that knows no curvature."""

DECREASE = 1e-4
"""Share of the expected gain that a step has to bring."""

TRIALS = 25
"""Lengths that a line search tries."""

SETTLED = 1e-2
"""A round ends where a step gains less than this times mu."""

DEPTH = 0.01
"""Violation that a split inequality is added for; 1/4 is the most there is."""

TANGENT_DEPTH = 1e-3
"""The same for tangents."""

SPLITS_AN_INPUT = 5
"""Split inequalities added in a round, as a multiple of n."""

PATH_SHARE = 0.5
"""Share of the time left that a path may take: what follows takes time, too."""

LARGEST_SEARCH = 1536
"""Inputs above which split inequalities are not looked for: O(n³) a round."""

DEFINITE = 1e-12
"""Least squared pivot of S, relative to the diagonal of P."""

NEAR = 0.2
"""Gap of the last barrier, relative to the value, at which a path has come to its end."""


@dataclass(frozen=True)
class Stage:
    """A part of the path with one mu."""

    share: float
    """mu as a share of the value over n."""
    rounds: int
    """How often inequalities are exchanged."""
    steps: int
    """Steps between two exchanges."""


QUICK = (Stage(1.0, 1, 6), Stage(0.4, 2, 8), Stage(0.15, 5, 8))
"""For a brief search on top: it ends where S is still far from singular, and the search visits few nodes."""

LONG = (Stage(1.0, 1, 10), Stage(0.3, 4, 10), Stage(0.1, 12, 15))
"""For a search that has all of the time limit."""

TIGHT = (Stage(1.0, 1, 20), Stage(0.3, 4, 20), Stage(0.1, 6, 30), Stage(0.03, 6, 30), Stage(0.01, 6, 30))
"""For the relaxation's own bound."""

FIRST_ORDER = (
    Stage(1.0, 1, 10),
    Stage(0.3, 1, 10),
    Stage(0.1, 1, 15),
    Stage(0.03, 1, 15),
    Stage(0.01, 1, 20),
)
"""Without split inequalities."""


def relax_with_splits(problem: IntegerLeastSquares, clock: Clock, search_share: float = 0.0) -> Relaxed:
    """Bound a problem by the box-hull SDP with the split inequalities that it violates most.

    Parameters
    ----------
    problem
        Any; inputs that are always zero are left out.
    clock
        Ends the path early; what is known by then is valid and weaker.
    search_share
        Share of the time limit that a search on top will have: the more, the longer the path;
        with none it goes on to where its own bound is best.

    Returns
    -------
    A certificate with split inequalities, and the moments of the last point of the path. The
    status is "solved", or says that the path did not come near its end.
    """
    sdp, live = box_hull(problem), np.asarray(problem.gram.any(axis=1))
    if not live.any():
        zero, mean = np.zeros(problem.n), np.clip(sdp.centre, sdp.qmin, sdp.qmax)
        return Relaxed(BoxHullCertificate(zero, zero), mean, np.diag(zero), 0.0, "every input is zero")
    path = _Path(sdp, live)
    with_splits = problem.n <= LARGEST_SEARCH
    stages = _stages_for(search_share) if with_splits else FIRST_ORDER
    path.follow(stages, clock.part(PATH_SHARE), with_splits=with_splits)
    found, splits = path.solution()
    step = sdp.unit / sdp.scale
    splits = replace(splits, multiplier=splits.multiplier * step / sdp.scale)
    certificate = BoxHullCertificate(found.lam * step / sdp.scale, found.nu * step, splits)
    return Relaxed(certificate, found.mean, found.covariance, found.value * sdp.unit, found.status)


def _stages_for(search_share: float) -> Sequence[Stage]:
    if search_share == 0.0:
        return TIGHT
    return QUICK if search_share < 1.0 else LONG


def solve_by_path(sdp: BoxHullSDP, clock: Clock) -> SDPSolution:
    """Solve one box-hull relaxation, of more than one code, as well as the clock allows.

    All tangents count, also those left out of ``sdp.tangent``.
    """
    path = _Path(sdp, np.diagonal(sdp.form) > 0.0)
    path.follow(FIRST_ORDER, clock, with_splits=False)
    return path.solution()[0]


@dataclass(frozen=True, eq=False)
class _Point:
    """The barrier's value at some multipliers, and its matrix."""

    multiplier: Array
    value: float
    """The dual value."""
    barrier: float
    """The dual value and mu logdet S."""
    factor: Array
    """Of S, shape (1, n, n); its lower triangle alone."""
    x: Array
    """S⁻¹q, shape (n,)."""

    def inverse(self) -> Array:
        """S⁻¹, shape (n, n), in the place of the factor."""
        array_kernels.inverse(self.factor)
        return np.asarray(self.factor[0])


class _Path:
    """The iterate, from y = 0 onwards, over the inputs of a mask."""

    def __init__(self, sdp: BoxHullSDP, live: NDArray[np.bool_]) -> None:
        self._live = live
        whole = bool(live.all())
        self._form = np.ascontiguousarray(sdp.form if whole else sdp.form[np.ix_(live, live)])
        self._diagonal = np.diagonal(self._form)
        self._centre = sdp.centre[live]
        self._ends = sdp.qmin, sdp.qmax
        self._whole_centre = sdp.centre
        self.n = len(self._centre)
        self._spare: Array | None = None
        self._rows = self._first_rows()
        self._memory = _Memory(len(self._rows))
        start = time.monotonic()
        self._point = self._first_point()
        self._inverse = self._point.inverse()
        self._seconds = time.monotonic() - start
        """What a step takes, about."""
        self._level = 0.25 * float((1.0 / np.diagonal(self._inverse)).sum())
        """What the dual value is expected to be."""
        self._mu = self._level / max(self.n, 1)
        self._best = self._rows, self._point.value
        self._unit = np.ones(len(self._rows))

    def follow(self, stages: Sequence[Stage], clock: Clock, *, with_splits: bool) -> None:
        """Run the stages, each cut to what the clock allows."""
        steps = sum(stage.rounds * stage.steps for stage in stages)
        pace = min(1.0, clock.remaining / max(steps * self._seconds, 1e-12))
        for number, stage in enumerate(stages):
            for _ in range(stage.rounds):
                if not self._advance(stage.share, max(1, int(pace * stage.steps)), clock):
                    return
                self._exchange(with_splits=with_splits and number > 0)

    def _first_rows(self) -> Rows:
        """The tangents next to the continuous minimiser, and the chords."""
        qmin, qmax = self._ends
        near = box_minimiser(self._form, self._centre, qmin, qmax)
        inputs = np.arange(self.n)
        low = np.clip(np.floor(near), qmin, max(qmin, qmax - 1))
        tangents = single_rows(inputs, low, self._centre)
        middle = np.full(self.n, 0.5 * (qmin + qmax - 1))
        return tangents.and_then(single_rows(inputs, middle, self._centre, chord=qmax - qmin))

    def _first_point(self) -> _Point:
        """At y = 0; a singular form borrows curvature from the chords."""
        chords = self._rows.weight < 0.0
        for depth in (0.0, *(10.0**k for k in range(-12, 2))):
            trial = np.where(chords, depth * self._diagonal[self._rows.index[:, 0]], 0.0)
            point = self._evaluate(trial, 0.0)
            if point is not None and np.isfinite(point.factor).all():
                return point
        raise SolverFailedError("The split dual has no start: the Gram is not positive semidefinite.")

    def _evaluate(self, multiplier: Array, mu: float) -> _Point | None:
        """None where S is not positive definite by more than what rounding may change."""
        rows = self._rows
        charge = rows.weight * multiplier
        factor = np.zeros((1, self.n, self.n)) if self._spare is None else self._spare
        self._spare = None
        x = np.empty(self.n)
        split_kernel.assemble(self._form, rows.index, rows.sign, rows.offset, charge, factor[0], x)
        definite = bool(array_kernels.cholesky(factor)[0])
        pivots = np.diagonal(factor[0])
        if not (definite and (pivots * pivots > DEFINITE * self._diagonal).all()):
            self._spare = factor
            return None
        linear = x.copy()
        array_kernels.solve(factor, x[None])
        value = -float(charge @ (rows.offset * rows.offset - rows.limit)) - float(linear @ x)
        barrier = value + 2.0 * mu * float(np.log(pivots).sum())
        return _Point(multiplier, value, barrier, factor, x)

    def _gradient(self, point: _Point, inverse: Array) -> tuple[Array, Array]:
        """Derivative of the barrier by y, and the unit that makes its second one about 1: (m,) each."""
        rows, mu = self._rows, self._mu
        spread, mean = split_kernel.moments(inverse, point.x, rows.index, rows.sign, rows.offset)
        unit = 1.0 / np.sqrt(mu * spread * spread + 2.0 * mean * mean * spread)
        return -rows.weight * (mean * mean + mu * spread - rows.limit), unit

    def _advance(self, share: float, steps: int, clock: Clock) -> bool:
        """Climb the barrier for so many steps; whether there is a way and time to go on."""
        self._mu = mu = share * self._level / max(self.n, 1)
        self._spare = None
        point = self._evaluate(self._rows.multiplier, mu)
        if point is None:  # rows in another order are summed to something else: at the edge of float64
            return False
        inverse = point.inverse()
        slope, unit = self._gradient(point, inverse)
        self._memory.rescale(self._unit / unit)
        gradient = unit * slope
        for _ in range(steps):
            if clock.expired:
                break
            free = (point.multiplier > 0.0) | (gradient > 0.0)
            step = self._memory.direction(np.where(free, gradient, 0.0), free)
            moved = self._line_search(point, unit * step, slope, mu)
            if moved is None:
                break
            self._spare, inverse = point.factor, moved.inverse()
            new_slope, _ = self._gradient(moved, inverse)
            new_gradient = unit * new_slope
            self._memory.add((moved.multiplier - point.multiplier) / unit, gradient - new_gradient)
            gained = moved.barrier - point.barrier
            point, slope, gradient = moved, new_slope, new_gradient
            if gained < SETTLED * mu:
                break
        self._point, self._inverse, self._unit = point, inverse, unit
        self._rows = self._rows.with_multiplier(point.multiplier)
        if point.value > self._best[1]:
            self._best = self._rows, point.value
        self._level = max(point.value, 0.5 * self._level)
        return not clock.expired

    def _line_search(self, point: _Point, step: Array, slope: Array, mu: float) -> _Point | None:
        """The first point along the projected step that gains enough."""
        length = 1.0
        for _ in range(TRIALS):
            multiplier = np.maximum(point.multiplier + length * step, 0.0)
            moved = self._evaluate(multiplier, mu)
            if moved is not None:
                expected = float(slope @ (multiplier - point.multiplier))
                if moved.barrier >= point.barrier + DECREASE * expected:
                    return moved
                self._spare = moved.factor
            length *= 0.5
        return None

    def _exchange(self, *, with_splits: bool) -> None:
        """Drop rows that are not active, add those that the point of the path violates."""
        qmin, qmax = self._ends
        rows, z, covariance = self._rows, self._centre + self._point.x, self._mu * self._inverse
        slope, _ = self._gradient(self._point, self._inverse)
        kept = rows.single | (rows.multiplier > 0.0) | (slope > 0.0)
        rows = rows.only(kept)
        low = np.clip(np.floor(z), qmin, max(qmin, qmax - 1))
        failing = np.diagonal(covariance) + (z - low) * (z - low - 1.0) < -TANGENT_DEPTH
        new = rows.new_among(single_rows(np.flatnonzero(failing), low[failing], self._centre))
        if with_splits:
            most = SPLITS_AN_INPUT * self.n
            index, sign, low = split_kernel.separate(z, covariance, DEPTH, most)
            new = new.and_then(rows.new_among(split_rows(index, sign, low, self._centre)))
        self._rows = rows.and_then(new)
        self._memory.exchange(kept, len(new))
        self._unit = np.concatenate([self._unit[kept], np.ones(len(new))])

    def solution(self) -> tuple[SDPSolution, Splits]:
        """Multipliers of the best point, and the moments of the last one: all inputs, units of the SDP."""
        (rows, value), live = self._best, self._live
        charge, single = rows.charge, rows.single
        lam, nu = np.zeros(len(live)), np.zeros(len(live))
        lam[live] = np.bincount(rows.index[single, 0], charge[single], self.n)
        pulls = (charge * rows.offset)[:, None] * rows.sign
        nu[live] = np.bincount(rows.index.ravel(), pulls.ravel(), self.n)
        used = rows.only(~single & (rows.multiplier > 0.0))
        splits = Splits(used.index, used.sign.astype(np.int8), used.low.astype(np.int64), used.multiplier)
        gap = self.n * self._mu / value if value > 0.0 else math.inf
        status = "solved" if gap < NEAR else f"stopped at a relative gap of about {gap:.1e}"
        mean = np.clip(self._whole_centre, *self._ends)
        mean[live] = self._centre + self._point.x
        covariance = np.zeros((len(live), len(live)))
        covariance[np.ix_(live, live)] = self._mu * self._inverse
        return SDPSolution(lam, nu, value, mean, covariance, status), splits.spread(live)


class _Memory:
    """The last steps and what they did to the gradient, over m scaled variables."""

    def __init__(self, m: int) -> None:
        self._steps, self._changes = np.zeros((MEMORY, m)), np.zeros((MEMORY, m))
        self._count = 0

    def add(self, step: Array, change: Array) -> None:
        """Note a step and the fall of the gradient along it, shape (m,) each."""
        size = float(np.linalg.norm(step) * np.linalg.norm(change))
        if float(step @ change) > 1e-12 * size:
            place = self._count % MEMORY
            self._steps[place], self._changes[place] = step, change
            self._count += 1

    def rescale(self, factor: Array) -> None:
        """Go on in variables that count `factor` times as much, shape (m,)."""
        self._steps *= factor
        self._changes /= factor

    def exchange(self, kept: NDArray[np.bool_], new: int) -> None:
        """Drop the variables outside a mask, and add so many that no step has moved."""
        self._steps, self._changes = (_exchanged(part, kept, new) for part in (self._steps, self._changes))
        if ((self._steps * self._changes).sum(axis=1)[: min(self._count, MEMORY)] <= 0.0).any():
            self._count = 0

    def direction(self, gradient: Array, free: NDArray[np.bool_]) -> Array:
        """An ascent direction on the free variables, shape (m,)."""
        if self._count > 0:
            step = split_kernel.direction(gradient, self._steps, self._changes, self._count)
            step = np.where(free, step, 0.0)
            if float(step @ gradient) > 0.0:
                return np.asarray(step)
            self._count = 0
        steepest = float(np.abs(gradient).max(initial=0.0))
        return np.asarray(gradient * (FIRST_MOVE / steepest if steepest > 0.0 else 0.0))


def _exchanged(vectors: Array, kept: NDArray[np.bool_], new: int) -> Array:
    """Rows of `vectors` without the entries outside a mask, and with so many zeros at the end."""
    old = int(kept.sum())
    out = np.zeros((len(vectors), old + new))
    out[:, :old] = vectors[:, kept]
    return out
