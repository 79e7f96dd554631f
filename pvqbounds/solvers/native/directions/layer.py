"""Cases of channels that share one pruning budget: every channel's own, at one price of a kept weight.

At a price the channels fall apart (:mod:`pvqbounds.relaxations.layer_dual`). The best price is that at which
the relaxations of all channels together keep the budget: it is looked for on some channels, each in the one
slab of next to no width that its good weights lie in, where the relaxation costs one path.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.layer_dual import layer_dual_bound, priced
from pvqbounds.relaxations.slabs import Box, Slabs
from pvqbounds.solvers.native.directions.branching import CURVATURE
from pvqbounds.solvers.native.directions.near_null import NearNull, near_null
from pvqbounds.solvers.native.directions.pruning import Price, pruning_cases
from pvqbounds.solvers.native.directions.refined import EFFORT, LEAST_EFFORT, MOST_WITHOUT_ENDS
from pvqbounds.solvers.native.directions.shifted import Shifts
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.pruning.perspective_dual import LARGEST_NEWTON, maximise_priced

__all__ = ["layer_cases", "worth_cases"]

SAMPLE = 6
"""Channels at most that the price is found on."""

PRICING = 0.1
"""Share of the time that the price may take."""

TOLERANCE, STEPS, PATH = 1e-2, 24, 120.0
"""Of the paths that tell the price, and their operations over n³, about."""

BRIEF = 0.15
"""Seconds that the cases of a channel may take however small it is."""

PRICES = 7
"""Prices at most that are compared, each twice the one before."""

Progress = Callable[[], None]


@dataclass(frozen=True, eq=False)
class _Channel:
    problem: SparseLeastSquares
    weight: NDArray[np.float64]
    """Good weights, shape (n,)."""
    kept: int
    """How many of them are not zero."""
    error: float
    near: NearNull | None

    def at(self, price: float, clock: Clock) -> tuple[Certificate, float]:
        """The relaxation at a price, near the good weights where cases are wanted, and what it proves."""
        problem, pinned = self.problem, None
        if self.near is not None:
            t = self.near.direction @ (self.weight - problem.weight)
            chord = np.full(len(t), CURVATURE * self.near.next)
            pinned = Slabs(self.near.direction, Box(t, t), chord, np.zeros_like(chord))
        shifted = None if pinned is None or self.near is None else Shifts(problem, self.near).within(pinned)
        found = maximise_priced(
            problem if shifted is None else shifted.problem,
            price,
            tolerance=TOLERANCE,
            max_iterations=STEPS,
            clock=clock,
        )
        dual = found if shifted is None else shifted.certificate(found)
        terms = dual.terms(problem, pinned)
        return dual, 0.0 if terms is None else priced(terms.constant, terms.extra, price)


def worth_cases(problems: Sequence[SparseLeastSquares]) -> bool:
    """Whether a channel has directions whose cases may be looked at."""
    return any(_directions(problem) is not None for problem in problems)


def layer_cases(
    problems: Sequence[SparseLeastSquares],
    supports: Sequence[NDArray[np.int64]],
    known: Sequence[Certificate],
    nnz: int,
    *,
    thorough: bool,
    jobs: int,
    clock: Clock,
    progress: Progress,
) -> list[Certificate]:
    """Certificates of all channels for a bound on their summed error at `nnz` non-zeros together.

    Parameters
    ----------
    problems
        Channels in common units near 1.
    supports
        Good ones, sorted indices of each.
    known
        Certificates without cases; what comes back proves no less, about.
    thorough
        Whether cases may take all the time, and not only `EFFORT` for each channel.
    progress
        Called after each channel.
    """
    if clock.remaining < _seconds(problems[0].n, LEAST_EFFORT):
        return list(known)
    channels = [_channel(*pair) for pair in zip(problems, supports, strict=True)]
    price = _best_price(channels, clock)
    order = sorted(range(len(channels)), key=lambda i: -channels[i].error)
    left = itertools.count(len(channels), -1)

    def best(i: int) -> tuple[Certificate, float]:
        share = min(1.0, jobs / next(left))
        found = _at_price(channels[i], price, math.inf if thorough else EFFORT, clock, share)
        candidates = [known[i]] if found is None else [known[i], found]
        progress()
        values = [_value(problems[i], candidate, price) for candidate in candidates]
        return candidates[int(np.argmax(values))], max(values)

    with ThreadPoolExecutor(jobs) as pool:
        chosen = dict(zip(order, pool.map(best, order), strict=True))
    value = math.fsum(value for _, value in chosen.values()) - price * nnz
    if not value > layer_dual_bound(problems, known, nnz):
        return list(known)
    return [chosen[i][0] for i in range(len(channels))]


def _channel(problem: SparseLeastSquares, support: NDArray[np.int64]) -> _Channel:
    point = problem.with_nnz(len(support)).on_support(support)
    return _Channel(problem, point.weight, len(support), point.upper, _directions(problem))


def _directions(problem: SparseLeastSquares) -> NearNull | None:
    """The directions whose cases may be looked at."""
    if problem.n > LARGEST_NEWTON:
        return None
    near = near_null(problem.shared)
    return None if near is None or len(near.direction) > MOST_WITHOUT_ENDS else near


def _seconds(n: int, effort: float) -> float:
    """What so many operations over n³ take, about."""
    return effort * n**3 / FLOPS_A_SECOND


def _at_price(
    channel: _Channel, price: float, effort: float, clock: Clock, share: float
) -> Certificate | None:
    """Cases of a channel at the price, its relaxation where it has no directions; None without the time."""
    n = channel.problem.n
    least, left = _seconds(n, PATH if channel.near is None else LEAST_EFFORT), clock.remaining
    if left < least or channel.kept == n or not channel.error > 0.0:
        return None
    own = clock.part(min(1.0, max(share, least / left)))
    if channel.near is None:
        return channel.at(price, own)[0]
    problem = channel.problem.with_nnz(channel.kept)
    allowed = min(own.remaining, max(BRIEF, _seconds(n, effort)))
    return pruning_cases(problem, channel.near, channel.weight, allowed, own, Price(price, channel.kept))


def _value(problem: SparseLeastSquares, certificate: Certificate, price: float) -> float:
    """What a certificate proves at the price; E is a mean square."""
    parts = certificate.parts(problem)
    return min((priced(terms.constant, terms.extra, price) for terms in parts), default=0.0)


# ------------------------------------------------------------------------------- the price


def _best_price(channels: Sequence[_Channel], clock: Clock) -> float:
    """The price at which the bound of some channels is best, of a few and their parabola."""
    sample = _sample(channels, clock)
    budget = sum(channel.kept for channel in sample)
    start = _removal_price(sample)
    values: dict[int, float] = {}

    def value(k: int) -> float:
        price = start * 2.0**k
        values[k] = math.fsum(channel.at(price, clock)[1] for channel in sample) - price * budget
        return values[k]

    best = max((0, 1, -1), key=value)
    while len(values) < PRICES and best in (min(values), max(values)) and not clock.expired:
        step = best - 1 if best == min(values) else best + 1
        if value(step) <= values[best]:
            break
        best = step
    below, here, above = (values.get(best + k, -math.inf) for k in (-1, 0, 1))
    return float(start * 2.0 ** (best + _vertex(below, here, above)))


def _sample(channels: Sequence[_Channel], clock: Clock) -> list[_Channel]:
    """Channels evenly spread, as many as there is time for."""
    affordable = PRICING * clock.remaining / (PRICES * _seconds(channels[0].problem.n, PATH))
    count = max(1, min(SAMPLE, int(min(affordable, SAMPLE)), len(channels)))
    alive = [c for c in channels if c.kept > 0 and c.error > 0.0] or list(channels)
    return [alive[i] for i in np.unique(np.linspace(0, len(alive) - 1, count).astype(int))]


def _removal_price(sample: Sequence[_Channel]) -> float:
    """What the cheapest removal of a kept weight costs, in the middle of some channels."""
    found = []
    for channel in sample:
        kept = np.flatnonzero(channel.weight)
        if len(kept):
            block = np.linalg.pinv(channel.problem.gram[np.ix_(kept, kept)], hermitian=True)
            found.append(float((channel.weight[kept] ** 2 / np.diagonal(block)).min()))
    price = statistics.median(found) if found else 0.0
    return price if price > 0.0 else math.fsum(c.error for c in sample) / sum(c.problem.n for c in sample)


def _vertex(below: float, here: float, above: float) -> float:
    """Where the parabola through three values, one step apart, is largest, in steps from the middle one."""
    bend = 2.0 * here - below - above
    return 0.5 * (above - below) / bend if math.isfinite(bend) and bend > 0.0 else 0.0
