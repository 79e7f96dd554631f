"""bitsandbytes: NF4 and its own FP4 in blocks along the flattened weight, and LLM.int8().

4 bits: ``weight`` uint8 (n / 2, 1), the first of two codes in the high half; ``weight.absmax``,
``weight.quant_map`` and a JSON text in ``weight.quant_state.bitsandbytes__nf4``. With double quantization
the absmax are 8-bit codes of ``weight.nested_quant_map``, with ``weight.nested_absmax`` and an offset. A
weight is the float32 product of level and absmax. 8 bits: ``weight`` int8 and ``SCB``, a weight is ``q SCB /
127``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import shown
from pvqbounds.problems.formats.number_types import in_float32
from pvqbounds.storage.archive import parse_json
from pvqbounds.storage.checkpoints.base import LayerFormat, Parts, checked_shape
from pvqbounds.storage.checkpoints.grids import LevelGrid, StepGrid
from pvqbounds.storage.checkpoints.layer import CompressedLayer, found_pattern

__all__ = ["BitsAndBytes4", "BitsAndBytes8"]

Array = NDArray[np.float64]

STATE = "weight.quant_state.bitsandbytes__"
USUAL_BLOCK = 64
LARGEST = 127


class BitsAndBytes4(LayerFormat):
    """NF4 and FP4, with and without double quantization."""

    name = "bitsandbytes"

    def fits(self, parts: Parts) -> bool:
        """By the state of the quantization."""
        return any(name.startswith(STATE) for name in parts.tensors)

    def read(self, parts: Parts) -> CompressedLayer:
        """Levels."""
        name = next(name for name in parts.tensors if name.startswith(STATE))
        state = parse_json(parts.take(name, ("u8",), counts=False).tobytes(), parts.path)
        shape = _state_shape(parts, state)
        size, block_size = shape[0] * shape[1], _number(parts, state, "blocksize")
        blocks = -(-size // block_size)
        packed = parts.take("weight", ("u8",)).ravel()
        if len(packed) != -(-size // 2):
            parts.fail(f"has {len(packed)} bytes of codes, where {size} codes of 4 bits are wanted.")
        codes = np.stack([packed >> 4, packed & 0x0F], axis=-1).ravel()[:size].reshape(shape)
        levels = parts.take("weight.quant_map", ("f32",), (16,), counts=False)
        absmax = _absmax(parts, state, blocks)
        number = np.arange(size).reshape(shape) // block_size
        weight = in_float32(absmax[number] * levels[codes])
        kind = str(state.get("quant_type", name.removeprefix(STATE)))
        nested = ":dq" * ("weight.nested_absmax" in parts.taken)
        return CompressedLayer(
            name=parts.layer,
            kind=f"{self.name} {shown(kind).strip(chr(39))}",
            values=f"{kind if kind in ('nf4', 'fp4') else '4-bit codebook'}:b{block_size}{nested}",
            shape=shape,
            weight=weight,
            grid=LevelGrid(number, lambda asked: in_float32(absmax[asked][:, None] * levels)),
            code_bits=4,
            bits_per_weight=parts.bits_per_weight(size),
            pattern=found_pattern(weight, shape),
        )


class BitsAndBytes8(LayerFormat):
    """LLM.int8(): a row of int8 codes for each output, and the absmax of the row."""

    name = "bitsandbytes int8"

    def fits(self, parts: Parts) -> bool:
        """By the row scales."""
        weight = parts.tensors.get("weight")
        return weight is not None and weight.kind == "i8" and "SCB" in parts.tensors

    def read(self, parts: Parts) -> CompressedLayer:
        """Steps."""
        codes = parts.take("weight", ("i8",), (None, None)).astype(np.int64)
        if not codes.size:
            parts.fail("has no weights.")
        scale = parts.take("SCB", ("f32",), (len(codes),)) / LARGEST
        if "weight_format" in parts.tensors:
            parts.take("weight_format", ("u8",), counts=False)
        block = np.broadcast_to(np.arange(len(codes))[:, None], codes.shape)
        weight = scale[:, None] * codes
        shape = codes.shape[0], codes.shape[1]
        return CompressedLayer(
            name=parts.layer,
            kind=self.name,
            values="int8:channel",
            shape=shape,
            weight=weight,
            grid=StepGrid.of(block, scale, -LARGEST - 1, LARGEST),
            code_bits=8,
            bits_per_weight=parts.bits_per_weight(weight.size),
            pattern=found_pattern(weight, shape),
        )


def _state_shape(parts: Parts, state: Any) -> tuple[int, int]:
    if not isinstance(state, dict) or not isinstance(state.get("shape"), list):
        parts.fail("has a quantization state without a shape.")
    if not all(type(size) is int for size in state["shape"]):
        parts.fail(f"states the shape {shown(state['shape'])}, which no weight of a layer has.")
    return checked_shape(parts, state["shape"])


def _number(parts: Parts, state: dict[str, Any], name: str) -> int:
    number = state.get(name)
    if type(number) is not int or not 1 <= number <= 2**20:
        parts.fail(f"states {name} = {shown(number)}, where a number of weights is wanted.")
    return number


def _absmax(parts: Parts, state: dict[str, Any], blocks: int) -> Array:
    """The largest magnitude of each block, in float32 or decoded from its own codes."""
    if parts.tensors.get("weight.absmax") is None or parts.tensors["weight.absmax"].kind != "u8":
        return np.asarray(parts.take("weight.absmax", ("f32",), (blocks,)))
    codes = parts.take("weight.absmax", ("u8",), (blocks,))
    levels = parts.take("weight.nested_quant_map", ("f32",), (256,), counts=False)
    size = _number(parts, state, "nested_blocksize")
    largest = parts.take("weight.nested_absmax", ("f32",), (-(-blocks // size),))
    offset = state.get("nested_offset")
    if type(offset) not in (int, float):
        parts.fail(f"states nested_offset = {shown(offset)}, where a number is wanted.")
    product = in_float32(levels[codes] * largest[np.arange(blocks) // size])
    return in_float32(product + float(np.float32(offset)))
