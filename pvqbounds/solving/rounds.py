"""Time for a whole layer: a cheap interval for every problem, then the rest where it closes most.

The error of a layer is the sum of its channels' errors, so that each channel adds the width of its own
interval to the layer's. After the first round the time goes, a solve at a time, to the problem that is
widest for the seconds that its next solve may take. A longer solve begins anew; the
better end of each stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverFailedError
from pvqbounds.problems import Problem
from pvqbounds.results.bounds import Bounds
from pvqbounds.solving.candidates import combined
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.kinds import PRUNING, kind_of
from pvqbounds.solving.options import SolveOptions

__all__ = ["Solve", "solve_in_rounds"]

Solve = Callable[[Sequence[Problem], SolveOptions, Execution, Clock], list[Bounds]]
"""Solves each of several problems once, none beyond the clock."""

FIRST = 0.3
"""Share of the time in which every problem is to have its first interval."""

GROWTH = 4.0
"""Each solve of a problem may take so many times what the one before might."""

EARLY = 0.5
"""A solve that ended within this share of its limit gains nothing from a longer one."""

LONGER = 1.5
"""A solve that may not take so many times what the one before might is not begun."""

SEARCHED = 128
"""Inputs up to which a search over supports may use the time that it gets."""


@dataclass(eq=False)
class Standing:
    """One problem, what is known of it, and what it is given next."""

    position: int
    problem: Problem
    bounds: Bounds
    stages: list[SolveOptions]
    """What is still worth asking: as the user did, then what uses all the time that it is given."""
    limit: float
    """Seconds of its next solve, at most."""
    tried: float = field(default=0.0)
    """Seconds that its last solve in this stage might take."""

    def learn(self, found: Bounds, limit: float) -> None:
        """Take what a solve with this limit found, and choose the next one."""
        most = self.stages[0].time_limit
        self.tried, self.limit = limit, min(GROWTH * limit, most)
        if found.seconds < EARLY * limit or limit >= most:
            self.stages, self.tried, self.limit = self.stages[1:], 0.0, limit

    def is_open(self, left: float) -> bool:
        """Whether another solve within so many seconds may gain anything."""
        useful = self.bounds.status != "optimal" and bool(self.stages)
        return useful and min(self.limit, left) > LONGER * self.tried

    @property
    def gain(self) -> float:
        """What it adds to the layer's interval, for each second that it may take."""
        return (self.bounds.error_upper - self.bounds.error_lower) / self.limit


def solve_in_rounds(
    solve: Solve, problems: Sequence[Problem], asked: SolveOptions, execution: Execution, clock: Clock
) -> list[Bounds]:
    """Bounds of many problems within one time for all of them.

    Parameters
    ----------
    asked
        Its time limit is the most that one solve of one problem may take.
    clock
        The time for all; also ends early where the solves are cancelled.

    Returns
    -------
    One Bounds for each problem: no weaker at either end than what any of its solves gave.
    """
    first = min(asked.time_limit, max(FIRST * clock.remaining * execution.jobs / len(problems), 1e-3))
    found = solve(problems, replace(asked, time_limit=first), execution, clock)
    entries = []
    for position, (problem, bounds) in enumerate(zip(problems, found, strict=True)):
        entry = Standing(position, problem, bounds, [asked, *_thorough(problem, asked)], first)
        entry.learn(bounds, first)
        entries.append(entry)
    while chosen := _chosen(entries, execution.jobs, clock.remaining):
        _again(solve, chosen, execution, clock)
    return [entry.bounds for entry in entries]


def _thorough(problem: Problem, asked: SolveOptions) -> list[SolveOptions]:
    """What uses its whole limit where `asked` does not; nothing where the user chose already."""
    if not asked.native or asked.relaxation is not None or asked.method == "exact":
        return []
    if kind_of(problem) is not PRUNING:
        return [replace(asked, relaxation="hybrid")]
    searched = asked.method == "auto" and problem.n <= SEARCHED
    return [replace(asked, method="exact")] if searched else []


def _chosen(entries: Sequence[Standing], jobs: int, left: float) -> list[Standing]:
    """The problems to solve next, all of them asked the same."""
    ordered = sorted((entry for entry in entries if entry.is_open(left)), key=lambda entry: -entry.gain)
    if left <= 0.0 or not ordered:
        return []
    best = ordered[0]
    alike = [e for e in ordered if e.stages[0] == best.stages[0] and e.limit == best.limit]
    return alike[:jobs]


def _again(solve: Solve, chosen: Sequence[Standing], execution: Execution, clock: Clock) -> None:
    """Solve these once more and keep the better ends."""
    limit = min(chosen[0].limit, clock.remaining)
    if limit <= 0.0:
        return
    silent = replace(execution, progress=None, found=None)
    asked = replace(chosen[0].stages[0], time_limit=limit)
    try:
        found = solve([entry.problem for entry in chosen], asked, silent, clock)
    except SolverFailedError:
        for entry in chosen:
            entry.stages = entry.stages[1:]
        return
    for entry, bounds in zip(chosen, found, strict=True):
        entry.bounds = combined(entry.problem, entry.bounds, bounds)
        entry.learn(bounds, limit)
        execution.tell(entry.position, entry.bounds)
