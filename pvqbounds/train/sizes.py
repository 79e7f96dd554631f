"""Which layers are compressed, and how far: the first and last are a stated choice."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn.layers import find_layers, plain_layer_names
from pvqbounds.train.presets import FULL_BITS, Ends, Pruning

__all__ = ["compressible", "layer_bits", "layer_densities", "layer_patterns", "share_of_weights"]

T = TypeVar("T")

END_BITS = 8
"""Least bits of the first and of the last layer under "8-bit"."""


def compressible(model: nn.Module) -> list[str]:
    """Dotted names of the layers that are compressed, in the model's own order.

    Raises
    ------
    InputError
        If there are none.
    """
    names = plain_layer_names(model)
    if not names:
        raise InputError(f"A {type(model).__name__} has no Linear or convolution that could be compressed.")
    find_layers(model, names)  # raises where a weight is not there yet
    return names


def layer_bits(names: list[str], bits: int, ends: Ends) -> dict[str, int]:
    """Bits of each layer that is quantized."""
    return _per_layer(names, bits, max(bits, END_BITS), ends)


def layer_densities(names: list[str], pruning: Pruning, ends: Ends) -> dict[str, float]:
    """Kept fraction of each layer that is pruned.

    Output channels are never taken from the last layer, whose outputs are the classes.
    """
    density = 1.0 - pruning.final_sparsity
    densities = _per_layer(names, density, max(density, END_BITS / FULL_BITS), ends)
    if pruning.scope == "channel":
        densities.pop(names[-1], None)
        if not densities:
            raise InputError("Only the last layer is left to prune, and its output channels are the classes.")
    return densities


def layer_patterns(
    model: nn.Module, names: list[str], pattern: tuple[int, int], ends: Ends
) -> dict[str, tuple[int, int]]:
    """Pattern of each layer that is pruned by one.

    Groups run along the input channels. Layers that have too few of them for the pattern to remove
    any, such as depthwise convolutions, stay dense and are left out here.

    Raises
    ------
    InputError
        If no layer is left.
    """
    kept, size = pattern
    at_the_ends = (max(kept, math.ceil(size * END_BITS / FULL_BITS)), size)
    patterns = _per_layer(names, pattern, at_the_ends, ends)
    layers = find_layers(model, patterns)
    fitting = {
        name: (n, m) for name, (n, m) in patterns.items() if layers[name].input_channels > min(n, m - 1)
    }
    if not fitting:
        raise InputError(
            f"No layer has enough input channels for a pattern {kept}:{size} along them to remove any; "
            "prune within layers by --sparsity."
        )
    return fitting


def share_of_weights(model: nn.Module, names: list[str]) -> float:
    """Fraction of all parameters that the weights of these layers are."""
    inside: int = sum(layer.module.weight.numel() for layer in find_layers(model, names).values())
    return inside / sum(parameter.numel() for parameter in model.parameters())


def _per_layer(names: list[str], usual: T, at_the_ends: T, ends: Ends) -> dict[str, T]:
    first, last = names[0], names[-1]
    if ends == "same":
        return dict.fromkeys(names, usual)
    chosen = {name: at_the_ends if name in (first, last) else usual for name in names}
    if ends == "dense":
        chosen = {name: size for name, size in chosen.items() if name not in (first, last)}
        if not chosen:
            raise InputError("The model has only a first and a last layer; take --ends same or 8-bit.")
    return chosen
