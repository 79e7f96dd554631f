"""Steps that dequantized weights are whole multiples of, once rounded to the type that a file stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import BF16, FP16, FP32, FP64, NumberType

__all__ = [
    "LARGEST_BITS",
    "WEIGHTS_AT_ONCE",
    "Fitted",
    "bits_of",
    "coarsest",
    "fitted_blocks",
    "hides_steps",
    "in_parts",
    "magnitudes",
    "rounded_to",
    "steps_of",
]

Array = NDArray[np.float64]

LARGEST_BITS = 8
"""Of codes: wider grids hide in the rounding of 32 bits."""
LARGEST_CODE = (1 << LARGEST_BITS) - 1

ORDINARY = FP32.smallest, FP32.largest / LARGEST_CODE
"""Magnitudes that a multiple of a step may have: beyond them no decoder had it in 32 bits."""
ROUNDINGS = 4
"""How often a weight may have been rounded to 32 bits on its way; to 16 bits it was once, in the end."""

WEIGHTS_AT_ONCE = 2**20
"""That blocks have which are looked at together."""

MOST_DOUBT = 0.25
"""Part of a step that rounding may hide: beyond it any number would pass for a multiple."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Blocks with a step each."""

    step: Array
    codes: NDArray[np.int64]
    """Shape (blocks, size)."""


def fitted_blocks(blocks: Array, kind: NumberType, most: int = LARGEST_BITS) -> Fitted | None:
    """The coarsest step of each block; None as soon as one has none, or needs more bits than `most`."""
    steps, codes = np.ones(len(blocks)), np.zeros(blocks.shape, dtype=np.int64)
    for part in in_parts(blocks):
        steps[part] = coarsest(blocks[part], kind)
        if np.isnan(steps[part]).any():
            return None
        codes[part] = np.rint(blocks[part] / steps[part, None])
        if bits_of(codes[part]).max() > most:
            return None
    return Fitted(steps, codes)


def coarsest(blocks: Array, kind: NumberType) -> Array:
    """The coarsest step of each block, 1 where all weights are 0; nan where there is none."""
    sizes = magnitudes(blocks)
    least, most = sizes[:, 0], sizes[:, -1]
    few = np.count_nonzero(np.diff(sizes), axis=1) < LARGEST_CODE
    ordinary = np.flatnonzero(few & (least >= ORDINARY[0]) & (most <= ORDINARY[1]))
    found = np.where(most == 0.0, 1.0, np.nan)
    for places, step in steps_of(sizes[ordinary], kind, first=True):
        found[ordinary[places]] = step
    return found


def in_parts(blocks: Array) -> Iterator[NDArray[np.int64]]:
    """Blocks with weights, those first that may need most bits: ever more at once, as one may end it."""
    largest = np.abs(blocks).max(axis=1)
    order = np.argsort(-largest, kind="stable")[: np.count_nonzero(largest)]
    start, count = 0, 1
    while start < len(order):
        yield order[start : start + count]
        start, count = start + count, max(1, min(16 * count, WEIGHTS_AT_ONCE // blocks.shape[1]))


def magnitudes(blocks: Array) -> Array:
    """The magnitudes of each block that are not 0, rising; its largest, again and again, behind them."""
    sizes = np.abs(blocks)
    sizes = np.where(sizes == 0.0, sizes.max(axis=1, keepdims=True), sizes)
    if sizes.shape[1] <= LARGEST_CODE:
        return np.sort(sizes, axis=1)
    rows = [np.unique(row)[: LARGEST_CODE + 1] for row in sizes]
    widest = max(map(len, rows))
    return np.stack([np.pad(row, (0, widest - len(row)), "edge") for row in rows])


def bits_of(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fewest bits that hold the codes of each block and 0, wherever its zero point is."""
    widths = np.maximum(codes.max(axis=-1), 0) - np.minimum(codes.min(axis=-1), 0)
    found: NDArray[np.int64] = np.frexp(widths.astype(np.float64))[1].astype(np.int64)
    return found


def steps_of(
    sizes: Array, kind: NumberType, largest: int = LARGEST_CODE, *, first: bool = False
) -> Iterator[tuple[NDArray[np.int64], Array]]:
    """Steps that all magnitudes of a block are multiples of, once rounded, the coarsest first.

    Of those at which the codes are the same there is one.

    Parameters
    ----------
    sizes
        Rising magnitudes of each block, shape (blocks, any number).
    largest
        Magnitude that a code may have.
    first
        Whether the coarsest of each block is enough.

    Yields
    ------
    Numbers of blocks, and a step of each of them.
    """
    kind = FP32 if kind == FP64 else kind  # whatever computed them may have had 32 bits
    below, above = rounded_to(sizes, kind)
    most = (largest * above[:, 0] / below[:, -1]).astype(np.int64)
    for times in range(1, int(most.max(initial=0)) + 1):
        left = np.flatnonzero(most >= times)
        whole = np.rint(sizes[left] * (times / sizes[left, :1]))
        hidden = hides_steps(sizes[left], whole[:, -1], kind)
        most[left[hidden]] = 0
        low, high = (below[left] / whole).max(axis=1), (above[left] / whole).min(axis=1)
        open_ones = ~hidden & (low <= high)
        left = left[open_ones]
        if not len(left):
            continue
        step = _fitting(low[open_ones], high[open_ones], sizes[left], whole[open_ones], kind)
        fits = ~np.isnan(step)
        if first:
            most[left[fits]] = 0
        yield left[fits], step[fits]


def _fitting(low: Array, high: Array, sizes: Array, whole: Array, kind: NumberType) -> Array:
    """A step of each block, from low to high, whose multiples are stored as its magnitudes; nan for none."""
    unit = 2.0 ** -(kind.mantissa + 1)
    doubt = 2.0 * ROUNDINGS * unit * sizes if kind == FP32 else np.zeros_like(sizes)
    found = np.full(len(low), np.nan)
    middle = 0.5 * (low + high)
    short = [number.nearest(middle) for number in (BF16, FP16, FP32)]  # those first that few bits store
    for step in (*short, middle, low, high):
        tried = np.flatnonzero(np.isnan(found) & (low <= step) & (step <= high))
        apart = np.abs(kind.nearest(step[tried, None] * whole[tried]) - sizes[tried])
        good = tried[(apart <= doubt[tried]).all(axis=1)]
        found[good] = step[good]
    return found


def hides_steps(sizes: Array, largest: Array | int, kind: NumberType) -> NDArray[np.bool_]:
    """Whether rounding hides what a block's magnitudes are multiples of, where codes are up to a largest one.

    Parameters
    ----------
    sizes
        Rising magnitudes of each block, shape (blocks, any number).
    """
    below, above = rounded_to(sizes, kind)
    doubt = 0.5 * (above - below) / sizes  # more than usual of numbers below the normal ones
    found: NDArray[np.bool_] = (
        np.maximum(2.0**-kind.mantissa, doubt.max(axis=1) + doubt[:, 0]) * largest > MOST_DOUBT
    )
    return found


def rounded_to(sizes: Array, kind: NumberType) -> tuple[Array, Array]:
    """The ends of the intervals that are rounded to some positive numbers of a type."""
    fraction, exponent = np.frexp(sizes)
    half = np.ldexp(0.5, np.maximum(exponent - 1, kind.least_exponent) - kind.mantissa)
    if kind == FP32:
        half = ROUNDINGS * half
    below = np.where(fraction == 0.5, 0.5 * half, half)  # numbers below a power of two lie closer
    return sizes - below, sizes + half
