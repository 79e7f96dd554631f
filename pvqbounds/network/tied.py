"""One set of weights for layers that hold the very same ones.

What was found for a layer is best on its own inputs. Of layers that are tied one alone is kept, and each
channel takes what leaves all of them the least error over signal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pvqbounds.arithmetic.enclosures import up
from pvqbounds.errors import InputError, shown
from pvqbounds.problems import AnyScaleLeastSquares
from pvqbounds.problems.values import ValueSet
from pvqbounds.results.layer import LayerReport, Side, SliceResult

__all__ = ["common_side", "error_in"]


def common_side(reports: Sequence[LayerReport], form: str) -> Side:
    """The best weights in a format that all of some tied layers can have, as a side of the first one.

    Its bounds are those of the layer that each channel's weights were found for.

    Raises
    ------
    InputError
        If the layers are not known to be of the same weights and values, channel by channel.
    """
    sides = [report.side(form) for report in reports]
    if len(sides) == 1:
        return sides[0]
    for report, side in zip(reports, sides, strict=True):
        if not _alike(sides[0], side):
            names = f"{shown(reports[0].layer)} and {shown(report.layer)}"
            raise InputError(
                f"Layers {names} share their weights, but no weights in {form} are known to suit both, as "
                "they hold them in other rows, were looked at on other channels, have grids of their own (as "
                "other inputs of theirs are always zero) or one that is presumed to have several steps; "
                "leave one of them out."
            )
    signals = [side.signal_enclosure.lower for side in sides]
    channels = zip(*(side.slices for side in sides), strict=True)
    costs = np.array([_costs(slices, signals) for slices in channels])
    if sides[0].shared is not None or sides[0].one_scale is not None:  # channels go together
        costs[:] = costs.sum(axis=0)
    picked = [sides[best].slices[i] for i, best in enumerate(costs.argmin(axis=1))]
    return replace(sides[0], slices=tuple(picked))


def error_in(side: Side, common: Side) -> float:
    """Error that the weights of another side leave in a layer, rounded up."""
    pairs = zip(side.slices, common.slices, strict=True)
    return up(math.fsum(_error(own, other) for own, other in pairs))


def _alike(first: Side, second: Side) -> bool:
    """Whether two sides allow the same weights in place of the same ones."""
    if any(side.compressed is not None and side.compressed.mixed for side in (first, second)):
        return False  # what was found there may be no weights of the format
    return len(first.slices) == len(second.slices) and all(
        (a.channel, a.inputs) == (b.channel, b.inputs)
        and np.array_equal(a.problem.weight, b.problem.weight)
        and _same_values(a.problem.values, b.problem.values)
        for a, b in zip(first.slices, second.slices, strict=True)
    )


def _same_values(first: ValueSet, second: ValueSet) -> bool:
    own, other = first.arrays, second.arrays
    same = type(first) is type(second) and own.keys() == other.keys()
    return same and all(np.array_equal(own[name], other[name]) for name in own)


def _costs(slices: Sequence[SliceResult], signals: Sequence[float]) -> list[float]:
    """What the weights found for each of some tied layers cost all of them: error over the layer's signal."""
    return [
        sum(
            _error(own, candidate) / signal
            for own, signal in zip(slices, signals, strict=True)
            if signal > 0.0
        )
        for candidate in slices
    ]


def _error(own: SliceResult, other: SliceResult) -> float:
    """Error of weights found for another layer; that of the codes' exact values where they have codes."""
    problem, found = own.problem, other.bounds
    if found.codes is None:
        return max(0.0, problem.error_of(found.weight).upper)
    if isinstance(problem, AnyScaleLeastSquares) and found.scale is not None:  # not the codes' best one here
        problem = problem.at(found.scale)
    return max(0.0, problem.error(found.codes).upper)
