"""Scales at which bounds are proved, chosen one after the other, until they bound every scale.

What bounds at some scales prove for every scale (:mod:`pvqbounds.relaxations.scales`) ends at a gap between
two of them. A new scale goes there, with a quick relaxation; where its bound, and not its distance, is what
holds the value down, the problem there is solved as it would be by itself. What is left in the end is the
lowest bound at any scale, and next to nothing for the scales between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.relaxations.scales import Gap, ScaleRange, first_gap, largest_value

__all__ = ["AtScale", "Prover", "covered"]

T = TypeVar("T")

MOST, MOST_UNCOVERED = 64, 256
"""Scales at most, and as long as they do not cover all scales for any value."""

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

    def solve(self, scale: float) -> AtScale[T]:
        """As well as it can be by itself."""

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
    parts, poor = [first], False
    while True:
        scales, bounds = (
            np.array(values) for values in zip(*((p.scale, p.bound) for p in parts), strict=True)
        )
        value = max(largest_value(scales, bounds, within), prover.everywhere)
        goal = min([prover.error, *(part.bound for part in parts if part.solved)])
        exact = goal >= (1.0 - EQUAL) * prover.error
        if value >= min((1.0 - (CLOSED if exact else LOSS)) * goal, enough):
            return parts, "optimal" if exact else "solved"
        if len(parts) >= (MOST if value > 0.0 else MOST_UNCOVERED):
            return parts, f"stopped at {len(parts)} scales"
        if clock.expired:
            return parts, f"stopped by the time limit after {len(parts)} scales"
        gap = first_gap(scales, bounds, within, value * (1.0 + BESIDE))
        if gap is None:  # no more than rounding is left
            return parts, "solved"
        weak = min(goal, max(HOLDING * value, USELESS * goal))
        part = _narrowed(prover, parts, gap, weak, prover.solve if poor else prover.relax)
        poor |= any(part.bound > POOR * other.bound for other in parts if other.scale == part.scale)
        parts = _with(parts, part)


def _with(parts: list[AtScale[T]], part: AtScale[T]) -> list[AtScale[T]]:
    """What is known with another part; of two at one scale the higher bound stays."""
    known = [other for other in parts if other.scale == part.scale]
    best = max([part, *known], key=lambda part: part.bound)
    others = [other for other in parts if other.scale != part.scale]
    return sorted([*others, replace(best, solved=part.solved)], key=lambda part: part.scale)


def _narrowed(
    prover: Prover[T],
    parts: list[AtScale[T]],
    gap: Gap,
    weak_below: float,
    bounded: Callable[[float], AtScale[T]],
) -> AtScale[T]:
    """What has a lower bound than this at a gap, solved, or a new scale in it, bounded."""
    below = [part for part in parts if part.scale <= gap.low]
    above = [part for part in parts if part.scale >= gap.high]
    inside = [part for part in parts if gap.low < part.scale < gap.high]
    weak = [
        part for part in (*below[-1:], *inside, *above[:1]) if not part.solved and part.bound < weak_below
    ]
    if weak:
        return prover.solve(min(weak, key=lambda part: part.bound).scale)
    if below and above:
        middle = math.sqrt(gap.low * gap.high)
        return prover.solve(middle) if below[-1].solved and above[0].solved else bounded(middle)
    if above:
        return bounded(max(BELOW * gap.high, gap.low))
    return bounded(min(BEYOND * gap.low, gap.high))
