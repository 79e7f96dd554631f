"""What is to be done for one layer, checked before any work: formats, files, channels, methods, solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pvqbounds.errors import InputError, SolverError, shown
from pvqbounds.methods import asked_for, chosen, get
from pvqbounds.nn.compressed import CompressedSide, compressed_sides
from pvqbounds.nn.layer_options import LayerOptions
from pvqbounds.nn.layers import Layer
from pvqbounds.nn.sides import chosen_channels, given_scales, input_ranges, refuse_unfit, searches_scales
from pvqbounds.problems.formats import AskedScales, Format, asked_formats, checked_mask
from pvqbounds.problems.grids import checked_range_method
from pvqbounds.results.layer import labels
from pvqbounds.solving.choice import solver_for_side
from pvqbounds.solving.kinds import ALL_KINDS, PRUNING, Kind, kind_for
from pvqbounds.solving.options import SolveOptions

__all__ = ["LayerPlan", "plan_of_layer"]


@dataclass(frozen=True)
class LayerPlan:
    """What is to be done for a layer: a side for each format, then one for each compressed file."""

    own_forms: list[Format]
    stored: list[CompressedSide]
    names: tuple[str, ...]
    """What the sides are called while they are worked on."""
    channels: list[int]
    ranges: list[tuple[int, int]]
    """The inputs of each chunk; all of them under the full protocol."""
    methods: list[list[str]]
    """Those that are listed for each side."""
    named_methods: Sequence[str] | None
    """Methods as they were given."""
    solve: dict[Kind, SolveOptions]
    scales: AskedScales
    search_scales: bool
    one_budget: bool
    """Whether the channels keep their density together."""
    mask: str

    @property
    def forms(self) -> list[Format]:
        """The format of each side."""
        return [*self.own_forms, *(side.form for side in self.stored)]

    @property
    def problems_each(self) -> int:
        """Problems of a side."""
        return len(self.channels) * len(self.ranges)

    def solve_options(self, form: Format) -> SolveOptions:
        """How the problems of a format are solved."""
        return self.solve[_kind(form)]


def plan_of_layer(target: Layer, given: LayerOptions, solve: SolveOptions) -> LayerPlan:
    """Check what is asked of a layer.

    Raises
    ------
    InputError
        If an option cannot be used, alone or beside another.
    SolverError
        If the solver is absent or cannot do what is asked.
    """
    own_forms = _own_forms(given)
    for form in own_forms:
        refuse_unfit(form, target)
    stored = compressed_sides(given.compressed, target, [form.name for form in own_forms], given.error_log)
    forms = [*own_forms, *(side.form for side in stored)]
    titles = _titles(own_forms, stored)
    ranges = input_ranges(target, given.opt_dim, forms)
    channels, mask = chosen_channels(given.out_channels, target.channels), checked_mask(given.mask_cost)
    _check_budget(given.budget, ranges, forms, solve)
    _check_one_scale(forms, ranges)
    largest = max(stop - start for start, stop in ranges)
    return LayerPlan(
        own_forms=own_forms,
        stored=list(stored),
        names=titles if stored else tuple(labels([(form.task, form.name) for form in forms])),
        channels=channels,
        ranges=ranges,
        methods=[_methods(form, forms, given.methods, largest) for form in forms],
        named_methods=given.methods,
        solve=_options(forms, solve, largest, given.budget),
        scales=_asked_scales(forms, given, target),
        search_scales=given.search_scales,
        one_budget=given.budget == "layer",
        mask=mask,
    )


def _own_forms(given: LayerOptions) -> list[Format]:
    """The formats that are asked for; beside compressed weights there need not be one."""
    short = given.formats, given.bits, given.density, given.pattern
    if given.compressed is not None and all(asked is None for asked in short):
        forms = []
    else:
        forms = asked_formats(*short)
    if given.any_scale:
        forms = _at_any_scale(forms)
    if given.search_scales and not any(map(searches_scales, forms)):
        raise InputError(
            "No format of these has scales of groups to search for, as int4:g128 and nvfp4 have; leave out "
            "search_scales."
        )
    return forms


def _at_any_scale(forms: Sequence[Format]) -> list[Format]:
    """The formats with free scales, where they have one for the layer or for each channel."""
    free = [form.at_any_scale() for form in forms]
    if not any(form.any_scale for form in free):
        raise InputError(
            "No format of these has one scale for a channel or the layer that could be any, as int4 has; "
            "leave out any_scale."
        )
    names = [form.name for form in free]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Of the formats that are {name} with any scale, give one.")
    return free


def _titles(forms: Sequence[Format], stored: Sequence[CompressedSide]) -> tuple[str, ...]:
    """What each side is called; two of one name are refused before any work."""
    titles = tuple(form.name for form in forms) + tuple(side.name for side in stored)
    for side in stored:
        if titles.count(side.name) > 1:
            raise InputError(f"Compressed weights are called {side.name} as another side is; rename them.")
    if not titles:
        raise InputError("Name at least one format, such as int4, or a file of compressed weights.")
    return titles


def _check_budget(
    budget: str, ranges: Sequence[tuple[int, int]], forms: Sequence[Format], asked: SolveOptions
) -> None:
    if budget not in ("channel", "layer"):
        raise InputError(f"The budget is one of channel, layer, not {shown(budget)}.")
    if budget == "channel":
        return
    for form in forms:
        if form.support is not None and form.layer_budget(1) is None:
            raise InputError(
                f"{form.name} has a budget of its own for each channel, as every N:M pattern and joint "
                "format has; leave out budget = layer."
            )
    if not any(form.support is not None for form in forms):
        raise InputError("A budget over the layer is that of a density; give one, such as 25%.")
    if len(ranges) > 1:
        raise InputError("A budget over the layer needs the full protocol; leave out opt_dim.")
    if asked.method == "exact":
        raise InputError("A budget over the layer is bounded by its relaxation; leave out method = exact.")
    if asked.tolerance is not None:
        raise InputError("The bound of a budget over the layer takes no tolerance; leave it out.")


def _check_one_scale(forms: Sequence[Format], ranges: Sequence[tuple[int, int]]) -> None:
    for form in forms:
        if form.one_scale and (len(ranges) > 1 or form.support is not None):
            raise InputError(
                f"{form.name} has one scale for the whole layer and all of its weights; leave out opt_dim, "
                "and any pattern or density of it."
            )


def _kind(form: Format) -> Kind:
    """How the problems of a format are solved."""
    return kind_for(form.task, form.has_steps, form.any_scale)


def _options(
    forms: Sequence[Format], asked: SolveOptions, largest: int, budget: str
) -> dict[Kind, SolveOptions]:
    """What is asked of each kind of problem; a solver that cannot be used is found before any work."""
    kinds = list(dict.fromkeys(map(_kind, forms)))
    name = asked.relaxation
    if name is not None and not any(kind.knows(name) for kind in kinds):
        meant = [kind.called for kind in ALL_KINDS if kind.knows(name)]
        if meant:
            raise InputError(
                f"The relaxation {shown(name)} is for {' or '.join(meant)}, which no format asks for."
            )
        kinds[0].checked_relaxation(name, asked.native)
    solvers = {
        kind: solver_for_side(
            asked.solver, asked.method, kind, largest, asked.solver_options, asked.time_limit
        )
        for kind in kinds
    }
    if asked.solver not in solvers.values():
        raise SolverError(
            f"{asked.solver} cannot do {' or '.join(kind.called for kind in kinds)}; leave it out, or add a "
            "format that it can do."
        )
    if budget == "layer" and not replace(asked, solver=solvers[PRUNING], solver_options=None).native:
        raise InputError(
            "A budget over the layer is bounded by the native solver alone; leave out "
            f"solver = {asked.solver}."
        )
    return {
        kind: replace(
            asked,
            solver=solver,
            relaxation=name if name is not None and kind.knows(name) else None,
            solver_options=asked.solver_options if solver == asked.solver else None,
        )
        for kind, solver in solvers.items()
    }


def _methods(form: Format, forms: Sequence[Format], methods: Sequence[str] | None, largest: int) -> list[str]:
    """The methods that are listed for a format; one that is named is for the task of some format."""
    listed = chosen(methods, form.task, largest)
    for name in asked_for(methods):
        tasks = get(name).tasks
        if not any(other.task in tasks for other in forms):
            raise InputError(f"The method {name} is for {' or '.join(tasks)}, which no format asks for.")
    return listed


def _asked_scales(forms: Sequence[Format], given: LayerOptions, target: Layer) -> AskedScales:
    """How the scales of plain grids are found."""
    scales = None if given.scales is None else given_scales(given.scales, target.channels)
    if not any(form.takes_scales for form in forms) and (scales or given.per_channel):
        raise InputError(
            "No format of these has scales that options may say, as int4 has; leave out scales and "
            "per_channel."
        )
    return AskedScales(checked_range_method(given.range_method), given.per_channel, scales)
