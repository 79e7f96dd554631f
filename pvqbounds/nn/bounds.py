"""Bounds for one layer of a model, in any number of formats side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Unpack

from torch import nn

from pvqbounds.methods import notes
from pvqbounds.nn.compressed import notes_of
from pvqbounds.nn.contained import no_worse_than_contained
from pvqbounds.nn.gram_files import GivenGrams
from pvqbounds.nn.grams import Data, LayerGrams
from pvqbounds.nn.layer_inputs import LayerInputs
from pvqbounds.nn.layer_options import LayerKeywords, LayerOptions
from pvqbounds.nn.layer_plan import LayerPlan, plan_of_layer
from pvqbounds.nn.layers import Layer, find_layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.nn.posed import Posed, pose
from pvqbounds.nn.progress import LayerProgress, SharedTime, Watched
from pvqbounds.nn.side_bounds import bounded_side
from pvqbounds.nn.sides import note_of, searches_scales
from pvqbounds.results.closing import Closing
from pvqbounds.results.held_out import HeldOut, held_out_errors
from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.solvers.native.compiling import seconds_compiling
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.keywords import carried_by, refuse_unknown
from pvqbounds.solving.options import SolveOptions

__all__ = ["LayerProgress", "bound_layer", "layer_bounds"]

SEARCHED = "The scales of {} are those found on the output error, not those of its own rule."
"""A note."""

INTERRUPTED = "Interrupted: the intervals are those that stood by then."


def layer_bounds(
    model: nn.Module | LoadedModel,
    layer: str,
    data: Data | None = None,
    *,
    grams: GivenGrams | None = None,
    held_out: Data | GivenGrams | None = None,
    batch_size: int = 64,
    progress: LayerProgress | None = None,
    **options: Unpack[LayerKeywords],
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
    refuse_unknown("layer_bounds", options, LayerKeywords.__optional_keys__)
    loaded = model if isinstance(model, LoadedModel) else LoadedModel(type(model).__name__, model, None)
    return bound_layer(
        loaded,
        layer,
        LayerInputs(data, grams, held_out, batch_size),
        carried_by(LayerOptions, options),
        carried_by(SolveOptions, options),
        carried_by(Execution, options),
        progress,
    )


def bound_layer(
    loaded: LoadedModel,
    layer: str,
    inputs: LayerInputs,
    options: LayerOptions,
    solve: SolveOptions,
    execution: Execution,
    progress: LayerProgress | None = None,
) -> LayerReport:
    """What :func:`layer_bounds` gives, of objects that carry its keywords."""
    started, compiling = time.perf_counter(), seconds_compiling()
    target, inputs = find_layer(loaded.module, layer), inputs.beside(loaded)
    plan = plan_of_layer(target, options, solve)
    report = progress or (lambda done, total, label: None)
    report(0, len(plan.forms) * plan.problems_each, "layer inputs")
    captured = inputs.captured(loaded.module, target)
    posed = pose(plan, target, captured, solve)
    sides = _solved(plan, posed, target, execution, report)
    protocol: Literal["full", "chunked"] = "full" if len(plan.ranges) == 1 else "chunked"
    later = inputs.held_out_grams(loaded.module, target) if protocol == "full" else None
    interrupted = solve.cancelled is not None and solve.cancelled.is_set()
    told = [INTERRUPTED if interrupted else "", loaded.note, *_notes(plan, posed, target, captured)]
    return LayerReport(
        model=loaded.name,
        layer=layer,
        description=target.description,
        protocol=protocol,
        inputs=target.inputs,
        channels=(len(plan.channels), target.channels),
        positions=captured.positions,
        range_method=options.range_method if options.scales is None else "given",
        sides=tuple(sides),
        seconds=time.perf_counter() - started - (seconds_compiling() - compiling),
        notes=tuple(dict.fromkeys(filter(None, told))),
        held_out=None if later is None else _held_out(sides, target, later),
    )


def _solved(
    plan: LayerPlan, posed: Posed, target: Layer, execution: Execution, report: LayerProgress
) -> list[Side]:
    """The sides, one after another."""
    sides, sharing = [], SharedTime(execution.total_time, len(plan.forms))
    total = len(plan.forms) * plan.problems_each
    for number in range(len(plan.forms)):
        # chunks do not add up
        alone = Closing(posed.problems[number]) if len(plan.ranges) == 1 else None
        told_of = Watched(report, number * len(posed.slices), total, plan.names[number], alone)
        told_of.done(0)
        watched = replace(execution, progress=told_of.done, found=told_of.found, total_time=sharing.next())
        sides.append(bounded_side(plan, posed, number, (target.channels, target.inputs), watched))
    return no_worse_than_contained(sides)


def _notes(plan: LayerPlan, posed: Posed, target: Layer, captured: LayerGrams) -> list[str]:
    """What is to be known beside the numbers."""
    told = [*captured.notes, *(note_of(form, target) for form in plan.own_forms)]
    searched = filter(searches_scales, plan.own_forms) if plan.search_scales else ()
    told += [SEARCHED.format(form.name) for form in searched]
    told += [note for side in plan.stored for note in notes_of(side, target, captured.grams)]
    for own, problems in zip(posed.methods, posed.problems, strict=True):
        told += notes(own, problems)
    return told


def _held_out(sides: Sequence[Side], layer: Layer, captured: LayerGrams) -> HeldOut:
    """Errors of all that was found, on other data."""
    channels = [result.channel for result in sides[0].slices]
    grams = [captured.grams[layer.group_of(channel)] for channel in channels]
    found = [held_out_errors(side, grams) for side in sides]
    return HeldOut(captured.positions, found[0][0], tuple(errors for _, errors in found))
