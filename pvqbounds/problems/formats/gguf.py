"""GGUF's Q4_0, Q4_1, Q8_0 and IQ4_NL: blocks of 32 inputs with fp16 scales, as llama.cpp encodes them.

A weight is decoded in float32: ``d q`` is exact there, ``d q + m`` is rounded once. A last block that is
shorter than 32, which llama.cpp does not store, has a scale of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import FP16, in_float32
from pvqbounds.problems.formats.rules import LevelRule, StepRule, ValueRule, level_sets, levels_of
from pvqbounds.problems.formats.scopes import Scope
from pvqbounds.problems.values import Steps, ValueSet

__all__ = ["IQ4NL", "IQ4_NL_LEVELS", "Q40", "Q41", "Q80"]

Array = NDArray[np.float64]

SIZE = 32
BLOCK = Scope(f"b{SIZE}", SIZE)

IQ4_NL_LEVELS = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float64
)

TRIES = 7
"""IQ4_NL's largest weight is tried at so many places on either side of the first level."""


class Block32(ValueRule):
    """What the blocks of GGUF have in common."""

    numbers = 1
    """fp16 numbers of a block."""

    @property
    def code_bits(self) -> int:
        """4, unless a format says otherwise."""
        return 4

    @property
    def group(self) -> int:
        """32."""
        return SIZE

    def side_bits(self, shape: tuple[int, int]) -> int:
        """Scales and offsets."""
        return self.numbers * FP16.bits * BLOCK.count(shape)


@dataclass(frozen=True)
class Q40(Block32, StepRule):
    """``d q``, -8 <= q <= 7, with the weight of largest magnitude at -8: d may be negative."""

    name = "q4_0"

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Steps; a negative d turns the box round."""
        blocks = BLOCK.blocks(weights, live)
        scales = FP16.stored_scales(blocks.extreme / -8.0)
        low, high = np.where(scales > 0.0, -8, -7), np.where(scales > 0.0, 7, 8)
        for step, qmin, qmax in blocks.by_channel(np.abs(scales), low, high):
            yield Steps(step, qmin, qmax)


@dataclass(frozen=True)
class Q80(Block32, StepRule):
    """``d q``, -128 <= q <= 127, as a byte holds it; the largest magnitude is 127 d."""

    name = "q8_0"

    @property
    def code_bits(self) -> int:
        """8."""
        return 8

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Steps."""
        blocks, inputs = BLOCK.blocks(weights, live), weights.shape[1]
        for (step,) in blocks.by_channel(FP16.stored_scales(blocks.largest / 127.0)):
            yield Steps(step, np.full(inputs, -128), np.full(inputs, 127))


@dataclass(frozen=True)
class Q41(Block32, LevelRule):
    """``d q + m``, 0 <= q <= 15, m the least weight of the block; 0 need not be a value."""

    name = "q4_1"
    has_zero = False
    numbers = 2

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Levels."""
        blocks = BLOCK.blocks(weights, live)
        low, high = blocks.ends
        scales = FP16.stored_scales((0.5 * high - 0.5 * low) / 7.5)
        levels = in_float32(scales[:, None] * np.arange(16) + FP16.stored_values(low)[:, None])
        return level_sets(blocks.by_channel(levels_of(levels)))


@dataclass(frozen=True)
class IQ4NL(Block32, LevelRule):
    """Sixteen fixed levels times d, which is fitted to weights that count by their squares; 0 is no value."""

    name = "iq4_nl"
    has_zero = False

    @property
    def units(self) -> Array:
        """The sixteen."""
        return IQ4_NL_LEVELS

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Levels."""
        blocks = BLOCK.blocks(weights, live)
        extreme = blocks.extreme
        relative = blocks.values / np.where(extreme == 0.0, 1.0, extreme)[:, None]
        scales = FP16.stored_scales(_fitted(relative) * extreme)
        return level_sets(blocks.by_channel(levels_of(in_float32(scales[:, None] * IQ4_NL_LEVELS))))


def _fitted(relative: Array) -> Array:
    """Scales of blocks of weights, whose extreme is 1, that fit one of the 16 assignments tried best."""
    middles = 0.5 * (IQ4_NL_LEVELS[1:] + IQ4_NL_LEVELS[:-1])
    places = [-IQ4_NL_LEVELS[0], *(IQ4_NL_LEVELS[0] + np.arange(-TRIES, TRIES + 1))]
    best, scales = np.zeros(len(relative)), np.zeros(len(relative))
    for place in places:  # of the extreme weight, in units of the scale
        levels = IQ4_NL_LEVELS[np.searchsorted(middles, relative * place, side="right")]
        products = (relative**3 * levels).sum(axis=1)
        squares = (relative**2 * levels**2).sum(axis=1)
        fitted = products / np.where(squares > 0.0, squares, 1.0)
        better = fitted * products > best
        best, scales = np.where(better, fitted * products, best), np.where(better, fitted, scales)
    return scales
