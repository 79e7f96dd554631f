"""compressed-tensors' pack-quantized: integers of 1 to 8 bits as one stream of bits in int32 words.

Codes are stored plus 2^(b-1), zero points as well, those along the output channels. A weight is
``scale (q - zero)``; decoders round that product to the type of the scale, kernels sum products of codes
before they scale them: the exact product is what counts here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.storage.checkpoints.base import FLOATS, LayerFormat, Parts, checked_shape, unpacked
from pvqbounds.storage.checkpoints.grids import StepGrid, block_numbers
from pvqbounds.storage.checkpoints.layer import CompressedLayer, found_pattern

__all__ = ["PackQuantized", "grid_name", "scheme_bits"]

Array = NDArray[np.float64]


class PackQuantized(LayerFormat):
    """Packed integers, with a scale for the tensor, a channel or a group, with or without zero points."""

    name = "compressed-tensors pack-quantized"

    def fits(self, parts: Parts) -> bool:
        """By the packed words."""
        packed = parts.tensors.get("weight_packed")
        return packed is not None and packed.kind == "i32"

    def read(self, parts: Parts) -> CompressedLayer:
        """Steps."""
        shape = checked_shape(parts, parts.take("weight_shape", ("i64", "i32"), counts=False).ravel())
        channels, inputs = shape
        words = parts.take("weight_packed", ("i32",), (channels, None))
        bits = _bits(parts, words.shape[1], inputs)
        if words.shape[1] != -(-inputs * bits // 32):
            parts.fail(
                f"has {words.shape[1]} packed words a channel, but {inputs} codes of {bits} bits take "
                f"{-(-inputs * bits // 32)}."
            )
        scale = parts.take("weight_scale", FLOATS)
        block = block_numbers(shape, scale.shape)
        if block is None:
            parts.fail(f"has scales of shape {scale.shape}, which do not fit its shape {shape}.")
        if "weight_g_idx" in parts.tensors:
            group = parts.take("weight_g_idx", ("i32", "i64"), (inputs,), counts=False)
            block = act_order(parts, group, channels, scale.shape)
        half = 1 << (bits - 1)
        zero: NDArray[Any] = np.zeros(scale.shape, dtype=np.int64)
        if "weight_zero_point" in parts.tensors:
            zero = _zero_points(parts, bits, scale.shape, channels) - half
        codes = unpacked(words, bits, inputs) - half - zero.ravel()[block]
        weight = scale.ravel()[block] * codes
        grid = StepGrid.of(block, scale.ravel(), (-half - zero).ravel(), (half - 1 - zero).ravel())
        return CompressedLayer(
            name=parts.layer,
            kind=self.name,
            values=grid_name(bits, shape, scale.shape, asymmetric=bool(zero.any())),
            shape=shape,
            weight=weight,
            grid=grid,
            code_bits=bits,
            bits_per_weight=parts.bits_per_weight(weight.size),
            pattern=found_pattern(weight, shape),
        )


def _bits(parts: Parts, words: int, inputs: int) -> int:
    """Bits of a code: what the config says, if all groups agree, or what fits the number of words."""
    stated = scheme_bits(parts.config)
    if len(stated) == 1:
        return stated.pop()
    fitting = [bits for bits in range(1, 9) if -(-inputs * bits // 32) == words]
    if stated:
        fitting = [bits for bits in fitting if bits in stated]
    if not fitting:
        parts.fail(f"has {words} packed words for {inputs} codes a channel, which fits no bit width.")
    if len(fitting) > 1:
        parts.fail(
            f"does not say its bits, and {' or '.join(map(str, fitting))} fit: give the folder with its "
            "config.json."
        )
    return fitting[0]


def scheme_bits(config: Mapping[str, Any]) -> set[int]:
    """The bit widths that the config's groups have for weights."""
    groups = config.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        bits = weights.get("num_bits") if isinstance(weights, dict) else None
        if type(bits) is int and 1 <= bits <= 8:
            found.add(bits)
    return found


def _zero_points(parts: Parts, bits: int, shape: tuple[int, ...], channels: int) -> NDArray[np.int64]:
    """Zero points plus 2^(b-1), of the shape of the scales: packed along the channels."""
    groups = shape[1] if len(shape) > 1 else 1
    packed = parts.take("weight_zero_point", ("i32", "i8"))
    if packed.shape == shape and packed.dtype == np.int8:
        return packed.astype(np.int64) + (1 << (bits - 1))
    wanted = (-(-channels * bits // 32), groups)
    if packed.shape != wanted:
        parts.fail(f"has 'weight_zero_point' of shape {packed.shape}, where {wanted} fits the rest.")
    return unpacked(packed.T, bits, channels).T.reshape(shape)


def act_order(parts: Parts, group: NDArray[Any], channels: int, scales: tuple[int, ...]) -> NDArray[np.int64]:
    """The block of each weight where each input names its group, shape (channels, inputs)."""
    if len(scales) != 2 or scales[0] != channels:
        parts.fail(f"has scales of shape {scales}, but names a group for each input.")
    groups = group.astype(np.int64)
    if groups.min() < 0 or groups.max() >= scales[1]:
        parts.fail(f"names group {groups[(groups < 0) | (groups >= scales[1])][0]} of {scales[1]}.")
    number: NDArray[np.int64] = np.arange(channels)[:, None] * scales[1] + groups
    return number


def grid_name(bits: int, shape: tuple[int, int], scales: tuple[int, ...], *, asymmetric: bool = False) -> str:
    """The name of a uniform grid, as formats are called: int4:g128:asym."""
    rows, columns = (*scales, 1, 1)[:2]
    scope = [] if rows * columns == 1 else ["channel"] if columns == 1 else [f"g{-(-shape[1] // columns)}"]
    if 1 < rows < shape[0]:
        scope = [f"tiles {-(-shape[0] // rows)}x{-(-shape[1] // columns)}"]
    return ":".join([f"int{bits}", *scope, *["asym"] * asymmetric])
