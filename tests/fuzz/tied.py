"""Layers that hold the very same weights: they count once, and no weights suit all of them better."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.random import Generator

from pvqbounds import AnyScaleLeastSquares, SparseLeastSquares
from pvqbounds.problems import Problem
from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.results.network import LayerEntry, NetworkReport, Tied

from .case import Case
from .checks import check_bounds
from .families import draw
from .one_size import check_file
from .rational import (
    Budgets,
    Matrix,
    allowed,
    budgets_of,
    exact_error,
    exact_signal,
    fractions,
    is_semidefinite,
    least_layer_error,
    least_refitted,
    matrix_of,
    values_of,
)

__all__ = ["Group", "check_choices", "least_shared", "tied"]

FORMATS = ("int2", "int3", "int2:channel", "int2:any", "nf4:b2", "50%", "25%", "1:2", "1:2+int3", "50%+int2")
"""Some of these are asked of each network."""

LAYER_FORMATS = ("int2", "int3", "int2:any", "50%", "25%")
"""The same where one budget is for the whole layer."""

GROUPS = ((("a", "b"), ("c",)), (("a", "c"), ("b", "d")), (("a", "b", "c"), ("d",)), (("a",), ("b",)))
"""Which layers hold the same weights."""

EXPORTED = Fraction(1, 10**9)
"""Share of the signal that rounding weights to float64 may add to their error."""


def tied(case: Case) -> None:
    """A network of such layers on any Grams: what is counted, chosen, exported and written of it."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return case.count("without torch")
    groups = GROUPS[int(case.rng.integers(len(GROUPS)))]
    drawn = _drawn(case.rng, groups)
    model = _model(drawn.weights, groups)
    network = _network(case, model, drawn, groups)
    if network is None:
        return None
    _check_layers(case, network, drawn)
    formats = _common(case, network, groups)
    if not formats:
        return case.count("no format in common")
    factors = {name: float(case.rng.choice([1.0, 1.0, 0.0, 0.3, 7.0])) for name in drawn.grams}
    found = [Group.of(network, names, factors) for names in groups]
    check_choices(case, network, found, formats, factors)
    _check_export(case, network, model, found, formats)
    entry = network.layers[int(case.rng.integers(len(network.layers)))]
    assert entry.report is not None, "every layer was bounded"
    check_file(case, entry.report)
    return None


# --------------------------------------------------------------------------- networks


@dataclass(frozen=True, eq=False)
class Drawn:
    """The numbers of a network."""

    weights: dict[str, np.ndarray]
    """By the name of each layer, shape (channels, n)."""
    grams: dict[str, np.ndarray]
    formats: tuple[str, ...]
    budget: str
    script: str


def _drawn(rng: Generator, groups: Sequence[Sequence[str]]) -> Drawn:
    """Weights of each group and a Gram of each layer: of any family, and of sizes up to 1e8 apart."""
    weights: dict[str, np.ndarray] = {}
    grams: dict[str, np.ndarray] = {}
    for names in groups:
        n, channels = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        drawn = draw(rng, n, one_step=True)
        rows = drawn.weight * rng.choice([-1.0, 1.0, 0.5, 0.0], (channels, n), p=[0.4, 0.4, 0.1, 0.1])
        for name in names:
            weights[name] = rows
            with np.errstate(all="ignore"):
                grams[name] = np.ldexp(drawn.gram, int(rng.integers(-27, 28)))
            if rng.random() < 0.8:
                grams[name] = draw(rng, n, one_step=True).gram
    budget = "layer" if rng.random() < 0.2 else "channel"
    among: tuple[str, ...] = LAYER_FORMATS if budget == "layer" else FORMATS
    if min(rows.shape[1] for rows in weights.values()) == 1:  # of one input a pattern removes nothing
        among = tuple(form for form in among if ":2" not in form)
    formats = tuple(among[i] for i in rng.permutation(len(among))[:3])
    shown = {name: (weights[name].tolist(), grams[name].tolist()) for name in grams}
    return Drawn(weights, grams, formats, budget, f"formats = {formats!r}\nlayers = {shown!r}")


def _model(weights: Mapping[str, np.ndarray], groups: Sequence[Sequence[str]]) -> Any:
    """A torch model of linear layers, of which those of a group hold one parameter."""
    import torch
    from torch import nn

    layers: dict[str, nn.Module] = {}
    for names in groups:
        matrix = weights[names[0]]
        shared = nn.Parameter(torch.from_numpy(matrix.copy()))
        for name in names:
            own = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=torch.float64)
            own.weight = shared
            layers[name] = own
    return nn.ModuleDict({name: layers[name] for name in sorted(layers)})


def _network(case: Case, model: Any, drawn: Drawn, groups: Sequence[Sequence[str]]) -> NetworkReport | None:
    """The layers bounded one by one on their Grams, as a network; None where numbers are refused."""
    from pvqbounds.nn import layer_bounds
    from pvqbounds.nn.tied import tied_layers

    case.script = drawn.script
    entries, names = [], sorted(drawn.grams)
    case.step("bounds of tied layers", 30.0 * len(names))
    for name in names:
        report: LayerReport | None = None
        with case.guarded(f"layer_bounds/{'+'.join(drawn.formats)}"):
            report = layer_bounds(
                model, name, grams=drawn.grams[name], formats=list(drawn.formats), methods=[],
                budget=drawn.budget, time_limit=5.0,
            )  # fmt: skip
        if report is None:
            return None
        channels, inputs = drawn.weights[name].shape
        entries.append(LayerEntry(name, "Linear", inputs, channels, channels * inputs, report))
        case.count("solves", sum(len(side.slices) for side in report.sides))
    found = tied_layers(model, names)
    expected = tuple(Tied(tuple(own)) for own in groups if len(own) > 1)
    if set(found) != set(expected):
        case.fault("layers that are not tied as they are", "tied_layers", f"{found}, {expected}")
    return NetworkReport(
        model="fuzz", digest="", layers=tuple(entries), formats=drawn.formats, settings={}, version="",
        tied=found,
    )  # fmt: skip


def _side_of(network: NetworkReport, name: str, form: str) -> Side:
    report = network.layer(name).report
    assert report is not None, "every layer was bounded"
    return report.side(form)


def _check_layers(case: Case, network: NetworkReport, drawn: Drawn) -> None:
    """Each layer is about the numbers that were given, and each of its results is one."""
    for name, form in itertools.product(drawn.grams, drawn.formats):
        side = _side_of(network, name, form)
        for row, own in zip(drawn.weights[name], side.slices, strict=True):
            given = ((own.problem.weight, row), (own.problem.gram, drawn.grams[name]))
            if not all(np.array_equal(one, other) for one, other in given):
                case.fault("a layer of other numbers", "layer_bounds", f"{name} in {form}")
            check_bounds(case, own.problem, own.bounds, None, f"layer_bounds/{form}")
        case.script = drawn.script


def _common(case: Case, network: NetworkReport, groups: Sequence[Sequence[str]]) -> list[str]:
    """The formats in which weights are known that suit each group: the others are refused, they are not."""
    from pvqbounds.network.allocation import choices_of

    common = []
    for form in network.formats:
        alike = all(_alike([_side_of(network, name, form) for name in names]) for names in groups)
        refused = True
        with case.guarded(f"choices_of/{form}"):
            choices_of(network, [form])
            refused = False
        if alike and refused:
            case.fault("weights of one grid that are refused", f"choices_of/{form}", "")
        if alike:
            common.append(form)
        elif not refused:
            case.fault("weights of several grids that are not refused", f"choices_of/{form}", "")
    return common


def _alike(sides: Sequence[Side]) -> bool:
    """Whether all of some layers may have the same values."""
    stored = [[own.problem.values.arrays for own in side.slices] for side in sides]
    return all(
        np.array_equal(one[name], two[name])
        for other in stored[1:]
        for one, two in zip(stored[0], other, strict=True)
        for name in one
    )


# --------------------------------------------------------------------------- the truth


@dataclass(frozen=True, eq=False)
class Group:
    """Layers of the same weights, and by what the error of each is multiplied."""

    names: tuple[str, ...]
    network: NetworkReport
    factors: Mapping[str, float]

    @classmethod
    def of(cls, network: NetworkReport, names: Sequence[str], factors: Mapping[str, float]) -> Group:
        """The layers of these names."""
        return cls(tuple(names), network, factors)

    def sides(self, form: str) -> list[Side]:
        """The side of each layer in a format."""
        return [_side_of(self.network, name, form) for name in self.names]

    def shares(self, form: str) -> list[Fraction]:
        """What an error of 1 in each layer counts; a layer whose signal is not proved loses nothing."""
        found = []
        for name, side in zip(self.names, self.sides(form), strict=True):
            signal = sum((exact_signal(own.problem) for own in side.slices), Fraction(0))
            told = side.signal_enclosure.lower > 0.0
            found.append(Fraction(self.factors[name]) / signal if told and signal > 0 else Fraction(0))
        return found

    def whole(self, form: str) -> bool:
        """Whether all Grams are positive semidefinite without rounding: no error is below 0 then."""
        return all(is_semidefinite(side.slices[0].problem.gram) for side in self.sides(form))

    def truth(self, form: str) -> Fraction:
        """The least sum of errors over signal that weights of the format can have in all of the layers."""
        sides, shares = self.sides(form), self.shares(form)
        rows = zip(*(side.slices for side in sides), strict=True)
        channels = [[own.problem for own in slices] for slices in rows]
        if sides[0].shared is not None:  # one budget over the channels
            errors = [
                [least_shared([p.with_nnz(k) for p in own], shares) for k in range(own[0].n + 1)]
                for own in channels
                if all(isinstance(p, SparseLeastSquares) for p in own)
            ]
            return least_layer_error(errors, sides[0].shared.nnz)
        return sum((least_shared(own, shares) for own in channels), Fraction(0))

    def reached(self, form: str, weights: np.ndarray) -> Fraction:
        """The same of given weights, shape (channels, inputs)."""
        total = Fraction(0)
        for side, share in zip(self.sides(form), self.shares(form), strict=True):
            for own, row in zip(side.slices, weights, strict=True):
                error = exact_error(own.problem.gram, own.problem.weight, fractions(row))
                total += share * max(error, Fraction(0))
        return total


def least_shared(problems: Sequence[Problem], shares: Sequence[Fraction]) -> Fraction:
    """The least weighted sum of errors that the same weights have in several Grams, by brute force."""
    first, n = problems[0], problems[0].n
    grams = [matrix_of(p.gram) for p in problems]
    matrix: Matrix = [
        [sum((c * G[i][j] for c, G in zip(shares, grams, strict=True)), Fraction(0)) for j in range(n)]
        for i in range(n)
    ]
    weight = fractions(first.weight)
    if isinstance(first, SparseLeastSquares):
        budgets: Budgets = budgets_of(first)
        return least_refitted(matrix, weight, budgets)
    target = [sum((g * x for g, x in zip(row, weight, strict=True)), Fraction(0)) for row in matrix]
    signal = sum((a * b for a, b in zip(target, weight, strict=True)), Fraction(0))
    any_scale = isinstance(first, AnyScaleLeastSquares)
    best = signal if any_scale else None
    for v in itertools.product(*_choices(first)):
        if not allowed(first, v):
            continue
        product = sum((a * t for a, t in zip(v, target, strict=True)), Fraction(0))
        powers = (sum((g * b for g, b in zip(row, v, strict=True)), Fraction(0)) for row in matrix)
        square = sum((a * power for a, power in zip(v, powers, strict=True)), Fraction(0))
        error = signal - 2 * product + square
        if any_scale:  # v are codes, at their best scale
            error = signal - product**2 / square if product > 0 and square > 0 else signal
        best = error if best is None or error < best else best
    assert best is not None
    return max(best, Fraction(0))


def _choices(problem: Problem) -> Sequence[Sequence[Any]]:
    """The values of each weight, or its codes where their scale is free."""
    if isinstance(problem, AnyScaleLeastSquares):
        return [range(problem.values.qmin, problem.values.qmax + 1)] * problem.n
    return values_of(problem)


# --------------------------------------------------------------------------- checks


def check_choices(
    case: Case,
    network: NetworkReport,
    groups: Sequence[Group],
    formats: Sequence[str],
    factors: Mapping[str, float],
) -> None:
    """Layers of the same weights count once, and both ends of what they cost hold for all of them."""
    from pvqbounds.network.allocation import allocate, choices_of

    place = "tied layers"
    case.step("choices of tied layers", 30.0)
    with case.guarded(place, refusals=False):
        layers = choices_of(network, list(formats), dict(factors))
        named = {(own.layer, *own.tied): own for own in layers}
        if sorted(map(sorted, named)) != sorted(sorted(own.names) for own in groups):
            return case.fault("layers that are not together", place, f"{list(named)}")
        chosen = {own.layer: own for own in layers}
        truths: dict[tuple[str, str], Fraction | None] = {}
        for group in groups:
            layer = next(chosen[name] for name in group.names if name in chosen)
            weights = network.layer(group.names[0]).weights
            if layer.weights != weights:
                case.fault("weights that count twice", place, f"{layer.weights}, not {weights}")
            for option in layer.options:
                truth = group.truth(option.format) if group.whole(option.format) else None
                truths[layer.layer, option.format] = truth
                ends = f"{group.names} in {option.format}: {float(option.lower)!r} .. {float(option.upper)!r}"
                case.count("options of tied layers" if len(group.names) > 1 else "options of layers alone")
                if option.lower > option.upper:
                    case.fault("ends that are no interval", place, ends)
                if truth is not None and option.lower > truth:
                    case.fault("false lower end (certified)", place, f"{ends}, least {float(truth)!r}")
                if truth is not None and option.upper < truth:
                    case.fault("upper end below the least error", place, f"{ends}, least {float(truth)!r}")
        _check_allocation(case, layers, truths, allocate)
    return None


def _check_allocation(
    case: Case, layers: Sequence[Any], truths: Mapping[tuple[str, str], Fraction | None], allocate: Any
) -> None:
    """No choice of formats within a budget is better than what an allocation says is possible."""
    sizes = [[option.size for option in own.options] for own in layers]
    budget = int(case.rng.integers(sum(map(min, sizes)), sum(map(max, sizes)) + 1))
    found = allocate(layers, budget)
    case.count("allocations")
    total = sum(own.weights for own in layers)
    if found.size > budget or found.weights != total:
        text = f"{found.size} of {budget} bits, {found.weights} of {total} weights"
        case.fault("an allocation that counts wrongly", "allocate", text)
    for own in layers:
        if len({found.choice[name] for name in (own.layer, *own.tied)}) > 1:
            case.fault("tied layers in several formats", "allocate", f"{found.choice}")
    if None in truths.values():
        return
    best: Fraction | None = None
    for options in itertools.product(*(own.options for own in layers)):
        if sum(option.size for option in options) <= budget:
            costs = (truths[own.layer, option.format] for own, option in zip(layers, options, strict=True))
            cost = sum((c for c in costs if c is not None), Fraction(0))
            best = cost if best is None or cost < best else best
    assert best is not None
    ends = f"{found.error_lower!r} .. {found.error!r}, least {float(best)!r} in {budget} bits"
    if Fraction(found.error_lower) > best:
        case.fault("false lower end (certified)", "allocate", ends)
    if Fraction(found.error) < best:
        case.fault("upper end below the least error", "allocate", ends)


def _check_export(
    case: Case, network: NetworkReport, model: Any, groups: Sequence[Group], formats: Sequence[str]
) -> None:
    """The weights that are exported are still one parameter, and reach what is said of them."""
    from pvqbounds.network.allocation import choices_of
    from pvqbounds.network.export import compressed_model

    form = formats[int(case.rng.integers(len(formats)))]
    case.step("export of tied layers", 30.0)
    with case.guarded(f"compressed_model/{form}", refusals=False):
        factors = dict(groups[0].factors)
        upper = {own.layer: own.options[0].upper for own in choices_of(network, [form], factors)}
        made: Any = compressed_model(network, model, form)
        case.count("exports")
        for group in groups:
            held = [made[name].weight for name in group.names]
            if any(own is not held[0] for own in held[1:]):
                case.fault("tied weights that come apart", f"compressed_model/{form}", f"{group.names}")
            reached = group.reached(form, held[0].detach().numpy())
            stated = next(upper[name] for name in group.names if name in upper)
            slack = EXPORTED * sum((Fraction(group.factors[name]) for name in group.names), Fraction(0))
            if reached > stated + slack:
                text = f"{group.names}: {float(reached)!r}, stated {float(stated)!r}"
                case.fault("exported weights that are worse than stated", f"compressed_model/{form}", text)
