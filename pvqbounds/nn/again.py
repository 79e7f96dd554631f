"""Whether a result that is there already is what is asked for once more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pvqbounds.nn.bounds import INTERRUPTED
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layers import Layer
from pvqbounds.nn.sides import chosen_channels, input_ranges
from pvqbounds.problems.formats import parse
from pvqbounds.results.layer import LayerReport

__all__ = ["answers"]


def answers(
    report: LayerReport,
    target: Layer,
    captured: LayerGrams,
    *,
    formats: Sequence[str],
    opt_dim: int | None,
    out_channels: int | None,
    range_method: str,
    methods: Sequence[str],
) -> bool:
    """Whether a report answers what is asked: the same formats of the same weights on the same data.

    One that was interrupted does not. How it was solved (solvers, limits, seeds) is not compared.
    """
    forms = [parse(name) for name in formats]
    ranges = input_ranges(target, opt_dim, forms)
    asked = [(channel, span) for channel in chosen_channels(out_channels, target.channels) for span in ranges]
    found = report.sides[0].slices
    return (
        INTERRUPTED not in report.notes
        and report.layer == target.name
        and report.range_method == range_method
        and [side.format for side in report.sides] == [form.name for form in forms]
        and {name for side in report.sides for name in side.methods} == set(methods)
        and [(result.channel, result.inputs) for result in found] == asked
        and all(_same_data(report, target, captured))
    )


def _same_data(report: LayerReport, target: Layer, captured: LayerGrams) -> list[bool]:
    """Whether Gram and weights of each slice are those of the layer."""
    checked: dict[int, bool] = {}
    same, weight = [], target.weight
    for result in report.sides[0].slices:
        span, gram = slice(*result.inputs), result.problem.shared
        if id(gram) not in checked:
            own = captured.grams[target.group_of(result.channel)].matrix
            checked[id(gram)] = np.array_equal(gram.matrix, own[span, span])
        own_weight = np.array_equal(result.problem.weight, weight[result.channel, span])
        same.append(own_weight and checked[id(gram)])
    return same
