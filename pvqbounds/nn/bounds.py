"""Bounds for one layer of a model, in any number of formats side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Unpack

from numpy.typing import NDArray
from torch import nn

from pvqbounds.arithmetic.enclosures import up
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError
from pvqbounds.methods import asked_for, notes, proposals, proposing
from pvqbounds.methods.magnitude import shared_by_magnitude
from pvqbounds.nn.asked import LayerAsked, LayerOptions, asked_of_layer
from pvqbounds.nn.compressed import CompressedFiles, notes_of
from pvqbounds.nn.gram_files import GivenGrams, given_grams
from pvqbounds.nn.grams import Data, LayerGrams, gram_of_layer
from pvqbounds.nn.layers import Layer, find_layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.nn.progress import LayerProgress, SharedTime, Watched
from pvqbounds.nn.sides import (
    note_of,
    problems_of,
    results_of,
    searches_scales,
    slices_of,
    with_searched_scales,
)
from pvqbounds.problems import AnyScaleLeastSquares, Gram, Problem, SparseLeastSquares, all_of
from pvqbounds.problems.chunks import Slice
from pvqbounds.problems.formats import Format
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.closing import Closing
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.results.held_out import HeldOut, held_out_errors
from pvqbounds.results.layer import LayerReport, SharedBudget, SharedScale, Side, SliceResult
from pvqbounds.solvers.native.compiling import seconds_compiling
from pvqbounds.solving.candidates import at_least_methods, at_least_methods_together
from pvqbounds.solving.channels import solve_all
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.kinds import kind_of
from pvqbounds.solving.layer_budget import solve_together
from pvqbounds.solving.one_scale import bound_one_scale
from pvqbounds.solving.options import SolveKeywords, SolveOptions

__all__ = ["LayerProgress", "layer_bounds"]

SEARCHED = "The scales of {} are those found on the output error, not those of its own rule."
"""A note."""

INTERRUPTED = "Interrupted: the intervals are those that stood by then."

Points = Mapping[str, tuple[NDArray[Any], ...]]
"""Codes or weights of each problem of a side, by the name of what made them."""


def layer_bounds(
    model: nn.Module | LoadedModel,
    layer: str,
    data: Data | None = None,
    *,
    grams: GivenGrams | None = None,
    held_out: Data | GivenGrams | None = None,
    formats: Sequence[str] | None = None,
    bits: int | None = None,
    density: float | None = None,
    pattern: tuple[int, int] | None = None,
    compressed: CompressedFiles | None = None,
    error_log: str | Path | None = None,
    budget: str = "channel",
    mask_cost: str | None = None,
    opt_dim: int | None = None,
    out_channels: int | Sequence[int] | None = None,
    range_method: str = "mse",
    per_channel: bool = False,
    any_scale: bool = False,
    search_scales: bool = False,
    scales: float | Sequence[float] | None = None,
    methods: Sequence[str] | None = None,
    solver: str = "auto",
    method: str = "auto",
    relaxation: str | None = None,
    jobs: int = 1,
    batch_size: int = 64,
    device: str = "cpu",
    progress: LayerProgress | None = None,
    total_time: float | None = None,
    **options: Unpack[SolveKeywords],
) -> LayerReport:
    """How well one layer can be quantized and pruned at all, on the output error of its data.

    Parameters
    ----------
    model
        Any module, or what :func:`pvqbounds.nn.load_model` gives.
    layer
        Dotted name of a layer; :func:`pvqbounds.nn.layer_names` lists those that bounds exist for.
    data
        Calibration inputs of the model: a tensor, an array or a dictionary of them by the names of the
        model's inputs, or an iterable of batches (tensors, dictionaries, or tuples of one and its
        labels). Positions that a mask of theirs calls padded stay out. A loaded model's own data if None.
    grams
        The Gram of the layer's input, or one for each group, in place of data: an array XᵀX/N, what
        :func:`pvqbounds.nn.gram_of_layer` or `grams_of_layers` gave, or a file of it
        (:mod:`pvqbounds.nn.gram_files`). The model does not run then.
    held_out
        Other data, or their Grams (a LayerGrams, a Gram or a file): what was found is evaluated on them
        too, under the full protocol.
    formats
        Names of the formats that the layer is held to, each once, as :func:`pvqbounds.formats.parse`
        reads them: "int4", "int4:g128", "nf4", "25%" (a density), "2:4" (a pattern), "2:4+int4:g128".
        In place of `bits`, `density` and `pattern`, which are short for
        ``[f"int{bits}", density or pattern]``.
    bits
        Bits a weight of the symmetric uniform grid, 2 to 16; 4 if None.
    density
        Fraction of each channel's weights that pruning may keep, rounded down to a whole number
        of them; ``bits/16`` if None: the same size as `bits`, the mask not counted.
    pattern
        (N, M) in place of a density: at most N of every M consecutive input channels, at each
        position of a convolution's kernel by itself, as sparse tensor cores read them. Where M
        does not divide the input channels, the last group is shorter and may keep N too. A layer
        of which the pattern would remove nothing (a depthwise one has one input channel behind
        each output channel) is refused.
    compressed
        Somebody's compressed weights of the model: a file or folder, several of them, or a mapping from
        what to call them; as :mod:`pvqbounds.storage.checkpoints` reads them. Each is a side of the report:
        what is best possible on the values that the file allowed, and how far from it its weights are. If
        neither `formats` nor a short form is given there are no other sides. `formats` also say which grid a
        file of dequantized weights is held to where the weights do not show it.
    error_log
        A log of the losses that the quantizer claims (:mod:`pvqbounds.storage.checkpoints.claims`), to be
        compared with what its weights have; if None a ``quant_log.csv`` beside them, where there is one.
    budget
        "channel": each output channel keeps its `density`. "layer": all channels that are looked
        at keep it together, however they share it. That takes the full protocol, no pattern
        and no joint format, and is solved by the native relaxation, without a `tolerance`.
    mask_cost
        How sizes count the masks of what is pruned: "stored" (if None), "bitmap", "entropy" or "none", as
        :meth:`pvqbounds.formats.Format.bits_per_weight` has them. Only sizes depend on it.
    opt_dim
        None for the protocol "full": each channel is one problem. Else the paper's protocol
        "chunked": slices of at most `opt_dim` inputs, whole input channels of a convolution
        where they fit, and never a part of a group of scales or of a pattern. An `opt_dim` that
        holds all inputs is the full problem again.
    out_channels
        The first so many output channels, or these ones; all if None.
    range_method
        How the scale of a plain "int4" is found: "mse" (least squared weight error) or "minmax"
        (clips nothing). Other formats have a rule of their own in their name. Scales are found once
        from the whole layer, also where only some channels or chunks are looked at and under a
        support rule. Weights on inputs that are always zero in the data have no part in it.
    per_channel
        One scale of "int4" for each output channel in place of one for the layer.
    any_scale
        Free scales in place of found ones for "int4" and "int4:channel", as in "int4:any": one for each
        output channel, and bounds that hold whatever they are.
    search_scales
        Scales of groups ("int4:g128", "nvfp4", "mxfp4") that are searched for on the output error, near those
        of the format's own rule; bounds are then those at the scales found.
    scales
        Given scales of "int4" in place of found ones: one for the layer, or one for each of its
        channels.
    methods
        Names of the methods (:mod:`pvqbounds.methods`) that are evaluated beside the bounds, each on
        the sides that it proposes for, with options as in "gptq:act-order"; one that no format asks
        for is refused. "all" stands for every method of each side. If None those that cost little
        beside the bounds: what needs one factor of the Gram, and some more up to 100 inputs.
    solver
        As for :func:`pvqbounds.solve`. Where the backend can do only some of the formats, the native
        one does the others; each side says who solved it. A backend that can do none of the formats
        is refused.
    method
        As for :func:`pvqbounds.solve`.
    relaxation
        As for :func:`pvqbounds.solve`; it names one of some kinds of problems, and sides of others
        take their default.
    jobs
        Problems that are solved at a time.
    batch_size
        Samples a batch, where `data` is one tensor or array.
    device
        As for :func:`pvqbounds.solve_channels`.
    progress
        Called with (problems done, problems in all, what is being done: the side, and its interval so far).
    total_time
        Seconds for the sides of the layer together, in equal parts; what one leaves goes to the next ones.
        Within a side each problem gets a cheap interval first, as in :func:`pvqbounds.solve_channels`. The
        pass over the data comes before.
    **options
        As for :func:`pvqbounds.solve`; `time_limit` in seconds and `threads` for one problem,
        `solver_options` for `solver` itself, not for a native side beside it.

    Returns
    -------
    LayerReport

    Raises
    ------
    InputError
        If an option, the layer or the data cannot be used.
    SolverError
        If the solver is absent or cannot do what is asked.

    Notes
    -----
    The error is ``mean((x @ (v - w))**2)`` over the layer's output positions. The bias cancels in
    it, and the signal is the output without the bias.
    """
    started, compiling = time.perf_counter(), seconds_compiling()
    loaded = model if isinstance(model, LoadedModel) else LoadedModel(type(model).__name__, model, None)
    target = find_layer(loaded.module, layer)
    data, held_out = loaded.data if data is None else data, loaded.held_out if held_out is None else held_out
    if data is None and grams is None:
        raise InputError("The model comes without data; give calibration inputs for it, or a Gram.")
    solve = SolveOptions(solver, method, relaxation, **options)
    execution = Execution(jobs, device, total_time=total_time)
    asked = asked_of_layer(
        target,
        LayerOptions(
            formats, bits, density, pattern, compressed, error_log, budget, mask_cost, opt_dim,
            out_channels, range_method, per_channel, any_scale, search_scales, scales, methods,
        ),
        solve,
    )  # fmt: skip

    report = progress or (lambda done, total, label: None)
    report(0, len(asked.forms) * asked.problems_each, "layer inputs")
    if grams is not None:
        captured = given_grams(grams, target)
    else:
        assert data is not None
        captured = gram_of_layer(loaded.module, target, data, batch_size=batch_size)
    posed = _posed(asked, target, captured, solve)
    sides = _solved(asked, posed, target, execution, report)
    protocol: Literal["full", "chunked"] = "full" if len(asked.ranges) == 1 else "chunked"
    later = None
    if held_out is not None and protocol == "full":
        later = _held_out(sides, target, _grams_of(held_out, loaded.module, target, batch_size))
    interrupted = solve.cancelled is not None and solve.cancelled.is_set()
    told = [INTERRUPTED if interrupted else "", loaded.note, *_notes(asked, posed, target, captured)]
    return LayerReport(
        model=loaded.name,
        layer=layer,
        description=target.description,
        protocol=protocol,
        inputs=target.inputs,
        channels=(len(asked.channels), target.channels),
        positions=captured.positions,
        range_method=range_method if scales is None else "given",
        sides=tuple(sides),
        seconds=time.perf_counter() - started - (seconds_compiling() - compiling),
        notes=tuple(dict.fromkeys(filter(None, told))),
        held_out=later,
    )


class Posed(NamedTuple):
    """The problems of all sides."""

    slices: list[Slice]
    problems: list[list[Problem]]
    """Of each side."""
    starts: list[Points]
    """What the search for scales found, of each side."""
    given: list[Points]
    """The weights of files, of each side."""
    methods: list[list[str]]
    """The listed methods that propose for these problems, of each side."""


def _posed(asked: LayerAsked, target: Layer, captured: LayerGrams, solve: SolveOptions) -> Posed:
    """The problems of each side, with the scales that are searched for."""
    slices = list(slices_of(target, captured.grams, asked.channels, asked.ranges))
    forms = asked.own_forms
    problems = [problems_of(form, target, captured.grams, slices, asked.scales) for form in forms]
    starts: list[Points] = [{} for _ in asked.forms]
    if asked.search_scales:
        time_each = Clock(solve.time_limit * len(slices) * len(forms), solve.cancelled)
        for number, form in enumerate(forms):
            at = form, target, captured.grams, slices, problems[number]
            problems[number], codes = with_searched_scales(*at, time_each)
            starts[number] = {"searched": tuple(codes)} if codes else {}
    problems += [side.problems(slices) for side in asked.stored]
    given: list[Points] = [{} for _ in forms]
    given += [{AS_STORED: side.points(slices)} for side in asked.stored]
    fitting = [proposing(own, posed) for own, posed in zip(asked.methods, problems, strict=True)]
    _refuse_unused(asked.named_methods, fitting)
    return Posed(slices, problems, starts, given, fitting)


def _solved(
    asked: LayerAsked, posed: Posed, target: Layer, execution: Execution, report: LayerProgress
) -> list[Side]:
    """The sides, one after another."""
    sides, sharing = [], SharedTime(execution.total_time, len(asked.forms))
    total = len(asked.forms) * asked.problems_each
    for number, form in enumerate(asked.forms):
        # chunks do not add up
        alone = Closing(posed.problems[number]) if len(asked.ranges) == 1 else None
        told_of = Watched(report, number * len(posed.slices), total, asked.names[number], alone)
        told_of.done(0)
        watched = replace(execution, progress=told_of.done, found=told_of.found)
        found = _found(asked, posed, number, replace(watched, total_time=sharing.next()))
        bounds = at_least_methods(found.problems, found.bounds, posed.starts[number])
        results = results_of(posed.slices, found.problems, bounds)
        if number < len(asked.own_forms):
            sides.append(_side(form, results, found, (target.channels, target.inputs), asked.mask))
        else:
            file = asked.stored[number - len(asked.own_forms)]
            size = file.stored.bits_per_weight
            sides.append(Side(file.name, size, results, found.points, compressed=file.origin))
    return sides


def _notes(asked: LayerAsked, posed: Posed, target: Layer, captured: LayerGrams) -> list[str]:
    """What is to be known beside the numbers."""
    told = [*captured.notes, *(note_of(form, target) for form in asked.own_forms)]
    searched = filter(searches_scales, asked.own_forms) if asked.search_scales else ()
    told += [SEARCHED.format(form.name) for form in searched]
    told += [note for side in asked.stored for note in notes_of(side, target, captured.grams)]
    for own, problems in zip(posed.methods, posed.problems, strict=True):
        told += notes(own, problems)
    return told


def _grams_of(held_out: Data | GivenGrams, model: nn.Module, layer: Layer, batch_size: int) -> LayerGrams:
    """The Grams of data that are held out, from wherever they come."""
    if isinstance(held_out, LayerGrams | Gram | str | Path):
        return given_grams(held_out, layer)
    if isinstance(held_out, Mapping) and any(isinstance(value, LayerGrams) for value in held_out.values()):
        return given_grams(held_out, layer)
    data: Any = held_out
    return gram_of_layer(model, layer, data, batch_size=batch_size)


def _held_out(sides: Sequence[Side], layer: Layer, captured: LayerGrams) -> HeldOut:
    """Errors of all that was found, on other data."""
    channels = [result.channel for result in sides[0].slices]
    grams = [captured.grams[layer.group_of(channel)] for channel in channels]
    found = [held_out_errors(side, grams) for side in sides]
    return HeldOut(captured.positions, found[0][0], tuple(errors for _, errors in found))


def _refuse_unused(methods: Sequence[str] | None, fitting: Sequence[Sequence[str]]) -> None:
    """Refuse a method that is named, and proposes for problems of the task but not for these."""
    for name in asked_for(methods):
        if not any(name in names for names in fitting):
            raise InputError(
                f"The method {name} proposes nothing for these formats; leave it out, or add one like int4."
            )


# ------------------------------------------------------------------------- the bounds of a side


class Found(NamedTuple):
    """What was found for one side."""

    problems: Sequence[Problem]
    bounds: list[Bounds]
    points: Points
    """What each method proposes, by its name."""
    shared: SharedBudget | None = None
    one_scale: SharedScale | None = None


def _found(asked: LayerAsked, posed: Posed, number: int, execution: Execution) -> Found:
    """What is found for a side."""
    form, problems, methods = asked.forms[number], posed.problems[number], posed.methods[number]
    own = asked.solve_options(form), execution
    if form.one_scale:
        return _at_one_scale(problems, methods, *own)
    nnz = form.layer_budget(sum(p.n for p in problems)) if asked.one_budget else None
    if nnz is None:
        return _each_by_itself(problems, methods, *own, posed.given[number])
    return _under_one_budget(problems, nnz, methods, *own)


def _side(
    form: Format, results: tuple[SliceResult, ...], found: Found, shape: tuple[int, int], mask: str
) -> Side:
    """The side of a format, of a layer of this shape whose masks are counted so."""
    size = form.size(found.problems, shape, mask, one_budget=found.shared is not None)
    counted = None if form.support is None else mask
    side = Side(form.name, size, results, found.points, found.shared, mask_cost=counted)
    return replace(side, one_scale=found.one_scale)


def _each_by_itself(
    problems: Sequence[Problem],
    methods: Sequence[str],
    asked: SolveOptions,
    execution: Execution,
    given: Points,
) -> Found:
    """The bounds of problems, what is given of them, and what the methods make of them."""
    own = execution if kind_of(problems[0]).batched else replace(execution, device="cpu")
    bounds = solve_all(problems, asked, own)
    points = {**given, **proposals(methods, problems, asked.seed)}
    return Found(problems, at_least_methods(problems, bounds, points), points)


def _at_one_scale(
    problems: Sequence[Problem], methods: Sequence[str], asked: SolveOptions, execution: Execution
) -> Found:
    """The channels at the best scale found for all of them, and the bound for every scale."""
    free = all_of(AnyScaleLeastSquares, problems)
    if execution.total_time is not None:
        each = execution.total_time * execution.jobs / len(free)
        asked = replace(asked, time_limit=min(asked.time_limit, each))
    found = bound_one_scale(free, asked, Execution(execution.jobs, execution.device))
    execution.report(len(free))
    points = proposals(methods, found.problems, asked.seed)
    bounds = at_least_methods(found.problems, found.bounds, points)
    total = up(math.fsum(own.error_upper for own in bounds))
    if found.error_lower > total:
        weights = [own.weight for own in bounds]
        raise ContradictionError(free, found.certificate, weights, found.error_lower, total)
    shared = SharedScale(found.scale, found.error_lower, found.certificate)
    return Found(found.problems, bounds, points, one_scale=shared)


def _under_one_budget(
    problems: Sequence[Problem], nnz: int, methods: Sequence[str], asked: SolveOptions, execution: Execution
) -> Found:
    """The channels with what the layer's budget leaves each, their bounds, and what methods make of it."""
    sparse = all_of(SparseLeastSquares, problems)
    if execution.total_time is not None:
        each = execution.total_time * execution.jobs / len(sparse)
        asked = replace(asked, time_limit=min(asked.time_limit, each))
    allotted, bounds, error_lower = solve_together(sparse, nnz, asked, execution)
    spent = shared_by_magnitude(sparse, nnz)
    points = proposals(methods, spent, asked.seed)
    allotted, bounds = at_least_methods_together(allotted, bounds, error_lower, spent, points)
    return Found(allotted, bounds, points, SharedBudget(nnz, error_lower))
