"""int4:any, int4:tensor:any: uniform steps with one scale for a channel, or for all, whichever it is."""

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

__all__ = ["AnyLayerScale", "AnyScale"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AnyScale(ValueRule):
    """Codes -2^(b-1) to 2^(b-1) - 1 times a scale of the channel that is as free as they are.

    Scales count as fp16, in which they would be stored; the bound is about all real ones.
    """

    has_steps: ClassVar[bool] = True
    any_scale: ClassVar[bool] = True
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
        return iter([AnySteps(inputs, *symmetric_codes(self.bits))] * channels)

    def pose(self, gram: Gram, weight: Array, values: Any) -> AnyScaleLeastSquares:
        """One whose scale is free."""
        return AnyScaleLeastSquares(gram, weight, values.qmin, values.qmax)

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Whether the scale is free, and the codes are those of so many bits."""
        if not isinstance(values, AnySteps):
            return "grid", f"values of a given scale, but {self.name} takes any"
        if (values.qmin, values.qmax) != symmetric_codes(self.bits):
            return "codes", f"the grid {values.qmin}..{values.qmax} is not that of {self.bits} bits"
        return None

    def text(self) -> str:
        """Bits and codes."""
        low, high = symmetric_codes(self.bits)
        return f"{self.bits} bits, codes {low}..{high}, any scale"


@dataclass(frozen=True)
class AnyLayerScale(AnyScale):
    """The same with one scale for all channels of the layer.

    Its channels are posed with a free scale, and are bounded together; the problems of a result are those at
    the scale that was found.
    """

    one_scale: ClassVar[bool] = True

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
