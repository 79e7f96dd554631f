"""NVFP4 and MXFP4: E2M1 numbers times the scale of a block of inputs.

An MXFP4 weight is exact: its scale is a power of two. NVFP4 has an E4M3 scale for each block of 16 and a
float32 scale for the tensor. Number times block scale is exact; what a matrix unit then does, and what is
bounded, is one float32 product of that with the tensor scale. Decoders that first multiply the two scales
and round give values that differ in the last place of what they round to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.formats.number_types import E2M1, E4M3, FP32, in_float32
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.rules import LevelRule, ValueRule, level_sets, levels_of
from pvqbounds.problems.formats.scopes import TENSOR, Blocks, Scope
from pvqbounds.problems.values import ValueSet

__all__ = ["MXFP4", "NVFP4", "mxfp4", "nvfp4"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BlocksOfE2M1(LevelRule):
    """E2M1 in blocks of inputs, each with a scale of its own."""

    scale: str
    """One of `rules`."""

    scope: ClassVar[Scope]
    """The blocks."""
    called: ClassVar[str]
    rules: ClassVar[Mapping[str, Callable[[Array], NDArray[Any]]]]
    """How scales are found, by name: the default first."""

    @property
    def name(self) -> str:
        """For example nvfp4 or nvfp4:4over6."""
        return self.called if self.scale == next(iter(self.rules)) else f"{self.called}:{self.scale}"

    @property
    def code_bits(self) -> int:
        """4."""
        return E2M1.bits

    @property
    def units(self) -> Array:
        """The numbers of E2M1."""
        return E2M1.levels()

    @property
    def group(self) -> int | None:
        """That of the scope."""
        return self.scope.group


# --- NVFP4: block scales from blocks of weights over the tensor scale


def _amax_six(blocks: Array) -> Array:
    """The largest weight has the largest number, 6."""
    return _e4m3(np.abs(blocks).max(axis=1) / E2M1.largest)


def _four_or_six(blocks: Array) -> Array:
    """The largest weight has 6 or 4, whichever leaves the smaller squared error."""
    largest = np.abs(blocks).max(axis=1)
    return _best_of(blocks, [_e4m3(largest / 6.0), _e4m3(largest / 4.0)])


def _mse(blocks: Array) -> Array:
    """The best of all 126 positive E4M3 numbers."""
    codes = E4M3.levels()
    return _best_of(blocks, [np.full(len(blocks), code) for code in codes[codes > 0.0]])


def _e4m3(scales: Array) -> Array:
    """Round to E4M3, to the ends of its positive numbers beyond them, as encoders do; 0 becomes 1."""
    rounded = E4M3.nearest(np.clip(scales, E4M3.smallest, E4M3.largest))
    return np.where(scales == 0.0, 1.0, rounded)


def _away(scales: Array, away: int) -> Array:
    """The positive E4M3 numbers so many places above, no further than the last of them."""
    codes = E4M3.levels()
    codes = codes[codes > 0.0]
    return np.asarray(codes[np.clip(np.searchsorted(codes, scales) + away, 0, len(codes) - 1)])


def _best_of(blocks: Array, candidates: list[Array]) -> Array:
    best, least = candidates[0], np.full(len(blocks), np.inf)
    for scales in candidates:
        scaled = blocks / scales[:, None]
        rounded = E2M1.nearest(np.clip(scaled, -E2M1.largest, E2M1.largest))
        error = (((scaled - rounded) * scales[:, None]) ** 2).sum(axis=1)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return np.where(np.any(blocks, axis=1), best, 1.0)


NVFP4_SCALES = {"amax": _amax_six, "4over6": _four_or_six, "mse": _mse}


@dataclass(frozen=True)
class NVFP4(BlocksOfE2M1):
    """E2M1 in blocks of 16: an E4M3 scale a block, a float32 scale a tensor (amax / 2688)."""

    scope = Scope("b16", 16)
    called = "nvfp4"
    rules = NVFP4_SCALES

    def side_bits(self, shape: tuple[int, int]) -> int:
        """A byte for each block, a float32 for the tensor."""
        return E4M3.bits * self.scope.count(shape) + FP32.bits * TENSOR.count(shape)

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Levels."""
        return self._rows(weights, live, 0)

    def alternatives(self, weights: Array, live: NDArray[np.bool_]) -> list[Iterator[ValueSet]]:
        """The E4M3 numbers next to a block's own, up to three away."""
        return [self._rows(weights, live, away) for away in (-3, -2, -1, 1, 2, 3)]

    def _rows(self, weights: Array, live: NDArray[np.bool_], away: int) -> Iterator[ValueSet]:
        blocks = self.scope.blocks(weights, live)
        largest = blocks.largest.max(keepdims=True)
        tensor = FP32.stored_scales(largest / (E2M1.largest * E4M3.largest))
        scales = _away(NVFP4_SCALES[self.scale](blocks.values / tensor), away)
        return level_sets(blocks.by_channel(levels_of(in_float32(scales[:, None] * E2M1.levels() * tensor))))


# --- MXFP4: exponents of block scales from the largest weights of blocks


def _ocp(largest: Array) -> NDArray[np.int64]:
    """That of the largest weight, less that of the largest number: 2."""
    return np.asarray(np.frexp(largest)[1] - 1 - 2, dtype=np.int64)


def _compressed_tensors(largest: Array) -> NDArray[np.int64]:
    """One more from a mantissa of 1.75 on, which rounds to 8."""
    return _ocp(largest) + (np.frexp(largest)[0] >= 0.875)


def _round_up(largest: Array) -> NDArray[np.int64]:
    """The least that clips nothing: one more where the mantissa is above 1.5."""
    return _ocp(largest) + (np.frexp(largest)[0] > 0.75)


MXFP4_SCALES = {"ocp": _ocp, "ct": _compressed_tensors, "rceil": _round_up}
LARGEST_E8M0 = 127


@dataclass(frozen=True)
class MXFP4(BlocksOfE2M1):
    """E2M1 in blocks of 32 with a power of two, E8M0."""

    scope = Scope("b32", 32)
    called = "mxfp4"
    rules = MXFP4_SCALES

    def side_bits(self, shape: tuple[int, int]) -> int:
        """A byte for each block."""
        return 8 * self.scope.count(shape)

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Levels."""
        return self._rows(weights, live, 0)

    def alternatives(self, weights: Array, live: NDArray[np.bool_]) -> list[Iterator[ValueSet]]:
        """The powers of two next to a block's own."""
        return [self._rows(weights, live, away) for away in (-1, 1)]

    def _rows(self, weights: Array, live: NDArray[np.bool_], away: int) -> Iterator[ValueSet]:
        blocks = self.scope.blocks(weights, live)
        exponents = np.clip(_exponents(blocks, self.scale) + away, -LARGEST_E8M0, LARGEST_E8M0)
        return level_sets(blocks.by_channel(np.ldexp(E2M1.levels(), exponents[:, None])))


def _exponents(blocks: Blocks, scale: str) -> NDArray[np.int64]:
    """Exponents of E8M0, its least for weights below that; 0 for a block of zeros."""
    largest = blocks.largest
    exponents = np.maximum(MXFP4_SCALES[scale](largest), -LARGEST_E8M0)
    if exponents.max() > LARGEST_E8M0:
        raise InputError(
            f"A weight of {largest.max():.3g} needs a scale above 2^{LARGEST_E8M0}, the largest of MXFP4; "
            "rescale the weights."
        )
    return np.where(largest == 0.0, 0, exponents)


def nvfp4(options: Options) -> ValueRule:
    """The rule of ``nvfp4`` and its options."""
    return NVFP4(options.one_of(*NVFP4_SCALES))


def mxfp4(options: Options) -> ValueRule:
    """The rule of ``mxfp4`` and its options."""
    return MXFP4(options.one_of(*MXFP4_SCALES))
