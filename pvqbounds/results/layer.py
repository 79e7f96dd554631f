"""The result of one layer: the formats that it was held to, side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import Enclosure, down, up
from pvqbounds.errors import InputError, checked_flags, shown
from pvqbounds.problems import IntegerLeastSquares, Problem, Task
from pvqbounds.problems.formats import Format, parse
from pvqbounds.problems.gram import Gram
from pvqbounds.relaxations.expected import expected_error, log_mean_pivot
from pvqbounds.relaxations.layer_scales import LayerScales
from pvqbounds.results.bounds import Bounds, LowerKind, Status, sqnr, sqnr_interval, status_of
from pvqbounds.results.compressed import AS_STORED, Compressed
from pvqbounds.results.estimate import Estimate
from pvqbounds.results.held_out import HeldOut
from pvqbounds.results.inclusion import allows_all_of
from pvqbounds.results.relation import Relation, size_beside

__all__ = ["LayerReport", "SharedBudget", "SharedScale", "Side", "SliceResult", "Verdict", "labels"]

Verdict = tuple[tuple[str, str], ...]
"""Pairs of formats: the first is provably better than the second."""


@dataclass(frozen=True, eq=False)
class SliceResult:
    """One problem of the layer: an output channel, or a chunk of its inputs."""

    channel: int
    """Output channel in the layer's own count."""
    inputs: tuple[int, int]
    """First and one past the last input of the channel's fan-in that the problem covers."""
    problem: Problem
    """Problems of one group of the layer hold the same `gram` array (by identity)."""
    bounds: Bounds

    def __repr__(self) -> str:
        return (
            f"<SliceResult channel {self.channel}, inputs {self.inputs[0]}..{self.inputs[1]}: {self.bounds}>"
        )

    @property
    def dead(self) -> bool:
        """Whether no signal can be proved: its SQNR is undefined."""
        return self.problem.signal.lower <= 0.0

    @property
    def objective_bounds(self) -> Enclosure | None:
        """What holds the least objective of a quadratic program; None for any other problem."""
        problem = self.problem
        if not isinstance(problem, IntegerLeastSquares) or problem.quadratic is None:
            return None
        return problem.quadratic.objective_bounds(self.bounds)


@dataclass(frozen=True)
class SharedBudget:
    """One pruning budget for all channels of a layer, and the bound that belongs to it.

    Each channel's own entry is then its problem with the number of weights that the best support
    found leaves it; the lower ends of those do not add up to a bound for the layer.
    """

    nnz: int
    """Non-zeros of all channels together."""
    error_lower: float
    """Certified bound on the summed error, proved by the certificates of all entries together."""


@dataclass(frozen=True, eq=False)
class SharedScale:
    """One free scale for all channels of a layer, and the bound that belongs to it.

    Each channel's own entry is then its problem at the scale that was found; the lower ends of those do not
    add up to a bound for every scale.
    """

    scale: float
    """The scale found."""
    error_lower: float
    """Certified bound on the summed error at every scale."""
    certificate: LayerScales | None
    """What proves it; None where it is 0."""


@dataclass(frozen=True, eq=False)
class Side:
    """The layer in one format."""

    format: str
    """Its name: "int4", "25%", "2:4+nf4"; of compressed weights from a file what the file is called."""
    bits_per_weight: float
    """Its size, scales and masks counted."""
    slices: tuple[SliceResult, ...]
    methods: Mapping[str, tuple[NDArray[Any], ...]]
    """What each method makes of each slice, by its name: codes, or weights where values have none."""
    shared: SharedBudget | None = None
    """One budget over the layer (pruning); None where each channel has its own."""
    compressed: Compressed | None = None
    """Where the values come from, if from somebody's compressed weights, which are one of `methods`."""
    mask_cost: str | None = None
    """How its mask is counted in the size: one of `MASKS`; None where it has none, or a file does not say."""
    estimate: Estimate | None = None
    """Where a sample of the channels was bounded tightly and the others cheaply: what the whole layer's ends
    would be. The ends of the side itself are certified all the same."""
    one_scale: SharedScale | None = None
    """One free scale for the layer; None where scales are given, or each channel has its own."""

    def __repr__(self) -> str:
        return f"<Side {self.format}: {_brief(self)}, {len(self.slices)} slices>"

    @cached_property
    def form(self) -> Format:
        """The format of that name, or what the file allowed."""
        return parse(self.format) if self.compressed is None else self.compressed.form

    @property
    def task(self) -> Task:
        """Kind of its problems: "quantization", "pruning" or "joint"."""
        return self.form.task

    @property
    def error_lower(self) -> float:
        """Sum of the lower bounds, rounded down; under one budget or free scale the bound of the layer."""
        if self.one_scale is not None:
            return self.one_scale.error_lower
        if self.shared is not None:
            return self.shared.error_lower
        return max(0.0, down(math.fsum(s.bounds.error_lower for s in self.slices)))

    @property
    def error_upper(self) -> float:
        """Sum of the achieved errors, rounded up; of the file's own weights where its grid holds too much."""
        errors = [s.bounds.error_upper for s in self.slices]
        for i in self.mixed:
            errors[i] = self.method_errors[AS_STORED][i]
        return up(math.fsum(errors))

    @property
    def mixed(self) -> list[int]:
        """Slices on whose values the compression could not choose freely."""
        channels = set() if self.compressed is None else set(self.compressed.mixed)
        return [i for i, own in enumerate(self.slices) if own.channel in channels]

    @property
    def signal_enclosure(self) -> Enclosure:
        """Enclosure of the summed signal."""
        return Enclosure(
            down(math.fsum(s.problem.signal.lower for s in self.slices)),
            up(math.fsum(s.problem.signal.upper for s in self.slices)),
        )

    @property
    def sqnr_interval(self) -> tuple[float, float]:
        """Lower and upper end of the best SQNR of the layer, dB."""
        return sqnr_interval(self.signal_enclosure, self.error_lower, self.error_upper)

    @property
    def status(self) -> Status:
        """Whether every slice is "optimal"; else "bounded". Under one budget or free scale, of the layer."""
        if self.shared is not None or self.one_scale is not None or self.mixed:
            return status_of(self.error_lower, self.error_upper, self.signal_enclosure.lower)
        return "optimal" if all(s.bounds.status == "optimal" for s in self.slices) else "bounded"

    @property
    def lower_kind(self) -> LowerKind:
        """Whether every slice is "certified"; "reported" otherwise."""
        certified = all(s.bounds.lower_kind == "certified" for s in self.slices)
        return "certified" if certified else "reported"

    @property
    def proof(self) -> str:
        """`lower_kind`, and what is presumed where a file does not say what it allowed."""
        return f"{self.lower_kind}, {self.presumption}" if self.presumption else self.lower_kind

    @property
    def presumption(self) -> str:
        """What is presumed, in two words, where a file does not say what it allowed; else empty."""
        return "" if self.compressed is None else self.compressed.label

    @cached_property
    def expected_errors(self) -> tuple[float, ...]:
        """Typical least error of each slice on a fine, wide grid: a label, not a bound.

        At most the signal, so that a channel of zeros adds nothing whatever its scale. 0 where the Gram
        is singular; empty where values are not all whole multiples of a step, or weights are removed.
        """
        pivots: dict[Gram, tuple[int, float]] = {}
        errors = []
        for problem in (s.problem for s in self.slices):
            steps, gram = problem.values.lattice, problem.shared
            if steps is None or self.task != "quantization":
                return ()
            if gram not in pivots:
                pivots[gram] = int(gram.live.sum()), log_mean_pivot(gram.matrix)
            live, pivot = pivots[gram]
            # code 0, where there is one, leaves the signal
            most = problem.signal.upper if problem.values.has_zero().all() else math.inf
            errors.append(max(0.0, min(expected_error(live, _mean_step(steps[gram.live]), pivot), most)))
        return tuple(errors)

    @property
    def expected_sqnr(self) -> float:
        """SQNR in dB of the summed :attr:`expected_errors`."""
        return sqnr(self.signal_enclosure.middle, math.fsum(self.expected_errors))

    @cached_property
    def method_errors(self) -> Mapping[str, tuple[float, ...]]:
        """Error of each simple method on each slice, rounded up; a mean square, so never below zero."""
        return {
            name: tuple(
                max(0.0, s.problem.error(point).upper) for s, point in zip(self.slices, points, strict=True)
            )
            for name, points in self.methods.items()
        }

    def method_error(self, name: str) -> float:
        """Error of a simple method over the slices, rounded up."""
        return up(math.fsum(self.method_errors[name]))

    def method_sqnr(self, name: str) -> float:
        """SQNR of a simple method over the slices, dB."""
        return sqnr(self.signal_enclosure.middle, self.method_error(name))

    @property
    def left(self) -> tuple[float, float]:
        """By how many dB the compressed weights of the file can be improved: at least, and at most.

        The first is reached by the weights that were found, the second cannot be exceeded. NaN without an
        error to improve; the second is infinite where nothing bounds the error.
        """
        error = self.method_error(AS_STORED)
        if error <= 0.0:
            return math.nan, math.nan
        return sqnr(error, self.error_upper), sqnr(error, self.error_lower)


def _mean_step(steps: NDArray[np.float64]) -> float:
    """The step that counts: steps of their own by their geometric mean, as D in DGD."""
    if len(steps) == 0:
        return 1.0
    alike = (steps == steps[0]).all()  # one step is not rounded
    return float(steps[0] if alike else np.exp(np.log(steps).mean()))


DOORS = {
    "table": ("pvqbounds.report.tables", "layer_text"),
    "rows": ("pvqbounds.report.frames", "layer_rows"),
    "frame": ("pvqbounds.report.frames", "frame_of"),
    "picture": ("pvqbounds.report.plot", "plot_layer"),
    "write": ("pvqbounds.storage.results_written", "write_layer"),
    "read": ("pvqbounds.storage.results_read", "read_layer"),
}
"""Who draws and keeps reports: modules and their functions, loaded where they are asked."""


def _ask(door: str, *arguments: Any, **options: Any) -> Any:
    module, function = DOORS[door]
    return getattr(import_module(module), function)(*arguments, **options)


@dataclass(frozen=True, eq=False)
class LayerReport:
    """One layer in one or several formats, all of them about the same channels and inputs.

    Under the protocol "full" the sums over slices are the layer's own error. Under "chunked"
    (the paper's) each slice is a problem of its own, normalised by its own signal, and sums of
    errors are no bound for the layer.
    """

    model: str
    layer: str
    description: str
    """Kind and geometry of the layer in words."""
    protocol: Literal["full", "chunked"]
    inputs: int
    """Fan-in of the layer."""
    channels: tuple[int, int]
    """Output channels looked at, and in all."""
    positions: int
    """N: input positions behind the Gram; 0 where it is not known."""
    range_method: str
    sides: tuple[Side, ...]
    """One for each format, in the order in which they were asked for."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What a reader must know about the model, its data or the patterns, a sentence each."""
    held_out: HeldOut | None = None
    """What was found, on other data; None where there were none."""

    def __post_init__(self) -> None:
        formats = [side.format for side in self.sides]
        if not formats or len(set(formats)) < len(formats):
            raise InputError(f"A report is about different formats, at least one, not {shown(formats)}.")

    def side(self, name: str) -> Side:
        """The side of this format, or the one of this name in the table.

        Raises
        ------
        InputError
            If there is none.
        """
        known = dict(zip(self.names, self.sides, strict=True)) | {side.format: side for side in self.sides}
        if name not in known:
            formats = ", ".join(side.format for side in self.sides)
            raise InputError(f"The report has no side of {shown(name)}; there are {formats}.")
        return known[name]

    @property
    def quantization(self) -> Side:
        """The first side that quantizes."""
        return self._first("quantization")

    @property
    def pruning(self) -> Side:
        """The first side that prunes."""
        return self._first("pruning")

    def _first(self, task: str) -> Side:
        for side in self.sides:
            if side.task == task:
                return side
        formats = ", ".join(side.format for side in self.sides)
        raise InputError(f"The report has no side of {task}, only {formats}; take one of its `sides`.")

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each side in tables and pictures."""
        if any(side.compressed is not None for side in self.sides):
            return tuple(side.format for side in self.sides)
        return labels([(side.task, side.format) for side in self.sides])

    @property
    def dead_inputs(self) -> tuple[int, int]:
        """Inputs that are zero at every position, and all inputs, over the Grams that were looked at."""
        grams = {s.problem.shared for s in self.sides[0].slices}
        dead = sum(int((np.diagonal(gram.matrix) <= 0.0).sum()) for gram in grams)
        return dead, sum(gram.n for gram in grams)

    def __repr__(self) -> str:
        few = [f"{name} {_brief(side)}" for name, side in zip(self.names, self.sides, strict=True)][:2]
        more = f" and {len(self.sides) - 2} more" if len(self.sides) > 2 else ""
        chunks = "" if self.protocol == "full" else f" in {len(self.sides[0].slices)} chunks"
        pairs = [f"{better} > {worse}" for better, worse in self.verdict]
        pairs += [f"{first} >= {second}" for first, second in self.never_worse]
        verdict = f"; verdict: {', '.join(pairs[:2]) or 'undecided'}{', ...' * (len(pairs) > 2)}"
        told = f"{', '.join(few)}{more}{verdict * (len(self.sides) > 1)}"
        return f"<LayerReport {self.model} {self.layer}{chunks}: {told}>"

    def __str__(self) -> str:
        """The table, as the command line prints it, in 80 columns."""
        return str(_ask("table", self))

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file and the ``.npz`` beside it, for `load` and ``pvqbounds verify``.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        _ask("write", self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> LayerReport:
        """Read what `save`, or ``--json``, wrote; nothing in it is verified yet.

        Raises
        ------
        InputError
            If a file is missing, damaged or no result of a layer.
        """
        report: LayerReport = _ask("read", path)
        return report

    def to_frame(self, *, per_channel: bool = True) -> Any:
        """A pandas DataFrame, a row for each side and channel, or for each side.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        checked_flags(per_channel=per_channel)
        return _ask("frame", _ask("rows", self, per_channel=per_channel))

    def plot(self, path: str | Path, *, words: bool = True) -> None:
        """Draw it to a ``.png``, ``.svg`` or ``.pdf`` file.

        Parameters
        ----------
        words
            Whether the verdict and its conditions stand above the picture.

        Raises
        ------
        InputError
            If matplotlib is not installed.
        OutputError
            If the path cannot be written.
        """
        checked_flags(words=words)
        _ask("picture", self, path, words=words)

    @property
    def relations(self) -> tuple[Relation, ...]:
        """Every pair of formats of which one is provably better, and how their sizes compare."""
        if self.protocol != "full":
            return ()
        return tuple(
            Relation(first.format, second.format, size_beside(first.bits_per_weight, second.bits_per_weight))
            for first in self.sides
            for second in self.sides
            if first is not second
            and surely_better(first.sqnr_interval, second.sqnr_interval, second.lower_kind)
        )

    @property
    def verdict(self) -> Verdict:
        """The pairs of formats of which the first is provably better (full protocol)."""
        return tuple((relation.better, relation.worse) for relation in self.relations)

    @property
    def dominates(self) -> Verdict:
        """Those of the `verdict` in which the better one is no larger, within `EQUAL_SIZE`."""
        return tuple((pair.better, pair.worse) for pair in self.relations if pair.dominates)

    @cached_property
    def contains(self) -> Verdict:
        """The pairs of formats of which the first allows every weight of the second: it is never worse.

        That is known by inclusion, without any interval and under either protocol, whether the first is
        provably better or not: it may be no better at all. Two that allow the same weights are both pairs.
        """
        return tuple(
            (first.format, second.format)
            for first, second in itertools.permutations(self.sides, 2)
            if allows_all_of(first, second)
        )

    @property
    def never_worse(self) -> Verdict:
        """Those pairs of `contains` that the `verdict` does not decide: the first is better or as good."""
        decided = {frozenset(pair) for pair in self.verdict}
        return tuple(pair for pair in self.contains if frozenset(pair) not in decided)

    @property
    def undominated(self) -> tuple[str, ...]:
        """The formats that no other one dominates, in their order."""
        worse = {loser for _, loser in self.dominates}
        return tuple(side.format for side in self.sides if side.format not in worse)


def labels(sides: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What to call sides of these tasks and formats: by tasks that tell them apart, else by formats."""
    tasks = [task for task, _ in sides]
    plain = "joint" not in tasks and len(set(tasks)) == len(tasks)
    return tuple(task if plain else form for task, form in sides)


def _brief(side: Side) -> str:
    """The interval and its labels in a few words."""
    from pvqbounds.results.decibels import sqnr_text

    labels = f"{side.status}, {side.proof}"
    sums = len({s.inputs for s in side.slices}) == 1  # chunks do not add up
    return f"{sqnr_text(*side.sqnr_interval, side.status == 'optimal')} ({labels})" if sums else f"({labels})"


def surely_better(first: tuple[float, float], second: tuple[float, float], second_kind: LowerKind) -> bool:
    """Whether what is reached in the first interval exceeds the certified best of the second one."""
    return second_kind == "certified" and first[0] > second[1]
