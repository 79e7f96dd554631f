"""A layer of a torch model, by its dotted name, as rows of inputs times a weight matrix.

The bias has no part in it: it cancels in the output error, and the signal is the output without it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError, shown
from pvqbounds.nn.experts import experts_of
from pvqbounds.nn.layer_kinds import KINDS_IN_WORDS, LayerKind, kind_of, projections
from pvqbounds.problems.validation import as_real_array
from pvqbounds.results.layer_names import is_pattern, names_like

__all__ = [
    "Layer",
    "find_layer",
    "find_layers",
    "layer_names",
    "layer_sizes",
    "module_of",
    "plain_layer_names",
    "select_layers",
    "unwrapped_name",
]

LONGEST_LIST = 12
"""Layers that an error message lists at most."""

WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Parts of names that torch.compile, activation checkpointing and sharding put in."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A supported layer under its dotted name."""

    name: str
    module: Any
    """Where its weights are."""
    part: LayerKind | None = None
    """What of the module it is, where the module is more than one layer."""
    within: str = ""
    """Its name within the module then."""

    @cached_property
    def kind(self) -> LayerKind:
        """How the layer computes with a matrix."""
        kind = self.part or kind_of(self.module)
        assert kind is not None
        return kind

    @property
    def groups(self) -> int:
        """Groups of the layer: each has inputs, channels and a Gram of its own."""
        return self.kind.groups

    @property
    def block(self) -> int:
        """Inputs that one input channel contributes to the fan-in: the size of the kernel."""
        return self.kind.block

    @property
    def inputs(self) -> int:
        """Fan-in n of one output channel."""
        return self._shape[1]

    @property
    def input_channels(self) -> int:
        """Input channels, or features, behind one output channel: what an N:M pattern groups."""
        return self.inputs // self.block

    @property
    def channels(self) -> int:
        """Output channels."""
        return self._shape[0]

    @property
    def _shape(self) -> tuple[int, int]:
        channels, inputs = self.kind.matrix(self.kind.parameter.detach()[..., :]).shape
        return channels, inputs

    def group_of(self, channel: int) -> int:
        """Group that an output channel belongs to."""
        return channel // (self.channels // self.groups)

    @property
    def weight(self) -> NDArray[np.float64]:
        """Weights, one channel a row, shape (channels, n), read-only.

        Raises
        ------
        InputError
            If a weight is not finite.
        """
        return self.matrix(self.kind.parameter.detach().to("cpu", torch.float64))

    def matrix(self, weight: Tensor) -> NDArray[np.float64]:
        """Weights of the shape that the module has them in, one channel a row, shape (channels, n)."""
        matrix = self.kind.matrix(weight).contiguous().numpy()
        return as_real_array(matrix, f"The weight of layer '{self.name}'", ndim=2)

    def replace_weight(self, weight: NDArray[np.float64]) -> None:
        """Give the module other weights, shape (channels, n), rounded to its own type.

        Raises
        ------
        InputError
            If the module computes its weights from others, so that none can be put in.
        """
        stored = self.kind.as_stored(torch.from_numpy(weight)).to(self.kind.parameter)
        with torch.no_grad():
            self.kind.parameter.copy_(stored)
        if not torch.equal(self.kind.parameter, stored):
            raise InputError(
                f"Layer '{self.name}' computes its weights from other parameters; merge its parametrization "
                "first."
            )

    @property
    def description(self) -> str:
        """Kind and geometry in words; what is at its default is left out."""
        return self.kind.description


def layer_names(model: nn.Module) -> list[str]:
    """Dotted names of the layers that bounds exist for, in the model's own order."""
    seen: set[tuple[int, str]] = set()
    names = []
    for name, layer in _layers_of(model).items():
        place = (id(layer.module), layer.within)
        if place not in seen:  # a module under two names is one layer
            seen.add(place)
            names.append(name)
    return names


def plain_layer_names(model: nn.Module) -> list[str]:
    """Of them those whose module is a Linear or a convolution with a weight of its own, one channel a row."""
    layers = _layers_of(model)
    plain = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [n for n in layer_names(model) if layers[n].part is None and isinstance(layers[n].module, plain)]


def layer_sizes(model: nn.Module) -> list[tuple[str, str, int]]:
    """(name, description, number of weights) of every layer that bounds exist for."""
    layers = _layers_of(model)
    return [(n, layers[n].description, layers[n].kind.parameter.numel()) for n in layer_names(model)]


def select_layers(model: nn.Module, wanted: Sequence[str]) -> list[str]:
    """Names of the layers that names, or patterns with ``*``, ``?`` and ``[...]``, stand for, each once.

    A pattern that is also the name of a layer stands for that one, too.

    Raises
    ------
    InputError
        If one stands for none, or they are one text.
    """
    if isinstance(wanted, str):
        raise InputError(f"The layers are a list of names, not one text; give [{shown(wanted)}].")
    known = layer_names(model)
    plain = [name for name in wanted if not is_pattern(name)]
    named = find_layers(model, plain)
    chosen: dict[str, None] = {}
    for pattern in wanted:
        if not is_pattern(pattern):
            chosen[named[pattern].name] = None
            continue
        fitting = names_like(pattern, known)
        if not fitting:
            raise InputError(f"No layer is called like '{pattern}'{_hint(pattern, known)}.")
        chosen.update(dict.fromkeys(fitting))
    return list(chosen)


def find_layer(model: nn.Module, name: str) -> Layer:
    """Find the layer of that dotted name; what torch's wrappers add to names may be left out.

    Raises
    ------
    InputError
        If there is none (the nearest name is given), if its kind is not supported, or if its
        weights are not there (lazy, meta or of no size) or complex.
    """
    return find_layers(model, [name])[name]


def find_layers(model: nn.Module, names: Iterable[str]) -> dict[str, Layer]:
    """Several layers by the names that are asked for, in one pass over the model.

    Raises
    ------
    InputError
        As :func:`find_layer`, for the first that is not there.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"The model must be a torch.nn.Module, not a {type(model).__name__}.")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "The model is TorchScript, whose layers cannot be looked into; give the module that it was made "
            "from."
        )
    wanted = list(names)
    layers = _layers_of(model) if wanted else {}
    return {name: _one_of(layers, model, name) for name in wanted}


def _one_of(layers: dict[str, Layer], model: nn.Module, name: str) -> Layer:
    """The layer of that name among all of the model."""
    if not isinstance(name, str):
        raise InputError(f"The layer is given by its dotted name, not a {type(name).__name__}.")
    layer = layers.get(name) or layers.get(unwrapped_name(name))
    if layer is None:
        modules = {unwrapped_name(other): m for other, m in model.named_modules(remove_duplicate=False)}
        if unwrapped_name(name) not in modules:
            raise InputError(f"The model has no layer '{name}'{_hint(name, layer_names(model))}.")
        inside = [other for other in layers if other.startswith(f"{name}." if name else "")]
        raise InputError(
            f"Layer '{name}' is a {_kind(modules[unwrapped_name(name)])}, but bounds exist for "
            f"{KINDS_IN_WORDS} that compute as torch's own do{_hint(name, inside or layer_names(model))}."
        )
    weight = layer.kind.parameter
    if isinstance(weight, nn.UninitializedParameter) or weight.is_meta:
        raise InputError(f"Layer '{name}' has no weights yet; load them and run the model once first.")
    if weight.numel() == 0:
        raise InputError(f"Layer '{name}' has no weights: their shape is {tuple(weight.shape)}.")
    if weight.is_complex():
        raise InputError(f"Layer '{name}' has complex weights, and bounds exist for real ones.")
    return layer


def _layers_of(model: nn.Module) -> dict[str, Layer]:
    """Every layer that bounds exist for, under all of its names."""
    layers: dict[str, Layer] = {}
    kinds: dict[int, LayerKind | None] = {}
    for raw, module in model.named_modules(remove_duplicate=False):
        name = unwrapped_name(raw)
        if id(module) not in kinds:
            kinds[id(module)] = kind_of(module)
        if kinds[id(module)] is not None:
            layers[name] = Layer(name, module)
        parts: dict[str, LayerKind] = projections(module) | experts_of(module)
        for within, part in parts.items():
            inner = f"{name}.{within}" if name else within
            layers[inner] = Layer(inner, module, part, within)
    return layers


def module_of(model: nn.Module, name: str) -> nn.Module:
    """The module of that dotted name without what torch's wrappers put into it, itself out of them."""
    module = _unwrapped(model)
    for part in name.split(".") if name else []:
        module = _unwrapped(module.get_submodule(part))
    return module


def _unwrapped(module: nn.Module) -> nn.Module:
    held = dict(module.named_children())
    inner = next((held[name] for name in WRAPPERS if name in held), None)
    return module if inner is None else _unwrapped(inner)


def unwrapped_name(name: str) -> str:
    """A dotted name without what torch's wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _kind(module: nn.Module) -> str:
    """Name of the module's class, with where it comes from if torch has a supported one of that name."""
    kind = type(module)
    same = kind.__name__ in ("Linear", "Conv1d", "Conv2d", "Conv3d")
    return f"{kind.__module__}.{kind.__qualname__}" if same else kind.__name__


def _hint(name: str, candidates: list[str]) -> str:
    """Name the nearest candidate and, where they are few, all of them."""
    if not candidates:
        return " (this model has no such layer)"
    nearest = (difflib.get_close_matches(name, candidates, n=1, cutoff=0.0) or candidates)[0]
    if len(candidates) > LONGEST_LIST:
        return f"; did you mean '{nearest}'"
    return f"; did you mean '{nearest}' (there are {', '.join(candidates)})"
