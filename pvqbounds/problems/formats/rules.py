"""What a format says of its values, and how names lead to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.values import Levels, ValueSet

__all__ = ["ValueRule", "level_sets", "levels_of"]

Array = NDArray[np.float64]


class ValueRule(ABC):
    """How a format turns weights into the values that they may take.

    The values are those that its decoder gives, bit by bit: what is computed in float32 there is computed
    in float32 here.
    """

    has_zero: ClassVar[bool] = True
    """Whether 0 is a value whatever the weights are."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that is parsed to this rule, as short as it can be."""

    @property
    @abstractmethod
    def code_bits(self) -> int:
        """Bits of a weight's code."""

    @abstractmethod
    def side_bits(self, shape: tuple[int, int]) -> int:
        """Bits of all scales and zero points of weights of a shape (channels, inputs)."""

    @abstractmethod
    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """The value set of one output channel after another.

        Parameters
        ----------
        weights
            Finite, shape (channels, inputs).
        live
            Which of them the scales are found from, same shape.
        """


def levels_of(values: Array) -> Array:
    """Rows of values, ascending, with those that are repeated at the end, as `Levels` wants them."""
    ordered = np.sort(values, axis=-1)
    repeated = np.zeros(ordered.shape, dtype=np.bool_)
    repeated[..., 1:] = ordered[..., 1:] == ordered[..., :-1]
    return np.sort(np.where(repeated, ordered[..., -1:], ordered), axis=-1) + 0.0  # no -0


def level_sets(rows: Iterator[tuple[NDArray[Any], ...]]) -> Iterator[Levels]:
    """Level sets of channels, one array of levels each."""
    return (Levels(levels) for (levels,) in rows)
