"""int2:any to int16:any: uniform steps with one scale for an output channel, whichever it is."""

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
from pvqbounds.problems.values import ValueSet

__all__ = ["AnyScale"]

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
