"""Grams of layers' inputs, accumulated in float64 while the model runs on the data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.accumulation import Accumulator
from pvqbounds.nn.batches import Batch, Data, batches_of
from pvqbounds.nn.layers import Layer, find_layer, find_layers
from pvqbounds.nn.positions import POSITION_MASK, Positions, positions_of, sequence_first
from pvqbounds.nn.routing import Routed, Routes
from pvqbounds.nn.running import as_written, run
from pvqbounds.nn.signature import Inputs, inputs_of
from pvqbounds.problems import Gram

__all__ = ["Data", "LayerGrams", "Listener", "Seen", "gram_of_layer", "grams_of_layers", "heard_by_layers"]

PADDED = (
    "The data hold the padding index of the model's embedding and no mask is passed, so that padded "
    "positions count like all others."
)
UNMASKED = (
    "The masks of the data do not fit the positions of layer '{}' ({}), so that padded ones count there like "
    "all others; give samples without padding."
)
UNTOLD = (
    "What the expert of layer '{}' is given cannot be matched, one by one, with the tokens of its block, so "
    "that no mask tells which of them are padded: padded ones count there like all others; give samples "
    "without padding."
)
PARTED = (
    "Tokens that are equal to the last bit, of which a mask tells some apart, are routed differently: which "
    "of them reach the expert of layer '{}' is not known, and those that came first are taken; give samples "
    "without padding."
)
WEIGHTED = "Positions count with the weights that the data give them: signal and errors are weighted means."


@dataclass(frozen=True, eq=False)
class LayerGrams:
    """G = XᵀX/N of each group of a layer."""

    grams: tuple[Gram, ...]
    """One for each group, each of size (n, n)."""
    positions: int
    """N: output positions (tokens, pixels) over all batches and calls that count."""
    notes: tuple[str, ...] = ()
    """What a reader must know about the data, a sentence each."""


def gram_of_layer(
    model: nn.Module,
    layer: Layer | str,
    data: Data,
    *,
    batch_size: int = 64,
    position_mask: Tensor | NDArray[Any] | None = None,
) -> LayerGrams:
    """Run the model on the data and accumulate the Gram of what the layer is given.

    As :func:`grams_of_layers`, for one layer.
    """
    target = layer if isinstance(layer, Layer) else find_layer(model, layer)
    found = grams_of_layers(model, [target], data, batch_size=batch_size, position_mask=position_mask)
    return found[target.name]


def grams_of_layers(
    model: nn.Module,
    layers: Sequence[Layer | str],
    data: Data,
    *,
    batch_size: int = 64,
    position_mask: Tensor | NDArray[Any] | None = None,
    failed: dict[str, InputError] | None = None,
) -> dict[str, LayerGrams]:
    """Run the model on the data once and accumulate the Grams of what layers are given.

    The model runs in evaluation mode and without gradients, and without what torch.compile made of
    it; its modes are restored afterwards. A layer that is called several times in one pass counts
    with all its calls. Positions that a mask of the batch calls padded stay out.

    Parameters
    ----------
    model
        Any module; its device is used, and for floating-point data its dtype.
    layers
        Layers of it, or their dotted names.
    data
        See :data:`Data`.
    batch_size
        Samples a batch, where `data` are not in batches already.
    position_mask
        Which positions count, or with what weight, shape (samples, length) or that of the layer's
        output positions; in place of the model's own masks. Batches that are dictionaries may hold
        one under "position_mask".
    failed
        If given, a layer that has no Gram is put there with the reason, and the others go on.

    Returns
    -------
    dict
        By the names of the layers.

    Raises
    ------
    InputError
        If a layer is unknown, not supported or never called, if the data are empty, do not fit the
        model or hold what it has no place for, or if a layer's input is not finite.
    """
    names = [layer for layer in layers if not isinstance(layer, Layer)]
    found_by_name = find_layers(model, names)
    targets = [layer if isinstance(layer, Layer) else found_by_name[layer] for layer in layers]
    listeners = heard_by_layers(
        model, targets, data, batch_size=batch_size, position_mask=position_mask, goes_on=failed is not None
    )
    found = {}
    for name, listener in listeners.items():
        try:
            found[name] = listener.result()
        except InputError as error:
            if failed is None:
                raise
            failed[name] = error
    return found


def heard_by_layers(
    model: nn.Module,
    layers: Sequence[Layer],
    data: Data,
    *,
    batch_size: int = 64,
    position_mask: Tensor | NDArray[Any] | None = None,
    goes_on: bool = False,
    total: type[Accumulator] = Accumulator,
) -> dict[str, Listener]:
    """Run the model on the data as :func:`grams_of_layers` does; what was heard of each layer, by its name.

    Parameters
    ----------
    goes_on
        Whether others do where a layer cannot be heard.
    total
        What takes in the rows.
    """
    inputs, turned, seen = inputs_of(model), sequence_first(model), Seen()
    listeners: dict[str, Listener] = {}
    with ExitStack() as stack:
        stack.enter_context(as_written(model))
        routes = Routes(model, lambda: seen.positions, stack)
        for target in layers:
            own = total(target.name, target.groups, target.inputs)
            listeners[target.name] = Listener(target, seen, routes.of(target), own)
            stack.enter_context(target.kind.listening(listeners[target.name].take))
        for batch in batches_of(data, batch_size, inputs, position_mask):
            seen.begin(batch, inputs, turned)
            try:
                run(model, batch)
            except InputError as error:
                for listener in listeners.values():
                    if listener.error is not None:  # a layer that could not take its input says more
                        raise listener.error from error
                raise
            for listener in listeners.values():
                if listener.error is not None and not goes_on:
                    raise listener.error
    return listeners


class Seen:
    """The batch that the model runs on, and what was seen of all."""

    def __init__(self) -> None:
        self.positions = Positions()
        self.notes: dict[str, None] = {}
        self.batch = 0
        """Number of the batch, from 1."""

    def begin(self, batch: Batch, inputs: Inputs, turned: bool) -> None:
        """Take in a batch before the model runs on it."""
        self.batch += 1
        named = dict(batch.named)
        if inputs.first is not None and batch.first is not None:
            named[inputs.first] = batch.first
        self.positions = positions_of(named | {POSITION_MASK: batch.mask}, batch.samples, inputs, turned)
        notes = list(self.positions.notes)
        if not self.positions.weights and any(map(inputs.is_padded, named.values())):
            notes.append(PADDED)
        if any(bool(((mask != 0) & (mask != 1)).any()) for _, mask in self.positions.weights):
            notes.append(WEIGHTED)
        self.notes.update(dict.fromkeys(notes))


class Listener:
    """Accumulates what one layer is called with."""

    def __init__(
        self, layer: Layer, seen: Seen, routed: Routed | None = None, total: Accumulator | None = None
    ) -> None:
        self.layer = layer
        self._seen, self._routed = seen, routed
        self.total = total or Accumulator(layer.name, layer.groups, layer.inputs)
        self._notes: dict[str, None] = {}
        self.error: InputError | None = None
        """What kept it from going on."""

    def take(self, inputs: Tensor) -> None:
        """One call of the layer."""
        if self.error is not None:
            return
        try:
            self._take(inputs)
        except InputError as error:
            self.error = error

    def _take(self, inputs: Tensor) -> None:
        kind, inputs = self.layer.kind, inputs.detach()
        weights = self._weights(kind.places(inputs))
        if inputs.device.type == "mps":  # the one kind of device that has no float64
            inputs = inputs.cpu()
        rows = kind.spread_rows(kind.batch_first(inputs))
        self.total.add(rows, weights, self._seen.batch, inner=kind.inner)

    def _weights(self, places: tuple[int, ...]) -> Tensor | None:
        """Of the output positions, flat; None where all count alike, or nothing tells."""
        if self._routed is not None:
            return self._routed_weights(self._routed, places)
        positions = self._seen.positions
        weights = positions.of(places, self.layer.name)
        if weights is None and positions.miss(places):
            self._miss(places)
        return weights

    def _routed_weights(self, routed: Routed, places: tuple[int, ...]) -> Tensor | None:
        """Of tokens in an order of their own: that as many have a mask means nothing."""
        if not self._seen.positions.some_differ:
            return None
        weights = routed.of(places, self.layer.name)
        if weights is None and routed.handed.weights(self.layer.name) is None:
            self._miss(routed.handed.places or places)
        elif weights is None:
            self._miss_routed()
        return weights

    def _miss(self, places: tuple[int, ...]) -> None:
        """Say that no mask fits the positions; one that was given for them alone has to."""
        listed = "x".join(map(str, places))
        if (given := self._given) is not None:
            raise InputError(
                f"The position mask has shape {tuple(given.shape)} in a batch, which fits no positions of "
                f"layer '{self.layer.name}' ({listed}); give a number for each of them, or leave it out."
            )
        self._notes.setdefault(UNMASKED.format(self.layer.name, listed))

    def _miss_routed(self) -> None:
        """Say that a mask fits, and nobody knows which token is which."""
        if self._given is not None:
            raise InputError(
                f"Which tokens of layer '{self.layer.name}' the position mask means cannot be told: what "
                "its expert is given cannot be matched, one by one, with the tokens of its block; leave the "
                "mask out, and give samples without padding."
            )
        self._notes.setdefault(UNTOLD.format(self.layer.name))

    @property
    def _given(self) -> Tensor | None:
        """The position mask of the batch, where there is one."""
        return dict(self._seen.positions.weights).get(POSITION_MASK)

    def result(self) -> LayerGrams:
        """G of each group.

        Raises
        ------
        InputError
            If the layer has not been called, or its inputs or their squares leave float64's range.
        """
        if self.error is not None:
            raise self.error
        sums, positions = self.total.sums(), self.total.positions
        if positions == 0:
            raise InputError(
                f"Layer '{self.layer.name}' is never called when the model runs on the data, or at padded "
                "positions alone; choose a layer that is on the way, and data that reach it."
            )
        if self._routed is not None and self._routed.parted:
            if self._given is not None:
                raise InputError(
                    f"Which tokens of layer '{self.layer.name}' the position mask means cannot be told: of "
                    "tokens that are equal to the last bit and count differently some reach its expert and "
                    "others do not; leave the mask out, and give samples without padding."
                )
            self._notes.setdefault(PARTED.format(self.layer.name))
        notes = (*self._seen.notes, *self._notes)
        return LayerGrams(tuple(Gram(each / self.total.weight) for each in sums), positions, notes)
