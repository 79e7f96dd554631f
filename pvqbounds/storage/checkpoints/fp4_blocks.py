"""E2M1 numbers with a scale for each block of inputs: NVFP4 and MXFP4, two in a byte, the low half first.

An MXFP4 weight is exact, its scales are powers of two. NVFP4 has an E4M3 scale for each block and one
float32 for the tensor, by which compressed-tensors divides and ModelOpt multiplies. Number times block scale
is exact; what counts here is one float32 product of that with the tensor scale (or its float32 reciprocal),
as a matrix unit has it. Decoders that round the product of the two scales first differ in its last place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.formats.number_types import E2M1, in_float32
from pvqbounds.storage.checkpoints.base import FLOATS, LayerFormat, Parts
from pvqbounds.storage.checkpoints.grids import LevelGrid, block_numbers
from pvqbounds.storage.checkpoints.layer import CompressedLayer, found_pattern
from pvqbounds.storage.checkpoints.scaled import power_of_two

__all__ = ["MXFP4Blocks", "MXFP4Packed", "NVFP4Packed", "halves"]

Array = NDArray[np.float64]

NUMBERS = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
BY_CODE = np.concatenate([NUMBERS, -NUMBERS])
"""E2M1 by its four bits: the highest is the sign."""


class NVFP4Packed(LayerFormat):
    """Blocks with E4M3 scales and a tensor scale."""

    name = "NVFP4"

    def fits(self, parts: Parts) -> bool:
        """By bytes of codes and float8 scales."""
        packed, scale = _packed(parts), parts.tensors.get("weight_scale")
        return packed is not None and scale is not None and scale.kind == "f8_e4m3"

    def read(self, parts: Parts) -> CompressedLayer:
        """Levels."""
        numbers = _numbers(parts)
        scale = parts.take("weight_scale", ("f8_e4m3",), (len(numbers), None))
        if "weight_scale_2" in parts.tensors:
            called, factor = "ModelOpt NVFP4", _one(parts, "weight_scale_2")
        else:
            called, factor = "compressed-tensors NVFP4", _one(parts, "weight_global_scale")
            with np.errstate(all="ignore"):
                factor = float(np.float32(1.0) / np.float32(factor))
        if not 0.0 < abs(factor) < np.inf:
            parts.fail("has a tensor scale that is no number to divide by.")
        return _layer(parts, numbers, scale, factor, called, "nvfp4", 16)


class MXFP4Packed(LayerFormat):
    """Blocks with powers of two."""

    name = "MXFP4"

    def fits(self, parts: Parts) -> bool:
        """By bytes of codes and of scales."""
        packed, scale = _packed(parts), parts.tensors.get("weight_scale")
        return packed is not None and scale is not None and scale.kind in ("u8", "f8_e8m0")

    def read(self, parts: Parts) -> CompressedLayer:
        """Levels."""
        numbers = _numbers(parts)
        scale = parts.take("weight_scale", ("u8", "f8_e8m0"), (len(numbers), None))
        if scale.dtype == np.uint8:
            scale = power_of_two(parts, scale)
        return _layer(parts, numbers, scale, 1.0, "compressed-tensors MXFP4", "mxfp4", 32)


class MXFP4Blocks(LayerFormat):
    """gpt-oss: ``weight_blocks`` (channels, blocks, 16) and the exponents of their scales."""

    name = "gpt-oss MXFP4"

    def fits(self, parts: Parts) -> bool:
        """By blocks of bytes."""
        blocks = parts.tensors.get("weight_blocks")
        return blocks is not None and blocks.kind == "u8" and len(blocks.shape) == 3

    def read(self, parts: Parts) -> CompressedLayer:
        """Levels."""
        blocks = parts.take("weight_blocks", ("u8",), (None, None, None))
        if not blocks.size:
            parts.fail("has no weights.")
        numbers = BY_CODE[halves(blocks)].reshape(len(blocks), -1)
        scale = power_of_two(parts, parts.take("weight_scales", ("u8",), blocks.shape[:2]))
        return _layer(parts, numbers, scale, 1.0, self.name, "mxfp4", 32)


def _packed(parts: Parts) -> str | None:
    for name in ("weight_packed", "weight"):
        tensor = parts.tensors.get(name)
        if tensor is not None and tensor.kind == "u8" and len(tensor.shape) == 2:
            return name
    return None


def _numbers(parts: Parts) -> Array:
    """The E2M1 numbers, shape (channels, inputs)."""
    name = _packed(parts)
    assert name is not None
    packed = parts.take(name, ("u8",), (None, None))
    if not packed.size:
        parts.fail("has no weights.")
    return np.asarray(BY_CODE[halves(packed)])


def halves(packed: NDArray[Any]) -> NDArray[np.uint8]:
    """The two codes of each byte along the last axis, the low half first."""
    codes = np.stack([packed & 0x0F, packed >> 4], axis=-1)
    return codes.reshape(*packed.shape[:-1], -1)


def _one(parts: Parts, name: str) -> float:
    numbers = parts.take(name, FLOATS)
    if numbers.size != 1:
        parts.fail(f"has {numbers.size} numbers in '{name}', where one is wanted.")
    return float(numbers.ravel()[0])


def _layer(
    parts: Parts, numbers: Array, scale: Array, factor: float, called: str, values: str, usual: int
) -> CompressedLayer:
    shape = numbers.shape[0], numbers.shape[1]
    block = block_numbers(shape, scale.shape)
    if block is None:
        parts.fail(f"has scales of shape {scale.shape}, which do not fit its shape {shape}.")
    scales, units = scale.ravel(), E2M1.levels()
    weight = in_float32(scales[block] * numbers * factor)
    size = -(-shape[1] // scale.shape[1])
    return CompressedLayer(
        name=parts.layer,
        kind=called,
        values=values if size == usual else f"{values} in blocks of {size}",
        shape=shape,
        weight=weight,
        grid=LevelGrid(block, lambda blocks: in_float32(scales[blocks][:, None] * units * factor)),
        code_bits=4,
        bits_per_weight=parts.bits_per_weight(weight.size),
        pattern=found_pattern(weight, shape),
    )
