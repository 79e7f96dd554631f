"""compressed-tensors' sparse files: what is kept in a row, and a mask of bits, the lowest first.

``compressed``, ``bitmask`` (rows, columns / 8), ``shape``, and ``row_offsets`` where the mask is not 2:4.
What is kept are weights as they are, or int8 and float8 codes with their scales.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.storage.checkpoints.base import FLOATS, LayerFormat, Parts, checked_shape
from pvqbounds.storage.checkpoints.layer import AS_KEPT, CompressedLayer, found_pattern
from pvqbounds.storage.checkpoints.scaled import FLOAT8, SCALES, scaled_layer

__all__ = ["Bitmask"]

BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64, "i8": 8, "f8_e4m3": 8, "f8_e5m2": 8}


class Bitmask(LayerFormat):
    """sparse-bitmask and sparse-24-bitmask."""

    name = "compressed-tensors sparse bitmask"

    def fits(self, parts: Parts) -> bool:
        """By what is kept and its mask."""
        return _prefix(parts) is not None

    def read(self, parts: Parts) -> CompressedLayer:
        """Kept weights, or codes with their scales."""
        prefix = _prefix(parts)
        assert prefix is not None
        shape = checked_shape(parts, parts.take(f"{prefix}shape", ("i64", "i32"), counts=False).ravel())
        kind = parts.tensors[f"{prefix}compressed"].kind
        kept = parts.take(f"{prefix}compressed", tuple(BITS)).ravel()
        packed = parts.take(f"{prefix}bitmask", ("u8",), (shape[0], -(-shape[1] // 8)))
        mask = np.unpackbits(packed, axis=1, bitorder="little")[:, : shape[1]].astype(np.bool_)
        if int(mask.sum()) != len(kept):
            parts.fail(f"keeps {int(mask.sum())} weights by its mask, but holds {len(kept)}.")
        if f"{prefix}row_offsets" in parts.tensors:
            _check_offsets(parts, prefix, mask)
        dense: NDArray[Any] = np.zeros(shape, dtype=kept.dtype)
        dense[mask] = kept
        if any(name in parts.tensors for name in SCALES):
            if kind not in ("i8", *FLOAT8):
                parts.fail(f"holds {kind} numbers and scales, where codes are scaled.")
            return scaled_layer(parts, dense, kind, f"{self.name} of {kind}", sure=True)
        if kind in ("i8", *FLOAT8):
            parts.fail(f"holds {kind} codes without scales.")
        assert kind in FLOATS
        rows = parts.rows(dense)
        pattern = found_pattern(rows, parts.dense_shape(shape), sure=True)
        return CompressedLayer(
            name=parts.layer,
            kind=self.name,
            values="",
            shape=parts.dense_shape(shape),
            weight=rows,
            grid=None,
            code_bits=BITS[kind],
            bits_per_weight=parts.bits_per_weight(dense.size),
            pattern=pattern,
            pruned=True,
            presumed="" if pattern is not None else AS_KEPT,
        )


def _prefix(parts: Parts) -> str | None:
    """What comes before the names of the parts: older files name the weight."""
    for prefix in ("", "weight."):
        if {f"{prefix}compressed", f"{prefix}bitmask"} <= parts.tensors.keys():
            return prefix
    return None


def _check_offsets(parts: Parts, prefix: str, mask: NDArray[np.bool_]) -> None:
    offsets = parts.take(f"{prefix}row_offsets", ("i64", "i32"), counts=False).ravel()
    starts = np.concatenate([[0], np.cumsum(mask.sum(axis=1))[:-1]])
    if not np.array_equal(offsets, starts):
        parts.fail("has row offsets that are not those of its mask.")
