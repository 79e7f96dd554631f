"""The forms of a checkpoint that a network's best weights are written in."""

from __future__ import annotations

from typing import Literal

__all__ = ["FORMS", "WEIGHT_FORMS", "Form"]

Form = Literal["dense", "compressed-tensors"]
FORMS: tuple[Form, ...] = ("dense", "compressed-tensors")

WEIGHT_FORMS: dict[str, tuple[str, ...]] = {"dense": (".safetensors",), "compressed-tensors": ("",)}
"""What names of such files end in; a folder's in nothing."""
