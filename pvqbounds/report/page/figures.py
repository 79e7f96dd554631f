"""What the page shows of a network, as plain data: intervals, duels of formats, gaps over depth.

SQNR is in decibels throughout. Lower ends are what the best weights found reach, upper ends what no weights
exceed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pvqbounds.methods import label_of
from pvqbounds.report.plot import MARKERS
from pvqbounds.results.bounds import sqnr
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.results.decibels import ENDLESS
from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.results.network import LayerEntry, NetworkReport

__all__ = [
    "Box",
    "Duel",
    "GapBar",
    "GapPanel",
    "Interval",
    "Mark",
    "duels_of",
    "gap_panels_of",
    "intervals_of",
    "whole_sides",
    "wins_of",
]

MOST_DUELS = 24
"""Pairs of formats that have a picture; those of the most alike sizes come first."""


@dataclass(frozen=True)
class Mark:
    """What a method, somebody's compressed weights or an expectation reaches."""

    name: str
    label: str
    value: float
    shape: str
    """Of its mark, as pictures have it; "|" of what is expected."""

    @property
    def expected(self) -> bool:
        """Whether it is a typical value, and no weights reach it."""
        return self.shape == "|"


@dataclass(frozen=True)
class Interval:
    """A layer in one format."""

    layer: str
    depth: int
    """Number of the layer in the model's order, from 1."""
    description: str
    inputs: int
    channels: tuple[int, int]
    """Looked at, and in all."""
    weights: int
    format: str
    task: str
    bits: float
    """A weight."""
    lower: float
    upper: float
    status: str
    lower_kind: str
    presumed: str
    """What a bound on a grid holds for that no file says, as a sentence; empty elsewhere."""
    estimated: tuple[float, float, float, float] | None
    """Of a sampled side the estimated ends of the whole layer, and the outer ends of their 95 % intervals:
    (outer lower, lower, upper, outer upper)."""
    marks: tuple[Mark, ...]
    beats: tuple[str, ...]
    """Formats that it is provably better than on this layer."""
    holds: tuple[str, ...]
    """Others of which it allows every weight, so that it is never worse."""

    @property
    def gap(self) -> float:
        """Width in decibels; infinite where there is no bound, 0 where there is no error."""
        return 0.0 if self.lower >= ENDLESS else self.upper - self.lower

    @property
    def best_mark(self) -> Mark | None:
        """The method that reaches most."""
        reached = [mark for mark in self.marks if not mark.expected and not math.isnan(mark.value)]
        return max(reached, key=lambda mark: mark.value, default=None)

    @property
    def labels(self) -> tuple[str, ...]:
        """What kinds of numbers stand in it."""
        estimated = ("estimated",) if self.estimated is not None else ()
        presumed = ("presumed",) if self.presumed else ()
        return (self.lower_kind, *presumed, *estimated)


def whole_sides(network: NetworkReport) -> Iterator[tuple[int, LayerEntry, LayerReport, Side]]:
    """Every side that stands and speaks of whole channels, with its layer's number from 1."""
    for depth, entry in enumerate(network.layers, start=1):
        if entry.report is not None and entry.report.protocol == "full":
            for side in entry.report.sides:
                yield depth, entry, entry.report, side


def intervals_of(network: NetworkReport) -> tuple[Interval, ...]:
    """All layers in all formats."""
    return tuple(_interval(*place) for place in whole_sides(network))


def _interval(depth: int, entry: LayerEntry, report: LayerReport, side: Side) -> Interval:
    lower, upper = side.sqnr_interval
    return Interval(
        layer=entry.name,
        depth=depth,
        description=entry.description,
        inputs=entry.inputs,
        channels=report.channels,
        weights=entry.weights,
        format=side.format,
        task=side.task,
        bits=side.bits_per_weight,
        lower=lower,
        upper=upper,
        status=side.status,
        lower_kind=side.lower_kind,
        presumed="" if side.compressed is None else side.compressed.condition,
        estimated=_estimated(side),
        marks=tuple(_marks(side)),
        beats=tuple(loser for winner, loser in report.verdict if winner == side.format),
        holds=tuple(held for holder, held in report.never_worse if holder == side.format),
    )


def _estimated(side: Side) -> tuple[float, float, float, float] | None:
    if side.estimate is None:
        return None
    upper, lower = side.estimate.error_upper, side.estimate.error_lower
    signal = side.signal_enclosure.middle
    outer, inner, far, farthest = (sqnr(signal, e) for e in (upper.high, upper.value, lower.value, lower.low))
    return outer, inner, far, farthest


def _marks(side: Side) -> Iterator[Mark]:
    for name in side.methods:
        shape = MARKERS.get(name.partition(":")[0], "s")
        label = "the file's weights" if name == AS_STORED else label_of(name)
        yield Mark(name, label, side.method_sqnr(name), shape)
    if math.isfinite(side.expected_sqnr):
        yield Mark("expected", "expected on a fine grid (no bound)", side.expected_sqnr, "|")


# ------------------------------------------------------------------- quantization against pruning


@dataclass(frozen=True)
class Box:
    """One layer in two formats: the intervals of both, and which is provably better."""

    layer: str
    x: tuple[float, float]
    y: tuple[float, float]
    winner: str
    """"x", "y", or empty where neither is."""
    holder: str = ""
    """Where neither is, which allows every weight of the other: "x", "y", "xy", or empty."""


@dataclass(frozen=True)
class Duel:
    """Two formats over the layers that have both."""

    x: str
    y: str
    boxes: tuple[Box, ...]
    across: bool
    """Whether they are of different tasks."""

    def count(self, winner: str) -> int:
        """Layers with this outcome; without a winner those on which no inclusion is known either."""
        return sum(box.winner == winner and not box.holder for box in self.boxes)

    @property
    def held(self) -> tuple[tuple[str, int], ...]:
        """What is known by inclusion, in words, and on how many layers."""
        words = {
            "x": f"{self.x} is never worse, as it allows every weight of {self.y}",
            "y": f"{self.y} is never worse, as it allows every weight of {self.x}",
            "xy": "both allow the same weights",
        }
        counts = Counter(box.holder for box in self.boxes)
        return tuple((text, counts[holder]) for holder, text in words.items() if counts[holder])


def duels_of(network: NetworkReport) -> tuple[Duel, ...]:
    """Pairs of formats, quantization against pruning first, then by how alike their sizes are."""
    sides: dict[str, dict[str, Side]] = {}
    won: set[tuple[str, str, str]] = set()
    held: set[tuple[str, str, str]] = set()
    for _, entry, report, side in whole_sides(network):
        sides.setdefault(side.format, {})[entry.name] = side
        won |= {(entry.name, *pair) for pair in report.verdict}
        held |= {(entry.name, *pair) for pair in report.never_worse}
    order = {"quantization": 0, "joint": 1, "pruning": 2}
    names = sorted(sides, key=lambda form: order[_any(sides[form]).task])  # x quantizes, y prunes
    duels = []
    for x, y in itertools.combinations(names, 2):
        boxes = [
            Box(
                layer,
                sides[x][layer].sqnr_interval,
                sides[y][layer].sqnr_interval,
                "x" if (layer, x, y) in won else "y" if (layer, y, x) in won else "",
                "x" * ((layer, x, y) in held) + "y" * ((layer, y, x) in held),
            )
            for layer in sides[x]
            if layer in sides[y]
        ]
        across = _any(sides[x]).task != _any(sides[y]).task
        if boxes:
            duels.append(Duel(x, y, tuple(boxes), across))
    duels.sort(key=lambda duel: (not duel.across, _apart(sides[duel.x], sides[duel.y])))
    return tuple(duels[:MOST_DUELS])


def _any(sides: dict[str, Side]) -> Side:
    return next(iter(sides.values()))


def _apart(first: dict[str, Side], second: dict[str, Side]) -> float:
    """Mean difference in bits a weight over the layers that have both."""
    both = [
        abs(first[layer].bits_per_weight - second[layer].bits_per_weight)
        for layer in first
        if layer in second
    ]
    return sum(both) / len(both)


def wins_of(network: NetworkReport) -> tuple[tuple[str, tuple[int | None, ...]], ...]:
    """For each format on how many layers it is provably better than each one, None beside itself."""
    reports = [entry.report for entry in network.layers if entry.report is not None]
    pairs = Counter(pair for report in reports for pair in report.verdict)
    names = [name for name in network.formats if any(name in _names(report) for report in reports)]
    return tuple(
        (one, tuple(None if one == other else pairs[one, other] for other in names)) for one in names
    )


def _names(report: LayerReport) -> list[str]:
    return [side.format for side in report.sides]


# --------------------------------------------------------------------------------- gaps over depth


@dataclass(frozen=True)
class GapBar:
    """How far a method is from the best possible on a layer."""

    layer: str
    depth: int
    least: float
    """Decibels by which weights that were found are better."""
    most: float
    """Decibels that no weights gain on it more than."""


@dataclass(frozen=True)
class GapPanel:
    """A method over the layers, in one format."""

    format: str
    method: str
    label: str
    bars: tuple[GapBar, ...]


def gap_panels_of(intervals: Sequence[Interval]) -> tuple[GapPanel, ...]:
    """Each method in each format."""
    panels: dict[tuple[str, str], tuple[str, list[GapBar]]] = {}
    for interval in intervals:
        for mark in interval.marks:
            if mark.expected or math.isnan(mark.value) or math.isnan(interval.lower):
                continue
            _, bars = panels.setdefault((interval.format, mark.name), (mark.label, []))
            if mark.value < ENDLESS:  # beyond there is no error to gain on
                ends = (math.inf if end >= ENDLESS else end for end in (interval.lower, interval.upper))
                least, most = (max(0.0, end - mark.value) for end in ends)
                bars.append(GapBar(interval.layer, interval.depth, least, most))
    return tuple(GapPanel(form, name, label, tuple(bars)) for (form, name), (label, bars) in panels.items())
