"""From a torch model to problems: models, layers, activations and Grams, and bounds for a layer.

Importing this package imports no torch; using one of its names does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pvqbounds.errors import InputError

if TYPE_CHECKING:
    from pvqbounds.nn.bounds import layer_bounds
    from pvqbounds.nn.grams import LayerGrams, gram_of_layer, grams_of_layers
    from pvqbounds.nn.layers import Layer, find_layer, layer_names
    from pvqbounds.nn.models import LoadedModel, load_model
    from pvqbounds.nn.one_size import joint_curve

__all__ = [
    "Layer",
    "LayerGrams",
    "LoadedModel",
    "find_layer",
    "gram_of_layer",
    "grams_of_layers",
    "joint_curve",
    "layer_bounds",
    "layer_names",
    "load_model",
]

_HOMES = {
    "Layer": "layers",
    "LayerGrams": "grams",
    "LoadedModel": "models",
    "find_layer": "layers",
    "gram_of_layer": "grams",
    "grams_of_layers": "grams",
    "joint_curve": "one_size",
    "layer_bounds": "bounds",
    "layer_names": "layers",
    "load_model": "models",
    "network_bounds": "pvqbounds.network.run",  # a room above this one, reached by its name alone
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("torch")
    except ImportError as error:
        raise InputError(
            f"pvqbounds.nn.{name} needs PyTorch ({error}); install it with `pip install 'pvqbounds[nn]'`."
        ) from error
    home = _HOMES[name]
    return getattr(import_module(home if "." in home else f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return [*__all__, "network_bounds"]
