"""Bounds for one layer of a model, in any number of formats side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from numpy.typing import NDArray
from torch import nn

from pvqbounds.errors import InputError, SolverError, shown
from pvqbounds.methods import chosen, get, proposals
from pvqbounds.methods.magnitude import shared_by_magnitude
from pvqbounds.nn.grams import Data, gram_of_layer
from pvqbounds.nn.layers import find_layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.nn.sides import (
    ScaleRule,
    chosen_channels,
    given_scales,
    input_ranges,
    note_of,
    problems_of,
    refuse_unfit,
    results_of,
    slices_of,
)
from pvqbounds.problems import Problem, SparseLeastSquares
from pvqbounds.problems.grids import RangeMethod, checked_range_method
from pvqbounds.problems.plain_formats import Density, Pattern, PlainFormat, Task, Uniform, asked_formats
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.layer import LayerReport, SharedBudget, Side
from pvqbounds.solvers.native.compiling import seconds_compiling
from pvqbounds.solving.candidates import at_least_methods, at_least_methods_together
from pvqbounds.solving.channels import solve_channels
from pvqbounds.solving.choice import solver_for_side
from pvqbounds.solving.kinds import PRUNING, PRUNING_RELAXATIONS, STEPS, Kind
from pvqbounds.solving.layer_budget import solve_layer_budget

__all__ = ["LayerProgress", "layer_bounds"]

LayerProgress = Callable[[int, int, str], None]
"""Called with the problems done, their number, and what is being done."""


def layer_bounds(
    model: nn.Module | LoadedModel,
    layer: str,
    data: Data | None = None,
    *,
    formats: Sequence[str] | None = None,
    bits: int | None = None,
    density: float | None = None,
    pattern: tuple[int, int] | None = None,
    budget: Literal["channel", "layer"] = "channel",
    opt_dim: int | None = None,
    out_channels: int | Sequence[int] | None = None,
    range_method: RangeMethod = "mse",
    per_channel: bool = False,
    scales: float | Sequence[float] | None = None,
    methods: Sequence[str] | None = None,
    solver: str = "auto",
    method: str = "auto",
    relaxation: str | None = None,
    time_limit: float = 60.0,
    threads: int = 1,
    tolerance: float | None = None,
    verbose: bool = False,
    solver_options: Mapping[str, Any] | None = None,
    jobs: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "cpu",
    progress: LayerProgress | None = None,
) -> LayerReport:
    """How well one layer can be quantized and pruned at all, on the output error of its data.

    Parameters
    ----------
    model
        Any module, or what :func:`pvqbounds.nn.load_model` gives.
    layer
        Dotted name of a Linear, Conv1d, Conv2d or Conv3d layer.
    data
        Calibration inputs of the model: a tensor, an array or an iterable of batches (tensors,
        or tuples of one and its labels). A loaded model's own data if None.
    formats
        Names of the formats that the layer is held to, each once: "int4" (a symmetric uniform grid of
        2 to 16 bits), "25%" (a density), "2:4" (a pattern). In place of `bits`, `density` and
        `pattern`, which are short for ``[f"int{bits}", density or pattern]``.
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
    budget
        "channel": each output channel keeps its `density`. "layer": all channels that are looked
        at keep it together, however they share it. That takes the full protocol and no pattern,
        and is solved by the native relaxation, without a `tolerance`.
    opt_dim
        None for the protocol "full": each channel is one problem. Else the paper's protocol
        "chunked": slices of at most `opt_dim` inputs, whole input channels of a convolution
        where they fit. An `opt_dim` that holds all inputs is the full problem again.
    out_channels
        The first so many output channels, or these ones; all if None.
    range_method
        How the scale is found: "mse" (least squared weight error) or "minmax" (clips nothing).
        It is found once from the whole layer, also where only some channels or chunks are
        looked at. Weights on inputs that are always zero in the data have no part in it.
    per_channel
        One scale for each output channel in place of one for the layer.
    scales
        Given scales in place of found ones: one for the layer, or one for each of its channels.
    methods
        Names of the methods (:mod:`pvqbounds.methods`) that are evaluated beside the bounds, each on
        the sides that it proposes for; one that no format asks for is refused. If None round to
        nearest, nearest plane, randomized rounding up to 100 inputs, and magnitude pruning without
        and with a re-fit.
    solver
        As for :func:`pvqbounds.solve`. Where the backend can do only one of quantization and
        pruning, the native one does the other; each side says who solved it. A backend that can do
        none of the formats is refused.
    method, time_limit, threads, tolerance, verbose, seed
        As for :func:`pvqbounds.solve`; `time_limit` in seconds and `threads` for one problem.
    solver_options
        As for :func:`pvqbounds.solve`; for `solver` itself, not for a native side beside it.
    relaxation
        As for :func:`pvqbounds.solve`; it names one of quantization or of pruning, and sides of the
        other take their default.
    jobs
        Problems that are solved at a time.
    batch_size
        Samples a batch, where `data` is one tensor or array.
    device
        As for :func:`pvqbounds.solve_channels`.
    progress
        Called with (problems done, problems in all, what is being done).

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
    data = loaded.data if data is None else data
    if data is None:
        raise InputError("The model comes without data; give calibration inputs for it.")
    target = find_layer(loaded.module, layer)
    forms = asked_formats(formats, bits, density, pattern)
    for form in forms:
        refuse_unfit(form, target)
    ranges = input_ranges(target, opt_dim, [form for form in forms if isinstance(form, Pattern)])
    channels = chosen_channels(out_channels, target.channels)
    _check_budget(budget, ranges, forms, method, tolerance)
    largest = max(stop - start for start, stop in ranges)
    solver_of = _solvers(forms, solver, method, largest, solver_options, time_limit)
    if budget == "layer" and solver_of["pruning"] not in ("auto", "native"):
        raise InputError(
            f"A budget over the layer is bounded by the native solver alone; leave out solver = {solver}."
        )
    relaxation_of = _relaxations(forms, relaxation)
    listed = _methods(forms, methods, largest)
    checked_range_method(range_method)
    given = None if scales is None else given_scales(scales, target.channels)
    if not any(isinstance(form, Uniform) for form in forms) and (given or per_channel):
        raise InputError("No format of these has scales; leave out scales and per_channel.")

    total = len(forms) * len(channels) * len(ranges)
    report = progress or (lambda done, total, label: None)
    report(0, total, "layer inputs")
    captured = gram_of_layer(loaded.module, target, data, batch_size=batch_size)
    rule = ScaleRule(range_method, per_channel, given)
    slices = list(slices_of(target, captured.grams, channels, ranges))

    def solve(problems: Sequence[Problem], task: Task, done: Callable[[int], None]) -> list[Bounds]:
        return solve_channels(
            problems,
            solver=solver_of[task],
            method=method,
            relaxation=relaxation_of[task],
            time_limit=time_limit,
            threads=threads,
            tolerance=tolerance,
            seed=seed,
            verbose=verbose,
            solver_options=solver_options if solver_of[task] == solver else None,
            jobs=jobs,
            device=device if task == "quantization" else "cpu",
            progress=done,
        )

    tasks = [form.task for form in forms]
    sides = []
    for number, form in enumerate(forms):
        label = form.task if len(set(tasks)) == len(tasks) else form.name
        before = number * len(slices)

        def done(channels: int, before: int = before, label: str = label) -> None:
            report(before + channels, total, label)

        done(0)
        problems = problems_of(form, target, captured.grams, slices, rule)
        shared: SharedBudget | None = None
        if budget == "layer" and isinstance(form, Density):
            options = {"time_limit": time_limit, "threads": threads, "jobs": jobs, "progress": done}
            problems, bounds, shared, points = _under_one_budget(
                problems, form, listed[form.task], seed, **options
            )
        else:
            bounds = solve(problems, form.task, done)
            points = proposals(listed[form.task], problems, seed)
            bounds = at_least_methods(problems, bounds, points)
        size = form.bits_per_weight(problems, target.channels * target.inputs, target.inputs)
        sides.append(Side(form.name, size, results_of(slices, problems, bounds), points, shared))
    notes = (loaded.note, *captured.notes, *(note_of(form, target) for form in forms))
    return LayerReport(
        model=loaded.name,
        layer=layer,
        description=target.description,
        protocol="full" if len(ranges) == 1 else "chunked",
        inputs=target.inputs,
        channels=(len(channels), target.channels),
        positions=captured.positions,
        range_method=range_method if scales is None else "given",
        sides=tuple(sides),
        seconds=time.perf_counter() - started - (seconds_compiling() - compiling),
        notes=tuple(dict.fromkeys(filter(None, notes))),
    )


def _check_budget(
    budget: str,
    ranges: Sequence[tuple[int, int]],
    formats: Sequence[PlainFormat],
    method: str,
    tolerance: float | None,
) -> None:
    if budget not in ("channel", "layer"):
        raise InputError(f"The budget is one of channel, layer, not {shown(budget)}.")
    if budget == "channel":
        return
    if any(isinstance(form, Pattern) for form in formats):
        raise InputError("An N:M pattern is a budget of its own; leave out budget = layer.")
    if not any(isinstance(form, Density) for form in formats):
        raise InputError("A budget over the layer is that of a density; give one, such as 25%.")
    if len(ranges) > 1:
        raise InputError("A budget over the layer needs the full protocol; leave out opt_dim.")
    if method == "exact":
        raise InputError("A budget over the layer is bounded by its relaxation; leave out method = exact.")
    if tolerance is not None:
        raise InputError("The bound of a budget over the layer takes no tolerance; leave it out.")


KINDS: Mapping[Task, Kind] = {"quantization": STEPS, "pruning": PRUNING}


def _solvers(
    formats: Sequence[PlainFormat],
    solver: str,
    method: str,
    largest: int,
    solver_options: Mapping[str, Any] | None,
    time_limit: float,
) -> dict[Task, str]:
    """The solver for each task; one that cannot be used is found before any work."""
    solver_of = {
        task: solver_for_side(solver, method, KINDS[task], largest, solver_options, time_limit)
        for task in dict.fromkeys(form.task for form in formats)
    }
    if solver not in solver_of.values():
        raise SolverError(
            f"{solver} cannot do {' or '.join(solver_of)}; leave it out, or add a format that it can do."
        )
    return solver_of


def _relaxations(formats: Sequence[PlainFormat], relaxation: str | None) -> dict[Task, str | None]:
    """The relaxation of each task: the one that is named belongs to quantization or to pruning."""
    tasks = {form.task for form in formats}
    meant: Task = "pruning" if relaxation in PRUNING_RELAXATIONS else "quantization"
    if relaxation is not None and meant not in tasks:
        raise InputError(f"The relaxation {shown(relaxation)} is for {meant}, which no format asks for.")
    return {task: relaxation if task == meant else None for task in tasks}


def _methods(
    formats: Sequence[PlainFormat], methods: Sequence[str] | None, largest: int
) -> dict[Task, list[str]]:
    """The methods that are listed for each task; one that is named proposes for some format."""
    listed = {form.task: chosen(methods, form.task, largest) for form in formats}
    for name in methods or ():
        if get(name).kind not in listed:
            raise InputError(f"The method {name} is for {get(name).kind}, which no format asks for.")
    return listed


def _under_one_budget(
    problems: Sequence[Problem], form: Density, listed: Sequence[str], seed: int, **options: Any
) -> tuple[list[Problem], list[Bounds], SharedBudget, Mapping[str, tuple[NDArray[Any], ...]]]:
    """The channels with what the layer's budget leaves each, their bounds, and what methods make of it."""
    sparse = [problem for problem in problems if isinstance(problem, SparseLeastSquares)]
    nnz = nnz_of_density(form.density, sum(problem.n for problem in sparse))
    allotted, bounds, error_lower = solve_layer_budget(sparse, nnz, **options)
    spent = shared_by_magnitude(sparse, nnz)
    points = proposals(listed, spent, seed)
    allotted, bounds = at_least_methods_together(allotted, bounds, error_lower, spent, points)
    return list(allotted), bounds, SharedBudget(nnz, error_lower), points
