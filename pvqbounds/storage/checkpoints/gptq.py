"""GPTQ's own layout, of AutoGPTQ and GPTQModel: codes along the inputs, zero points along the outputs.

``qweight`` int32 (inputs b / 32, outputs), ``qzeros`` int32 (groups, outputs b / 32), ``scales`` (groups,
outputs), ``g_idx`` (inputs), the group of each input, which act-order shuffles. A weight is ``s (q - z)``.
Version 1 stores z - 1, version 2 stores z; the config says which, and symmetric files tell it by themselves:
z is 2^(b-1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.storage.checkpoints.base import LARGEST_LAYER, LayerFormat, Parts, unpacked
from pvqbounds.storage.checkpoints.grids import StepGrid
from pvqbounds.storage.checkpoints.layer import CompressedLayer, found_pattern
from pvqbounds.storage.checkpoints.pack_quantized import act_order, grid_name

__all__ = ["GPTQ"]

VERSIONS = {"gptq": 1, "gptq_v2": 2}
WIDTHS = (2, 3, 4, 8)
WRAPPED = (
    "Zero points of 0 in a GPTQ file of version 1 are read as they were meant; decoders that do not wrap "
    "them take 2^b."
)


class GPTQ(LayerFormat):
    """Versions 1 and 2, with and without act-order."""

    name = "GPTQ"

    def fits(self, parts: Parts) -> bool:
        """By the packed words, one for each output in a row, and by what AWQ's config would say."""
        words, scales = parts.tensors.get("qweight"), parts.tensors.get("scales")
        if words is None or scales is None or len(words.shape) != 2 or len(scales.shape) != 2:
            return False
        return words.shape[1] == scales.shape[1] and parts.config.get("quant_method") != "awq"

    def read(self, parts: Parts) -> CompressedLayer:
        """Steps, those of each input by its group."""
        words = parts.take("qweight", ("i32",), (None, None))
        channels = words.shape[1]
        scales = parts.take("scales", ("f16", "bf16", "f32"), (None, channels))
        group = None
        if "g_idx" in parts.tensors:
            group = parts.take("g_idx", ("i32", "i64"), (None,), counts=False)
        bits, inputs = _sizes(parts, len(words), None if group is None else len(group))
        groups = len(scales)
        if group is None:
            group = np.arange(inputs) // _group_size(parts, inputs, groups)
        packed = parts.take("qzeros", ("i32",), (groups, -(-channels * bits // 32)))
        stored = unpacked(packed, bits, channels).T  # (channels, groups)
        version = _version(parts, stored, bits)
        zero = (stored + 1) % (1 << bits) if version == 1 else stored
        in_order = bool((np.diff(group) >= 0).all())
        if not in_order:
            parts.bytes += parts.tensors["g_idx"].bytes  # it has to be stored, in order it has not
        block = act_order(parts, group, channels, (channels, groups))
        step = np.ascontiguousarray(scales.T).ravel()
        codes = unpacked(words.T, bits, inputs) - zero.ravel()[block]
        weight = step[block] * codes
        values = grid_name(bits, (channels, inputs), (channels, groups), asymmetric=_asymmetric(zero, bits))
        return CompressedLayer(
            name=parts.layer,
            kind=f"GPTQ version {version}{'' if in_order else ', act-order'}",
            values=values,
            shape=(channels, inputs),
            weight=weight,
            grid=StepGrid.of(block, step, -zero.ravel(), (1 << bits) - 1 - zero.ravel()),
            code_bits=bits,
            bits_per_weight=parts.bits_per_weight(weight.size),
            pattern=found_pattern(weight, (channels, inputs)),
            notes=(WRAPPED,) if version == 1 and (zero == 0).any() else (),
        )


def _sizes(parts: Parts, rows: int, inputs: int | None) -> tuple[int, int]:
    """Bits and inputs, by the config or the inputs that name a group."""
    stated: Any = parts.config.get("bits")
    if stated is None and inputs:
        stated = rows * 32 // inputs
    if type(stated) is not int or stated not in WIDTHS:
        parts.fail(
            "does not say its bits: give the folder with config.json or quantize_config.json, which say "
            f"{', '.join(map(str, WIDTHS))}."
        )
    found = rows * 32 // stated
    if rows * 32 % stated or not 0 < found <= LARGEST_LAYER or (inputs is not None and inputs != found):
        parts.fail(
            f"has {rows} rows of packed words, which are not {inputs or 'any'} codes of {stated} bits."
        )
    return stated, found


def _group_size(parts: Parts, inputs: int, groups: int) -> int:
    if groups < 1:
        parts.fail(f"has no scales for its {inputs} inputs.")
    stated = parts.config.get("group_size")
    size = -(-inputs // groups) if type(stated) is not int or stated < 1 else stated
    if -(-inputs // size) != groups:
        parts.fail(f"has scales for {groups} groups, but {inputs} inputs in groups of {size}.")
    return size


def _version(parts: Parts, stored: NDArray[np.int64], bits: int) -> int:
    stated = parts.config.get("checkpoint_format")
    if isinstance(stated, str) and stated in VERSIONS:
        return VERSIONS[stated]
    half = 1 << (bits - 1)
    for version, zero in ((1, half - 1), (2, half)):
        if (stored == zero).all():
            return version
    if parts.config.get("quant_method") == "gptq" and stated is None:
        return 1  # what was written before there was a version 2
    parts.fail(
        "does not say whether its zero points are those of GPTQ version 1 or 2: give the folder with its "
        "config.json, or set checkpoint_format there to gptq or gptq_v2."
    )


def _asymmetric(zero: NDArray[np.int64], bits: int) -> bool:
    return bool((zero != 1 << (bits - 1)).any())
