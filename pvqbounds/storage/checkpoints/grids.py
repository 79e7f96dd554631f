"""Grids of weights: which values each weight of a layer may have, told by the block that it lies in.

A block is what shares a scale: a tensor, a channel, a group of inputs, whichever inputs an act-order file
puts together. The value set of a channel is made when it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.rules import levels_of
from pvqbounds.problems.values import Levels, Steps, ValueSet

__all__ = ["FoundGrid", "Grid", "LevelGrid", "StepGrid", "block_numbers"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid(ABC):
    """The values of a layer's weights."""

    block: NDArray[np.int64]
    """Number of the block of each weight, shape (channels, inputs)."""

    @abstractmethod
    def values(self, channel: int) -> ValueSet:
        """What each input of a channel may have."""

    @property
    @abstractmethod
    def has_steps(self) -> bool:
        """Whether values are whole multiples of a step."""

    @abstractmethod
    def above(self, other: Any) -> Grid:
        """The grid of a layer whose further channels have another grid of this kind."""

    @property
    def blocks(self) -> int:
        """How many blocks there are at least."""
        return int(self.block.max()) + 1


@dataclass(frozen=True, eq=False)
class StepGrid(Grid):
    """Uniform steps: a step and a box of codes for each block."""

    step: Array
    """Positive, shape (blocks,)."""
    qmin: NDArray[np.int64]
    """Shape (blocks,)."""
    qmax: NDArray[np.int64]
    """Shape (blocks,)."""

    @classmethod
    def of(
        cls, block: NDArray[np.int64], scale: Array, low: NDArray[Any] | int, high: NDArray[Any] | int
    ) -> StepGrid:
        """Values ``scale k``, low <= k <= high; a scale may be negative, or 0, which leaves 0 alone."""
        low, high = np.broadcast_to(low, scale.shape), np.broadcast_to(high, scale.shape)
        turned, none = scale < 0.0, scale == 0.0
        qmin = np.where(none, 0, np.where(turned, -high, low)).astype(np.int64)
        qmax = np.where(none, 0, np.where(turned, -low, high)).astype(np.int64)
        return cls(block, np.where(none, 1.0, np.abs(scale)), qmin, qmax)

    def values(self, channel: int) -> Steps:
        """Steps."""
        rows = self.block[channel]
        return Steps(self.step[rows], self.qmin[rows], self.qmax[rows])

    @property
    def has_steps(self) -> bool:
        """They are."""
        return True

    def above(self, other: StepGrid) -> StepGrid:
        """The blocks of both, the other's behind its own."""
        block = np.concatenate([self.block, other.block + len(self.step)])
        step = np.concatenate([self.step, other.step])
        ends = ((self.qmin, other.qmin), (self.qmax, other.qmax))
        return StepGrid(block, step, *map(np.concatenate, ends))


@dataclass(frozen=True, eq=False)
class LevelGrid(Grid):
    """Levels of each block."""

    decoded: Callable[[NDArray[np.int64]], Array]
    """What a decoder makes of every code of some blocks, in any order, shape (blocks asked for, codes)."""

    @classmethod
    def of_table(cls, block: NDArray[np.int64], decoded: Array) -> LevelGrid:
        """The levels of all blocks at once, shape (blocks, codes)."""
        return cls(block, lambda blocks: decoded[blocks])

    def values(self, channel: int) -> Levels:
        """Levels; one table for all inputs is held once."""
        blocks, place = np.unique(self.block[channel], return_inverse=True)
        levels = levels_of(self.decoded(blocks))
        levels = levels[:, : 1 + int((levels[:, 1:] > levels[:, :-1]).sum(axis=1).max(initial=0))]
        if len(blocks) == 1:
            return Levels(np.broadcast_to(levels[0], (len(place), levels.shape[1])))
        return Levels(levels[place])

    @property
    def has_steps(self) -> bool:
        """They are no multiples of anything, or not exactly."""
        return False

    def above(self, other: LevelGrid) -> LevelGrid:
        """The blocks of both, the other's behind its own; a channel lies in those of one of them."""
        own = self.blocks

        def decoded(asked: NDArray[np.int64]) -> Array:
            mine = asked < own
            levels = [self.decoded(asked[mine]), other.decoded(asked[~mine] - own)]
            found = np.empty((len(asked), max(part.shape[1] for part in levels)))
            for chosen, part in zip((mine, ~mine), levels, strict=True):
                found[chosen] = part
            return found

        return LevelGrid(np.concatenate([self.block, other.block + own]), decoded)


@dataclass(frozen=True, eq=False)
class FoundGrid:
    """A grid that all weights of a layer lie on, found from them."""

    name: str
    grid: Grid
    weight: Array
    """The weights on it, shape (channels, inputs): those of the file but for its rounding to 32 bits."""
    bits: int
    scales: int
    """Number of scales."""
    presumed: str
    """What its bound holds for, and what in it is beyond the one grid that the quantizer had."""
    mixed: tuple[int, ...]
    """Channels whose grid holds more than any one step and zero point does."""
    notes: tuple[str, ...]


def block_numbers(shape: tuple[int, int], scales: tuple[int, ...]) -> NDArray[np.int64] | None:
    """Which of some scales each weight has, counted along the flattened scales, shape (channels, inputs).

    Parameters
    ----------
    shape
        (channels, inputs) of the weights.
    scales
        Shape of the scales: one number, one for each channel, for each group of inputs, or for each tile;
        the last group and tile may be shorter.

    Returns
    -------
    None if the scales do not fit.
    """
    rows, columns = (*scales, 1, 1)[:2] if int(np.prod(scales)) != 1 else (1, 1)
    if rows < 1 or columns < 1 or len(scales) > 2 or rows > shape[0] or columns > shape[1]:
        return None
    places = []
    for size, count in zip(shape, (rows, columns), strict=True):
        each = size // count if size % count == 0 else _tile(size, count)
        if each is None:
            return None
        places.append(np.arange(size) // each)
    number: NDArray[np.int64] = places[0][:, None] * columns + places[1]
    return number


def _tile(size: int, count: int) -> int | None:
    """Size of tiles of which so many cover a size that they do not divide: a power of two."""
    each = 1 << max(0, (size // count)).bit_length()
    return each if -(-size // each) == count else None
