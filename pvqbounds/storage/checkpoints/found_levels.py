"""The scales of dequantized weights that lie on the levels of a format that is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import FP32, NumberType
from pvqbounds.problems.formats.rules import LevelRule
from pvqbounds.storage.checkpoints.found_steps import in_parts
from pvqbounds.storage.checkpoints.found_unseen import has_16_bits, of_roundings, of_scale, stored_between
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
    blocks, units = weight.reshape(-1, size), np.sort(units)
    scales = _scales(blocks, units, kind)
    if scales is None:
        return None
    several = (scales[:, 1:] != scales[:, :1]).any(axis=1)
    block = (np.arange(weight.size) // size).reshape(weight.shape)

    def decoded(asked: NDArray[np.int64]) -> Array:
        levels = [_levels_at(blocks[asked], scale, units, kind) for scale in scales[asked].T]
        return np.concatenate(levels, axis=1)

    empty = int((~blocks.any(axis=1)).sum())
    return FoundGrid(
        name=rule.name,
        grid=LevelGrid(block, decoded),
        weight=weight,
        bits=rule.code_bits,
        scales=len(blocks),
        presumed=_presumed(rule, len(blocks), int(several.sum()), empty, of_roundings(weight, kind)),
        mixed=tuple(np.flatnonzero(several[block].any(axis=1)).tolist()),
        notes=(f"The scales of {rule.name} are found from the weights: no file says them.",),
    )


def _presumed(rule: LevelRule, blocks: int, several: int, empty: int, roundings: Sequence[str]) -> str:
    """What a bound on such levels holds for.

    Parameters
    ----------
    several
        How many blocks may have had more scales than one.
    empty
        How many are all 0.
    roundings
        What is said of how often weights were rounded.
    """
    units = rule.units
    assert units is not None
    told = [f"presumes {rule.name} with scales found from the weights", *roundings]
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


def _scales(blocks: Array, units: Array, kind: NumberType) -> Array | None:
    """Every scale that each block may have had, 0 where all is 0; of many levels the first that fits.

    Shape (blocks, any number), again the first where a block has fewer; None if one has none.
    """
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0]
    reached = units[np.argsort(-np.abs(units), kind="stable")]
    reached = reached[reached > 0.0 if np.array_equal(units, -units[::-1]) else reached != 0.0]
    few = len(units) <= FEW_LEVELS
    found = np.zeros((len(blocks), len(reached) if few else 1))
    for part in in_parts(blocks):
        rising = np.sort(blocks[part], axis=1)
        own = np.full((len(part), found.shape[1]), np.nan)
        for place, unit in enumerate(reached):
            left = np.arange(len(part)) if few else np.flatnonzero(np.isnan(own[:, 0]))
            scale = largest[part[left]] / unit
            fits = _fits(rising[left], scale, units, kind)
            own[left[fits], place if few else 0] = scale[fits]
        own = np.take_along_axis(own, np.argsort(np.isnan(own), axis=1, kind="stable"), axis=1)
        if np.isnan(own[:, 0]).any():
            return None
        found[part] = np.where(np.isnan(own), own[:, :1], own)
    return found[:, : 1 + int((found[:, 1:] != found[:, :1]).sum(axis=1).max(initial=0))]


def _fits(rising: Array, scale: Array, units: Array, kind: NumberType) -> NDArray[np.bool_]:
    """Whether each number of a block is a level at a scale, and different ones are different levels."""
    doubt = 4.0 * 2.0 ** -(min(kind.mantissa, FP32.mantissa) + 1)
    nearest = _nearest(rising, scale, units)
    apart = np.abs(rising - kind.nearest(scale[:, None] * units[nearest])) > doubt * np.abs(rising)
    same = (np.diff(rising, axis=1) > 0.0) & (np.diff(nearest, axis=1) == 0)
    found: NDArray[np.bool_] = ~(apart.any(axis=1) | same.any(axis=1))
    return found


def _nearest(blocks: Array, scale: Array, units: Array) -> NDArray[np.int64]:
    """Which level is nearest to each number of a block at a scale; any where that is 0."""
    divisor = np.where(scale == 0.0, 1.0, scale)[:, None]
    return np.searchsorted(0.5 * (units[1:] + units[:-1]), blocks / divisor)


def _levels_at(blocks: Array, scale: Array, units: Array, kind: NumberType) -> Array:
    """The levels of each block at a scale, those that numbers have as the file has them.

    In 16 bits a scale is known to a small interval only: of a level that no number has, all that its product
    with such a scale may be stored as.
    """
    nearest, values = _nearest(blocks, scale, units), kind.nearest(scale[:, None] * units)[None]
    sizes = np.abs(blocks)
    # numbers below the normal ones may be of a level beside the nearest: the largest alone is sure
    sure = (sizes >= 2.0**kind.least_exponent) | (sizes == sizes.max(axis=1, keepdims=True))
    sure |= blocks == 0.0
    if has_16_bits(kind):
        low, high = of_scale(sizes, np.where(sure, np.abs(units[nearest]), 0.0), kind)
        turned = units * np.sign(scale)[:, None]
        low, high = (np.where(np.isfinite(end), end, 0.0)[:, None] for end in (low, high))
        values = stored_between(low * turned, high * turned, kind)
    block, number = np.nonzero(sure)
    values[:, block, nearest[block, number]] = blocks[block, number]
    levels = values.transpose(1, 0, 2).reshape(len(blocks), -1)
    return levels if sure.all() else np.concatenate([levels, blocks], axis=1)
