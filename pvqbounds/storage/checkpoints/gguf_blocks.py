"""Weights in GGUF's blocks: Q4_0 to Q8_0, the K-quants, IQ4_NL and IQ4_XS, MXFP4.

What a block's codes mean is asked of the `gguf` package: the block is decoded once for each code that its
weights could have, all of them set to that code and its scales left as they are. So the grid is what
llama.cpp decodes, in its arithmetic. Where values are exact multiples of a step they are taken for such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.storage.checkpoints.base import LayerFormat, Parts
from pvqbounds.storage.checkpoints.gguf_files import gguf_package
from pvqbounds.storage.checkpoints.grids import Grid, LevelGrid, StepGrid
from pvqbounds.storage.checkpoints.layer import CompressedLayer, found_pattern

__all__ = ["GGUFBlocks"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Layout:
    """Where the codes of a block lie."""

    bits: int
    size: int
    """Weights that share a scale."""
    fields: tuple[tuple[int, int, Callable[[int], int]], ...]
    """First and one past the last byte of a part of the codes, and its bytes if all are one code."""
    zero: int | None = None
    """The code of 0 where values are multiples of a step; None where they are not."""


def _nibbles(code: int) -> int:
    return (code & 15) * 0x11


def _pairs(code: int) -> int:
    return (code & 3) * 0x55


def _bit(place: int, *, inverted: bool = False) -> Callable[[int], int]:
    return lambda code: 0xFF * ((code >> place & 1) ^ inverted)


LAYOUTS = {
    "q4_0": _Layout(4, 32, ((2, 18, _nibbles),), 8),
    "q4_1": _Layout(4, 32, ((4, 20, _nibbles),)),
    "q5_0": _Layout(5, 32, ((2, 6, _bit(4)), (6, 22, _nibbles)), 16),
    "q5_1": _Layout(5, 32, ((4, 8, _bit(4)), (8, 24, _nibbles))),
    "q8_0": _Layout(8, 32, ((2, 34, lambda code: code ^ 0x80),), 128),
    "q2_k": _Layout(2, 16, ((16, 80, _pairs),)),
    "q3_k": _Layout(3, 16, ((0, 32, _bit(2)), (32, 96, _pairs)), 4),
    "q4_k": _Layout(4, 32, ((16, 144, _nibbles),)),
    "q5_k": _Layout(5, 32, ((16, 48, _bit(4)), (48, 176, _nibbles))),
    "q6_k": _Layout(6, 16, ((0, 128, _nibbles), (128, 192, lambda code: (code >> 4) * 0x55)), 32),
    "iq4_nl": _Layout(4, 32, ((2, 18, _nibbles),)),
    "iq4_xs": _Layout(4, 32, ((8, 136, _nibbles),)),
    "mxfp4": _Layout(4, 32, ((1, 17, _nibbles),)),
}
"""As `ggml-common.h` of llama.cpp lays them out."""


class GGUFBlocks(LayerFormat):
    """A matrix of blocks."""

    name = "GGUF"

    def fits(self, parts: Parts) -> bool:
        """By the type of the weight."""
        weight = parts.tensors.get("weight")
        return weight is not None and weight.kind in LAYOUTS and len(weight.shape) == 2

    def read(self, parts: Parts) -> CompressedLayer:
        """Steps or levels of each block."""
        gguf = gguf_package()
        stored = parts.tensors["weight"]
        channels, inputs = stored.shape
        layout, kind = LAYOUTS[stored.kind], gguf.GGMLQuantizationType[stored.kind.upper()]
        octets = gguf.GGML_QUANT_SIZES[kind][1]
        blocks = parts.take("weight", (stored.kind,)).reshape(-1, octets)

        def decoded(block: NDArray[np.uint8]) -> Array:
            with np.errstate(all="ignore"):
                return np.asarray(gguf.quants.dequantize(block, kind), dtype=np.float64)

        weight = decoded(blocks).reshape(channels, inputs)
        means = _meanings(blocks, layout, decoded)
        if not all(np.isfinite(means(code)).all() for code in (0, (1 << layout.bits) - 1)):
            parts.fail("has scales that are not finite.")
        grid = _grid(means, layout, (channels, inputs))
        return CompressedLayer(
            name=parts.layer,
            kind=f"{self.name} {kind.name}",
            values=stored.kind,
            shape=(channels, inputs),
            weight=weight,
            grid=grid,
            code_bits=layout.bits,
            bits_per_weight=parts.bits_per_weight(weight.size),
            pattern=found_pattern(weight, (channels, inputs)),
        )


def _grid(means: Callable[[int], Array], layout: _Layout, shape: tuple[int, int]) -> Grid:
    """The values of all codes in each block."""
    number = np.arange(shape[0] * shape[1]).reshape(shape) // layout.size
    codes = 1 << layout.bits
    if layout.zero is not None:
        step = means(layout.zero + 1)
        if all(np.array_equal(means(code), step * (code - layout.zero)) for code in range(codes)):
            return StepGrid.of(number, step, -layout.zero, codes - 1 - layout.zero)
    return LevelGrid.of_table(number, np.stack([means(code) for code in range(codes)], axis=1))


def _meanings(
    blocks: NDArray[np.uint8], layout: _Layout, decoded: Callable[[NDArray[np.uint8]], Array]
) -> Callable[[int], Array]:
    """What one code means in each block, shape (blocks,)."""

    def means(code: int) -> Array:
        filled: NDArray[Any] = blocks.copy()
        for first, last, octet in layout.fields:
            filled[:, first:last] = octet(code)
        return decoded(filled).reshape(-1, layout.size)[:, 0]

    return means
