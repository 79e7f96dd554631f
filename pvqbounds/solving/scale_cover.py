"""Scales at which bounds are proved, chosen one after the other, until they bound every scale.

What bounds at some scales prove for every scale (:mod:`pvqbounds.relaxations.scales`) ends at a gap between
two of them. A new scale goes there, with a quick relaxation; where its bound, and not its distance, is what
holds the value down, the problem there is solved as it would be by itself. What is left in the end is the
lowest bound at any scale, and next to nothing for the scales between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.relaxations.scales import Gap, ScaleRange, first_gap, gaps, largest_value

__all__ = ["AtScale", "Prover", "covered"]

Array = NDArray[np.float64]
T = TypeVar("T")

MOST, MOST_SOLVED = 256, 64
"""Scales at most, and those of them at which the problem is solved once all are covered for some value."""

LOSS = 0.02
"""Share of the lowest bound at any scale that may be lost between the scales: 0.09 dB."""

CLOSED, EQUAL = 2e-7, 2e-6
"""The same where that bound is the error of codes at hand, and what it may lie below it to count as that: a
search that ends may leave half as much."""

BELOW, BEYOND = 0.6, 1.6
"""A new scale over the end of a gap that has no scale beyond it, towards zero and towards infinity."""

HOLDING = 2.0
"""A quick bound of more than so many times the value does not hold it down yet: a new scale does more."""

USELESS = 0.5
"""Share of the lowest bound of a solve below which a quick bound is of no use."""

POOR = 4.0
"""How many times a quick bound a solve at its scale proves where quick bounds are left out from then on, as
behind directions of next to no power."""

ENOUGH = 1.1
"""A bound of more than so many times the lowest one of a solve is enough of another scale: it serves scales
around it, and what refines it for long serves few more."""

SHIFT = 0.2
"""How far from its scale the solve of the lowest bound is repeated, over how far a bound serves at that loss:
solves at nearly the same scale differ by some per cent, and an unlucky one holds the value down."""

FARTHEST = 0.999
"""How far a bound is taken to serve at most where the scales of a gap are counted."""

BESIDE = 1e-9
"""By how much more than the largest value the gap is looked for."""


@dataclass(frozen=True, eq=False)
class AtScale(Generic[T]):
    """What is known at one scale."""

    scale: float
    bound: float
    """What is stated there: no allowed codes have less error."""
    proof: T
    solved: bool
    """Whether the problem was solved there, and not only relaxed."""
    relaxation: str | None = None
    """Name of the relaxation behind the bound of what was solved."""


class Prover(Protocol[T]):
    """What bounds the problem at one scale."""

    error: float
    """The least error found so far at any scale."""

    @property
    def everywhere(self) -> float:
        """What is proved of all scales at once, beside what is at each of them; 0 if nothing."""

    def solve(self, scale: float, enough: float = math.inf, *, brief: bool = False) -> AtScale[T]:
        """As well as it can be by itself; a bound of `enough` need not be refined, a search may be brief."""

    def relax(self, scale: float) -> AtScale[T]:
        """With little effort."""


def covered(
    prover: Prover[T], first: AtScale[T], within: ScaleRange, clock: Clock, enough: float = math.inf
) -> tuple[list[AtScale[T]], str]:
    """Bounds at scales that together bound every scale, and how it ended.

    Parameters
    ----------
    first
        What is known at a scale to begin with.
    within
        Where the best scales of codes may lie.
    clock
        Ends it between two scales.
    enough
        A value that need not be exceeded.

    Returns
    -------
    What is known at each scale, ascending, and "optimal", "solved" or why it stopped.
    """
    cover = _Cover(prover, first, within)
    while True:
        value, goal = cover.value, cover.goal
        exact = goal >= (1.0 - EQUAL) * prover.error
        target = min((1.0 - (CLOSED if exact else LOSS)) * goal, enough)
        repeated = None if exact or value < target or value >= enough else cover.unrepeated
        if value >= target and repeated is None:
            return cover.parts, "optimal" if exact else "solved"
        if len(cover.parts) >= MOST or (value > 0.0 and cover.solved >= MOST_SOLVED):
            return cover.parts, f"stopped at {len(cover.parts)} scales"
        if clock.expired:
            return cover.parts, f"stopped by the time limit after {len(cover.parts)} scales"
        if repeated is not None:
            cover.repeat(repeated)
        elif not cover.narrow(value, target):
            return cover.parts, "solved"  # no more than rounding is left


class _Cover(Generic[T]):
    """What is known at some scales, and where more is wanted."""

    def __init__(self, prover: Prover[T], first: AtScale[T], within: ScaleRange) -> None:
        self.parts, self._prover, self._within = [first], prover, within
        self._poor, self._repeated = False, False
        self._outdone: float | None = None
        """Scale whose solve was repeated beside it with a better bound."""

    @property
    def _stated(self) -> tuple[Array, Array]:
        """Scales and bounds, shape (m,) each."""
        return np.array([part.scale for part in self.parts]), np.array([part.bound for part in self.parts])

    @property
    def value(self) -> float:
        """What is proved for every scale."""
        return max(largest_value(*self._stated, self._within), self._prover.everywhere)

    @property
    def solved(self) -> int:
        """At how many scales the problem was solved."""
        return sum(part.solved for part in self.parts)

    @property
    def _counted(self) -> list[AtScale[T]]:
        """Solves but for one for which its repetition stands."""
        return [part for part in self.parts if part.solved and part.scale != self._outdone]

    @property
    def goal(self) -> float:
        """What more scales can prove at most, as far as is known."""
        return min([self._prover.error, *(part.bound for part in self._counted)])

    @property
    def unrepeated(self) -> AtScale[T] | None:
        """The solve of the lowest bound, until one is repeated."""
        return None if self._repeated else min(self._counted, key=lambda part: part.bound, default=None)

    def repeat(self, part: AtScale[T]) -> None:
        """Solve beside a scale: the better of both bounds stands for both."""
        reach = math.sqrt(LOSS * part.bound / self._within.signal.upper)
        other = self._prover.solve(part.scale * (1.0 + SHIFT * reach))
        self._repeated = True
        if other.scale != part.scale:
            self._outdone = min(part, other, key=lambda own: own.bound).scale
        self._take(other)

    def narrow(self, value: float, target: float) -> bool:
        """Solve what is too weak where the value is held down, or bound a new scale there, if one is left.

        Parameters
        ----------
        value, target
            What is proved, and what is wanted.
        """
        stated = *self._stated, self._within
        holding = first_gap(*stated, value * (1.0 + BESIDE))
        if holding is None:
            return False
        goal = self.goal
        weak = self._weak(holding, min(goal, max(HOLDING * value, USELESS * goal)))
        if weak is None:
            around = next(
                (gap for gap in gaps(*stated, target) if gap.low <= holding.low < gap.high), holding
            )
            whole = not any(around.low < part.scale < around.high for part in self.parts)
            scale, solves = self._within_gap(around if whole else holding, target)
            solves = self._poor or (solves and value >= USELESS * goal)
            if scale in self._stated[0]:
                return False
        else:
            scale, solves = weak.scale, True
        self._take(self._solved(scale, goal) if solves else self._prover.relax(scale))
        return True

    def _solved(self, scale: float, goal: float) -> AtScale[T]:
        """The problem solved at a scale, with less effort where more than the lowest bound is expected."""
        solved = [part for part in self.parts if part.solved]
        beside = [part.bound for part in _beside(solved, Gap(scale, scale)) if part is not None]
        brief = bool(beside) and min(beside) >= ENOUGH * min(part.bound for part in solved)
        return self._prover.solve(scale, ENOUGH * goal, brief=brief)

    def _take(self, part: AtScale[T]) -> None:
        """Keep what is known; of two at one scale the higher bound stays."""
        known = [other for other in self.parts if other.scale == part.scale]
        self._poor |= any(part.bound > POOR * other.bound for other in known)
        best = max([part, *known], key=lambda part: part.bound)
        others = [other for other in self.parts if other.scale != part.scale]
        self.parts = sorted([*others, replace(best, solved=part.solved)], key=lambda part: part.scale)

    def _weak(self, gap: Gap, below: float) -> AtScale[T] | None:
        """The lowest bound at a gap, where that is less than this and of no solve."""
        at_gap = [part for part in self.parts if gap.low < part.scale < gap.high]
        at_gap += [part for part in _beside(self.parts, gap) if part is not None]
        weak = [part for part in at_gap if not part.solved and part.bound < below]
        return min(weak, key=lambda part: part.bound, default=None)

    def _within_gap(self, gap: Gap, value: float) -> tuple[float, bool]:
        """A new scale in a gap, and whether to solve there: between weak quick bounds another one is weak."""
        below, above = _beside(self.parts, gap)
        if below is None:
            return max(BELOW * gap.high, gap.low), False
        if above is None:
            return min(BEYOND * gap.low, gap.high), False
        # of as many parts as would fill it, one in the middle
        expected = math.sqrt(below.bound * above.bound)
        parts = _parts(gap, expected, value, self._within.signal.upper)
        share = ((parts - 1) // 2 + 0.5) / parts
        weak = all(part.solved or part.bound < value for part in (below, above))
        return gap.low * (gap.high / gap.low) ** share, weak


def _beside(parts: list[AtScale[T]], gap: Gap) -> tuple[AtScale[T] | None, AtScale[T] | None]:
    """What is known next to a gap, below and above."""
    below = [part for part in parts if part.scale <= gap.low]
    above = [part for part in parts if part.scale >= gap.high]
    return (below[-1] if below else None), (above[0] if above else None)


def _parts(gap: Gap, bound: float, value: float, signal: float) -> int:
    """How many scales with a bound would fill a gap that a value has."""
    if not value < bound < signal:
        return 1
    reach = min(math.sqrt((bound - value) / (signal - value)), FARTHEST)
    return max(1, math.ceil(math.log(gap.high / gap.low) / math.log((1.0 + reach) / (1.0 - reach))))
