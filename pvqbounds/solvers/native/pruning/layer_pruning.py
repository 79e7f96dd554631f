"""Pruning of many channels that share one budget of non-zeros: both ends for the whole layer.

**From below.** With the price theta of a kept weight the channels fall apart, and the sum of
their bounds less theta times the budget is a bound (Everett, Operations Research 11, 1963). The
perspective dual of each channel is separable in its inputs, so that the best theta for given
multipliers is a matter of sorting (:func:`pvqbounds.relaxations.layer_dual.layer_dual_bound`).
Multipliers are found in three steps: one cheap D for all channels of a Gram and the nu that are
best for the whole budget, whence theta; then the best D of each channel at that theta, by its
interior point; then again the best nu for these.

**From above.** Backward elimination gives each channel's errors against the number kept; the
budget is spread over these curves exactly (dynamic programming) or, where they are too long,
over their convex hulls; supports are improved by exchanges, and single weights move to another
channel while that helps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.problems import Gram, SparseLeastSquares
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.layer_dual import layer_dual_bound
from pvqbounds.solvers.native.pruning.perspective_dual import LARGEST_NEWTON, central_path, priced_form
from pvqbounds.solvers.native.pruning.perspective_splitting import (
    RowBudget,
    ScaledGram,
    optimise_nu,
    scaled_gram,
)
from pvqbounds.solvers.native.pruning.supports import elimination_curve, exchanged

__all__ = ["allocate", "layer_multipliers", "layer_supports", "scaled_grams", "table_fits"]

LARGEST_TABLE = 3 * 10**8
"""Additions of the dynamic program above which the budget is spread over convex hulls."""

TOLERANCE = 2e-2
"""Relative, of the bound of each channel; what is lost is less than 0.01 dB where it was measured."""

CLEARLY = 0.9
"""Sums of errors in plain float64 whose ratio is below this are not compared again exactly."""

TRANSFER_ROUNDS = 6
"""Rounds in which weights may move from one channel to another."""

Progress = Callable[[], None]


def scaled_grams(problems: Sequence[SparseLeastSquares]) -> list[ScaledGram]:
    """The scaled Gram of each channel; channels of one Gram share one object."""
    known: dict[Gram, ScaledGram] = {}
    for problem in problems:
        if problem.shared not in known:
            known[problem.shared] = scaled_gram(problem.gram)
    return [known[problem.shared] for problem in problems]


# ------------------------------------------------------------------------------- from below


def layer_multipliers(
    problems: Sequence[SparseLeastSquares],
    grams: Sequence[ScaledGram],
    nnz: int,
    *,
    jobs: int,
    clock: Clock,
    progress: Progress,
) -> list[DualCertificate]:
    """Multipliers of every channel for a bound on their summed error at `nnz` non-zeros together.

    Parameters
    ----------
    problems
        Channels of n inputs each; channels of one Gram stand together.
    clock
        When it runs out, channels that are left keep the shared D.
    progress
        Called after each channel.
    """
    certificates = [DualCertificate(*np.zeros((2, p.n))) for p in problems]
    # a singular Gram has no multipliers: its channels cost nothing in the bound, and take nothing
    regular = [i for i, gram in enumerate(grams) if gram.inverse is not None and problems[i].signal.upper > 0]
    unit = math.sqrt(math.fsum(problems[i].signal.upper for i in regular))
    if not regular or not unit > 0.0:
        return certificates
    shared = [grams[i] for i in regular]
    weights = np.stack([problems[i].weight * grams[i].power for i in regular]) / unit
    budget = RowBudget(weights.size, min(nnz, weights.size))
    power = np.stack([gram.power for gram in shared])

    def certified(D: NDArray[np.float64], nu: NDArray[np.float64]) -> tuple[float, list[DualCertificate]]:
        found = list(certificates)
        for row, i in enumerate(regular):
            found[i] = DualCertificate(D[row] * power[row] ** 2, nu[row] * power[row] * unit)
        return layer_dual_bound(problems, found, nnz), found

    D = np.stack([gram.start for gram in shared])
    nu = optimise_nu(shared, weights, D, budget)
    best = certified(D, nu)
    if problems[0].n > LARGEST_NEWTON or nnz >= weights.size:
        return best[1]
    price = _price(D, nu, weights, budget)

    def refined(row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if clock.expired:
            return D[row], nu[row]
        form = priced_form(shared[row], weights[row])
        own, own_nu = central_path(form, price=price / form.unit**2, tolerance=TOLERANCE, clock=clock)
        progress()
        # where the price removes everything, the path has nothing to say
        return (own, own_nu * form.unit) if own.any() else (D[row], nu[row])

    with ThreadPoolExecutor(jobs) as pool:
        rows = list(pool.map(refined, range(len(regular))))
    D, own_nu = (np.stack(part) for part in zip(*rows, strict=True))
    D = np.maximum(D, 0.0)
    for candidate in (own_nu, optimise_nu(shared, weights, D, budget)):
        best = max(best, certified(D, candidate), key=lambda found: found[0])
    return best[1]


def _price(
    D: NDArray[np.float64], nu: NDArray[np.float64], weights: NDArray[np.float64], budget: RowBudget
) -> float:
    """What the dearest removal costs: the price of a kept weight."""
    extra = np.sort((D * (weights - nu / D) ** 2).ravel())
    removed = budget.size - budget.kept
    return float(extra[max(removed - 1, 0) : removed + 1].mean())


# ------------------------------------------------------------------------------- from above


def layer_supports(
    problems: Sequence[SparseLeastSquares],
    grams: Sequence[ScaledGram],
    nnz: int,
    *,
    jobs: int,
    clock: Clock,
) -> list[NDArray[np.int64]]:
    """Good supports of all channels with `nnz` non-zeros together, sorted indices of each.

    They are never worse than those of the largest weights, which are all there is once time is up.
    """
    plain = magnitude_supports(problems, nnz)
    if clock.remaining == 0.0:
        return plain
    regular = {id(gram): gram.conditioned() for gram in {id(g): g for g in grams}.values()}
    shared = [regular[id(gram)] for gram in grams]
    weights = [p.weight * gram.power for p, gram in zip(problems, shared, strict=True)]
    with ThreadPoolExecutor(jobs) as pool:
        curves = list(pool.map(elimination_curve, shared, weights))
        # error against the number kept
        kept = allocate(np.stack([cost[::-1] for _, cost in curves]), nnz)
        channels = [
            _Channel(gram, weight, order, clock)
            for gram, weight, (order, _) in zip(shared, weights, curves, strict=True)
        ]
        for _ in range(TRANSFER_ROUNDS):
            if clock.expired:
                break
            around = list(pool.map(_Channel.around, channels, kept.tolist()))
            if not _transfer(kept, around):
                break
        found = [np.flatnonzero(channel.at(int(k))[0]) for channel, k in zip(channels, kept, strict=True)]
        ours, theirs = (
            math.fsum(channel.error_of(support) for channel, support in zip(channels, supports, strict=True))
            for supports in (found, plain)
        )
        if all(gram.inverse is not None for gram in grams) and ours < CLEARLY * theirs:
            return found

        def whole(supports: Sequence[NDArray[np.int64]]) -> float:
            refits = (p.error(p.refit(support)) for p, support in zip(problems, supports, strict=True))
            return math.fsum(error.upper for error in refits)

        return min(found, plain, key=whole)


def magnitude_supports(problems: Sequence[SparseLeastSquares], nnz: int) -> list[NDArray[np.int64]]:
    """The inputs of the `nnz` largest weights of all channels, sorted indices of each channel."""
    size = np.abs(np.stack([problem.weight for problem in problems]))
    kept = np.zeros(size.size, dtype=bool)
    kept[np.argsort(-size.ravel(), kind="stable")[:nnz]] = True
    return [np.flatnonzero(row) for row in kept.reshape(size.shape)]


class _Channel:
    """Supports of one channel by the number kept, improved when they are asked for."""

    def __init__(
        self, gram: ScaledGram, weight: NDArray[np.float64], order: NDArray[np.int64], clock: Clock
    ) -> None:
        self._gram, self._weight, self._order, self._clock = gram, weight, order, clock
        self._known: dict[int, tuple[NDArray[np.bool_], float]] = {}

    def at(self, kept: int) -> tuple[NDArray[np.bool_], float]:
        """Flags and error with so many kept."""
        if kept not in self._known:
            n = len(self._weight)
            flags = np.ones(n, dtype=bool)
            flags[self._order[: n - kept]] = False
            flags = exchanged(self._gram.gram, self._weight, np.zeros(n, dtype=np.int64), flags, self._clock)
            self._known[kept] = flags, self._error(flags)
        return self._known[kept]

    def around(self, kept: int) -> tuple[float, float]:
        """What one weight more would gain, and what one less would cost."""
        n, here = len(self._weight), self.at(kept)[1]
        gain = here - self.at(kept + 1)[1] if kept < n else -math.inf
        return gain, self.at(kept - 1)[1] - here if kept > 0 else math.inf

    def error_of(self, support: NDArray[np.int64]) -> float:
        """Error of a support, re-fitted."""
        flags = np.zeros(len(self._weight), dtype=bool)
        flags[support] = True
        return self._error(flags)

    def _error(self, flags: NDArray[np.bool_]) -> float:
        inside, outside = np.flatnonzero(flags), np.flatnonzero(~flags)
        gram, gone = self._gram.gram, self._weight[outside]
        whole = float(gone @ gram[np.ix_(outside, outside)] @ gone)
        if len(inside) == 0:
            return whole
        pull = gram[np.ix_(inside, outside)] @ gone
        return whole - float(pull @ np.linalg.solve(gram[np.ix_(inside, inside)], pull))


def _transfer(kept: NDArray[np.int64], around: Sequence[tuple[float, float]]) -> bool:
    """Move single weights to where they gain more than they cost where they were; whether any moved."""
    gains, costs = np.array(around).T
    takers, givers = np.argsort(-gains, kind="stable"), np.argsort(costs, kind="stable")
    moved: set[int] = set()
    for taker, giver in zip(takers.tolist(), givers.tolist(), strict=True):
        if taker in moved or giver in moved or taker == giver:
            break
        if not gains[taker] > costs[giver] * (1.0 + 1e-9):
            break
        kept[taker] += 1
        kept[giver] -= 1
        moved |= {taker, giver}
    return bool(moved)


def allocate(errors: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """How many of `total` each channel keeps for the least summed error.

    Parameters
    ----------
    errors
        Error of each channel with 0, 1, ..., n kept, shape (C, n + 1).

    Returns
    -------
    Numbers kept, shape (C,), with a sum of at most `total`: the best where the dynamic program fits
    (`LARGEST_TABLE`), else the best on the convex hulls with what is left given to the steepest.
    """
    channels, n = errors.shape[0], errors.shape[1] - 1
    total = min(total, channels * n)
    if table_fits(channels, n, total):
        return np.asarray(_best_allocation(np.ascontiguousarray(errors), total))
    kept = np.zeros(channels, dtype=np.int64)
    steps = [
        ((row[a] - row[b]) / (b - a), -a, c, b) for c, row in enumerate(errors) for a, b in _hull_steps(row)
    ]
    for _, first, c, last in sorted(steps, reverse=True):
        if kept[c] == -first:
            kept[c] += min(last + first, total - int(kept.sum()))
    return kept


def table_fits(channels: int, n: int, total: int) -> bool:
    """Whether :func:`allocate` finds the best way to spend a budget, by dynamic programming."""
    return channels * (min(total, channels * n) + 1) * (n + 1) <= LARGEST_TABLE


def _hull_steps(row: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Consecutive corners of the lower convex hull of a curve."""
    corners: list[int] = []
    for k in range(len(row)):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (row[b] - row[a]) * (k - b) < (row[k] - row[b]) * (b - a):
                break
            corners.pop()
        corners.append(k)
    return list(itertools.pairwise(corners))


@njit(cache=True, nogil=True)
def _best_allocation(errors, total):  # type: ignore[no-untyped-def]
    channels, length = errors.shape
    least = np.full(total + 1, np.inf)
    least[0] = 0.0
    choice = np.zeros((channels, total + 1), dtype=np.int32)
    for c in range(channels):
        new = np.full(total + 1, np.inf)
        for used in range(total + 1):
            if least[used] < np.inf:
                for k in range(min(length, total - used + 1)):
                    value = least[used] + errors[c, k]
                    if value < new[used + k]:
                        new[used + k] = value
                        choice[c, used + k] = k
        least = new
    kept = np.zeros(channels, dtype=np.int64)
    left = int(np.argmin(least))
    for c in range(channels - 1, -1, -1):
        kept[c] = choice[c, left]
        left -= int(kept[c])
    return kept
