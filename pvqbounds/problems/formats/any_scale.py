"""int4:any, int4:asym:any, int4:tensor:any: uniform steps whose scale is free.

It is one for a channel, alone or with its zero point, or one for all channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.any_scale import AnyScaleLeastSquares, AnySteps
from pvqbounds.problems.formats.number_types import FP16
from pvqbounds.problems.formats.rules import ValueRule
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.problems.values import Steps, ValueSet

__all__ = ["AnyLayerScale", "AnyScale", "AnyScaleAndZeroPoint"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AnyScale(ValueRule):
    """Codes -2^(b-1) to 2^(b-1) - 1 times a scale of the channel that is as free as they are.

    Scales count as fp16, in which they would be stored; the bound is about all real ones.
    """

    has_steps: ClassVar[bool] = True
    any_scale: ClassVar[bool] = True
    free: ClassVar[str] = "any scale a channel"
    bits: int

    @property
    def name(self) -> str:
        """For example int4:any."""
        return f"int{self.bits}:any"

    @property
    def code_bits(self) -> int:
        """The bit width."""
        return self.bits

    def side_bits(self, shape: tuple[int, int]) -> int:
        """A scale for each channel."""
        return FP16.bits * shape[0]

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """The same steps of any scale for each channel."""
        channels, inputs = weights.shape
        return iter([AnySteps(inputs, *self._codes)] * channels)

    def pose(self, gram: Gram, weight: Array, values: Any) -> AnyScaleLeastSquares:
        """One whose scale is free."""
        return AnyScaleLeastSquares(gram, weight, values.qmin, values.qmax, span=values.span)

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Whether the scale is free, and the codes are those of so many bits."""
        if not isinstance(values, AnySteps):
            return "grid", f"values of a given scale, but {self.name} takes any"
        if (values.qmin, values.qmax, values.span) != self._codes:
            return "codes", f"the grid {values.qmin}..{values.qmax} is not that of {self.bits} bits"
        return None

    def text(self) -> str:
        """Bits and codes."""
        low, high, _ = self._codes
        return f"{self.bits} bits, codes {low}..{high}, any scale"

    @property
    def _codes(self) -> tuple[int, int, int | None]:
        """Least and largest code, and the span."""
        return *symmetric_codes(self.bits), None


@dataclass(frozen=True)
class AnyScaleAndZeroPoint(AnyScale):
    """Codes 0 to 2^b - 1 less a zero point of b bits, times a scale, both of the channel and free."""

    free: ClassVar[str] = "any scale and zero point a channel"

    @property
    def name(self) -> str:
        """For example int4:asym:any."""
        return f"int{self.bits}:asym:any"

    def side_bits(self, shape: tuple[int, int]) -> int:
        """A scale and a zero point for each channel."""
        return (FP16.bits + self.bits) * shape[0]

    def text(self) -> str:
        """Bits, and how many codes in a row."""
        return f"{self.bits} bits, {2**self.bits} codes in a row with 0, any scale"

    @property
    def _codes(self) -> tuple[int, int, int | None]:
        """Of all zero points, and how far apart those of one are."""
        top = 2**self.bits - 1
        return -top, top, top


@dataclass(frozen=True)
class AnyLayerScale(AnyScale):
    """The same with one scale for all channels of the layer.

    Its channels are posed with a free scale, and are bounded together; the problems of a result are those at
    the scale that was found.
    """

    one_scale: ClassVar[bool] = True
    free: ClassVar[str] = "any scale for the layer"

    @property
    def name(self) -> str:
        """For example int4:tensor:any."""
        return f"int{self.bits}:tensor:any"

    def side_bits(self, shape: tuple[int, int]) -> int:
        """One scale."""
        return FP16.bits

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Whether all inputs have one scale, and codes of so many bits."""
        if not (isinstance(values, Steps) and values.is_uniform):
            return "grid", f"values of several scales, but {self.name} has one for the layer"
        if (int(values.qmin[0]), int(values.qmax[0])) != symmetric_codes(self.bits):
            return "codes", f"the grid {values.qmin[0]}..{values.qmax[0]} is not that of {self.bits} bits"
        return None

    def text(self) -> str:
        """Bits and codes."""
        low, high = symmetric_codes(self.bits)
        return f"{self.bits} bits, codes {low}..{high}, one scale, any"
