"""How the interval of one problem closed over time: what was stated after so many seconds and nodes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pvqbounds.problems.units import scaled_down, scaled_up

__all__ = ["Moment", "after", "closed_by", "closes_on", "in_units", "since"]

SHORTEST = 0.1
"""Seconds below which a solve has no history: layers have thousands of such channels."""


@dataclass(frozen=True)
class Moment:
    """What an engine stated at one time; only the last one of a result is proved by its certificate."""

    seconds: float
    """Since the solve began; of a backend's solution, on the clock of ``time.perf_counter``."""
    nodes: int
    """Visited by searches until then."""
    error_lower: float
    """The bound that was stated."""
    error_upper: float
    """The error of the incumbent."""


def since(history: Sequence[Moment], start: float) -> tuple[Moment, ...]:
    """The same, counted from `start` on the clock of ``time.perf_counter``."""
    return tuple(replace(moment, seconds=moment.seconds - start) for moment in history)


def after(before: Sequence[Moment], later: Sequence[Moment]) -> tuple[Moment, ...]:
    """One search after another: their nodes add up."""
    nodes = before[-1].nodes if before else 0
    return (*before, *(replace(moment, nodes=moment.nodes + nodes) for moment in later))


def in_units(history: Sequence[Moment], exponent: int) -> tuple[Moment, ...]:
    """The same with errors times ``2**exponent``, rounded outwards."""
    return tuple(
        replace(
            moment,
            error_lower=scaled_down(moment.error_lower, exponent),
            error_upper=scaled_up(moment.error_upper, exponent),
        )
        for moment in history
    )


def closed_by(history: Sequence[Moment], end: Moment) -> tuple[Moment, ...]:
    """What was known at each time, the best so far, up to the result itself.

    None where nothing was recorded, or all of it took less than :data:`SHORTEST`.

    No moment says more than the result does: what engines state is right to within rounding. Of moments that
    say the same the first one stays.
    """
    if end.seconds < SHORTEST:
        return ()
    known: list[Moment] = []
    lower, upper = 0.0, max([end.error_upper, *(moment.error_upper for moment in history)])
    for moment in history:
        lower = min(max(lower, moment.error_lower), end.error_lower)
        upper = max(min(upper, moment.error_upper), end.error_upper)
        if not known or (lower, upper) != (known[-1].error_lower, known[-1].error_upper):
            known.append(replace(moment, error_lower=lower, error_upper=upper))
    return (*known, replace(end, nodes=history[-1].nodes)) if known else ()


def closes_on(history: Sequence[Moment], error_lower: float, error_upper: float) -> bool:
    """Whether these may be moments of a result: intervals that shrink in time and hold the result's own."""
    end = Moment(math.inf, history[-1].nodes, error_lower, error_upper) if history else None
    told = [Moment(0.0, 0, 0.0, math.inf), *history, *([] if end is None else [end])]
    return all(
        before.seconds <= then.seconds
        and before.nodes <= then.nodes
        and before.error_lower <= then.error_lower <= then.error_upper <= before.error_upper
        for before, then in itertools.pairwise(told)
    )
