"""From a layer and the names of formats to the problems of each side, all about the same slices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.nn.layers import Layer
from pvqbounds.problems import Gram, LeastSquares, Problem
from pvqbounds.problems.chunks import Slice, chunk_ranges
from pvqbounds.problems.formats import AskedScales, Format
from pvqbounds.problems.validation import whole_number
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.layer import SliceResult
from pvqbounds.solving.block_scales import searched_blocks

__all__ = [
    "chosen_channels",
    "given_scales",
    "input_ranges",
    "note_of",
    "problems_of",
    "refuse_unfit",
    "results_of",
    "searches_scales",
    "slices_of",
    "with_searched_scales",
]


# ------------------------------------------------------------------------- what is asked for


def chosen_channels(chosen: int | Sequence[int] | None, channels: int) -> list[int]:
    """The output channels that are looked at: the first so many, those that are listed, or all."""
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


def given_scales(scales: float | Sequence[float], channels: int) -> list[float]:
    """A scale for each output channel.

    Raises
    ------
    InputError
        If they are not positive, or not one or as many as the channels.
    """
    try:
        given = np.asarray(scales, dtype=np.float64)
    except (TypeError, ValueError):  # words, or rows of different lengths
        given = np.full((), np.nan)
    shapes = ((), (1,), (channels,), (channels, 1))
    if given.shape not in shapes or not ((given > 0.0) & (given < math.inf)).all():
        raise InputError(f"The scales must be one positive number, or {channels}: one for each channel.")
    listed: list[float] = given.ravel().tolist()
    return listed * channels if len(listed) == 1 else listed


# ------------------------------------------------------------------------- the slices


def input_ranges(layer: Layer, opt_dim: int | None, forms: Sequence[Format]) -> list[tuple[int, int]]:
    """Slices of the fan-in, one problem each; groups of scales and of N:M patterns are never cut.

    Raises
    ------
    InputError
        If `opt_dim` cannot be, or holds no whole group of each format.
    """
    if opt_dim is None:
        return [(0, layer.inputs)]
    plain = chunk_ranges(layer.inputs, opt_dim, layer.block)
    together = math.lcm(*(form.together(layer.inputs, layer.block) for form in forms))
    if together == 1 or len(plain) == 1:
        return plain
    if together > opt_dim:
        names = [form.name for form in forms if form.together(layer.inputs, layer.block) > 1]
        raise InputError(
            f"opt_dim = {opt_dim} cannot hold a group of {together} inputs, which {' and '.join(names)} "
            f"keep{'s' * (len(names) == 1)} together; take {together} or more."
        )
    # whole input channels of a convolution too, where they fit
    blocks = math.lcm(together, layer.block)
    return chunk_ranges(layer.inputs, opt_dim, blocks if blocks <= opt_dim else together)


def slices_of(
    layer: Layer,
    grams: Sequence[Gram],
    channels: Sequence[int],
    ranges: Sequence[tuple[int, int]],
) -> Iterator[Slice]:
    """Every problem's data; slices of one group and range share one Gram."""
    weight = layer.weight
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
            yield Slice(channel, (start, stop), gram, weight[channel, start:stop])


def results_of(
    slices: Sequence[Slice], problems: Sequence[Problem], bounds: Sequence[Bounds]
) -> tuple[SliceResult, ...]:
    """The slices with their problems and what was found."""
    return tuple(
        SliceResult(s.channel, s.inputs, problem, found)
        for s, problem, found in zip(slices, problems, bounds, strict=True)
    )


# ------------------------------------------------------------------------- the problems of a format


def refuse_unfit(form: Format, layer: Layer) -> None:
    """Find out before any work whether a format means something for a layer.

    Raises
    ------
    InputError
        If a pattern would remove none of its weights.
    """
    if form.support is not None and form.support.removes_nothing(layer.input_channels):
        few = f"{layer.input_channels} input channel{'s' * (layer.input_channels > 1)}"
        raise InputError(
            f"Layer '{layer.name}' has {few} behind each output channel, of which a pattern "
            f"{form.support.name} along the input channels removes none; give a density for it."
        )


def note_of(form: Format, layer: Layer) -> str:
    """What a reader must know of a format on this layer; empty where there is nothing."""
    return "" if form.support is None else form.support.note(layer.input_channels)


def problems_of(
    form: Format, layer: Layer, grams: Sequence[Gram], slices: Sequence[Slice], asked: AskedScales
) -> list[Problem]:
    """The problems of one format, one for each slice; `grams` are those of the whole layer.

    Scales are found on the whole layer, from weights on inputs that are alive, whatever is looked at.
    """
    grids = form.grids(layer.weight, live_inputs(layer, grams), asked)
    return form.problems_of(slices, grids, layer.block)


def with_searched_scales(
    form: Format,
    layer: Layer,
    grams: Sequence[Gram],
    slices: Sequence[Slice],
    problems: Sequence[Problem],
    clock: Clock,
) -> tuple[list[Problem], list[NDArray[np.int64]]]:
    """The problems of a format at the best scales of groups that are found on the output error, and codes.

    Where a format has no scales of groups to choose, or a support rule, they stay as they are, without codes.
    """
    rule = form.values
    if rule is None or rule.group is None or not searches_scales(form):
        return list(problems), []
    others = form.alternatives(layer.weight, live_inputs(layer, grams))
    searched: list[Problem] = []
    codes: list[NDArray[np.int64]] = []
    for number, (piece, problem) in enumerate(zip(slices, problems, strict=True)):
        assert isinstance(problem, LeastSquares), "values are finite"
        own = [values.among(np.arange(*piece.inputs)) for values in others[piece.channel]]
        part = clock.part(1.0 / (len(slices) - number))
        found, start = searched_blocks(problem, own, rule.group, rule.pose, part)
        searched.append(found)
        codes.append(start)
    return searched, codes


def searches_scales(form: Format) -> bool:
    """Whether a format has scales of groups that may be searched for."""
    rule = form.values
    if rule is None or rule.group is None or form.support is not None:
        return False
    return bool(rule.alternatives(np.ones((1, 1)), np.ones((1, 1), dtype=np.bool_)))


def live_inputs(layer: Layer, grams: Sequence[Gram]) -> NDArray[np.bool_]:
    """Which inputs of each output channel are not always zero, shape (channels, inputs)."""
    alive = np.stack([np.diagonal(gram.matrix) > 0.0 for gram in grams])
    return np.asarray(alive[[layer.group_of(channel) for channel in range(layer.channels)]])
