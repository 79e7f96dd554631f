"""FP8: E4M3 (no infinity, largest 448) or E5M2 numbers times a scale.

A weight is decoded as the float32 product of number and scale; with fp16 and bf16 scales it is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import E4M3, E5M2, STORED, NumberType, in_float32
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.rules import LevelRule, ValueRule, level_sets, levels_of
from pvqbounds.problems.formats.scopes import Scope, scope_asked
from pvqbounds.problems.values import ValueSet

__all__ = ["FP8", "fp8"]

Array = NDArray[np.float64]

KINDS = {kind.name: kind for kind in (E4M3, E5M2)}
USUAL_TYPE = "fp32"


@dataclass(frozen=True)
class FP8(LevelRule):
    """8-bit floating-point numbers; the largest weight has the largest of them."""

    kind: NumberType
    scope: Scope
    stored: NumberType

    @property
    def name(self) -> str:
        """For example fp8:e5m2:channel."""
        kind = [self.kind.name] * (self.kind != E4M3)
        scope = [self.scope.name] * (not self.scope.shared)
        return ":".join(["fp8", *kind, *scope, *[self.stored.name] * (self.stored.name != USUAL_TYPE)])

    @property
    def code_bits(self) -> int:
        """8."""
        return self.kind.bits

    @property
    def units(self) -> Array:
        """The numbers of the type."""
        return self.kind.levels()

    @property
    def group(self) -> int | None:
        """That of the scope."""
        return self.scope.group

    def side_bits(self, shape: tuple[int, int]) -> int:
        """Scales."""
        return self.stored.bits * self.scope.count(shape)

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Levels."""
        blocks = self.scope.blocks(weights, live)
        scales = self.stored.stored_scales(blocks.largest / self.kind.largest)
        return level_sets(blocks.by_channel(levels_of(in_float32(scales[:, None] * self.kind.levels()))))


def fp8(options: Options) -> ValueRule:
    """The rule of ``fp8`` and its options."""
    kind = KINDS[options.one_of(*KINDS)]
    scope = scope_asked(options)
    return FP8(kind, scope, STORED[options.one_of(USUAL_TYPE, "fp16", "bf16")])
