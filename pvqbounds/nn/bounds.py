"""Bounds for one layer of a model: quantization and pruning side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pvqbounds.errors import InputError, shown
from pvqbounds.methods import chosen, proposals
from pvqbounds.methods.magnitude import shared_by_magnitude
from pvqbounds.nn.grams import Data, gram_of_layer
from pvqbounds.nn.layers import Layer, find_layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.problems import Gram, IntegerLeastSquares, Problem, SparseLeastSquares
from pvqbounds.problems.chunks import chunk_ranges
from pvqbounds.problems.grids import RangeMethod, checked_range_method, range_scale, symmetric_codes
from pvqbounds.problems.sparse import checked_pattern, nnz_of_density
from pvqbounds.problems.validation import whole_number
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.layer import LayerReport, SharedBudget, Side, SliceResult
from pvqbounds.solvers.native.compiling import seconds_compiling
from pvqbounds.solving.candidates import at_least_methods, at_least_methods_together
from pvqbounds.solving.channels import solve_channels
from pvqbounds.solving.layer_budget import solve_layer_budget
from pvqbounds.solving.one import PRUNING_RELAXATIONS, solver_for_side

__all__ = ["LayerProgress", "layer_bounds"]

LayerProgress = Callable[[int, int, str], None]
"""Called with the problems done, their number, and what is being done."""


@dataclass(frozen=True, eq=False)
class _Slice:
    """What one problem is about: a channel, or a chunk of its inputs."""

    channel: int
    inputs: tuple[int, int]
    gram: Gram
    weight: NDArray[np.float64]


def layer_bounds(
    model: nn.Module | LoadedModel,
    layer: str,
    data: Data | None = None,
    *,
    bits: int = 4,
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
    bits
        Bits a weight of the symmetric uniform grid, 2 to 16.
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
        the side that it proposes for; if None round to nearest, nearest plane, randomized rounding
        up to 100 inputs, and magnitude pruning without and with a re-fit.
    solver
        As for :func:`pvqbounds.solve`. Where the backend can do only one of quantization and
        pruning, the native one does the other; each side says who solved it.
    method, time_limit, threads, tolerance, verbose, seed
        As for :func:`pvqbounds.solve`; `time_limit` in seconds and `threads` for one problem.
    solver_options
        As for :func:`pvqbounds.solve`; for `solver` itself, not for a native side beside it.
    relaxation
        As for :func:`pvqbounds.solve`; it names one of quantization or of pruning, and the other
        side takes its default.
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
    qmin, qmax = symmetric_codes(bits)
    ranges = _input_ranges(target, opt_dim, pattern)
    budgets = {stop - start: _budget(stop - start, target, bits, density, pattern) for start, stop in ranges}
    channels = _chosen_channels(out_channels, target.channels)
    _check_budget(budget, ranges, pattern, method, tolerance)
    largest = max(stop - start for start, stop in ranges)
    solver_of = {  # an unusable solver is found before any work
        side: solver_for_side(solver, method, side, largest, solver_options, time_limit)
        for side in ("quantization", "pruning")
    }
    if budget == "layer" and solver_of["pruning"] not in ("auto", "native"):
        raise InputError(
            f"A budget over the layer is bounded by the native solver alone; leave out solver = {solver}."
        )
    listed = {
        "quantization": chosen(methods, "quantization", largest),
        "pruning": chosen(methods, "pruning", largest),
    }
    weight = target.weight
    given = None if scales is None else _given_scales(scales, target.channels)
    checked_range_method(range_method)

    total = 2 * len(channels) * len(ranges)
    report = progress or (lambda done, total, label: None)
    report(0, total, "layer inputs")
    captured = gram_of_layer(loaded.module, target, data, batch_size=batch_size)
    steps = given or _scales(target, captured.grams, range_method, per_channel, qmin, qmax)
    slices = list(_slices(target, weight, captured.grams, channels, ranges))

    def solve(problems: Sequence[Problem], label: str, before: int) -> list[Bounds]:
        report(before, total, label)
        for_pruning = relaxation in PRUNING_RELAXATIONS
        return solve_channels(
            problems,
            solver=solver_of[label],
            method=method,
            relaxation=relaxation if for_pruning == (label == "pruning") else None,
            time_limit=time_limit,
            threads=threads,
            tolerance=tolerance,
            seed=seed,
            verbose=verbose,
            solver_options=solver_options if solver_of[label] == solver else None,
            jobs=jobs,
            device=device if label == "quantization" else "cpu",
            progress=lambda done: report(before + done, total, label),
        )

    integer = [IntegerLeastSquares(s.gram, s.weight, steps[s.channel], qmin, qmax) for s in slices]
    sparse = [SparseLeastSquares(s.gram, s.weight, **budgets[len(s.weight)]) for s in slices]
    quantized = solve(integer, "quantization", 0)
    quantization_methods = proposals(listed["quantization"], integer, seed)
    quantized = at_least_methods(integer, quantized, quantization_methods)
    shared: SharedBudget | None = None
    if budget == "layer":
        report(len(slices), total, "pruning")
        nnz = nnz_of_density(_density(bits, density, None), sum(p.n for p in sparse))
        sparse, pruned, error_lower = solve_layer_budget(
            sparse,
            nnz,
            time_limit=time_limit,
            threads=threads,
            jobs=jobs,
            progress=lambda done: report(len(slices) + done, total, "pruning"),
        )
        shared = SharedBudget(nnz, error_lower)
        spent = shared_by_magnitude(sparse, nnz)
        pruning_methods = proposals(listed["pruning"], spent, seed)
        sparse, pruned = at_least_methods_together(sparse, pruned, error_lower, spent, pruning_methods)
    else:
        pruned = solve(sparse, "pruning", len(slices))
        pruning_methods = proposals(listed["pruning"], sparse, seed)
        pruned = at_least_methods(sparse, pruned, pruning_methods)
    return LayerReport(
        model=loaded.name,
        layer=layer,
        description=target.description,
        protocol="full" if len(ranges) == 1 else "chunked",
        inputs=target.inputs,
        channels=(len(channels), target.channels),
        positions=captured.positions,
        range_method=range_method if scales is None else "given",
        quantization=Side(
            "quantization",
            bits=int(bits),
            density=None,
            slices=_results(slices, integer, quantized),
            methods=quantization_methods,
        ),
        pruning=Side(
            "pruning",
            bits=None,
            density=_density(bits, density, pattern),
            slices=_results(slices, sparse, pruned),
            methods=pruning_methods,
            shared=shared,
        ),
        seconds=time.perf_counter() - started - (seconds_compiling() - compiling),
        notes=tuple(filter(None, (loaded.note, *captured.notes, _pattern_note(target, pattern)))),
    )


def _check_budget(
    budget: str,
    ranges: Sequence[tuple[int, int]],
    pattern: tuple[int, int] | None,
    method: str,
    tolerance: float | None,
) -> None:
    if budget not in ("channel", "layer"):
        raise InputError(f"The budget is one of channel, layer, not {shown(budget)}.")
    if budget == "channel":
        return
    if pattern is not None:
        raise InputError("An N:M pattern is a budget of its own; leave out budget = layer.")
    if len(ranges) > 1:
        raise InputError("A budget over the layer needs the full protocol; leave out opt_dim.")
    if method == "exact":
        raise InputError("A budget over the layer is bounded by its relaxation; leave out method = exact.")
    if tolerance is not None:
        raise InputError("The bound of a budget over the layer takes no tolerance; leave it out.")


def _density(bits: int, density: float | None, pattern: tuple[int, int] | None) -> float:
    """Fraction of the weights that pruning may keep."""
    if pattern is not None:
        kept, size = checked_pattern(pattern)
        return kept / size
    return bits / 16 if density is None else float(density)


def _budget(
    inputs: int, layer: Layer, bits: int, density: float | None, pattern: tuple[int, int] | None
) -> dict[str, Any]:
    """Give the pruning budget of so many inputs, as SparseLeastSquares takes it."""
    if pattern is None:
        return {"nnz": nnz_of_density(_density(bits, density, None), inputs)}
    if density is not None:
        raise InputError("Give either a density or an N:M pattern for pruning, not both.")
    kept, size = checked_pattern(pattern)
    if layer.input_channels <= kept and layer.input_channels < size:
        few = f"{layer.input_channels} input channel{'s' * (layer.input_channels > 1)}"
        raise InputError(
            f"Layer '{layer.name}' has {few} behind each output channel, of which a pattern {kept}:{size} "
            "along the input channels removes none; give a density for it."
        )
    return {"pattern": (kept, size), "stride": layer.block}


def _pattern_note(layer: Layer, pattern: tuple[int, int] | None) -> str:
    """Say where the last group of a pattern is shorter."""
    if pattern is None or not layer.input_channels % pattern[1]:
        return ""
    short = layer.input_channels % pattern[1]
    return (
        f"The last group of {pattern[1]} input channels has only {short}, and may keep "
        f"{min(short, pattern[0])} of them."
    )


def _input_ranges(
    layer: Layer, opt_dim: int | None, pattern: tuple[int, int] | None
) -> list[tuple[int, int]]:
    """Slices of the fan-in, one problem each; N:M groups are never cut."""
    if opt_dim is None or (pattern is not None and opt_dim >= layer.inputs):
        return [(0, layer.inputs)]
    if pattern is None:
        return chunk_ranges(layer.inputs, opt_dim, layer.block)
    _, group = checked_pattern(pattern)
    together = group * layer.block  # so many whole input channels
    if together > opt_dim:
        what = f"{group} weights" if layer.block == 1 else f"{group} input channels of {layer.block} weights"
        raise InputError(f"opt_dim = {opt_dim} cannot hold a group of {what}; take {together} or more.")
    return chunk_ranges(layer.inputs, opt_dim, together)


def _chosen_channels(chosen: int | Sequence[int] | None, channels: int) -> list[int]:
    if chosen is None:
        return list(range(channels))
    if not isinstance(chosen, Sequence):
        return list(range(whole_number(chosen, "The number of output channels", 1, channels)))
    listed = [whole_number(channel, "An output channel", 0, channels - 1) for channel in chosen]
    if not listed or len(set(listed)) != len(listed) or min(listed) < 0 or max(listed) >= channels:
        raise InputError(
            f"The output channels must be different numbers from 0 to {channels - 1}, not {listed}."
        )
    return listed


def _scales(
    layer: Layer,
    grams: Sequence[Gram],
    range_method: RangeMethod,
    per_channel: bool,
    qmin: int,
    qmax: int,
) -> list[float]:
    """Find the scale of each output channel on the whole layer, from weights on inputs that are alive."""
    alive = [np.diagonal(gram.matrix) > 0.0 for gram in grams]
    rows = [row[alive[layer.group_of(channel)]] for channel, row in enumerate(layer.weight)]
    parts = rows if per_channel else [np.concatenate(rows)]
    # where every input is dead each scale is as good: the error is zero
    found = [range_scale(range_method, part, qmin, qmax) if len(part) else 1.0 for part in parts]
    return found if per_channel else found * layer.channels


def _given_scales(scales: float | Sequence[float], channels: int) -> list[float]:
    """A scale for each output channel."""
    listed = [float(scale) for scale in np.ravel(scales)]
    shapes = ((), (1,), (channels,), (channels, 1))
    if np.shape(scales) not in shapes or not all(0.0 < scale < math.inf for scale in listed):
        raise InputError(f"The scales must be one positive number, or {channels}: one for each channel.")
    return listed * channels if len(listed) == 1 else listed


def _slices(
    layer: Layer,
    weight: NDArray[np.float64],
    grams: Sequence[Gram],
    channels: Sequence[int],
    ranges: Sequence[tuple[int, int]],
) -> Iterator[_Slice]:
    """Every problem's data; slices of one group and range share one Gram."""
    parts = {
        (group, (start, stop)): grams[group]
        if stop - start == layer.inputs
        else Gram(grams[group].matrix[start:stop, start:stop])
        for group in sorted({layer.group_of(channel) for channel in channels})
        for start, stop in ranges
    }
    for channel in channels:
        for start, stop in ranges:
            gram = parts[layer.group_of(channel), (start, stop)]
            yield _Slice(channel, (start, stop), gram, weight[channel, start:stop])


def _results(
    slices: Sequence[_Slice], problems: Sequence[Problem], bounds: Sequence[Bounds]
) -> tuple[SliceResult, ...]:
    return tuple(
        SliceResult(s.channel, s.inputs, problem, found)
        for s, problem, found in zip(slices, problems, bounds, strict=True)
    )
