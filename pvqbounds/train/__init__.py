"""Fine-tuning with quantization and with pruning, and its outcome held against the bounds.

Importing this package imports no torch; using one of its names does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pvqbounds.errors import InputError

if TYPE_CHECKING:
    from pvqbounds.train.data import TrainingData, digits_data, image_data
    from pvqbounds.train.fit import fine_tune
    from pvqbounds.train.layer_gaps import LayerAgainst, RunAgainst, against_bounds
    from pvqbounds.train.layer_reconstruction import reconstruct_pruning, reconstruct_quantization
    from pvqbounds.train.outcome import Outcome
    from pvqbounds.train.presets import PRESETS, Pruning, Quantization, Recipe, recipe_named

_HOMES = {
    "LayerAgainst": "layer_gaps",
    "Outcome": "outcome",
    "PRESETS": "presets",
    "Pruning": "presets",
    "Quantization": "presets",
    "Recipe": "presets",
    "RunAgainst": "layer_gaps",
    "TrainingData": "data",
    "against_bounds": "layer_gaps",
    "digits_data": "data",
    "fine_tune": "fit",
    "image_data": "data",
    "recipe_named": "presets",
    "reconstruct_pruning": "layer_reconstruction",
    "reconstruct_quantization": "layer_reconstruction",
}

__all__ = [
    "PRESETS",
    "LayerAgainst",
    "Outcome",
    "Pruning",
    "Quantization",
    "Recipe",
    "RunAgainst",
    "TrainingData",
    "against_bounds",
    "digits_data",
    "fine_tune",
    "image_data",
    "recipe_named",
    "reconstruct_pruning",
    "reconstruct_quantization",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] != "presets":
        try:
            import_module("torch")
        except ImportError as error:
            raise InputError(
                f"pvqbounds.train.{name} needs PyTorch ({error}); "
                "install it with `pip install 'pvqbounds[nn,train]'`."
            ) from error
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
