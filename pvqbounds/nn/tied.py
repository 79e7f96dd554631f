"""Layers that have the very same weights: one parameter, held by several modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pvqbounds.nn.layers import Layer, find_layers
from pvqbounds.results.network import Tied

__all__ = ["tied_layers"]


def tied_layers(model: nn.Module, names: Sequence[str]) -> tuple[Tied, ...]:
    """Which of some layers lie in the same memory as others, or as what is none of these layers.

    Weights that a module computes from others, as torch's parametrizations do, are its own.

    Raises
    ------
    InputError
        If there is no such layer.
    """
    layers = find_layers(model, names)
    # all of them are held, so that no place in memory is that of two
    weights = {name: layer.kind.parameter.detach() for name, layer in layers.items()}
    alike: dict[tuple[str, int, int], list[str]] = {}
    for name, weight in weights.items():
        alike.setdefault((str(weight.device), weight.data_ptr(), weight.numel()), []).append(name)
    parameters = _parameters(model)
    found = []
    for own in alike.values():
        others = _others([layers[name] for name in own], weights[own[0]], parameters)
        if len(own) + len(others) > 1:
            found.append(Tied(tuple(own), others))
    return tuple(found)


def _parameters(model: nn.Module) -> dict[int, list[tuple[str, nn.Module, Tensor]]]:
    """All parameters by their memory, under all of their names, with the modules that hold them."""
    found: dict[int, list[tuple[str, nn.Module, Tensor]]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for own, parameter in module._parameters.items():
            place = _place(parameter)
            if parameter is not None and place is not None:
                found.setdefault(place, []).append((f"{name}.{own}".lstrip("."), module, parameter))
    return found


def _place(parameter: Tensor | None) -> int | None:
    """Where the memory of a parameter begins; None without one, as those of lazy and of wrapped kinds are."""
    if parameter is None or nn.parameter.is_lazy(parameter) or parameter.is_meta:
        return None
    try:
        return parameter.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return None


def _others(
    layers: Sequence[Layer], weight: Tensor, parameters: dict[int, list[tuple[str, nn.Module, Tensor]]]
) -> tuple[str, ...]:
    """Names of the parameters in a weight's memory that modules other than those of some layers hold."""
    inside = {id(module) for layer in layers for module in layer.module.modules()}
    beside = parameters.get(_place(weight) or 0, [])
    return tuple(name for name, module, other in beside if id(module) not in inside and _meet(weight, other))


def _meet(first: Tensor, second: Tensor) -> bool:
    (start, end), (begin, stop) = _extent(first), _extent(second)
    return start < stop and begin < end


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First byte of a tensor's memory, and one past the last."""
    length = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.data_ptr(), tensor.data_ptr() + length * tensor.element_size()
