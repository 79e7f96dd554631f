"""Which weight is off the grid that the others of its block lie on, where blocks have no step for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import NumberType
from pvqbounds.storage.checkpoints.found_steps import LARGEST_BITS, WEIGHTS_AT_ONCE, bits_of, coarsest

__all__ = ["MORE_BITS", "OffWeight", "off_weight", "one_off"]

Array = NDArray[np.float64]

MORE_BITS = 2
"""So many bits more than most blocks a block needs where a weight in it is held to be off."""

SAMPLE, MOST_FAULTY = 32, 0.25
"""Blocks that are looked at first, and the part of them that may have no step."""


@dataclass(frozen=True)
class OffWeight:
    """A weight without which its block has a step."""

    place: int
    """In the flattened weights."""
    value: float
    nearest: float
    """The value on the grid of the others that is nearest to it."""

    def text(self, inputs: int) -> str:
        """Where it is, in words."""
        channel, column = divmod(self.place, inputs)
        return (
            f"the weight {self.value:.9g} of input {column} of output channel {channel} is off its grid, on "
            f"which the others there lie and whose nearest value is {self.nearest:.9g}"
        )


def off_weight(weight: Array, kind: NumberType, sizes: Sequence[int]) -> OffWeight | None:
    """The first weight that alone keeps a block from a step, in blocks of a size of which most have one.

    Parameters
    ----------
    weight
        Shape (channels, inputs).
    sizes
        How many weights may share a step, the most first.
    """
    for size in sizes:
        blocks = weight.reshape(-1, size)
        sample = blocks[:: -(-len(blocks) // SAMPLE)]
        usual = _bits(sample, kind)
        usual = usual[usual <= LARGEST_BITS]
        if len(blocks) > 1 and len(usual) < (1.0 - MOST_FAULTY) * len(sample):
            continue
        most = int(usual.max(initial=0)) or LARGEST_BITS
        parts = np.array_split(blocks, -(-blocks.size // WEIGHTS_AT_ONCE))
        bits = np.concatenate([_bits(part, kind) for part in parts])
        for number in np.flatnonzero(bits > LARGEST_BITS).tolist():
            if (found := one_off(blocks[number], kind, most)) is not None:
                return OffWeight(number * size + found.place, found.value, found.nearest)
    return None


def one_off(block: Array, kind: NumberType, most: int) -> OffWeight | None:
    """The weight without which a block has a step, and codes of the fewest bits, not above `most`."""
    stored = np.unique(block)
    sizes = np.unique(np.abs(stored[stored != 0.0]))
    if not 1 < len(sizes) <= 1 << LARGEST_BITS:
        return None
    rests = np.where(np.abs(stored) == sizes[:, None], 0.0, stored)
    bits = _bits(rests, kind)
    best = int(bits.argmin())
    if bits[best] > most:
        return None
    step = float(coarsest(rests[best : best + 1], kind)[0])
    place = int(np.flatnonzero(np.abs(block) == sizes[best])[0])
    value = float(block[place])
    return OffWeight(place, value, float(step * np.rint(value / step)))


def _bits(blocks: Array, kind: NumberType) -> NDArray[np.int64]:
    """Bits of the codes of each block, too many where it has no step."""
    step = coarsest(blocks, kind)
    codes = np.rint(blocks / np.where(np.isnan(step), np.inf, step)[:, None]).astype(np.int64)
    return np.where(np.isnan(step), LARGEST_BITS + 1, bits_of(codes))
