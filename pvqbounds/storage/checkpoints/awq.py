"""AWQ's GEMM layout: eight 4-bit codes in an int32 along the outputs, in an order of their own.

``qweight`` int32 (inputs, outputs / 8), ``qzeros`` int32 (groups, outputs / 8), ``scales`` (groups,
outputs). A weight is ``s (q - z)``, z as it is stored. What AWQ quantizes is not the model's weight but the
weight times a scale for each input, which it folds into the layer before: compare with the model that it was
given, folded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.storage.checkpoints.base import LayerFormat, Parts, unpacked
from pvqbounds.storage.checkpoints.grids import StepGrid
from pvqbounds.storage.checkpoints.layer import CompressedLayer, found_pattern
from pvqbounds.storage.checkpoints.pack_quantized import act_order, grid_name

__all__ = ["AWQ"]

BITS, IN_WORD = 4, 8
ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Place in the word of each of eight outputs."""

FOLDED = "AWQ folds a scale for each input into the layer before: compare with the dense model that has them."


class AWQ(LayerFormat):
    """4 bits in groups."""

    name = "AWQ"

    def fits(self, parts: Parts) -> bool:
        """By words of eight outputs."""
        words, scales = parts.tensors.get("qweight"), parts.tensors.get("scales")
        if words is None or scales is None or len(words.shape) != 2 or len(scales.shape) != 2:
            return False
        return words.shape[1] * IN_WORD == scales.shape[1]

    def read(self, parts: Parts) -> CompressedLayer:
        """Steps."""
        layout = parts.config.get("version", "gemm")
        if not isinstance(layout, str) or layout.lower() != "gemm":
            parts.fail(f"is in AWQ's layout {layout!r}; only GEMM is read.")
        words = parts.take("qweight", ("i32",), (None, None))
        inputs, channels = len(words), words.shape[1] * IN_WORD
        scales = parts.take("scales", ("f16", "bf16", "f32"), (None, channels))
        groups = len(scales)
        if not groups or inputs % groups:
            parts.fail(f"has scales for {groups} groups of {inputs} inputs.")
        zero = np.full((channels, groups), 1 << (BITS - 1))
        if "qzeros" in parts.tensors:
            zero = _codes(parts.take("qzeros", ("i32",), (groups, words.shape[1]))).T
        block = act_order(parts, np.arange(inputs) // (inputs // groups), channels, (channels, groups))
        step = np.ascontiguousarray(scales.T).ravel()
        codes = _codes(words).T - zero.ravel()[block]
        weight = np.multiply(step[block], codes, dtype=np.float64)
        top = (1 << BITS) - 1
        asymmetric = bool((zero != 1 << (BITS - 1)).any())
        return CompressedLayer(
            name=parts.layer,
            kind=self.name,
            values=grid_name(BITS, (channels, inputs), (channels, groups), asymmetric=asymmetric),
            shape=(channels, inputs),
            weight=weight,
            grid=StepGrid.of(block, step, -zero.ravel(), top - zero.ravel()),
            code_bits=BITS,
            bits_per_weight=parts.bits_per_weight(weight.size),
            pattern=found_pattern(weight, (channels, inputs)),
            notes=(FOLDED,),
        )


def _codes(words: NDArray[np.int32]) -> NDArray[np.int64]:
    """The codes in the order of the outputs, shape (rows, outputs)."""
    stored = unpacked(words, BITS, words.shape[1] * IN_WORD).reshape(len(words), -1, IN_WORD)
    return np.ascontiguousarray(stored[:, :, ORDER]).reshape(len(words), -1)
