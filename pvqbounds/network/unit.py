"""One unit: a layer in one format, or as one file of compressed weights has it, from data to a report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pvqbounds.methods import chosen, proposals, proposing
from pvqbounds.network.settings import NetworkSettings
from pvqbounds.nn.bounds import bound_layer
from pvqbounds.nn.carried import CarriedLayer, model_of
from pvqbounds.nn.compressed import FileInFormats, compressed_sides
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layer_inputs import LayerInputs
from pvqbounds.nn.layer_options import LayerOptions
from pvqbounds.nn.layers import Layer, find_layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.nn.sides import problems_of, slices_of
from pvqbounds.problems import Problem
from pvqbounds.problems.formats import AskedScales, Format, parse
from pvqbounds.results.layer import LayerReport
from pvqbounds.solving.candidates import at_least_methods
from pvqbounds.solving.choice import solver_for_side
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.kinds import kind_for
from pvqbounds.solving.options import SolveOptions

__all__ = ["Unit", "UnitBounds", "seed_of", "solve_whole"]

Told = Callable[[int, int, str], None]

CANDIDATES = ("gptq", "gptq:act-order")
"""Methods that no channel's best weights are worse than, whether they are listed or not: one factor of a
Gram, and O(n²) a channel. None prunes: where SparseGPT betters few cheap ends of pruned channels, a small
sample may see none of them, and its intervals held the truth 86 times of 100."""


@dataclass(frozen=True, eq=False)
class Unit:
    """What a process needs to bound one layer in one format, but for the Grams."""

    model: str
    note: str
    """What a reader must know about the model."""
    layer: CarriedLayer
    side: str
    """Name of the format, or what the compressed weights are called."""
    compressed: str | None
    """File or folder of the compressed weights; None for a format."""
    file_formats: tuple[str, ...]
    """Formats that the weights of the file may be in, where these are dequantized."""
    settings: NetworkSettings
    total_time: float | None = None
    """Seconds for all of its channels; None where each has its own limit alone."""
    again: tuple[int, ...] = ()
    """Channels that are solved once more, for a unit that stands; empty for one that does not."""

    @property
    def key(self) -> tuple[str, str]:
        """Names of its layer and its side."""
        return self.layer.name, self.side

    @property
    def files(self) -> dict[str, FileInFormats] | None:
        """The file with what it is called and may be in; None for a format."""
        if self.compressed is None:
            return None
        return {self.side: FileInFormats(self.compressed, self.file_formats)}

    @property
    def cost(self) -> float:
        """How long it may take beside others: a product with the Gram for each input of each channel."""
        channels, inputs = self.shape
        return float(channels) * float(inputs) ** 2

    @property
    def shape(self) -> tuple[int, int]:
        """Channels, and the inputs of one."""
        order, weight = self.layer.order, self.layer.weight
        if order is not None:
            return order.shape[0], order.shape[1]
        return weight.shape[0], weight.size // weight.shape[0]


def seed_of(seed: int, *names: str) -> int:
    """A seed for one part of the work: the same whatever else is done, and in whatever order."""
    text = "\n".join([str(seed), *names]).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


class UnitBounds:
    """A unit with its data: bounds of its channels, as often as they are asked for.

    Parameters
    ----------
    unit
        What is asked.
    grams
        Those of the layer.
    told
        Called with the problems done, their number, and what is being done.
    """

    def __init__(self, unit: Unit, grams: LayerGrams, told: Told | None = None) -> None:
        self.unit, self.grams, self._told = unit, grams, told
        self._model = LoadedModel(unit.model, model_of(unit.layer), None, unit.note)
        self.layer: Layer = find_layer(self._model.module, unit.layer.name)
        self.form, self._probe = self._formed()

    def _formed(self) -> tuple[Format, list[Problem]]:
        """The format, and one problem of it."""
        slices = list(slices_of(self.layer, self.grams.grams, [0], [(0, self.layer.inputs)]))
        if self.unit.compressed is None:
            form = parse(self.unit.side)
            return form, problems_of(form, self.layer, self.grams.grams, slices, AskedScales())
        side = compressed_sides(self.unit.files, self.layer)[0]
        return side.form, side.problems(slices)

    def report(
        self,
        channels: list[int] | None = None,
        *,
        total_time: float | None = None,
        methods: bool = True,
        **changes: Any,
    ) -> LayerReport:
        """Bounds of some channels, or all.

        Parameters
        ----------
        channels
            Their numbers; all if None.
        total_time
            Seconds for all of them.
        methods
            Whether methods are evaluated, too, and are candidates for the upper ends.
        **changes
            Fields of :class:`~pvqbounds.solving.options.SolveOptions` that are others here.
        """
        unit, settings = self.unit, self.unit.settings
        options = LayerOptions(
            formats=[unit.side] if unit.files is None else None,
            compressed=unit.files,
            out_channels=channels,
            mask_cost=settings.mask_cost,
            range_method=settings.range_method,
            per_channel=settings.per_channel and self.form.takes_scales,
            methods=self._methods() if methods else [],
        )
        solve, inputs = self._solve(replace(settings.solve, **changes)), LayerInputs(grams=self.grams)
        execution = Execution(total_time=total_time)
        found = bound_layer(self._model, unit.layer.name, inputs, options, solve, execution, self._told)
        return self._with_candidates(found) if methods else found

    def _solve(self, asked: SolveOptions) -> SolveOptions:
        """What of it is for problems of this format."""
        kind = kind_for(self.form.task, self.form.has_steps, self.form.any_scale)
        solver = solver_for_side(
            asked.solver, asked.method, kind, self.layer.inputs, asked.solver_options, asked.time_limit
        )
        relaxation = asked.relaxation
        return replace(
            asked,
            solver=solver,
            relaxation=relaxation if relaxation is not None and kind.knows(relaxation) else None,
            solver_options=asked.solver_options if solver == asked.solver else None,
            seed=seed_of(asked.seed, *self.unit.key),
        )

    def _with_candidates(self, report: LayerReport) -> LayerReport:
        """The report, no channel worse than :data:`CANDIDATES` make it."""
        side = report.sides[0]
        problems, bounds = [s.problem for s in side.slices], [s.bounds for s in side.slices]
        names = [name for name in proposing(CANDIDATES, problems) if name not in side.methods]
        better = at_least_methods(problems, bounds, proposals(names, problems, self.unit.settings.solve.seed))
        mixed = () if side.compressed is None else side.compressed.mixed  # methods may mix their steps
        slices = tuple(
            s if s.channel in mixed else replace(s, bounds=own)
            for s, own in zip(side.slices, better, strict=True)
        )
        return replace(report, sides=(replace(side, slices=slices),))

    def _methods(self) -> list[str] | None:
        """Those of the methods asked for that propose for this format."""
        methods = self.unit.settings.methods
        if methods is None:
            return None
        return proposing(chosen(methods, self.form.task, self.layer.inputs), self._probe)


def solve_whole(bounded: UnitBounds) -> LayerReport:
    """Every channel of a unit as it was asked."""
    return bounded.report(total_time=bounded.unit.total_time)
