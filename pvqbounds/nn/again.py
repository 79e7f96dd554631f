"""Whether a result that is there already is what is asked for once more."""

from __future__ import annotations

import numpy as np

from pvqbounds.nn.bounds import INTERRUPTED
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layer_options import LayerOptions
from pvqbounds.nn.layers import Layer
from pvqbounds.nn.sides import chosen_channels, input_ranges
from pvqbounds.problems.formats import parse
from pvqbounds.results.layer import LayerReport

__all__ = ["answers"]


def answers(
    report: LayerReport,
    target: Layer,
    captured: LayerGrams,
    asked: LayerOptions,
) -> bool:
    """Whether a report answers what is asked: the same formats of the same weights on the same data.

    Of the options those are compared that Figure 4 has: formats and methods, each named, `opt_dim`,
    `out_channels` and `range_method`. One that was interrupted does not. How it was solved (solvers, limits,
    seeds) is not compared.
    """
    forms = [parse(name) for name in asked.formats or ()]
    ranges = input_ranges(target, asked.opt_dim, forms)
    channels = chosen_channels(asked.out_channels, target.channels)
    found = report.sides[0].slices
    return (
        INTERRUPTED not in report.notes
        and report.layer == target.name
        and report.range_method == asked.range_method
        and [side.format for side in report.sides] == [form.name for form in forms]
        and {name for side in report.sides for name in side.methods} == set(asked.methods or ())
        and [(r.channel, r.inputs) for r in found] == [(c, span) for c in channels for span in ranges]
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
