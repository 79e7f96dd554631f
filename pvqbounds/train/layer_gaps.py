"""How far what training reached in each layer is from what is certified to be possible there.

The problem of a layer is that of the bounds: the output error on calibration inputs, with respect to a
reference. "dense" takes the weights and the inputs of the dense model; "latent", of quantization-aware
training, the latent weights and the inputs of the trained model: how well they are rounded.

Quantization is bounded at the scales that were learned, and if asked for at every scale of each channel,
which bounds what training could have made of them; pruning at the number of non-zeros that each channel was
left with (or the pattern). No weights of that form have less error than the certified bound: if the trained
ones do, something is false, and the run has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError, checked_flags
from pvqbounds.nn.grams import gram_of_layer
from pvqbounds.nn.layers import Layer, find_layers
from pvqbounds.problems import AnyScaleLeastSquares, Problem
from pvqbounds.problems.formats import Format
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.layer import Side, SliceResult
from pvqbounds.solving.candidates import at_least_methods
from pvqbounds.solving.channels import solve_channels
from pvqbounds.train.outcome import Outcome, QuantizedLayer

__all__ = ["LayerAgainst", "Reference", "RunAgainst", "against_bounds"]

Reference = Literal["dense", "latent"]

REFERENCES: Mapping[str, Reference] = {"dense": "dense", "latent": "latent"}

TRAINED = "trained"
"""Name of the trained weights among a side's methods."""

LayerProgress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class LayerAgainst:
    """One layer: its trained weights and its certified interval."""

    layer: str
    description: str
    inputs: int
    channels: int
    """Output channels of the layer; `side` may hold the first of them only."""
    side: Side
    """The interval, and the trained weights among its methods."""
    free: Side | None = None
    """The interval of quantization whatever the scale of each channel, where that was asked for."""

    @property
    def error(self) -> float:
        """Error of the trained weights over the channels looked at, rounded up."""
        return self.side.method_error(TRAINED)

    @property
    def sqnr(self) -> float:
        """Empirical SQNR in dB."""
        return self.side.method_sqnr(TRAINED)

    @property
    def gap(self) -> tuple[float, float]:
        """How far below the best possible SQNR it is: at least and at most, dB."""
        lower, upper = self.side.sqnr_interval
        return max(0.0, lower - self.sqnr), upper - self.sqnr

    @property
    def impossible(self) -> tuple[int, ...]:
        """Channels whose trained weights have less error than a certified bound allows."""
        errors = self.side.method_errors[TRAINED]
        sides = [self.side] if self.free is None else [self.side, self.free]
        return tuple(
            dict.fromkeys(
                s.channel
                for side in sides
                for s, error in zip(side.slices, errors, strict=True)
                if s.bounds.lower_kind == "certified" and error < s.bounds.error_lower
            )
        )

    def least_allowed(self, channel: int) -> float:
        """The certified error of a channel that its trained weights may not have less of."""
        sides = [self.side] if self.free is None else [self.side, self.free]
        return max(s.bounds.error_lower for side in sides for s in side.slices if s.channel == channel)


@dataclass(frozen=True, eq=False)
class RunAgainst:
    """A run: every layer, and the accuracies."""

    name: str
    model: str
    reference: Reference
    accuracy_before: float
    accuracy_after: float
    layers: tuple[LayerAgainst, ...]
    seconds: float

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each layer that has less error than is possible."""
        return tuple(
            f"layer '{layer.layer}', channel {channel}: the trained weights have the error "
            f"{layer.side.method_errors[TRAINED][row]:.6g}, below the certified bound "
            f"{layer.least_allowed(channel):.6g}"
            for layer in self.layers
            for channel in layer.impossible
            for row in [[s.channel for s in layer.side.slices].index(channel)]
        )


def against_bounds(
    reference_model: nn.Module,
    batches: Callable[[], Iterable[Tensor]],
    layers: Mapping[str, Outcome],
    *,
    reference: Reference = "dense",
    out_channels: int | None = None,
    any_scale: bool = False,
    solver: str = "auto",
    method: str = "auto",
    time_limit: float = 20.0,
    jobs: int = 1,
    seed: int = 0,
    progress: LayerProgress | None = None,
) -> tuple[LayerAgainst, ...]:
    """Bound each compressed layer, and evaluate its trained weights on the same problem.

    Parameters
    ----------
    reference_model
        The model whose layer inputs count, and for "dense" whose weights count: the dense model
        for "dense", the trained one for "latent".
    batches
        Gives the calibration inputs anew each time it is called.
    layers
        What became of each layer.
    reference
        "dense" or "latent", see above.
    out_channels
        Only the first so many channels of each layer.
    any_scale
        Bound quantization at every scale of each channel as well, which takes some twenty times as long.
    solver, method, time_limit, jobs, seed
        As for :func:`pvqbounds.solve_channels`; `time_limit` in seconds for one channel.
    progress
        Called with the channels done, their number, and the layer.

    Raises
    ------
    InputError
        If a layer does not fit the model, its codes leave the grid, or it has no latent weights.
    """
    checked_flags(any_scale=any_scale)
    found = find_layers(reference_model, layers)
    chosen = {name: _chosen_channels(found[name], outcome, out_channels) for name, outcome in layers.items()}
    rounds = {name: 1 + (any_scale and isinstance(layers[name], QuantizedLayer)) for name in layers}
    if any_scale and max(rounds.values(), default=2) == 1:
        raise InputError("Only quantization has scales that could be any; leave out any_scale.")
    total, before = sum(rounds[name] * len(channels) for name, channels in chosen.items()), 0
    report = progress or (lambda done, total, what: None)
    results = []
    for name, outcome in layers.items():
        layer = found[name]
        report(before, total, f"{name}: inputs")
        grams = gram_of_layer(reference_model, layer, batches()).grams
        weight = _reference_weight(layer, outcome, reference)
        problems: list[Problem] = []
        points: list[NDArray[Any]] = []
        for channel in chosen[name]:
            try:
                problem, point = outcome.posed(grams[layer.group_of(channel)], weight[channel], channel)
            except InputError as error:
                raise InputError(f"Layer '{name}', channel {channel}: {error}") from error
            problems.append(problem)
            points.append(point)

        def done(channels: int, name: str = name, before: int = before) -> None:
            report(before + channels, total, name)

        solve = partial(
            solve_channels,
            solver=solver,
            method=method,
            time_limit=time_limit,
            seed=seed,
            jobs=jobs,
            progress=done,
        )
        side = _side(layer, outcome.form, chosen[name], problems, solve(problems), points)
        before += len(problems)
        free = None
        if rounds[name] > 1:
            free = _at_any_scale(layer, outcome.form, chosen[name], problems, solve, points)
            before += len(problems)
        results.append(LayerAgainst(name, layer.description, layer.inputs, layer.channels, side, free))
    return tuple(results)


def _side(
    layer: Layer,
    form: Format,
    channels: Iterable[int],
    problems: Sequence[Problem],
    bounds: Sequence[Bounds],
    points: Sequence[NDArray[Any]],
) -> Side:
    """The side of a layer whose channels were bounded."""
    slices = tuple(
        SliceResult(channel, (0, layer.inputs), problem, found)
        for channel, problem, found in zip(channels, problems, bounds, strict=True)
    )
    size = form.size(problems, (layer.channels, layer.inputs))
    return Side(form.name, size, slices, {TRAINED: tuple(points)})


def _at_any_scale(
    layer: Layer,
    form: Format,
    channels: Iterable[int],
    problems: Sequence[Problem],
    solve: Callable[[Sequence[Problem]], Sequence[Bounds]],
    points: Sequence[NDArray[Any]],
) -> Side:
    """The side whose scales are free; the trained codes, at their best scale, are candidates."""
    free = [
        AnyScaleLeastSquares(
            problem.shared, problem.weight, *(int(end[0]) for end in problem.values.code_ends)
        )
        for problem in problems
    ]
    bounds = at_least_methods(free, solve(free), {TRAINED: points})
    return _side(layer, form.at_any_scale(), channels, free, bounds, points)


def _chosen_channels(layer: Layer, outcome: Outcome, most: int | None) -> range:
    shape = (layer.channels, layer.inputs)
    found = outcome.weight.shape
    if found != shape:
        raise InputError(
            f"Layer '{layer.name}' of the model has weights of shape {shape}, but the run left {found}; "
            "give the model that the run started from."
        )
    if most is not None and most < 1:
        raise InputError(f"The number of output channels must be at least 1, not {most}.")
    return range(layer.channels if most is None else min(most, layer.channels))


def _reference_weight(layer: Layer, outcome: Outcome, reference: Reference) -> NDArray[np.float64]:
    if reference == "dense":
        return layer.weight
    if outcome.latent is None:
        raise InputError(
            f"Layer '{layer.name}' has no latent weights: only quantization-aware training leaves some; "
            "take --reference dense."
        )
    return outcome.latent
