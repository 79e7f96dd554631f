"""A format for each layer under a budget of bits: the best choice found, and a bound on every choice.

The error of a choice is Σ over layers of sensitivity · error / signal. HiGHS proposes a choice by the errors
that are reached; the bound is the least such sum of the layers' lower ends, in exact arithmetic
(:mod:`pvqbounds.network.knapsack`), and trusts no solver.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.arithmetic.rational import enclosed
from pvqbounds.errors import InputError, shown
from pvqbounds.network.knapsack import Item, best_choice
from pvqbounds.network.tied import common_side, error_in
from pvqbounds.results.allocation import Allocation, Chosen
from pvqbounds.results.bounds import LowerKind
from pvqbounds.results.layer import LayerReport
from pvqbounds.results.network import NetworkReport

__all__ = ["LayerChoices", "allocate", "allocation_frontier", "budget_of", "choices_of", "notes_of"]

UNITS = 2**120
"""Costs are whole numbers of so many parts of their largest sum: rounding them costs nothing that is seen."""

FRONTIER_POINTS = 25
"""Budgets evenly apart that a frontier is drawn with."""


@dataclass(frozen=True)
class Option:
    """A layer in one format."""

    format: str
    size: int
    """Bits of all weights, scales and masks."""
    lower: Fraction
    """No weights of the format have less error over signal."""
    upper: Fraction
    """Error over signal of the best weights found."""
    lower_kind: LowerKind


@dataclass(frozen=True)
class LayerChoices:
    """The formats that a layer may have."""

    layer: str
    weights: int
    """How many it has."""
    options: tuple[Option, ...]
    whole: bool = True
    """Whether all of its channels were looked at."""
    tied: tuple[str, ...] = ()
    """Other layers that have the very same weights: they count once, and errors are sums over all."""


# ------------------------------------------------------------------------------------ what may be chosen


def choices_of(
    network: NetworkReport,
    formats: Sequence[str] | None = None,
    sensitivities: Mapping[str, float] | None = None,
) -> tuple[LayerChoices, ...]:
    """What each layer that has a result costs in each of its formats.

    Layers that have the very same weights are one choice: of a format that all of them have, and of the
    weights that suit them best together.

    Parameters
    ----------
    formats
        Names of those that may be chosen; all that a layer has if None.
    sensitivities
        By what the error of each layer is multiplied, by its name; 1 if None.

    Raises
    ------
    InputError
        If no layer has a result, a format is none of the network's, or a layer has none of the formats, is in
        chunks, or has no sensitivity, or if no weights are known that suit layers which share them.
    """
    reports = [(entry, entry.report) for entry in network.layers if entry.report is not None]
    if not reports:
        raise InputError("No layer has a result to choose a format by; run `pvqbounds network` first.")
    for form in formats or ():
        if form not in network.formats:
            listed = ", ".join(network.formats)
            raise InputError(f"There is no format {shown(form)} to choose from; the network has {listed}.")
    factors = _factors([entry.name for entry, _ in reports], sensitivities)
    counted = {
        entry.name: _Counted(entry.weights, report, factor)
        for (entry, report), factor in zip(reports, factors, strict=True)
    }
    return tuple(
        _choices([counted[name] for name in names], formats) for names in _together(network, counted)
    )


class _Counted(NamedTuple):
    """A layer with its result, and its sensitivity."""

    weights: int
    report: LayerReport
    factor: Fraction


def _together(network: NetworkReport, counted: Collection[str]) -> list[tuple[str, ...]]:
    """Names of the layers that are counted, those that have the very same weights together."""
    tied = [tuple(name for name in own.layers if name in counted) for own in network.tied or ()]
    groups = {names[0]: names for names in tied if names}
    others = {name for names in groups.values() for name in names[1:]}
    return [groups.get(name, (name,)) for name in counted if name not in others]


def _choices(members: Sequence[_Counted], formats: Sequence[str] | None) -> LayerChoices:
    """The choices of one layer, or of layers that have the very same weights."""
    reports = [member.report for member in members]
    return LayerChoices(
        reports[0].layer,
        members[0].weights,
        _options(members, formats),
        whole=all(report.channels[0] == report.channels[1] for report in reports),
        tied=tuple(report.layer for report in reports[1:]),
    )


def notes_of(network: NetworkReport) -> tuple[str, ...]:
    """What a reader of an allocation must know of the results that it rests on, a sentence each."""
    reports = [entry.report for entry in network.layers if entry.report is not None]
    sides = [side for report in reports for side in report.sides]
    absent = [entry.name for entry in network.layers if entry.report is None]
    part = [report.layer for report in reports if report.channels[0] < report.channels[1]]
    silent = [report.layer for report in reports if report.sides[0].signal_enclosure.lower <= 0.0]
    sampled = sum(side.estimate is not None for side in sides)
    waiting = network.planned - network.done - network.failed
    together = [own.layers for own in network.tied or () if len(own.layers) > 1]
    held = [f"{shown(own.layers[0])} ({shown(own.others[0])})" for own in network.tied or () if own.others]
    presumed = [own.layer for own in reports if any(side.presumption for side in own.sides)]
    lacking = [name for name in network.formats if any(_lack(network, names, name) for names in together)]
    told = {
        "Counted once and given one format, as they have the very same weights: "
        f"{'; '.join(' and '.join(map(shown, names)) for names in together)}": together,
        f"Counted once, though something that is not counted holds the very same weights, and without what "
        f"that loses by them: {'; '.join(held)}": held,
        "Not to be chosen for weights that are shared, as not all of their layers have a result in it: "
        f"{', '.join(lacking)}": lacking,
        "Whether layers share their weights is not known of this store, which an earlier version made: such "
        "weights would count for each of them": network.tied is None,
        f"Left out, and so neither counted nor given a format: {_layers(network.left_out)}": network.left_out,
        f"Neither counted nor given a format, for want of a result: {_layers(absent)}": absent,
        f"Not to be chosen, as they failed: {network.failed} of the sides": network.failed,
        f"Not to be chosen, as they have no result yet: {waiting} of the sides": waiting,
        f"Looked at on some channels only, whose error over signal stands for the layer's, in the bound too: "
        f"{_layers(part)}": part,
        "Bounded on grids that are found from the weights and presumed, or such pruning, in the bound too: "
        f"{_layers(presumed)}": presumed,
        "Solved on a sample of channels, with ends that are certified for all channels, but wide: "
        f"{sampled} of the sides": sampled,
        f"Without signal, and so counted as without error in every format: {_layers(silent)}": silent,
    }
    return tuple(f"{text}." for text, applies in told.items() if applies)


def _lack(network: NetworkReport, names: Sequence[str], form: str) -> bool:
    """Whether of some layers with results some have one in a format, and some have not."""
    reports = [entry.report for entry in network.layers if entry.name in names]
    return len({form in _formats(report) for report in reports if report is not None}) > 1


def _layers(names: Sequence[str]) -> str:
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{shown(names[0])}{others}" if names else ""


def _factors(names: Sequence[str], sensitivities: Mapping[str, float] | None) -> list[Fraction]:
    if sensitivities is None:
        return [Fraction(1) for _ in names]
    for name, value in sensitivities.items():
        if name not in names:
            raise InputError(f"There is a sensitivity of {shown(name)}, which is none of the layers.")
        if not (math.isfinite(value) and value >= 0.0):
            raise InputError(f"The sensitivity of {shown(name)} must be 0 or more, not {shown(value)}.")
    for name in names:
        if name not in sensitivities:
            raise InputError(f"Layer {shown(name)} has no sensitivity; give 1 for one that counts as others.")
    return [Fraction(sensitivities[name]) for name in names]


def _options(members: Sequence[_Counted], formats: Sequence[str] | None) -> tuple[Option, ...]:
    reports = [member.report for member in members]
    for report in reports:
        if report.protocol != "full":
            raise InputError(
                f"Layer {shown(report.layer)} is in chunks, whose bounds are none for the layer."
            )
        known = _formats(report)
        if formats is not None and not set(known) & set(formats):
            raise InputError(
                f"Layer {shown(report.layer)} has none of the formats to choose from, only "
                f"{', '.join(known)}."
            )
    wanted = [form for form in _formats(reports[0]) if formats is None or form in formats]
    common = [form for form in wanted if all(form in _formats(report) for report in reports)]
    if not common:
        names = " and ".join(shown(report.layer) for report in reports)
        raise InputError(f"Layers {names} share their weights, and have no format in common to choose.")
    return tuple(_option(members, form) for form in common)


def _formats(report: LayerReport) -> list[str]:
    return [side.format for side in report.sides]


def _option(members: Sequence[_Counted], form: str) -> Option:
    """Ends outwards, by the enclosure of the signal; a layer without signal loses nothing in any format."""
    sides = [member.report.side(form) for member in members]
    best = common_side([member.report for member in members], form)
    lower = upper = Fraction(0)
    for side, member in zip(sides, members, strict=True):
        signal = side.signal_enclosure
        if signal.lower > 0.0:
            reached = side.error_upper if len(sides) == 1 else error_in(side, best)
            lower += member.factor * Fraction(max(0.0, side.error_lower)) / Fraction(signal.upper)
            upper += member.factor * Fraction(reached) / Fraction(signal.lower)
    size = round(Fraction(sides[0].bits_per_weight) * members[0].weights)
    kind: LowerKind = "reported" if any(side.lower_kind == "reported" for side in sides) else "certified"
    return Option(form, size, lower, upper, kind)


def budget_of(layers: Sequence[LayerChoices], bits_per_weight: float) -> int:
    """Bits that so many bits a weight, averaged over the weights of all layers, are.

    Raises
    ------
    InputError
        If it is no positive number.
    """
    if not (math.isfinite(bits_per_weight) and bits_per_weight > 0.0):
        raise InputError(f"The bits a weight must be a positive number, not {shown(bits_per_weight)}.")
    weights = sum(layer.weights for layer in layers)
    return math.floor(Fraction(repr(float(bits_per_weight))) * weights)  # 4.3 as it is written


# -------------------------------------------------------------------------------------- the choice


def allocate(layers: Sequence[LayerChoices], budget: int) -> Allocation:
    """The best choice found of a format for each layer, and what no choice within the budget can beat.

    Parameters
    ----------
    budget
        Bits of all layers' weights together.

    Raises
    ------
    InputError
        If not even the smallest formats fit.
    """
    _check_budget(layers, budget)
    upper, _ = _classes(layers, [[option.upper for option in layer.options] for layer in layers], up=True)
    found = best_choice(upper, budget, _proposed(upper, budget))
    lower, unit = _classes(layers, [[option.lower for option in layer.options] for layer in layers])
    proved = best_choice(lower, budget, found.choice)
    chosen = [layer.options[number] for layer, number in zip(layers, found.choice, strict=True)]
    reported = any(option.lower_kind == "reported" for layer in layers for option in layer.options)
    return Allocation(
        budget=budget,
        weights=sum(layer.weights for layer in layers),
        layers=tuple(_chosen(layer, option) for layer, option in zip(layers, chosen, strict=True)),
        size=sum(option.size for option in chosen),
        error=_rounded(sum((option.upper for option in chosen), Fraction(0))).upper,
        error_lower=_rounded(proved.lower * unit).lower,
        lower_kind="reported" if reported else "certified",
        closed=proved.lower == proved.cost,
        whole=all(layer.whole for layer in layers),
    )


def _chosen(layer: LayerChoices, option: Option) -> Chosen:
    ends = _rounded(option.lower).lower, _rounded(option.upper).upper
    return Chosen(layer.layer, option.format, layer.weights, option.size, ends[1], ends[0], layer.tied)


def _rounded(value: Fraction) -> Enclosure:
    return enclosed(value, value)


def _check_budget(layers: Sequence[LayerChoices], budget: int) -> None:
    weights = sum(layer.weights for layer in layers)
    least, largest = (
        f"{math.ceil(1e4 * size / weights) / 1e4:g} ({-(-size // 8)} bytes)" for size in _sizes(layers)
    )
    if budget < _sizes(layers)[0]:
        raise InputError(
            f"No choice of these formats fits {budget / weights:.6g} bits a weight ({budget} bits): the "
            f"smallest takes {least}, the largest {largest}."
        )


def _sizes(layers: Sequence[LayerChoices]) -> tuple[int, int]:
    """Bits of the smallest and of the largest choice."""
    sizes = [[option.size for option in layer.options] for layer in layers]
    return sum(map(min, sizes)), sum(map(max, sizes))


def _classes(
    layers: Sequence[LayerChoices], costs: Sequence[Sequence[Fraction]], *, up: bool = False
) -> tuple[list[list[Item]], Fraction]:
    """Sizes and costs in whole numbers of a unit, which is given as well; rounded down, or up."""
    largest = sum(map(max, costs), Fraction(0)) or Fraction(1)
    unit = Fraction(2) ** (largest.numerator.bit_length() - largest.denominator.bit_length()) / UNITS
    whole = math.ceil if up else math.floor
    return [
        [Item(option.size, whole(cost / unit)) for option, cost in zip(layer.options, own, strict=True)]
        for layer, own in zip(layers, costs, strict=True)
    ], unit


def _proposed(classes: Sequence[Sequence[Item]], budget: int) -> tuple[int, ...]:
    """A choice by HiGHS, which counts in floating point: whoever takes it looks whether it fits."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    items = [item for own in classes for item in own]
    owner = np.repeat(np.arange(len(classes)), [len(own) for own in classes])
    one_each = (owner == np.arange(len(classes))[:, None]).astype(np.float64)
    largest = max(item.cost for item in items) or 1
    solved = milp(
        np.array([item.cost / largest for item in items]),
        integrality=np.ones(len(items)),
        bounds=Bounds(0.0, 1.0),
        constraints=[
            LinearConstraint(one_each, 1.0, 1.0),
            LinearConstraint(np.array([[item.size / budget for item in items]]), -np.inf, 1.0),
        ],
        options={"time_limit": 5.0},
    )
    if solved.x is None:
        return ()
    return tuple(int(np.argmax(solved.x[owner == number])) for number in range(len(classes)))


# ------------------------------------------------------------------------------------ the frontier


def allocation_frontier(
    layers: Sequence[LayerChoices], points: int = FRONTIER_POINTS
) -> tuple[Allocation, ...]:
    """Allocations for rising budgets, from the smallest choice to where nothing is gained any more.

    Budgets are evenly apart; the sizes of the choices that they lead to are budgets as well.
    """
    least, largest = _sizes(layers)[0], sum(map(_largest_useful, layers))
    even = {least + (largest - least) * i // max(1, points - 1) for i in range(points)}
    found = {budget: allocate(layers, budget) for budget in sorted(even)}
    exact = {own.size for own in found.values()} - found.keys()
    found |= {size: allocate(layers, size) for size in exact}
    return tuple(found[budget] for budget in sorted(found))


def _largest_useful(layer: LayerChoices) -> int:
    """Bits beyond which a layer gains nothing, neither in what is reached nor in what is possible."""
    reached = min(layer.options, key=lambda option: (option.upper, option.size))
    possible = min(layer.options, key=lambda option: (option.lower, option.size))
    return max(reached.size, possible.size)
