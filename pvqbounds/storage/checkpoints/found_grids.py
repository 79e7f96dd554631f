"""The grid that dequantized weights lie on, found from the weights themselves.

Weights of a block that are whole multiples of one step, each rounded once to the type that the file stores,
leave an interval of steps; where the intervals of all weights meet there is a grid. The coarsest step is
looked for, in the tensor, channels and groups of inputs, and of these the blocks that say the weights in the
fewest bits, scales counted: larger ones may have a common step by chance, which takes more bits than theirs
does. Formats that are named come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats import parse
from pvqbounds.problems.formats.number_types import BF16, FP16, FP32, FP64, NumberType
from pvqbounds.problems.formats.rules import LevelRule, ValueRule
from pvqbounds.storage.checkpoints.found_levels import on_levels
from pvqbounds.storage.checkpoints.found_off import off_weight
from pvqbounds.storage.checkpoints.found_steps import LARGEST_BITS, Fitted, fitted_blocks
from pvqbounds.storage.checkpoints.found_uniform import holds, least_width, on_steps
from pvqbounds.storage.checkpoints.grids import FoundGrid

__all__ = ["FoundGrid", "find_grid", "weight_off"]

Array = NDArray[np.float64]

TYPES = {"f16": FP16, "bf16": BF16, "f32": FP32, "f64": FP64}
USUAL_GROUPS = (256, 128, 64, 32, 16)

SCALE_BITS = 16
"""What a scale counts."""

FEW_BLOCKS = 16
"""Blocks of a format that is named: of fewer, steps of other blocks than its own are taken for chance."""


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Blocks of one size that have steps."""

    fitted: Fitted
    bits: int
    named: int
    """Whether a format that is named holds them; 2 for that of just these blocks where they are few."""

    @property
    def size(self) -> int:
        """Bits of codes and scales."""
        return self.bits * self.fitted.codes.size + SCALE_BITS * len(self.fitted.step)


def find_grid(weight: Array, kind: str, hints: Sequence[str] = ()) -> FoundGrid | None:
    """The grid of dequantized weights, shape (channels, inputs), that a file stores as "f32" or its like.

    Parameters
    ----------
    hints
        Names of formats: they come first where they hold the weights, and those of levels, like nf4, are
        tried, too.
    """
    rules = [form.values for form in map(parse, hints) if form.values is not None]
    steps = _with_steps(weight, TYPES[kind], rules)
    levels = (on_levels(weight, rule, TYPES[kind]) for rule in rules if isinstance(rule, LevelRule))
    found = [grid for grid in levels if grid is not None]
    if found:
        best = min(found, key=_size)
        if steps is None or _size(best) < steps.size:
            return best
        if best.bits <= steps.bits and not steps.named:
            return best
    if steps is None:
        return None
    others = [rule for rule in rules if rule.name not in {grid.name for grid in found}]
    return on_steps(weight, steps.fitted, TYPES[kind], others)


def _size(grid: FoundGrid) -> int:
    """Bits of its codes and scales."""
    return grid.bits * grid.weight.size + SCALE_BITS * grid.scales


def weight_off(weight: Array, kind: str, hints: Sequence[str] = ()) -> str:
    """Which weight keeps the others from having a grid, in brackets; empty where none alone does.

    Parameters
    ----------
    hints
        As for :func:`find_grid`.
    """
    rules = [form.values for form in map(parse, hints) if form.values is not None]
    found = off_weight(weight, TYPES[kind], _block_sizes(weight, rules))
    return "" if found is None else f" ({found.text(weight.shape[1])})"


def _with_steps(weight: Array, kind: NumberType, rules: Sequence[ValueRule]) -> _Candidate | None:
    """The blocks that have steps and say the weights in the fewest bits, those of a named format first."""
    best: _Candidate | None = None
    for size in _block_sizes(weight, rules):
        blocks = weight.reshape(-1, size)
        exact = [rule for rule in rules if rule.has_steps and _block_size(rule, weight) == size]
        few = int(np.count_nonzero(blocks.any(axis=1)) < FEW_BLOCKS)
        most = LARGEST_BITS
        if best is not None:
            asked = (min(rule.code_bits, LARGEST_BITS) for rule in exact if few or not best.named)
            most = max(best.bits - 1, *asked, 0)
        fitted = fitted_blocks(blocks, kind, most)
        width = None if fitted is None else least_width(fitted)
        if fitted is None or width is None:
            continue
        named = any(holds(rule, fitted) for rule in rules) + few * any(holds(rule, fitted) for rule in exact)
        candidate = _Candidate(fitted, width.bits, named)
        if best is None or (named, -candidate.size) > (best.named, -best.size):
            best = candidate
    return best


def _block_sizes(weight: Array, rules: Sequence[ValueRule]) -> list[int]:
    """How many weights may share a step, the most first."""
    inputs = weight.shape[1]
    groups = {*USUAL_GROUPS, *(rule.group for rule in rules if rule.group is not None)}
    return [weight.size, inputs, *sorted((g for g in groups if g < inputs and inputs % g == 0), reverse=True)]


def _block_size(rule: ValueRule, weight: Array) -> int:
    """How many weights share a scale in a format."""
    return rule.group or (weight.shape[1] if "channel" in rule.name.split(":") else weight.size)
