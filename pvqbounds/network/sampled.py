"""A layer from a sample of its channels: cheap certified bounds of all, tight ones of some, and an estimate.

Cheap are multipliers that the channels of a Gram share; where they share none (steps of any scale, another
solver), each channel gets its own box-hull relaxation and no search. The ends of the side are those of all
channels, and certified; what they would be with every channel tight is estimated
(:mod:`pvqbounds.results.sampling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pvqbounds.network.unit import UnitBounds, seed_of
from pvqbounds.results.layer import LayerReport, SliceResult
from pvqbounds.results.sampling import estimate_of
from pvqbounds.solving.candidates import combined
from pvqbounds.solving.kinds import SHARED, kind_for

__all__ = ["better_ends", "sampled_channels", "solve_again", "solve_sampled"]

CHEAP = 0.3
"""Share of a time for the whole unit that the cheap bounds may take."""


def sampled_channels(seed: int, layer: str, channels: int, sample: int) -> list[int]:
    """Channels of a layer that are bounded tightly: the same ones in every format, ascending."""
    drawn = np.random.default_rng(seed_of(seed, layer)).choice(channels, sample, replace=False)
    return sorted(map(int, drawn))


def solve_sampled(bounded: UnitBounds, sample: int) -> LayerReport:
    """Bounds of all channels of a unit, tight on a sample of so many."""
    unit, time = bounded.unit, bounded.unit.total_time
    chosen = sampled_channels(unit.settings.solve.seed, unit.layer.name, bounded.layer.channels, sample)
    kind = kind_for(bounded.form.task, bounded.form.has_steps, bounded.form.any_scale)
    shared = SHARED in kind.together and unit.settings.solve.native
    cheap = bounded.report(
        total_time=None if time is None else CHEAP * time,
        method="relax",
        relaxation=SHARED if shared else kind.plain,
    )
    tight = bounded.report(chosen, total_time=None if time is None else (1.0 - CHEAP) * time, methods=False)
    return with_tight(cheap, tight)


def with_tight(cheap: LayerReport, tight: LayerReport) -> LayerReport:
    """The report of all channels, those of the sample with the better ends, and the estimate."""
    side, found = cheap.sides[0], {s.channel for s in tight.sides[0].slices}
    slices = better_ends(side.slices, tight.sides[0].slices)
    of_sample = [s.bounds for s in side.slices if s.channel in found]
    estimate = estimate_of(
        slices,
        sorted(found),
        [bounds.error_lower for bounds in of_sample],
        [bounds.error_upper for bounds in of_sample],
    )
    return replace(
        cheap,
        sides=(replace(side, slices=slices, estimate=estimate),),
        seconds=cheap.seconds + tight.seconds,
        notes=tuple(dict.fromkeys([*cheap.notes, *tight.notes])),
    )


def better_ends(slices: Sequence[SliceResult], others: Sequence[SliceResult]) -> tuple[SliceResult, ...]:
    """Channels with the better ends of two results, where there are two."""
    again = {s.channel: s.bounds for s in others}
    return tuple(
        replace(s, bounds=combined(s.problem, s.bounds, again[s.channel])) if s.channel in again else s
        for s in slices
    )


def solve_again(bounded: UnitBounds, stands: LayerReport) -> LayerReport:
    """A unit that stands, some of its channels solved once more."""
    unit, side = bounded.unit, stands.sides[0]
    found = bounded.report(list(unit.again), total_time=unit.total_time, methods=False)
    slices = better_ends(side.slices, found.sides[0].slices)
    estimate = side.estimate
    if estimate is not None:
        estimate = estimate_of(slices, estimate.sample, estimate.cheap_lower, estimate.cheap_upper)
    better = replace(side, slices=slices, estimate=estimate)
    return replace(stands, sides=(better,), seconds=stands.seconds + found.seconds)
