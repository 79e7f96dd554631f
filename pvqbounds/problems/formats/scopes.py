"""Which weights share a scale: those of the tensor, of an output channel, or of a group of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.formats.options import Options

__all__ = ["CHANNEL", "TENSOR", "Blocks", "Scope", "scope_asked"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Weights in the blocks that share a scale, and the way back."""

    values: Array
    """Shape (blocks, size); 0 for dead inputs and where a last block is shorter."""
    live: NDArray[np.bool_]
    """Which of them count, same shape."""
    shape: tuple[int, int]
    """(channels, inputs) of the weights."""
    size: int
    """Inputs of a channel that share a scale."""
    each: int
    """Blocks of a channel; 0 where all channels share one."""

    @property
    def largest(self) -> Array:
        """Largest magnitude of each block, shape (blocks,)."""
        return np.asarray(np.abs(self.values).max(axis=1))

    def alive(self) -> Iterator[Array]:
        """The weights of each block that count."""
        return (block[counts] for block, counts in zip(self.values, self.live, strict=True))

    @property
    def extreme(self) -> Array:
        """The weight of largest magnitude with its sign, the first on ties, shape (blocks,)."""
        first = np.abs(self.values).argmax(axis=1)
        return np.asarray(self.values[np.arange(len(self.values)), first])

    @property
    def ends(self) -> tuple[Array, Array]:
        """Least and largest weight of each block, 0 where none is live, each of shape (blocks,)."""
        none = ~self.live.any(axis=1)
        low = np.min(self.values, axis=1, where=self.live, initial=np.inf)
        high = np.max(self.values, axis=1, where=self.live, initial=-np.inf)
        return np.where(none, 0.0, low), np.where(none, 0.0, high)

    def by_channel(self, *each_block: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
        """For one channel after another, what each of its inputs has of what each block has.

        Parameters
        ----------
        each_block
            Arrays with one row for each block; inputs that share a scale share memory where they can.
        """
        channels, inputs = self.shape
        block = np.arange(inputs) // self.size
        for channel in range(channels):
            if block[-1] == 0:
                rows = [np.broadcast_to(a[channel * self.each], (inputs, *a.shape[1:])) for a in each_block]
            else:
                rows = [a[channel * self.each + block] for a in each_block]
            yield tuple(rows)


@dataclass(frozen=True)
class Scope:
    """What shares a scale; its weights are consecutive inputs, a last group that is left over is shorter."""

    name: str
    """As names of formats have it: tensor, channel, g128, or b64."""
    group: int | None = None
    """Inputs in a group; None where a channel has one scale."""
    shared: bool = False
    """Whether all channels have one scale."""

    def count(self, shape: tuple[int, int]) -> int:
        """How many scales weights of this shape have."""
        channels, inputs = shape
        return 1 if self.shared else channels * -(-inputs // (self.group or inputs))

    def blocks(self, weights: Array, live: NDArray[np.bool_]) -> Blocks:
        """Weights, shape (channels, inputs), with a mask of the same shape of those that count."""
        channels, inputs = weights.shape
        size = self.group or inputs
        padding = ((0, 0), (0, -inputs % size))
        width = channels * inputs if self.shared else size
        return Blocks(
            values=np.pad(np.where(live, weights, 0.0), padding).reshape(-1, width),
            live=np.pad(live, padding).reshape(-1, width),
            shape=(channels, inputs),
            size=size,
            each=0 if self.shared else -(-inputs // size),
        )


TENSOR, CHANNEL = Scope("tensor", shared=True), Scope("channel")


def scope_asked(options: Options) -> Scope:
    """The scope that a name asks for: ``tensor`` (the default), ``channel`` or ``gN``."""
    channel, tensor, group = options.flag("channel"), options.flag("tensor"), options.number("g")
    if channel + tensor + (group is not None) > 1:
        raise InputError("A format has one scale for a tensor, a channel or a group; ask for one of them.")
    if group is not None:
        return Scope(f"g{group}", group)
    return CHANNEL if channel else TENSOR
