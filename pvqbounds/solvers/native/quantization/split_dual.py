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
proof in the making: the largest dual value met is kept. The number of steps follows from n and
the time limit alone: results do not depend on the machine as long as the clock does not run out.

Without split inequalities it is a first-order method for the box-hull SDP, for sizes at which the
interior point (:mod:`.box_hull_dual`) is too dear: a few n² numbers and about 1.5 n³ operations a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverFailedError
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.code_grids import grid_of, has_grid, unit_of
from pvqbounds.relaxations.box_hull import BoxHullSDP, box_hull, in_gram_units, of_gram_units
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.splits import NO_SPLITS, Splits, length_of
from pvqbounds.solvers.base import Options, SDPSolution
from pvqbounds.solvers.cone.conic import single_point
from pvqbounds.solvers.native.linalg import lapack
from pvqbounds.solvers.native.quantization import split_kernel
from pvqbounds.solvers.native.quantization.split_iterate import DEPTH, SPLITS_AN_INPUT, Iterate
from pvqbounds.solvers.native.quantization.split_rows import rows_of_multipliers
from pvqbounds.solvers.relaxation import Relaxed

__all__ = [
    "BRIEF",
    "FIRST_ORDER",
    "FIRST_ORDER_END",
    "LARGEST_SEARCH",
    "LONG",
    "QUICK",
    "TIGHT",
    "SplitPath",
    "Stage",
    "closed_form",
    "relax_with_splits",
    "relaxed_of",
    "solve_by_path",
    "stages_for",
    "takes_splits",
]

Array = NDArray[np.float64]

START = 0.3
"""mu of the point at which a path begins that begins at multipliers, as a share of their value over n."""

FAR_APART = 1e6
"""Ratio of two distances of neighbouring levels up to which paths are followed."""

PATH_SHARE = 0.5
"""Share of the time left that a path may take: what follows takes time, too."""

LARGEST_SEARCH = 1536
"""Inputs above which split inequalities are not looked for: O(n³) a round."""

NOT_SEARCHED = f"split inequalities are not looked for above {LARGEST_SEARCH} inputs"
"""Status there."""

STEP = 1.5
"""Operations of a step, over n³: one inverse, and a factorisation or two."""

SEPARATION = 7.0
"""The same for a search for violated sums, in what such operations take."""

BETWEEN_LOOKS = 0.2
"""Seconds of steps between two looks at the clock, about."""


@dataclass(frozen=True)
class Stage:
    """A part of the path with one mu."""

    share: float
    """mu as a share of the value over n."""
    rounds: int
    """How often inequalities are exchanged."""
    steps: int
    """Steps between two exchanges."""


BRIEF = (Stage(1.0, 1, 6), Stage(0.4, 2, 8))
"""As far as the SDP's own bound, or beyond."""

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

FIRST_ORDER_END = "first-order steps: the bound may be some per cent below the relaxation's value"
"""Status where these steps came to their end."""


def stages_for(options: Options, n: int, seconds: float) -> Sequence[Stage]:
    """The longest path for n inputs that leaves as much of the time as it takes for what follows.

    Parameters
    ----------
    options
        `tolerance` is the gap of the last barrier: the shortest path that reaches it. Else it is for
        the search on top, of `search_share`; with none the relaxation's own bound counts.
    seconds
        The time that is left.
    """
    search_share = options.search_share
    if options.tolerance is not None:
        return next((path for path in (BRIEF, QUICK, LONG) if path[-1].share <= options.tolerance), TIGHT)
    if 0.0 < search_share < 1.0:
        return QUICK
    longest = (TIGHT, LONG) if search_share == 0.0 else (LONG,)
    fitting = (path for path in longest if sum(_expected(path, n, with_splits=True)) < PATH_SHARE * seconds)
    return next(fitting, QUICK)


def _expected(stages: Sequence[Stage], n: int, *, with_splits: bool) -> tuple[float, float]:
    """Seconds of the steps of a path for n inputs, and of its searches for violated sums, about."""
    unit = n**3 / lapack.FLOPS_A_SECOND
    steps = sum(stage.rounds * stage.steps for stage in stages)
    searches = sum(stage.rounds for stage in stages) if with_splits else 0
    return STEP * unit * steps, SEPARATION * unit * searches


def takes_splits(problem: LeastSquares) -> bool:
    """Whether there are paths for a problem: of values with neighbours, without a support rule.

    Of levels whose distances lie too far apart the SDP has no unit in which float64 holds them all.
    """
    if problem.is_restricted or not has_grid(problem.values):
        return False
    if problem.values.lattice is not None:
        return True
    grid = grid_of(problem.values)
    widest = np.diff(grid.table).max(initial=0.0) if grid.table is not None else 0.0
    return bool(widest < FAR_APART * grid.gap.min())


def relax_with_splits(
    problem: LeastSquares,
    clock: Clock,
    stages: Sequence[Stage] = TIGHT,
    start: DualCertificate | None = None,
) -> Relaxed:
    """Bound a problem by the box-hull SDP with the split inequalities that it violates most.

    Parameters
    ----------
    problem, start
        As of :class:`SplitPath`.
    clock
        Ends the path early; what is known by then is valid and weaker.
    stages
        The path; above `LARGEST_SEARCH` inputs it is that of :func:`solve_by_path`.

    Returns
    -------
    A certificate with split inequalities, and the moments of the last point of the path. The
    status is "solved", or says that the path did not come near its end.
    """
    path = SplitPath(problem, start)
    return path.follow(stages if problem.n <= LARGEST_SEARCH else FIRST_ORDER, clock)


class SplitPath:
    """The path of :func:`relax_with_splits`, which may be gone on with where it ended.

    Parameters
    ----------
    problem
        Without a support rule, with values that have a grid; inputs that are always zero are left out.
    start
        Multipliers of the relaxation without split inequalities that it begins at, None for y = 0: the many
        tangents of levels take long from there.
    """

    def __init__(self, problem: LeastSquares, start: DualCertificate | None = None) -> None:
        self._sdp, self._with_splits = box_hull(problem), problem.n <= LARGEST_SEARCH
        self._problem, self._start = problem, start
        self._path: _Path | None = None

    def follow(self, stages: Sequence[Stage], clock: Clock) -> Relaxed:
        """Go on with some stages; what the path knows by then."""
        sdp, part = self._sdp, clock.part(PATH_SHARE)
        known = closed_form(sdp)
        if known is None:
            begins = self._path is None
            if self._path is None:
                self._path = _Path(sdp, np.asarray(sdp.form.any(axis=1)), part)
                if self._start is not None:
                    begins = not self._path.begin_at(*of_gram_units(sdp, self._start.lam, self._start.nu))
            self._path.follow(stages, part, with_splits=self._with_splits, begins=begins)
            known = self._path.solution()
            self._path.rest()
        return relaxed_of(sdp, self._problem, known)


def relaxed_of(sdp: BoxHullSDP, problem: LeastSquares, known: tuple[SDPSolution, Splits]) -> Relaxed:
    """A solution in units of the SDP as one of the problem, with moments in units of its grid."""
    found, splits = known
    length = length_of(splits, problem.values)
    certificate = DualCertificate(
        *in_gram_units(sdp, found.lam, found.nu), splits.times(sdp.unit / length / length)
    )
    status = found.status if problem.n <= LARGEST_SEARCH else f"{NOT_SEARCHED}; {found.status}"
    ratio = sdp.scale / unit_of(problem.values)  # ones where both are codes
    mean, covariance = found.mean * ratio, found.covariance
    if (ratio != 1.0).any():
        covariance = covariance * ratio[:, None] * ratio
    return Relaxed(certificate, mean, covariance, found.value * sdp.unit, status)


def solve_by_path(sdp: BoxHullSDP, clock: Clock) -> SDPSolution:
    """Solve one box-hull relaxation as well as the clock allows.

    All tangents count, also those left out of ``sdp.tangent``.
    """
    known = closed_form(sdp)
    if known is None:
        path = _Path(sdp, np.asarray(sdp.form.any(axis=1)), clock)
        path.follow(FIRST_ORDER, clock, with_splits=False)
        known = path.solution()
    return known[0]


def closed_form(sdp: BoxHullSDP) -> tuple[SDPSolution, Splits] | None:
    """Multipliers and moments where they need no path, in units of the SDP."""
    if not sdp.form.any():
        zero, mean = np.zeros(sdp.n), np.clip(sdp.centre, sdp.low, sdp.high)
        return SDPSolution(zero, zero, 0.0, mean, np.diag(zero), "every input is zero"), NO_SPLITS
    return (single_point(sdp), NO_SPLITS) if sdp.is_point else None  # one code: its error is known


class _Path(Iterate):
    """The path of one channel, with its matrices."""

    def __init__(self, sdp: BoxHullSDP, live: NDArray[np.bool_], clock: Clock | None = None) -> None:
        super().__init__(sdp, live, clock)
        self._numbers = lapack.numbers_for(self.n)
        self._x = np.zeros(self.n)
        self._inverse, self._spare = np.zeros((self.n, self.n)), np.zeros((self.n, self.n))
        value = self._first_value()
        self.begin(value, np.diagonal(self._inverse))

    def begin_at(self, lam: Array, nu: Array) -> bool:
        """Begin at multipliers that need no split inequalities; whether they prove anything.

        Parameters
        ----------
        lam, nu
            In units of the SDP, of all inputs, shape (n,) each.
        """
        cold = self.rows
        self.take(rows_of_multipliers(self._points, self.centre, lam[self.live], nu[self.live]))
        values = self._evaluate(0.0)
        if values is None or not values[0] > 0.0:
            self.take(cold)
            return False
        self.reach(self.rows.multiplier, values[0])
        self.mu = START * self.level / self.n
        return True

    def follow(
        self, stages: Sequence[Stage], clock: Clock, *, with_splits: bool, begins: bool = True
    ) -> None:
        """Run the stages, each cut to what the clock allows."""
        if not begins:
            self._wake()
        self.end = "solved" if with_splits else FIRST_ORDER_END
        rounds = [stage for stage in stages for _ in range(stage.rounds)]
        steps, searches = _expected(stages, self.n, with_splits=with_splits)
        search = SEPARATION * self.n**3 / lapack.FLOPS_A_SECOND
        pace = min(1.0, max(0.0, clock.remaining - searches) / steps)
        for done, stage in enumerate(rounds):
            if done > 0 or not begins:
                # the first stage ends too far from the SDP's solution: nearly every sum fails there
                beyond_first = not begins or rounds[done - 1] is not stages[0]
                in_time = search <= clock.remaining  # it is one compiled loop
                self._exchange(with_splits=with_splits and beyond_first and in_time)
            if not self._advance(stage.share, max(1, int(pace * stage.steps)), clock):
                return

    def rest(self) -> None:
        """Let go of the matrices until the path goes on."""
        self._inverse = self._spare = np.zeros((0, 0))

    def solution(self) -> tuple[SDPSolution, Splits]:
        """Multipliers of the best point, and the moments of the last one: all inputs, units of the SDP."""
        return self.solution_at(self._x, self._covariance())

    def _wake(self) -> None:
        self._inverse, self._spare = np.zeros((self.n, self.n)), np.zeros((self.n, self.n))
        self._evaluate(self.mu)

    def _first_value(self) -> float:
        """The value at y = 0; a singular form borrows curvature from the chords."""
        chords = self.rows.weight < 0.0
        for depth in (0.0, *(10.0**k for k in range(-12, 2))):
            borrowed = depth * np.diagonal(self.form)[self.rows.index[:, 0]]
            self.rows = self.rows.with_multiplier(np.where(chords, borrowed, 0.0))
            value = self._evaluate(0.0)
            if value is not None and np.isfinite(self._inverse).all():
                return value[0]
        raise SolverFailedError(
            "The split dual has no start: numbers lie too far apart, or the Gram is not semidefinite."
        )

    def _evaluate(self, mu: float) -> tuple[float, float] | None:
        """The dual value and the barrier's, and x and the inverse there; None where S is not definite."""
        rows, numbers = self.rows, self._numbers
        definite, value, barrier = split_kernel.evaluate(
            self.form, rows.parts, rows.multiplier, mu, self._spare, self._x, numbers, lapack.ROUTINES
        )
        if not (definite and lapack.invert(self._spare, numbers, lapack.ROUTINES)):
            return None
        self._inverse, self._spare = self._spare, self._inverse
        return value, barrier

    def _slope(self) -> tuple[Array, Array]:
        """Derivative of the barrier by y, and the unit that makes its second one about 1: (m,) each."""
        slope, unit = np.empty((2, len(self.rows)))
        split_kernel.differentiate(self.rows.parts, self._inverse, self._x, self.mu, slope, unit)
        return slope, unit

    def _advance(self, share: float, steps: int, clock: Clock) -> bool:
        """Climb the barrier for so many steps; whether there is a way and time to go on."""
        self.mu = mu = share * self.level / self.n
        values = self._evaluate(mu)
        if values is None:  # rows in another order are summed to something else: at the edge of float64
            return False
        value, barrier = values
        slope, unit = self._slope()
        self.rescale(unit)
        multiplier, settled = self.rows.multiplier.copy(), False
        at_once = max(1, int(BETWEEN_LOOKS * lapack.FLOPS_A_SECOND / (STEP * self.n**3)))
        rows, work = self.rows.parts, (self._numbers, lapack.ROUTINES)
        spare = self._inverse, self._spare, self.moves, self.changes
        ascent = split_kernel.Ascent(multiplier, slope, unit, self._x, *spare)
        # whatever the clock says, a step away from y = 0: what it gives is a bound above zero
        while steps > 0 and not settled and (value <= 0.0 or not clock.expired):
            self.count, value, barrier, settled = split_kernel.climb(
                self.form, rows, ascent, self.count, value, barrier, mu, min(at_once, steps), work
            )
            steps -= at_once
        self.reach(multiplier, value)
        return not clock.expired

    def _exchange(self, *, with_splits: bool) -> None:
        """Drop rows that are not active, add those that the point of the path violates."""
        covariance, found = self._covariance(), None
        if with_splits:
            most, local, point = SPLITS_AN_INPUT * self.n, self.local(self._x), self.centre + self._x
            mean, own = local.mean(point), local.covariance(point, covariance)
            index, sign, low = split_kernel.separate(mean, own, DEPTH, most)
            found = local.rows(index, sign, low, self.centre)
        self.exchange(self._x, np.diagonal(covariance), self._slope()[0], found)

    def _covariance(self) -> Array:
        """mu S⁻¹, shape (n, n)."""
        lower = np.tril(self.mu * self._inverse, -1)
        covariance = lower + lower.T
        covariance[np.diag_indices(self.n)] = self.mu * np.diagonal(self._inverse)
        return covariance
