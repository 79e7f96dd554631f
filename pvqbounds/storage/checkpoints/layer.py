"""One compressed layer: its weights, and what the compression was allowed to choose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.supports import ALL, AtMost, Pattern, SupportRule
from pvqbounds.storage.checkpoints.grids import Grid

__all__ = ["AS_KEPT", "CompressedLayer", "found_pattern", "joined"]

Array = NDArray[np.float64]

TWO_FOUR = (2, 4)

AS_KEPT = "presumes that each channel keeps so many weights, rather than the layer as many in all"
"""Where the zeros of a file say how many there are, and nothing says what counted them."""

MOST_CHANCE = 1e-6
"""Probability that as many zeros, thrown in at random, follow 2:4 throughout: above it they may have."""


@dataclass(frozen=True, eq=False)
class CompressedLayer:
    """What a checkpoint holds of one layer."""

    name: str
    """Of the layer in the checkpoint."""
    kind: str
    """Which format it is stored in, in words."""
    values: str
    """Its values in words, such as int4:g128; empty where kept weights are any real numbers."""
    shape: tuple[int, ...]
    """Of the dense weight: (output channels, input channels, *kernel)."""
    weight: Array
    """The weights as the file says them exactly, not rounded by a decoder, shape (channels, fan-in)."""
    grid: Grid | None
    """Which values each weight may have had; None where kept weights are any real numbers."""
    code_bits: int
    """Bits of a code; those of a stored number where there is no grid."""
    bits_per_weight: float
    """Size of all tensors of the layer but its bias, in bits for each weight."""
    pattern: tuple[int, int] | None = None
    """N:M, which the zeros of the file follow along the input channels."""
    pruned: bool = False
    """Whether each channel may keep as many weights as the file keeps of it."""
    presumed: str = ""
    """What a bound on its values holds for, to follow "the interval", where the file does not say it."""
    mixed: tuple[int, ...] = ()
    """Channels whose values are more than the compression was allowed to choose at once."""
    notes: tuple[str, ...] = ()
    """What a reader must know, a sentence each."""

    @property
    def channels(self) -> int:
        """Output channels."""
        return len(self.weight)

    @property
    def stride(self) -> int:
        """How far apart the weights of a group of the pattern lie: the size of the kernel."""
        return int(np.prod(self.shape[2:], dtype=np.int64))

    def rule(self, channel: int, start: int, stop: int) -> SupportRule:
        """Which of a channel's inputs from `start` up to `stop` may be non-zero."""
        if self.pattern is not None:
            return Pattern(*self.pattern, self.stride)
        if self.pruned:
            return AtMost(int(np.count_nonzero(self.weight[channel, start:stop])))
        return ALL

    def codes(self, channel: int) -> NDArray[np.int64]:
        """The codes of a channel's weights.

        Raises
        ------
        InputError
            If a weight is not one of its values.
        """
        assert self.grid is not None
        values, row = self.grid.values(channel), self.weight[channel]
        codes = values.nearest(row)
        assert codes is not None
        off = np.flatnonzero(values.weight_of(codes) != row)
        if len(off):
            raise InputError(
                f"The weight {row[off[0]]:.9g} of input {off[0]} of output channel {channel} of "
                f"'{self.name}' is off its own grid ({self.kind}, {self.values}); the nearest value is "
                f"{values.weight_of(codes)[off[0]]:.9g}."
            )
        return codes


def joined(one: CompressedLayer, other: CompressedLayer, interleaved: bool = False) -> CompressedLayer:
    """The layer whose channels are those of two, which a file has apart.

    Parameters
    ----------
    interleaved
        Whether channels of the two come by turns, not those of the other behind those of the one.

    Raises
    ------
    InputError
        If they are stored in different ways, have different inputs, or different numbers of channels where
        those come by turns.
    """
    alike = [(a.kind, a.code_bits, a.pruned, type(a.grid), a.shape[1:]) for a in (one, other)]
    if alike[0] != alike[1]:
        raise InputError(
            f"{shown(one.name)} ({one.kind}, {one.values}) and {shown(other.name)} ({other.kind}, "
            f"{other.values}) are one layer of the model, but are stored in different ways."
        )
    if interleaved and one.channels != other.channels:
        raise InputError(
            f"{shown(one.name)} with {one.channels} channels and {shown(other.name)} with {other.channels} "
            "are one layer of the model, whose channels come by turns: there must be as many of both."
        )
    weight = np.concatenate([one.weight, other.weight])
    grid = None if one.grid is None else one.grid.above(other.grid)
    mixed = np.isin(np.arange(len(weight)), [*one.mixed, *(one.channels + n for n in other.mixed)])
    if interleaved:
        order = np.arange(len(weight)).reshape(2, -1).T.ravel()
        weight, mixed = weight[order], mixed[order]
        grid = None if grid is None else replace(grid, block=grid.block[order])
    sizes = one.weight.size, other.weight.size
    shape = (len(weight), *one.shape[1:])
    return CompressedLayer(
        name=f"{one.name} and {other.name}",
        kind=one.kind,
        values=one.values if one.values == other.values else f"{one.values} and {other.values}",
        shape=shape,
        weight=weight,
        grid=grid,
        code_bits=one.code_bits,
        bits_per_weight=float(np.average([one.bits_per_weight, other.bits_per_weight], weights=sizes)),
        pattern=one.pattern if one.pattern == other.pattern else None,
        pruned=one.pruned,
        presumed=" and ".join(dict.fromkeys(filter(None, (one.presumed, other.presumed)))),
        mixed=tuple(np.flatnonzero(mixed).tolist()),
        notes=tuple(dict.fromkeys([*one.notes, *other.notes])),
    )


def found_pattern(weight: Array, shape: tuple[int, ...], *, sure: bool = False) -> tuple[int, int] | None:
    """2:4, if every four consecutive input channels at a place of the kernel have two zeros or more.

    Codes are 0 by chance too: unless that is out of the question, as in so few groups, nothing is found.

    Parameters
    ----------
    weight
        Shape (channels, fan-in).
    shape
        Of the dense weight.
    sure
        Whether no weight is 0 by chance.
    """
    kept, size = TWO_FOUR
    if len(shape) < 2 or shape[1] % size:
        return None
    zeros = weight.reshape(shape[0], shape[1] // size, size, -1) == 0.0
    if not (zeros.sum(axis=2) >= size - kept).all():
        return None
    part = float(zeros.mean())
    by_chance = 1.0 - (1.0 - part) ** 4 - 4.0 * part * (1.0 - part) ** 3
    return TWO_FOUR if sure or by_chance ** (zeros.size // size) < MOST_CHANCE else None
