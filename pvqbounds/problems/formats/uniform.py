"""int2 to int16: uniform steps, with one scale for the tensor, a channel or a group, or any (``int4:any``).

The value of a code is ``s (q - z)``, exactly. Float32, in which weights are decoded, holds the product of an
fp16 or bf16 scale and a code of up to 13 bits; wider ones are what a kernel computes that sums products of
codes before it scales them. A zero point is a code, so that it shifts the box alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.any_scale import AnyLayerScale, AnyScale, AnyScaleAndZeroPoint
from pvqbounds.problems.formats.number_types import FP16, FP64, STORED, NumberType
from pvqbounds.problems.formats.options import Options
from pvqbounds.problems.formats.rules import AskedScales, StepRule, ValueRule
from pvqbounds.problems.formats.scopes import CHANNEL, TENSOR, Blocks, Scope, scope_asked
from pvqbounds.problems.grids import minmax_scale, mse_scale, symmetric_codes
from pvqbounds.problems.values import Steps, ValueSet

__all__ = ["Asymmetric", "Symmetric", "uniform"]

Array = NDArray[np.float64]


def _mse(blocks: Blocks, qmin: int, qmax: int) -> Array:
    return np.array([mse_scale(block, qmin, qmax) if len(block) else 1.0 for block in blocks.alive()])


def _minmax(blocks: Blocks, qmin: int, qmax: int) -> Array:
    return np.array([minmax_scale(block, qmin, qmax) if len(block) else 1.0 for block in blocks.alive()])


def _absmax(blocks: Blocks, qmin: int, qmax: int) -> Array:
    """Half a step beyond the largest code, as compressed-tensors has it: amax/7.5 at 4 bits."""
    return blocks.largest / (0.5 * (qmax - qmin))


SCALES = {"mse": _mse, "minmax": _minmax, "absmax": _absmax}
"""How scales are found, before they are stored: least squared weight error, the least that clips nothing,
the common one of groups."""


FACTORS = (0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1)
"""Scales of a group over its own that a search looks at."""


def usual_scale(scope: Scope) -> str:
    """How scales are found where a name does not say so."""
    return "mse" if scope.group is None else "absmax"


def usual_type(scope: Scope) -> NumberType:
    """What scales are stored in where a name does not say so: one number for a tensor is kept as found."""
    return FP64 if scope.shared else FP16


def _scale_bits(stored: NumberType) -> int:
    """Bits of a scale; one that is kept as found counts as fp16, in which it would be stored."""
    return FP16.bits if stored == FP64 else stored.bits


@dataclass(frozen=True)
class Symmetric(StepRule):
    """Codes -2^(b-1) to 2^(b-1) - 1 times a scale."""

    bits: int
    scope: Scope
    scale: str
    """One of `SCALES`."""
    stored: NumberType

    @property
    def name(self) -> str:
        """For example int4:g128."""
        scale = [self.scale] * (self.scale != usual_scale(self.scope))
        return _name(self.bits, self.scope, scale, self.stored)

    @property
    def code_bits(self) -> int:
        """The bit width."""
        return self.bits

    @property
    def group(self) -> int | None:
        """That of the scope."""
        return self.scope.group

    @property
    def takes_scales(self) -> bool:
        """Whether this is a plain ``int4``."""
        return self == Symmetric(self.bits, TENSOR, usual_scale(TENSOR), usual_type(TENSOR))

    def side_bits(self, shape: tuple[int, int]) -> int:
        """Scales."""
        return _scale_bits(self.stored) * self.scope.count(shape)

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Steps, the same box for all."""
        return self._rows(weights, live, 1.0)

    def alternatives(self, weights: Array, live: NDArray[np.bool_]) -> list[Iterator[ValueSet]]:
        """Scales of groups times numbers around 1, stored."""
        factors = () if self.scope.group is None else FACTORS
        return [self._rows(weights, live, factor) for factor in factors]

    def _rows(self, weights: Array, live: NDArray[np.bool_], factor: float) -> Iterator[ValueSet]:
        blocks, (qmin, qmax) = self.scope.blocks(weights, live), symmetric_codes(self.bits)
        scales = self.stored.stored_scales(factor * SCALES[self.scale](blocks, qmin, qmax))
        for (step,) in blocks.by_channel(scales):
            yield self._steps(step)

    def rows_as_asked(
        self, weights: Array, live: NDArray[np.bool_], asked: AskedScales
    ) -> Iterator[ValueSet]:
        """Steps of given scales, or of scales that are found as options say."""
        if not self.takes_scales:
            return self.rows(weights, live)
        if asked.given is not None:
            return (self._steps(np.full(weights.shape[1], scale)) for scale in asked.given)
        scope = CHANNEL if asked.per_channel else TENSOR
        return replace(self, scope=scope, scale=asked.range_method).rows(weights, live)

    def as_seen(self, values: Sequence[ValueSet]) -> Symmetric:
        """With a scale for each channel where a plain ``int4`` was given or asked for more than one."""
        steps = {float(own.lattice[0]) for own in values if own.lattice is not None}
        return replace(self, scope=CHANNEL) if self.takes_scales and len(steps) > 1 else self

    def at_any_scale(self) -> ValueRule | None:
        """With a free scale for each channel, where none has more than one."""
        return AnyScale(self.bits) if self.scope.group is None else None

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Whether the codes are those of so many bits."""
        fault, (qmin, qmax), (low, high) = super().fault(values), symmetric_codes(self.bits), values.code_ends
        if fault is None and ((low != qmin) | (high != qmax)).any():
            return "codes", f"the grid {low.min()}..{high.max()} is not that of {self.bits} bits"
        return fault

    def text(self) -> str:
        """Bits and codes of a plain ``int4``, the name of all else."""
        if not self.takes_scales:
            return self.name
        return "{} bits, codes {}..{}".format(self.bits, *symmetric_codes(self.bits))

    def _steps(self, step: Array) -> Steps:
        qmin, qmax = symmetric_codes(self.bits)
        return Steps(step, np.full(len(step), qmin), np.full(len(step), qmax))


@dataclass(frozen=True)
class Asymmetric(StepRule):
    """Codes 0 to 2^b - 1 less a zero point of b bits, times a scale; 0 is always a value.

    The range of the weights and 0 is divided by 2^b - 1, stored, and the zero point rounded after that.
    """

    bits: int
    scope: Scope
    stored: NumberType

    @property
    def name(self) -> str:
        """For example int4:g128:asym."""
        return _name(self.bits, self.scope, ["asym"], self.stored)

    @property
    def code_bits(self) -> int:
        """The bit width."""
        return self.bits

    @property
    def group(self) -> int | None:
        """That of the scope."""
        return self.scope.group

    def side_bits(self, shape: tuple[int, int]) -> int:
        """Scales and zero points."""
        return (_scale_bits(self.stored) + self.bits) * self.scope.count(shape)

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """Steps, with a box for each zero point."""
        return self._rows(weights, live, 1.0)

    def alternatives(self, weights: Array, live: NDArray[np.bool_]) -> list[Iterator[ValueSet]]:
        """Scales of groups times numbers around 1, stored, each with its own zero point."""
        factors = () if self.scope.group is None else FACTORS
        return [self._rows(weights, live, factor) for factor in factors]

    def at_any_scale(self) -> ValueRule | None:
        """With a free scale and zero point for each channel, where none has more than one."""
        return AnyScaleAndZeroPoint(self.bits) if self.scope.group is None else None

    def _rows(self, weights: Array, live: NDArray[np.bool_], factor: float) -> Iterator[ValueSet]:
        blocks, top = self.scope.blocks(weights, live), 2**self.bits - 1
        low, high = (np.minimum(blocks.ends[0], 0.0), np.maximum(blocks.ends[1], 0.0))
        # halves of the ends: their difference overflows for no finite weights
        scales = self.stored.stored_scales(factor * ((0.5 * high - 0.5 * low) / (0.5 * top)))
        zeros = np.clip(np.rint(-low / scales), 0, top).astype(np.int64)
        for step, zero in blocks.by_channel(scales, zeros):
            yield Steps(step, -zero, top - zero)


def _name(bits: int, scope: Scope, options: list[str], stored: NumberType) -> str:
    where = [] if scope.shared else [scope.name]
    return ":".join([f"int{bits}", *where, *options, *[stored.name] * (stored != usual_type(scope))])


def uniform(bits: int, options: Options) -> ValueRule:
    """The rule of ``int{bits}`` and its options."""
    tensor = options.named("tensor")
    scope = scope_asked(options)
    if scope.group is None and options.flag("any"):
        if tensor:
            return AnyLayerScale(bits)
        return AnyScaleAndZeroPoint(bits) if options.flag("asym") else AnyScale(bits)
    asymmetric = options.flag("asym")
    scale = usual_scale(scope) if asymmetric else options.one_of(usual_scale(scope), *SCALES)
    stored = STORED[options.one_of(usual_type(scope).name, *STORED)]
    return Asymmetric(bits, scope, stored) if asymmetric else Symmetric(bits, scope, scale, stored)
