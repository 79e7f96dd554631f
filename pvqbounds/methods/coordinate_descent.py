"""Coordinate descent: one input after the other to its best value, in cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.methods.base import RoundingMethod
from pvqbounds.methods.channels import Channels, for_each_gram
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.gram import Gram

__all__ = ["CoordinateDescent"]

Array = NDArray[np.float64]

BLOCK = 128
"""Inputs between two products with the whole Gram; it changes no result."""

RELAXED = 25
"""Cycles among which every third one, from the second on, leaves weights unrounded: QuantEase's numbers."""


@dataclass(frozen=True)
class CoordinateDescent(RoundingMethod):
    """Each input in turn to its best value given all others, from the weights as they are.

    Every third cycle leaves the weights unrounded, which leads out of minima of single inputs; the last
    one does not.
    """

    name: ClassVar[str] = "cd"
    label: ClassVar[str] = "coordinate descent"
    citation: ClassVar[str] = (
        'Behdin, Acharya, Gupta, Song, Zhu, Keerthi and Mazumder, "QuantEase: optimization-based '
        'quantization for language models", 2023'
    )
    listed_up_to: ClassVar[float] = inf

    cycles: int = 30

    def __post_init__(self) -> None:
        if self.cycles < 1:
            raise InputError(f"There is at least one cycle of coordinate descent, not {self.cycles}.")

    def rounded(self, problems: Sequence[LeastSquares]) -> list[NDArray[np.int64]]:
        """All channels of one Gram together."""
        return for_each_gram(problems, lambda gram: gram, partial(_descended, self.cycles))


def _descended(cycles: int, gram: Gram, channels: Channels) -> Array:
    weight = np.ascontiguousarray(channels.weight.T)
    moves = np.zeros_like(weight)  # v - w, shape (n, channels)
    for cycle in range(cycles):
        free = cycle % 3 == 1 and cycle <= RELAXED and cycle < cycles - 1
        for start in range(0, gram.n, BLOCK):
            _cycle(gram.over_mean, weight, moves, slice(start, start + BLOCK), None if free else channels)
    return (weight + moves).T


def _cycle(form: Array, weight: Array, moves: Array, block: slice, channels: Channels | None) -> None:
    """Move the inputs of a block in place; without channels to the best of all numbers."""
    inputs, before = range(*block.indices(len(form))), moves[block].copy()
    pull = form[block] @ moves
    for place, i in enumerate(inputs):
        others = pull[place] + form[i, block] @ (moves[block] - before) - form[i, i] * moves[i]
        best = weight[i] - others / form[i, i]
        moves[i] = (best if channels is None else channels.nearest(i, best)) - weight[i]
