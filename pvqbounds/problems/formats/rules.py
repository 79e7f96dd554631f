"""What a format says of its values, and how names lead to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.codebook import CodebookLeastSquares
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.grids import RangeMethod
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.problems.least_squares import LeastSquares
from pvqbounds.problems.values import Levels, ValueSet

__all__ = ["AskedScales", "LevelRule", "StepRule", "ValueRule", "level_sets", "levels_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AskedScales:
    """What a layer's options say of the scales of a plain ``int4``; other formats have rules of their own."""

    range_method: RangeMethod = "mse"
    per_channel: bool = False
    given: Sequence[float] | None = None
    """One for each output channel, in place of found ones."""


class ValueRule(ABC):
    """How a format turns weights into the values that they may take.

    The values are those that its decoder gives, bit by bit: what is computed in float32 there is computed
    in float32 here.
    """

    has_zero: ClassVar[bool] = True
    """Whether 0 is a value whatever the weights are."""
    has_steps: ClassVar[bool] = False
    """Whether its values are whole multiples of a step, which the engines for codes are made for."""
    any_scale: ClassVar[bool] = False
    """Whether that step is free: a scale that is found with the codes."""
    free: ClassVar[str] = ""
    """What is free, in words, where something is."""
    one_scale: ClassVar[bool] = False
    """Whether it is one for the layer, so that its channels are bounded together."""

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

    def rows_as_asked(
        self, weights: Array, live: NDArray[np.bool_], asked: AskedScales
    ) -> Iterator[ValueSet]:
        """The same where a layer's options say how scales are found; most rules have their own way."""
        return self.rows(weights, live)

    def alternatives(self, weights: Array, live: NDArray[np.bool_]) -> list[Iterator[ValueSet]]:
        """The same with other scales near those of :meth:`rows`: in each, every group has another one.

        Scales that are searched for on the output error take one of these, or their own, for each group; none
        where the rule has no scales of groups to choose.
        """
        return []

    def as_seen(self, values: Sequence[ValueSet]) -> ValueRule:
        """The rule that counts the scales which the channels of a layer were seen to have."""
        return self

    def at_any_scale(self) -> ValueRule | None:
        """The rule whose scale is free in place of found; None where there is none."""
        return self if self.any_scale else None

    @property
    def takes_scales(self) -> bool:
        """Whether a layer's options may say how its scales are found."""
        return False

    @property
    def group(self) -> int | None:
        """Consecutive inputs that share a scale, which no chunk may cut; None where a channel has one."""
        return None

    def pose(self, gram: Gram, weight: Array, values: Any) -> LeastSquares:
        """The problem of one channel, or of some of its inputs, with values that this rule has found."""
        return LeastSquares(gram, weight, values)

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Which field of a problem is not that of the rule, and why; None where nothing tells against it."""
        low, high = values.code_ends
        codes, most = int((high - low).max()) + 1, 2**self.code_bits
        if codes > most:
            return "codes", f"{codes} codes of an input, but {self.name} has {most}"
        return None

    def text(self) -> str:
        """The values in words."""
        return self.name


class StepRule(ValueRule):
    """Rules of uniform steps."""

    has_steps = True

    def pose(self, gram: Gram, weight: Array, values: Any) -> IntegerLeastSquares:
        """One of whole codes."""
        return IntegerLeastSquares.of_steps(gram, weight, values)

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Whether there are steps, the same ones in each group, and no more codes than bits have."""
        steps = values.lattice
        if steps is None:
            return "grid", f"levels, but those of {self.name} are whole multiples of a step"
        size = self.group or len(steps)
        if (steps != steps[np.arange(len(steps)) // size * size]).any():
            return "step", f"differs within a group of {size} inputs, which {self.name} has one scale for"
        return super().fault(values)


class LevelRule(ValueRule):
    """Rules of sorted levels."""

    @property
    def units(self) -> Array | None:
        """The levels at a scale of one, ascending; None where they are no multiples of any."""
        return None

    def pose(self, gram: Gram, weight: Array, values: Any) -> CodebookLeastSquares:
        """One of level numbers."""
        return CodebookLeastSquares.of_levels(gram, weight, values)

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Whether there are levels, the same ones in each group, and those of the rule up to their scale."""
        table = values.arrays.get("levels")
        if table is None:
            return "grid", f"multiples of a step, but {self.name} has levels"
        starts = np.arange(len(table)) // (self.group or len(table)) * (self.group or len(table))
        if (table != table[starts]).any():
            return (
                "levels",
                f"differ within a group of {self.group} inputs, which {self.name} has one scale for",
            )
        units = self.units
        if units is not None and not all(_scaled(row, units) for row in table[np.unique(starts)]):
            return "levels", f"are not those of {self.name} at any scale"
        return super().fault(values)


def _scaled(row: Array, units: Array) -> bool:
    """Whether levels are those at a scale of one times another, one rounding to float32 aside."""
    scale = float(np.abs(row).max()) / float(np.abs(units).max())
    for levels in (scale * units, -scale * units[::-1]):
        after = np.searchsorted(levels, row).clip(1, len(levels) - 1)
        distance = np.minimum(np.abs(row - levels[after - 1]), np.abs(row - levels[after]))
        if (distance <= FLOAT32 * np.abs(row) + LEAST_FLOAT32).all():
            return True
    return False


FLOAT32, LEAST_FLOAT32 = 2.0**-21, 2.0**-147
"""More than what two roundings to float32 change, of a number and below its normal ones."""


def levels_of(values: Array) -> Array:
    """Rows of values, ascending, with those that are repeated at the end, as `Levels` wants them."""
    ordered = np.sort(values, axis=-1)
    repeated = np.zeros(ordered.shape, dtype=np.bool_)
    repeated[..., 1:] = ordered[..., 1:] == ordered[..., :-1]
    return np.sort(np.where(repeated, ordered[..., -1:], ordered), axis=-1) + 0.0  # no -0


def level_sets(rows: Iterator[tuple[NDArray[Any], ...]]) -> Iterator[Levels]:
    """Level sets of channels, one array of levels each."""
    return (Levels(levels) for (levels,) in rows)
