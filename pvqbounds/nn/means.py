"""Means of what layers are given, and where a constant can be added to what they give."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pvqbounds.errors import InputError
from pvqbounds.nn.accumulation import Accumulator
from pvqbounds.nn.batches import Data
from pvqbounds.nn.grams import heard_by_layers
from pvqbounds.nn.layers import Layer, plain_layer_names

__all__ = ["InputMeans", "input_means"]


class InputMeans:
    """Means of the inputs of layers, by name, and the batch normalisations behind them.

    Parameters
    ----------
    means
        E[x] of each layer, shape (groups, n).
    followed
        By names of layers that have no bias: the name of the batch normalisation that takes what they give.
    """

    def __init__(self, means: dict[str, NDArray[np.float64]], followed: dict[str, str]) -> None:
        self.means, self.followed = means, followed

    def corrected(
        self, model: nn.Module, layers: Mapping[str, Layer], dense: Mapping[str, NDArray[np.float64]]
    ) -> tuple[str, ...]:
        """Take the mean errors of layers' outputs off their biases, or off the running means behind them.

        Parameters
        ----------
        model, layers
            With the weights that have the errors.
        dense
            Weights that have none, shape (channels, n), by the names of the layers.

        Returns
        -------
        Names of the layers that have a place for it.
        """
        return tuple(name for name, own in layers.items() if self._correct(model, own, dense[name]))

    def _correct(self, model: nn.Module, layer: Layer, dense: NDArray[np.float64]) -> bool:
        if layer.name not in self.means:
            return False
        place, sign = _bias(model, layer), 1.0
        if place is None and layer.name in self.followed:
            place, sign = model.get_buffer(f"{self.followed[layer.name]}.running_mean"), -1.0
        if place is None:
            return False
        means = np.repeat(self.means[layer.name], layer.channels // layer.groups, axis=0)
        error = torch.from_numpy(((dense - layer.weight) * means).sum(axis=1))
        with torch.no_grad():
            place.copy_(place.detach().double().cpu() + sign * error)
        return True


def input_means(model: nn.Module, layers: Sequence[Layer], data: Data, *, batch_size: int = 64) -> InputMeans:
    """Run a model on data, and take the means of what layers are given; masks count as in their Grams.

    Raises
    ------
    InputError
        As :func:`pvqbounds.nn.grams_of_layers`.
    """
    plain = set(plain_layer_names(model))
    targets = [layer for layer in layers if layer.name in plain]
    with _followers(model, targets) as followed:
        heard = heard_by_layers(model, targets, data, batch_size=batch_size, total=_Means)
    means = {}
    for name, listener in heard.items():
        if listener.error is not None:
            raise listener.error
        assert isinstance(listener.total, _Means)
        means[name] = listener.total.means()
    return InputMeans(means, followed)


def _bias(model: nn.Module, layer: Layer) -> Tensor | None:
    """The bias of a layer, where it is its own; None for layers of other kinds."""
    bias = getattr(layer.module, "bias", None)
    if not isinstance(bias, nn.Parameter) or bias.shape != (layer.channels,):
        return None
    holders = {id(m) for m in model.modules() for own in m._parameters.values() if own is bias}
    return bias if len(holders) == 1 else None


@contextmanager
def _followers(model: nn.Module, layers: Sequence[Layer]) -> Iterator[dict[str, str]]:
    """Batch normalisations that are given what a layer gives, always, and nothing else: filled at the end."""
    given: dict[str, Any] = {}
    calls: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    found: dict[str, str] = {}
    norms = [
        (name, norm)
        for name, norm in model.named_modules()
        if isinstance(norm, _BatchNorm) and isinstance(norm.running_mean, Tensor)
    ]

    def gave(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            given[name] = weakref.ref(output)  # held, outputs of all layers would fill the memory

        return hook

    def took(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            calls[name] += 1
            pairs.update((layer, name) for layer, own in given.items() if own() is inputs[0])

        return hook

    hooks = [layer.module.register_forward_hook(gave(layer.name)) for layer in layers]
    hooks += [norm.register_forward_pre_hook(took(name)) for name, norm in norms]
    try:
        yield found
    finally:
        for handle in hooks:
            handle.remove()
    found |= {layer: norm for (layer, norm), times in pairs.items() if times == calls[layer] == calls[norm]}


class _Means(Accumulator):
    """Sums of rows in place of their products."""

    def __init__(self, name: str, groups: int, inputs: int) -> None:
        super().__init__(name, groups, inputs)
        self._total = np.zeros((groups, inputs))

    def add(self, rows: Tensor, weights: Tensor | None = None, batch: int = 0, *, inner: int = 1) -> None:
        """Take in rows as :meth:`Accumulator.add` does."""
        if weights is not None:
            flat = rows.flatten(-inner).flatten(1, -2).double()
            each = weights.double().to(rows.device)
            count, total = float(each.sum()), (flat * each[:, None])[:, each > 0.0].sum(dim=1)
        else:
            axes = tuple(range(1, rows.dim() - inner))
            count = float(np.prod([rows.shape[axis] for axis in axes]))
            total = rows.sum(dim=axes, dtype=torch.float64).flatten(1) if axes else rows.flatten(1).double()
        if not bool(torch.isfinite(total).all()):
            raise InputError(f"The input of layer '{self._name}' is not finite in batch {batch} of the data.")
        self._total += total.cpu().numpy()
        self.weight += count

    def means(self) -> NDArray[np.float64]:
        """E[x], shape (groups, n)."""
        if self.weight <= 0.0:
            raise InputError(f"Layer '{self._name}' is never called when the model runs on the data.")
        return self._total / self.weight
