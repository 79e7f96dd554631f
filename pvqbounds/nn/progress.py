"""The time that the sides of a layer share, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable

from pvqbounds.results.bounds import Bounds
from pvqbounds.results.closing import Closing
from pvqbounds.solvers.native.compiling import seconds_compiling

__all__ = ["LayerProgress", "SharedTime", "Watched"]

LEAST_TIME = 1e-3
"""Seconds of a side where none are left: what needs no solver."""

LayerProgress = Callable[[int, int, str], None]
"""Called with the problems done, their number, and what is being done."""


class SharedTime:
    """The time that the sides of a layer share."""

    def __init__(self, total_time: float | None, sides: int) -> None:
        self._left, self._sides, self._since = total_time, sides, self._now()

    @staticmethod
    def _now() -> float:
        return time.perf_counter() - seconds_compiling()

    def next(self) -> float | None:
        """Seconds for the next side: its part of what is left."""
        if self._left is None:
            return None
        now = self._now()
        self._left, self._since = max(self._left - (now - self._since), LEAST_TIME), now
        self._sides -= 1
        return self._left / (self._sides + 1)


class Watched:
    """Says how far a side is: the problems done, and the interval of what is known of them."""

    def __init__(
        self, report: LayerProgress, before: int, total: int, name: str, closing: Closing | None
    ) -> None:
        self._report, self._before, self._total, self._name = report, before, total, name
        self._closing, self._count = closing, 0

    def done(self, count: int) -> None:
        """So many problems of the side are done."""
        self._count = count
        interval = "" if self._closing is None else str(self._closing)
        self._report(self._before + count, self._total, f"{self._name} {interval}".strip())

    def found(self, position: int, bounds: Bounds) -> None:
        """A problem's interval is known, or closed further."""
        if self._closing is not None:
            self._closing.take(position, bounds)
            self.done(self._count)
