"""The scales of dequantized weights that lie on the levels of a format that is named."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import FP32, NumberType
from pvqbounds.problems.formats.rules import LevelRule
from pvqbounds.storage.checkpoints.grids import FoundGrid, LevelGrid

__all__ = ["on_levels"]

Array = NDArray[np.float64]

FEW_LEVELS = 16
"""Of a format whose blocks have every scale that fits them; of more the largest weight tells the scale."""


def on_levels(weight: Array, rule: LevelRule, kind: NumberType) -> FoundGrid | None:
    """The levels of a rule at a scale for each block, with the numbers of the file where it has them."""
    units, size = rule.units, rule.group or weight.shape[1]
    if units is None or weight.shape[1] % size:
        return None
    blocks = weight.reshape(-1, size)
    found: list[Array] = []
    for row in blocks:
        levels = _levels_of_block(row, units, kind)
        if levels is None:
            return None
        found.append(levels)
    several = np.array([len(levels) > len(units) for levels in found])
    widest = max(map(len, found))
    table = np.stack([np.pad(levels, (0, widest - len(levels)), "edge") for levels in found])
    block = (np.arange(weight.size) // size).reshape(weight.shape)
    empty = int((~blocks.any(axis=1)).sum())
    return FoundGrid(
        name=rule.name,
        grid=LevelGrid.of_table(block, table),
        weight=weight,
        bits=rule.code_bits,
        scales=len(blocks),
        presumed=_presumed(rule, len(blocks), int(several.sum()), empty),
        mixed=tuple(np.flatnonzero(several[block].any(axis=1)).tolist()),
        notes=(f"The scales of {rule.name} are found from the weights: no file says them.",),
    )


def _presumed(rule: LevelRule, blocks: int, several: int, empty: int) -> str:
    """What a bound on such levels holds for.

    Parameters
    ----------
    several
        How many blocks may have had more scales than one.
    empty
        How many are all 0.
    """
    units = rule.units
    assert units is not None
    told = [f"presumes {rule.name} with scales found from the weights"]
    if len(units) > FEW_LEVELS:
        told.append("the largest of each block has the largest level that fits")
    if empty:
        told.append(f"in {empty} of {blocks} blocks, whose weights are all 0, nothing else")
    if several:
        told.append(
            f"in {several} of {blocks} blocks, which use few levels, it holds for every scale that they can "
            "have had; what was found in their channels, which may mix them, is not counted as reached"
        )
    return "; ".join(told)


def _levels_of_block(row: Array, units: Array, kind: NumberType) -> Array | None:
    """The levels at every scale that a block may have had; at the first of them where there are many."""
    largest = float(row[np.abs(row).argmax()])
    if not largest:
        return np.zeros(len(units))
    stored = np.unique(row)
    if len(stored) > len(units):
        return None
    doubt = 4.0 * 2.0 ** -(min(kind.mantissa, FP32.mantissa) + 1)
    matches: dict[tuple[float, ...], None] = {}  # of E2M1 a scale and its negative have the same levels
    for reached in units[np.argsort(-np.abs(units))]:
        levels = _matched(stored, largest / reached, units, kind, doubt) if reached else None
        if levels is not None:
            matches.setdefault(tuple(np.sort(levels).tolist()))
            if len(units) > FEW_LEVELS:
                break
    return np.concatenate([np.array(levels) for levels in matches]) if matches else None


def _matched(stored: Array, scale: float, units: Array, kind: NumberType, doubt: float) -> Array | None:
    """The levels at a scale, those that numbers have as the file has them; None if one has none."""
    decoded = kind.nearest(scale * units)
    nearest = np.abs(stored[:, None] - decoded).argmin(axis=1)
    apart = np.abs(stored - decoded[nearest])
    if (apart > doubt * np.abs(stored)).any() or len(np.unique(nearest)) < len(nearest):
        return None
    decoded[nearest] = stored
    return decoded
