"""What the tensors of a checkpoint are: weights, or parts of something that is quantized or added to weights.

Told by name and type alone, as the formats in use have them: float8 with scales (DeepSeek,
compressed-tensors, ModelOpt), packed integers (GPTQ, AWQ, compressed-tensors, bitsandbytes, MXFP4), LoRA
factors (PEFT, Kohya).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Part", "is_float8", "parts_of"]

PACKED = ("qweight", "weight_packed", "qzeros", "g_idx", "W_q", "_blocks")
"""Last words of names of integers that no format reads as numbers one by one."""

SCALES = (
    *("weight_scale_inv", "weight_scale", "weight_scale_2", "weight_global_scale", "weight_zero_point"),
    *("scale_weight", "scale", "scales", "scale_inv", "zero_point", "zeros", "SCB"),
    *("input_scale", "input_global_scale", "output_scale", "scale_input", "q_scale", "k_scale", "v_scale"),
    *("absmax", "quant_map", "nested_absmax", "nested_quant_map"),
)
"""Last words of names of floating-point numbers that belong to a quantized tensor."""

MULTIPLYING = ("weight_scale_inv", "weight_scale", "scale_weight", "scale")
"""Of them those that float8 numbers are multiplied by, despite the name of the first."""

ACTIVATIONS = ("input", "output", "q_scale", "k_scale", "v_scale")

LORA = ("lora_A", "lora_B", "lora_up", "lora_down", "lora_embedding_A", "lora_embedding_B")


@dataclass(frozen=True)
class Part:
    """A tensor that is not a weight as it stands."""

    reason: str
    """What it is, to follow its name in a sentence."""
    scale: str | None = None
    """The tensor that its float8 numbers are to be multiplied by, where that is known."""


def is_float8(kind: str) -> bool:
    """Whether a type, by its name in safetensors or in torch, is a float of eight bits."""
    return kind.lower().startswith(("f8_", "float8"))


def parts_of(kinds: Mapping[str, str]) -> dict[str, Part]:
    """The tensors that are no weights by themselves.

    Parameters
    ----------
    kinds
        Type of each tensor by its name, as safetensors or torch call it.
    """
    coded = {name for name, kind in kinds.items() if is_float8(kind) or _is_coded(name, kind)}
    families: dict[str, list[str]] = {}
    for name in kinds:
        families.setdefault(name.rpartition(".")[0], []).append(name)
    found: dict[str, Part] = {}
    for name, kind in kinds.items():
        parent, _, last = name.rpartition(".")
        near = [*families.get(parent, ()), *families.get(name, ())]
        if any(word in LORA for word in name.split(".")):
            found[name] = Part("is a factor of a LoRA adapter; merge the adapter into its model first")
        elif last.endswith(PACKED) and _is_integer(kind):
            found[name] = Part("holds packed integers of a quantized weight; dequantize the checkpoint first")
        elif last in SCALES and (owner := _owner(parent, families, coded - {name})) is not None:
            found[name] = Part(f"holds scales or offsets of the quantized '{owner}', not weights")
        elif name in coded and (scales := _scales_of(name, near)):
            found[name] = _scaled(name, kind, scales)
    return found


def _scaled(name: str, kind: str, scales: list[str]) -> Part:
    listed = ", ".join(f"'{scale}'" for scale in scales)
    if not is_float8(kind):
        return Part(f"holds integers that are scaled by {listed}; dequantize the checkpoint first")
    known = len(scales) == 1 and scales[0].rpartition(".")[2] in (*MULTIPLYING, *_own_scales(name))
    return Part(
        f"holds float8 numbers that are scaled by {listed}; dequantize the checkpoint first",
        scales[0] if known else None,
    )


def _own_scales(name: str) -> tuple[str, str]:
    last = name.rpartition(".")[2]
    return f"{last}_scale_inv", f"{last}_scale"


def _scales_of(name: str, near: list[str]) -> list[str]:
    """The scales of one coded tensor among its neighbours, those of activations left out."""
    last = name.rpartition(".")[2]
    found = []
    for other in near:
        word = other.rpartition(".")[2]
        plain = word in ("scale", "scales", "scale_inv", "SCB", "absmax")
        mine = last in word or (plain and (last == "weight" or other.startswith(f"{name}.")))
        if other != name and mine and (plain or "scale" in word) and not word.startswith(ACTIVATIONS):
            found.append(other)
    return found


def _owner(parent: str, families: Mapping[str, list[str]], coded: set[str]) -> str | None:
    """The quantized tensor that a scale under `parent` belongs to."""
    if parent in coded:
        return parent
    owners = [name for name in families[parent] if name in coded]
    return min(owners, key=lambda name: "weight" not in name.rpartition(".")[2], default=None)


def _is_coded(name: str, kind: str) -> bool:
    """Whether integers stand for weights: other integers, such as counters and positions, have no scales."""
    last = name.rpartition(".")[2]
    return _is_integer(kind) and (last.endswith(PACKED) or "weight" in last)


def _is_integer(kind: str) -> bool:
    return kind.lower().startswith(("i", "u"))
