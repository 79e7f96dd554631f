"""Codes that lie in a tensor one by one, and their scales: int8 and float8 weights.

compressed-tensors' naive, int-quantized, float-quantized and mxfp8-quantized files, ModelOpt's and
DeepSeek's float8 (whose ``weight_scale_inv`` multiplies, despite its name). Scales are those of the tensor,
of channels, of groups of inputs or of tiles. An integer's value is the exact product, a float8 number's the
float32 product of number and scale, which is exact for scales of 16 bits and for powers of two.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import E4M3, E5M2, in_float32
from pvqbounds.storage.checkpoints.base import FLOATS, LayerFormat, Parts
from pvqbounds.storage.checkpoints.grids import LevelGrid, StepGrid, block_numbers
from pvqbounds.storage.checkpoints.layer import CompressedLayer, found_pattern
from pvqbounds.storage.checkpoints.pack_quantized import grid_name, scheme_bits

__all__ = ["FLOAT8", "SCALES", "Scaled", "power_of_two", "scaled_layer"]

Array = NDArray[np.float64]

FLOAT8 = {"f8_e4m3": E4M3, "f8_e5m2": E5M2}
SCALES = ("weight_scale", "weight_scale_inv")
E8M0_BIAS = 127


class Scaled(LayerFormat):
    """A weight of int8 or float8 with scales beside it."""

    name = "scaled codes"

    def fits(self, parts: Parts) -> bool:
        """By the type of the weight, and that there are scales."""
        weight = parts.tensors.get("weight")
        coded = weight is not None and weight.kind in ("i8", *FLOAT8) and len(weight.shape) >= 2
        return coded and any(name in parts.tensors for name in SCALES)

    def read(self, parts: Parts) -> CompressedLayer:
        """Steps or levels."""
        kind = parts.tensors["weight"].kind
        codes = parts.take("weight", ("i8", *FLOAT8))
        if not codes.size:
            parts.fail("has no weights.")
        called = "compressed-tensors" if "config_groups" in parts.config else "scaled"
        return scaled_layer(parts, codes, kind, f"{called} {'int8' if kind == 'i8' else 'float8'}")


def scaled_layer(
    parts: Parts, codes: NDArray[Any], kind: str, called: str, *, sure: bool = False
) -> CompressedLayer:
    """The layer of dense codes, in the shape of the module, of the type "i8" or of a float8.

    Parameters
    ----------
    sure
        Whether no code is 0 by chance.
    """
    flat = codes.reshape(len(codes), -1)
    name = next(name for name in SCALES if name in parts.tensors)
    shape = flat.shape[0], flat.shape[1]
    scale = parts.take(name, (*FLOATS, "u8", "f8_e8m0"))
    if parts.tensors[name].kind == "u8":
        scale = power_of_two(parts, scale)
    block = block_numbers(shape, _trimmed(scale.shape))
    if block is None:
        parts.fail(f"has scales of shape {scale.shape}, which do not fit its shape {codes.shape}.")
    scope = grid_name(8, shape, _trimmed(scale.shape)).removeprefix("int8")
    if parts.layout is not None and scope:
        scope = f"{scope} of the weights as they are stored"
    if kind == "i8":
        bits = next(iter(scheme_bits(parts.config)), 8) if len(scheme_bits(parts.config)) < 2 else 8
        zero = np.zeros(scale.size, dtype=np.int64)
        if "weight_zero_point" in parts.tensors:
            kinds = ("i8", "i32", "i64", *FLOATS)
            zero = _whole(parts, parts.take("weight_zero_point", kinds).ravel(), scale.size)
        half = 1 << (bits - 1)
        weight = scale.ravel()[block] * (flat.astype(np.int64) - zero[block])
        grid: Any = StepGrid.of(block, scale.ravel(), -half - zero, half - 1 - zero)
        values = f"int{bits}{scope}{':asym' * bool(zero.any())}"
    else:
        units, factors, bits = FLOAT8[kind].levels(), scale.ravel(), 8
        weight = in_float32(factors[block] * flat)
        grid = LevelGrid(block, lambda blocks: in_float32(factors[blocks][:, None] * units))
        values = f"fp8{':e5m2' * (kind == 'f8_e5m2')}{scope}"
    dense = parts.dense_shape(codes.shape)
    weight = parts.rows(weight.reshape(codes.shape))
    grid = replace(grid, block=parts.rows(block.reshape(codes.shape)))
    return CompressedLayer(
        name=parts.layer,
        kind=called,
        values=values,
        shape=dense,
        weight=weight,
        grid=grid,
        code_bits=bits,
        bits_per_weight=parts.bits_per_weight(weight.size),
        pattern=found_pattern(weight, dense, sure=sure),
    )


def power_of_two(parts: Parts, exponents: NDArray[Any]) -> Array:
    """Scales in E8M0: 2^(e - 127); 255 stands for no number."""
    if (exponents == 255).any():
        parts.fail("has a scale of E8M0 that is no number.")
    return np.asarray(np.ldexp(1.0, exponents.astype(np.int64) - E8M0_BIAS), dtype=np.float64)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without axes of length 1 behind the second."""
    return shape[:2] if all(size == 1 for size in shape[2:]) else shape


def _whole(parts: Parts, zero: NDArray[Any], count: int) -> NDArray[np.int64]:
    if zero.size != count or (zero != np.rint(zero)).any() or np.abs(zero).max(initial=0) > 2**16:
        parts.fail(f"has {zero.size} zero points, where {count} whole numbers are wanted.")
    return zero.astype(np.int64)
