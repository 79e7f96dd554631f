"""The Gram of a layer's input, accumulated in float64 while the model runs on the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError, shown
from pvqbounds.nn.layers import Layer, find_layer
from pvqbounds.nn.signature import Inputs, inputs_of
from pvqbounds.problems import Gram

__all__ = ["Data", "LayerGrams", "gram_of_layer"]

Data = Tensor | NDArray[Any] | Iterable[Any]
"""Model inputs: one tensor or array, cut into batches along its first axis, or an iterable of
batches, each a tensor, an array or a tuple that begins with one (inputs, labels). What follows the
first is taken for labels only where the model's forward has no place for it; masks and further
inputs are refused."""

PADDED = (
    "The data hold the padding index of the model's embedding and no mask is passed, so that padded "
    "positions count like all others."
)

SQUARES_HOLD = 1e-150
"""Inputs that are smaller throughout lose their squares to underflow: they would pass for zero."""

LARGEST_UNFOLDING = 2**24
"""Float64 entries of the unfolded input held at one time (128 MiB)."""


@dataclass(frozen=True, eq=False)
class LayerGrams:
    """G = XᵀX/N of each group of a layer."""

    grams: tuple[Gram, ...]
    """One for each group, each of size (n, n)."""
    positions: int
    """N: output positions (tokens, pixels) over all batches and calls."""
    notes: tuple[str, ...] = ()
    """What a reader must know about the data, a sentence each."""


def gram_of_layer(model: nn.Module, layer: Layer | str, data: Data, *, batch_size: int = 64) -> LayerGrams:
    """Run the model on the data and accumulate the Gram of what the layer is given.

    The model runs in evaluation mode and without gradients; its modes are restored afterwards.
    A layer that is called several times in one pass counts with all its calls.

    Parameters
    ----------
    model
        Any module; its device is used, and for floating-point data its dtype.
    layer
        A layer of it, or its dotted name.
    data
        See :data:`Data`.
    batch_size
        Samples a batch, where `data` is one tensor or array.

    Raises
    ------
    InputError
        If the layer is unknown, not supported or never called, if the data are empty, do not fit
        the model or hold more than its first input (a mask, named inputs), or if the layer's input
        is not finite.
    """
    layer = layer if isinstance(layer, Layer) else find_layer(model, layer)
    total, inputs, padded = _Accumulator(layer), inputs_of(model), False
    inputs.check_runnable()
    with _evaluating(model), torch.no_grad(), total.listening():
        for batch in _batches(data, batch_size, inputs):
            padded = padded or inputs.is_padded(batch)
            _run(model, batch)
    return replace(total.result(), notes=(PADDED,) if padded else ())


class _Accumulator:
    """Sum of XᵀX over the calls of one layer."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._sums = torch.zeros(layer.groups, layer.inputs, layer.inputs, dtype=torch.float64)
        self._largest = torch.zeros(layer.groups, layer.inputs, dtype=torch.float64)
        self._positions = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take in what the layer is called with, while the context lasts."""
        handle = self._layer.module.register_forward_pre_hook(self._take, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs: Tensor = args[0] if args else kwargs["input"]
        if inputs.is_complex():
            raise InputError(
                f"The input of layer '{self._layer.name}' is complex, and bounds exist for real ones."
            )
        if not torch.isfinite(inputs).all():
            raise InputError(
                f"The input of layer '{self._layer.name}' is not finite; "
                "check the data and the weights before the layer."
            )
        samples = self._layer.batch_first(inputs.detach())
        # unfolding repeats each input up to once for each place in the kernel
        sample_size = samples[:1].numel() * self._layer.block
        for part in torch.split(samples, max(1, LARGEST_UNFOLDING // max(1, sample_size))):
            rows = self._layer.rows(_as_float64(part))
            self._sums += (rows.mT @ rows).cpu()
            if rows.shape[1]:
                self._largest = torch.maximum(self._largest, rows.abs().amax(dim=1).cpu())
            self._positions += rows.shape[1]

    def result(self) -> LayerGrams:
        """G of each group.

        Raises
        ------
        InputError
            If the layer has not been called, or the squares of its inputs leave float64's range.
        """
        if self._positions == 0:
            raise InputError(
                f"Layer '{self._layer.name}' is never called when the model runs on the data; "
                "choose a layer that is on the way, and data that reach it."
            )
        lost = self._largest[(self._largest > 0.0) & (self._largest < SQUARES_HOLD)]
        if len(lost) or not torch.isfinite(self._sums).all():
            extreme = f"small as {lost.min():.3g}" if len(lost) else f"large as {self._largest.max():.3g}"
            raise InputError(
                f"The input of layer '{self._layer.name}' has entries as {extreme}, whose squares float64 "
                "does not hold; rescale the data."
            )
        return LayerGrams(tuple(Gram(sums / self._positions) for sums in self._sums.numpy()), self._positions)


def _as_float64(tensor: Tensor) -> Tensor:
    on_mps = tensor.device.type == "mps"  # the one kind of device that has no float64
    return tensor.to("cpu" if on_mps else tensor.device).to(torch.float64)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Hold the model in evaluation mode; give each module its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _batches(data: Data, batch_size: int, expected: Inputs) -> Iterator[Tensor]:
    """Model inputs, a batch at a time."""
    if isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1:
        raise InputError(f"The batch size must be a positive whole number, not {shown(batch_size)}.")
    if isinstance(data, Tensor | np.ndarray):
        tensor = _as_tensor(data)
        if tensor.dim() == 0:
            raise InputError("The data must have samples along their first axis, but they are one number.")
        data = torch.split(tensor, int(batch_size))
    else:
        _check_separate(data, expected)
    try:
        batches = iter(data)
    except TypeError as error:
        raise InputError(
            f"The data must be a tensor, an array or an iterable of batches, not a {type(data).__name__}."
        ) from error
    empty = True
    for batch in batches:
        inputs = _as_tensor(expected.only(batch))
        if inputs.numel():
            empty = False
            yield inputs
    if empty:
        raise InputError("The data are empty; give at least one sample.")


def _check_separate(data: Data, expected: Inputs) -> None:
    """Find out whether what should be batches are the inputs of one: a dictionary, or ids and their mask."""
    if isinstance(data, Mapping):
        expected.only(data)
    if not isinstance(data, tuple | list) or len(data) < 2 or not expected.possible:
        return
    tensors = [part for part in data if isinstance(part, Tensor | np.ndarray)]
    if len(tensors) == len(data) and any(map(expected.looks_like_a_mask, map(_as_tensor, tensors[1:]))):
        raise InputError(
            "One of the batches holds only zeros and ones, as an attention mask does, and masks are not "
            "supported; give batches of the model's first input alone."
        )
    if isinstance(data, tuple):
        raise InputError(
            f"The data are a tuple of {len(data)}, which the model could take as several inputs; "
            "give batches of its first input alone, in a list."
        )


def _as_tensor(batch: Any) -> Tensor:
    if isinstance(batch, Tensor):
        if batch.layout != torch.strided or batch.is_nested:
            raise InputError("A batch of data is a sparse or nested tensor; give a dense one.")
        return batch
    if isinstance(batch, np.ndarray) and batch.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(batch))
    raise InputError(
        "A batch of data must be a tensor, an array of real numbers or a tuple that begins with one, "
        f"not {_kind(batch)}."
    )


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _run(model: nn.Module, batch: Tensor) -> None:
    """One forward pass on the model's device, floating-point inputs in the model's dtype."""
    home = next(model.parameters())
    dtype = home.dtype if batch.is_floating_point() and home.is_floating_point() else batch.dtype
    try:
        model(batch.to(home.device, dtype))
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(
            f"The model cannot run on data of shape {tuple(batch.shape)} and type {dtype}: {reason}."
        ) from error
