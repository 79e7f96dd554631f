"""From a layer and the names of formats to the problems of each side, all about the same slices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.nn.layers import Layer
from pvqbounds.problems import Gram, IntegerLeastSquares, Problem, SparseLeastSquares
from pvqbounds.problems.chunks import chunk_ranges
from pvqbounds.problems.grids import RangeMethod, range_scale, symmetric_codes
from pvqbounds.problems.plain_formats import Density, Pattern, PlainFormat, Uniform
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.problems.validation import whole_number
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.layer import SliceResult

__all__ = [
    "ScaleRule",
    "Slice",
    "chosen_channels",
    "given_scales",
    "input_ranges",
    "note_of",
    "problems_of",
    "refuse_unfit",
    "results_of",
    "slices_of",
]


@dataclass(frozen=True, eq=False)
class Slice:
    """What one problem is about: a channel, or a chunk of its inputs."""

    channel: int
    inputs: tuple[int, int]
    gram: Gram
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class ScaleRule:
    """How the scale of each output channel is found."""

    range_method: RangeMethod
    per_channel: bool
    given: Sequence[float] | None
    """One for each channel, in place of found ones."""


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
    listed = [float(scale) for scale in np.ravel(scales)]
    shapes = ((), (1,), (channels,), (channels, 1))
    if np.shape(scales) not in shapes or not all(0.0 < scale < math.inf for scale in listed):
        raise InputError(f"The scales must be one positive number, or {channels}: one for each channel.")
    return listed * channels if len(listed) == 1 else listed


# ------------------------------------------------------------------------- the slices


def input_ranges(layer: Layer, opt_dim: int | None, patterns: Sequence[Pattern]) -> list[tuple[int, int]]:
    """Slices of the fan-in, one problem each; the groups of N:M patterns are never cut.

    Raises
    ------
    InputError
        If `opt_dim` cannot be, or holds no whole group of each pattern.
    """
    if opt_dim is None or (patterns and opt_dim >= layer.inputs):
        return [(0, layer.inputs)]
    if not patterns:
        return chunk_ranges(layer.inputs, opt_dim, layer.block)
    group = math.lcm(*(pattern.size for pattern in patterns))
    together = group * layer.block  # so many whole input channels
    if together > opt_dim:
        what = f"{group} weights" if layer.block == 1 else f"{group} input channels of {layer.block} weights"
        raise InputError(f"opt_dim = {opt_dim} cannot hold a group of {what}; take {together} or more.")
    return chunk_ranges(layer.inputs, opt_dim, together)


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


def refuse_unfit(form: PlainFormat, layer: Layer) -> None:
    """Find out before any work whether a format means something for a layer.

    Raises
    ------
    InputError
        If a pattern would remove none of its weights.
    """
    if not isinstance(form, Pattern):
        return
    if layer.input_channels <= form.kept and layer.input_channels < form.size:
        few = f"{layer.input_channels} input channel{'s' * (layer.input_channels > 1)}"
        raise InputError(
            f"Layer '{layer.name}' has {few} behind each output channel, of which a pattern {form.name} "
            "along the input channels removes none; give a density for it."
        )


def note_of(form: PlainFormat, layer: Layer) -> str:
    """Say where the last group of a pattern is shorter."""
    if not isinstance(form, Pattern) or not layer.input_channels % form.size:
        return ""
    short = layer.input_channels % form.size
    return (
        f"The last group of {form.size} input channels has only {short}, and may keep "
        f"{min(short, form.kept)} of them."
    )


def problems_of(
    form: PlainFormat, layer: Layer, grams: Sequence[Gram], slices: Sequence[Slice], rule: ScaleRule
) -> list[Problem]:
    """The problems of one format, one for each slice; `grams` are those of the whole layer."""
    return PROBLEMS[type(form)](form, layer, grams, slices, rule)


def _quantized(
    form: Uniform, layer: Layer, grams: Sequence[Gram], slices: Sequence[Slice], rule: ScaleRule
) -> list[Problem]:
    codes = symmetric_codes(form.bits)
    steps = _scales(layer, grams, rule, *codes)
    return [IntegerLeastSquares(s.gram, s.weight, steps[s.channel], *codes) for s in slices]


def _thinned(
    form: Density, layer: Layer, grams: Sequence[Gram], slices: Sequence[Slice], rule: ScaleRule
) -> list[Problem]:
    return [SparseLeastSquares(s.gram, s.weight, nnz_of_density(form.density, len(s.weight))) for s in slices]


def _patterned(
    form: Pattern, layer: Layer, grams: Sequence[Gram], slices: Sequence[Slice], rule: ScaleRule
) -> list[Problem]:
    pair = (form.kept, form.size)
    return [SparseLeastSquares(s.gram, s.weight, pattern=pair, stride=layer.block) for s in slices]


PROBLEMS: Mapping[
    type[Any], Callable[[Any, Layer, Sequence[Gram], Sequence[Slice], ScaleRule], list[Problem]]
]
PROBLEMS = {Uniform: _quantized, Density: _thinned, Pattern: _patterned}
"""What makes the problems of a format, by its kind."""


def _scales(layer: Layer, grams: Sequence[Gram], rule: ScaleRule, qmin: int, qmax: int) -> Sequence[float]:
    """Find the scale of each output channel on the whole layer, from weights on inputs that are alive."""
    if rule.given is not None:
        return rule.given
    alive = [np.diagonal(gram.matrix) > 0.0 for gram in grams]
    rows = [row[alive[layer.group_of(channel)]] for channel, row in enumerate(layer.weight)]
    parts = rows if rule.per_channel else [np.concatenate(rows)]
    # where every input is dead each scale is as good: the error is zero
    found = [range_scale(rule.range_method, part, qmin, qmax) if len(part) else 1.0 for part in parts]
    return found if rule.per_channel else found * layer.channels
