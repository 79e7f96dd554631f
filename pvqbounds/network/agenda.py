"""Which unit is next: all of them once, or, within a time for the run, those that add most to the gap again.

Errors of different layers have different units, so that a unit's gap is taken as a part of its error: 1 less
the lower end over the upper one. After a first pass, for which each unit has its share of the time, the rest
goes to the unit with the largest gap for the seconds that it gets next, and within it to the channels that
make up most of its gap. A unit that gains next to nothing is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pvqbounds.network.unit import Unit
from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.storage.network_store import Store

__all__ = ["Agenda", "TimedAgenda"]

FIRST = 0.5
"""Share of the time that the first pass over all units may take."""

GROWTH = 2.0
"""Each time that a unit is solved again it may take so many times what it might before."""

WORTH = 0.02
"""Part of its gap that a unit must close to be solved once more."""

MOST_OF_IT = 0.8
"""Part of a unit's gap that the channels which are solved again make up."""

LEAST = 0.5
"""Seconds under which no unit is begun again."""


class Agenda:
    """Units one after another.

    Parameters
    ----------
    units
        In their order.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._waiting = list(units)

    def take(self) -> Unit | None:
        """The next unit; None where there is none for now."""
        return self._waiting.pop(0) if self._waiting else None

    def back(self, unit: Unit) -> None:
        """A unit whose process was lost: it comes first."""
        self._waiting.insert(0, unit)

    def ended(self, unit: Unit, *, failed: bool) -> None:
        """A unit stands, or has failed."""


@dataclass(eq=False)
class _Known:
    """A unit that stands."""

    unit: Unit
    gap: float
    channels: tuple[int, ...]
    """Those that make up most of the gap."""
    last: float
    """Seconds that it might take last."""
    busy: bool = False
    closed: bool = False


class TimedAgenda(Agenda):
    """Units within a time for all of them.

    Parameters
    ----------
    units
        That do not stand yet.
    standing
        That do.
    store
        Where results stand.
    seconds
        For this run.
    jobs
        Units at a time.
    """

    def __init__(
        self, units: Sequence[Unit], standing: Sequence[Unit], store: Store, seconds: float, jobs: int
    ) -> None:
        total = sum(unit.cost for unit in units)
        super().__init__([replace(u, total_time=FIRST * seconds * jobs * u.cost / total) for u in units])
        self._store, self._end, self._seconds, self._jobs = store, time.monotonic() + seconds, seconds, jobs
        self._open, self._known = len(units), list[_Known]()
        self._unread = list(standing)

    def take(self) -> Unit | None:
        """The next unit of the first pass, then the one that gains most."""
        first = super().take()
        left = self._end - time.monotonic()
        if first is not None or self._open > 0 or left < LEAST:
            return first
        while self._unread:
            self._learn(self._unread.pop())
        return self._again(left)

    def _again(self, left: float) -> Unit | None:
        open_ones = [known for known in self._known if not (known.busy or known.closed)]
        if not open_ones:
            return None
        best = max(open_ones, key=lambda known: known.gap / known.last)
        best.busy, best.last = True, min(GROWTH * best.last, left)
        return replace(best.unit, again=best.channels, total_time=best.last)

    def ended(self, unit: Unit, *, failed: bool) -> None:
        """Learn what is left of its gap."""
        if not unit.again:
            self._open -= 1
            if not failed:
                self._unread.append(unit)
            return
        known = next(known for known in self._known if known.unit.key == unit.key)
        known.busy = False
        gap, channels = self._gap(unit)
        known.closed = failed or not channels or known.gap - gap < WORTH * known.gap
        known.gap, known.channels = gap, channels

    def _learn(self, unit: Unit) -> None:
        gap, channels = self._gap(unit)
        even = self._seconds * self._jobs / max(len(self._known) + len(self._unread) + 1, 1)
        last = max(unit.total_time or 0.1 * even, LEAST / GROWTH)
        plain = replace(unit, total_time=None)
        self._known.append(_Known(plain, gap, channels, last, closed=not channels))

    def _gap(self, unit: Unit) -> tuple[float, tuple[int, ...]]:
        """The gap of a unit that stands, and the channels that make up most of it."""
        layer = next(entry for entry in self._store.manifest.layers if entry.name == unit.layer.name)
        return gap_of(self._store.read_unit(layer, unit.side))


def gap_of(report: LayerReport) -> tuple[float, tuple[int, ...]]:
    """What a unit's interval is as a part of its error, and the channels that make up most of that."""
    side: Side = report.sides[0]
    upper = side.error_upper
    gap = 1.0 - side.error_lower / upper if upper > 0.0 else 0.0
    tight = None if side.estimate is None else set(side.estimate.sample)
    widths = {
        s.channel: s.bounds.error_upper - s.bounds.error_lower
        for s in side.slices
        if s.bounds.status != "optimal" and (tight is None or s.channel in tight)
    }
    chosen, left = [], sum(widths.values()) * MOST_OF_IT
    for channel in sorted(widths, key=lambda channel: -widths[channel]):
        if left <= 0.0:
            break
        chosen.append(channel)
        left -= widths[channel]
    return gap, tuple(sorted(chosen))
