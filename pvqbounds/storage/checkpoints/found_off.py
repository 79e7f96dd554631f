"""Which weight is off the grid that the others of its block lie on, where blocks have no step for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import NumberType
from pvqbounds.storage.checkpoints.found_steps import LARGEST_BITS, bits_of, fitted_blocks

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
        usual = [bits for bits in map(lambda block: _bits(block, kind), sample) if bits is not None]
        if len(blocks) > 1 and len(usual) < (1.0 - MOST_FAULTY) * len(sample):
            continue
        most = max(usual, default=LARGEST_BITS)
        for number, block in enumerate(blocks):
            if _bits(block, kind) is None and (found := one_off(block, kind, most)) is not None:
                return OffWeight(number * size + found.place, found.value, found.nearest)
    return None


def one_off(block: Array, kind: NumberType, most: int) -> OffWeight | None:
    """The weight without which a block has a step, and codes of the fewest bits, not above `most`."""
    sizes = np.unique(np.abs(block))
    found: tuple[int, float, float] | None = None
    for size in sizes[sizes > 0.0] if len(sizes) <= 1 << LARGEST_BITS else ():
        rest = np.where(np.abs(block) == size, 0.0, block)[None]
        fitted = fitted_blocks(rest, kind, most) if rest.any() else None
        if fitted is not None and (found is None or bits_of(fitted.codes) < found[0]):
            found = bits_of(fitted.codes), float(size), float(fitted.step[0])
    if found is None:
        return None
    place = int(np.flatnonzero(np.abs(block) == found[1])[0])
    value = float(block[place])
    return OffWeight(place, value, float(found[2] * np.rint(value / found[2])))


def _bits(block: Array, kind: NumberType) -> int | None:
    """Bits of the codes of a block; None where it has no step."""
    fitted = fitted_blocks(block[None], kind)
    return None if fitted is None else bits_of(fitted.codes)
