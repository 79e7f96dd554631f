"""NF4 of bitsandbytes: sixteen quantiles of the normal distribution times the absmax of a block.

A weight is decoded as the float32 product of level and absmax. Blocks run along the inputs of a channel;
bitsandbytes lets them run over the flattened tensor, which is the same where they divide the inputs.

With double quantization (``:dq``) the absmax itself is an 8-bit code: less the mean of all, in blocks of
256 along the flattened list, times that block's own absmax; decoded in float32, one operation at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import FP32, in_float32
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.rules import LevelRule, ValueRule, level_sets, levels_of
from pvqbounds.problems.formats.scopes import Scope
from pvqbounds.problems.values import ValueSet

__all__ = ["NF4", "NF4_LEVELS", "dynamic_levels", "nf4"]

Array = NDArray[np.float64]

NF4_LEVELS = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip
"""Each a float32 number."""

USUAL_BLOCK = 64
ABSMAX_BLOCK = 256


def dynamic_levels() -> Array:
    """The 256 levels of bitsandbytes' dynamic map: seven decades with 1, 2, 4, ..., 64 levels a sign."""
    positive = []
    for exponent in range(7):
        ends = np.linspace(0.1, 1.0, 2**exponent + 1)
        positive.append(10.0 ** (exponent - 6) * (ends[1:] + ends[:-1]) / 2.0)
    flat = np.concatenate(positive)
    return in_float32(np.sort(np.concatenate([-flat, [0.0], flat, [1.0]])))


def double_quantized(absmax: Array) -> Array:
    """What is decoded for each absmax, shape (blocks,)."""
    code = dynamic_levels()
    offset = in_float32(absmax.mean(keepdims=True))
    centred = in_float32(absmax - offset)
    blocks = np.pad(centred, (0, -len(absmax) % ABSMAX_BLOCK)).reshape(-1, ABSMAX_BLOCK)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    relative = blocks / np.where(largest == 0.0, 1.0, largest)
    nearest = code[np.searchsorted(0.5 * (code[1:] + code[:-1]), relative)]
    return in_float32(in_float32(nearest * largest).ravel()[: len(absmax)] + offset)


@dataclass(frozen=True)
class NF4(LevelRule):
    """NF4 levels times an absmax, in float32 or quantized itself."""

    block: int
    double: bool

    @property
    def name(self) -> str:
        """For example nf4:b128:dq."""
        block = f":b{self.block}" if self.block != USUAL_BLOCK else ""
        return f"nf4{block}{':dq' if self.double else ''}"

    @property
    def code_bits(self) -> int:
        """4."""
        return 4

    @property
    def units(self) -> Array:
        """NF4's."""
        return NF4_LEVELS

    @property
    def scope(self) -> Scope:
        """A block of inputs."""
        return Scope(f"b{self.block}", self.block)

    @property
    def group(self) -> int | None:
        """That of the scope."""
        return self.scope.group

    def side_bits(self, shape: tuple[int, int]) -> int:
        """A float32 for each block, or a byte with a float32 for each 256 of them and one for all."""
        count = self.scope.count(shape)
        if not self.double:
            return FP32.bits * count
        return 8 * count + FP32.bits * (-(-count // ABSMAX_BLOCK) + 1)

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Levels; the signs of a decoded absmax may turn them round, so that they are sorted."""
        blocks = self.scope.blocks(weights, live)
        absmax = FP32.stored_scales(blocks.largest)
        if self.double:
            absmax = double_quantized(absmax)
        return level_sets(blocks.by_channel(levels_of(in_float32(absmax[:, None] * NF4_LEVELS))))


def nf4(options: Options) -> ValueRule:
    """The rule of ``nf4`` and its options."""
    return NF4(options.number("b") or USUAL_BLOCK, options.flag("dq"))
