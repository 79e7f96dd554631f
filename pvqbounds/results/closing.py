"""How the interval of a layer closes while its problems are being solved."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pvqbounds.arithmetic.enclosures import Enclosure, down, up
from pvqbounds.problems import Problem
from pvqbounds.results.bounds import Bounds, sqnr_interval
from pvqbounds.results.decibels import interval_text

__all__ = ["Closing"]


class Closing:
    """The interval of those problems of one side that something is known of.

    Parameters
    ----------
    problems
        All of the side; their errors add up.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems
        self._known: dict[int, Bounds] = {}

    def take(self, position: int, bounds: Bounds) -> None:
        """What is known of the problem at this position now."""
        self._known[position] = bounds

    def __str__(self) -> str:
        """The interval in dB, rounded outwards; "" where nothing is known yet."""
        if not self._known:
            return ""
        signals = [self._problems[position].signal for position in self._known]
        signal = Enclosure(down(math.fsum(s.lower for s in signals)), up(math.fsum(s.upper for s in signals)))
        lower = max(0.0, down(math.fsum(b.error_lower for b in self._known.values())))
        upper = up(math.fsum(b.error_upper for b in self._known.values()))
        return interval_text(*sqnr_interval(signal, lower, upper))
