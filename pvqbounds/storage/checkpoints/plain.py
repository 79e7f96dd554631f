"""Dequantized weights in a plain file: nothing says what they were allowed to be, so that it is found out.

Weights that are whole multiples of a step, one for the tensor, a channel or a group of inputs, lie on a
uniform grid (:mod:`pvqbounds.storage.checkpoints.found_grids`). Weights that lie on none but have zeros were
pruned: to 2:4 where the zeros follow that, else each channel to as many as it keeps. Anything else was not
compressed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pvqbounds.storage.checkpoints.base import FLOATS, LARGEST_LAYER, LayerFormat, Parts
from pvqbounds.storage.checkpoints.found_grids import find_grid, weight_off
from pvqbounds.storage.checkpoints.layer import AS_KEPT, CompressedLayer, found_pattern

__all__ = ["Plain"]

STORED_BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}

FROM_ZEROS = "2:4, which the zeros of the file follow"

FEWEST_ZEROS = 0.02
"""Part of the weights of a layer that is zero where somebody pruned it."""

WINDOW, FEWEST_DIFFERENT = 64, 0.75
"""Part of so many weights of a channel, zeros left out, that differ in magnitude where nothing quantized
them: 0.9 in bfloat16, and 0.6 with 4 bits in groups of 16."""


class Plain(LayerFormat):
    """Weights as a model has them, dequantized or pruned."""

    name = "plain weights"

    def fits(self, parts: Parts) -> bool:
        """By a weight of floating-point numbers alone."""
        weight = parts.tensors.get("weight")
        return weight is not None and weight.kind in FLOATS and len(weight.shape) >= 2

    def read(self, parts: Parts) -> CompressedLayer:
        """Steps or levels that are found, or real numbers with zeros."""
        kind = parts.tensors["weight"].kind
        tensor = parts.take("weight", FLOATS)
        if not 0 < tensor.size <= LARGEST_LAYER:
            parts.fail(f"has a weight of shape {tensor.shape}, which is none of a layer.")
        shape, weight = parts.dense_shape(tensor.shape), parts.rows(tensor)
        found = find_grid(weight, kind, parts.hints)
        pattern = found_pattern(weight, shape, sure=found is None)
        zeros = float((weight == 0.0).mean())
        pruned = pattern is not None or zeros >= FEWEST_ZEROS
        if found is None and not (pruned and _different(weight) >= FEWEST_DIFFERENT):
            off = weight_off(weight, kind, parts.hints)
            parts.fail(
                "holds plain weights in which no uniform grid of 8 bits or fewer is found, and which are not "
                f"pruned{off}: if it is compressed there, name the format that it is in, such as int4:g128, "
                "or give the file that the quantizer wrote."
            )
        if found is None:
            kept = STORED_BITS[kind] * (1.0 - zeros)
            return CompressedLayer(
                name=parts.layer,
                kind=self.name,
                values="",
                shape=shape,
                weight=weight,
                grid=None,
                code_bits=STORED_BITS[kind],
                bits_per_weight=kept + 1.0,
                pattern=pattern,
                pruned=True,
                presumed=f"presumes {FROM_ZEROS}" if pattern is not None else AS_KEPT,
                notes=(f"The size counts {kind} numbers that are kept and a bit a weight for the mask.",),
            )
        return CompressedLayer(
            name=parts.layer,
            kind=self.name,
            values=found.name,
            shape=shape,
            weight=found.weight,
            grid=found.grid,
            code_bits=found.bits,
            bits_per_weight=found.bits + found.scales * 16 / np.float64(weight.size),
            pattern=pattern,
            presumed="; ".join([found.presumed, *[FROM_ZEROS] * (pattern is not None)]),
            mixed=found.mixed,
            notes=found.notes,
        )


def _different(weight: NDArray[np.float64]) -> float:
    """How many magnitudes there are among neighbouring kept weights, as a part of them, on average."""
    windows = [row[start : start + WINDOW] for row in weight for start in range(0, len(row), WINDOW)]
    kept = [np.abs(window[window != 0.0]) for window in windows]
    return sum(len(np.unique(row)) for row in kept) / max(1, sum(map(len, kept)))
