"""A layer without its model: what another process needs to bound it.

Models hold hooks, lambdas and classes of a script, which do not travel. Of a layer that is bounded on a given
Gram its weights count alone, and how they lie in rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.layer_kinds import LayerKind
from pvqbounds.nn.layers import Layer

__all__ = ["CarriedLayer", "carried", "model_of"]


@dataclass(frozen=True, eq=False)
class CarriedLayer:
    """The weights of a layer, and all that is said of it."""

    name: str
    description: str
    weight: NDArray[Any]
    """As the module has them."""
    order: NDArray[np.int64] | None
    """Which of them stand in each row, shape (channels, n); None where they do so as they are."""
    groups: int
    block: int
    turned: bool
    interleaved: bool


def carried(layer: Layer) -> CarriedLayer:
    """A layer without its model.

    Raises
    ------
    InputError
        If a weight is not finite.
    """
    kind, parameter = layer.kind, layer.kind.parameter.detach().cpu()
    layer.weight  # noqa: B018  (refuses weights that are not finite)
    exact = parameter if parameter.dtype == torch.float64 else parameter.float()
    places = torch.arange(parameter.numel()).reshape(parameter.shape)
    order = kind.matrix(places).contiguous().numpy()
    plain = bool((order.ravel() == np.arange(order.size)).all()) and order.shape[0] == parameter.shape[0]
    return CarriedLayer(
        name=layer.name,
        description=layer.description,
        weight=exact.contiguous().numpy().copy(),
        order=None if plain else order.copy(),
        groups=layer.groups,
        block=layer.block,
        turned=kind.turned,
        interleaved=kind.interleaved,
    )


def model_of(layer: CarriedLayer) -> nn.Module:
    """A module that has this one layer, under its name."""
    root: nn.Module = _Carried(layer)
    for part in reversed(layer.name.split(".") if layer.name else []):
        outer = nn.Module()
        outer.add_module(part, root)
        root = outer
    return root


class _Carried(nn.Module):
    """A layer that says itself how it computes, and does not run."""

    def __init__(self, layer: CarriedLayer) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(layer.weight), requires_grad=False)
        self.layer_kind = _Kind(self, layer)


class _Kind(LayerKind):
    """Its rows, as they were in the model."""

    def __init__(self, module: _Carried, layer: CarriedLayer) -> None:
        self._weight, self._layer = module.weight, layer
        self.groups, self.block = layer.groups, layer.block
        self.turned, self.interleaved = layer.turned, layer.interleaved

    @property
    def parameter(self) -> Tensor:
        """The weights as the module had them."""
        return self._weight

    def matrix(self, weight: Tensor) -> Tensor:
        """One channel a row."""
        order = self._layer.order
        return weight.flatten(1) if order is None else weight.reshape(-1)[torch.from_numpy(order)]

    @property
    def description(self) -> str:
        """That of the layer in its model."""
        return self._layer.description

    @property
    def called(self) -> nn.Module:
        """No module: nothing calls it."""
        raise InputError(f"Layer '{self._layer.name}' is here without its model, and is bounded on its Gram.")

    def places(self, inputs: Tensor) -> tuple[int, ...]:
        """None: it does not run."""
        raise NotImplementedError

    def batch_first(self, inputs: Tensor) -> Tensor:
        """None: it does not run."""
        raise NotImplementedError

    def spread_rows(self, inputs: Tensor) -> Tensor:
        """None: it does not run."""
        raise NotImplementedError
