"""Where the Grams of a layer come from: data that the model runs on, or Grams that are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn.gram_files import GivenGrams, given_grams
from pvqbounds.nn.grams import Data, LayerGrams, gram_of_layer
from pvqbounds.nn.layers import Layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.problems import Gram

__all__ = ["LayerInputs"]


@dataclass(frozen=True)
class LayerInputs:
    """Data and Grams as :func:`pvqbounds.nn.layer_bounds` takes them; the model may have what is None."""

    data: Data | None = None
    grams: GivenGrams | None = None
    held_out: Data | GivenGrams | None = None
    batch_size: int = 64

    def beside(self, model: LoadedModel) -> LayerInputs:
        """The same with the model's own data where none are given.

        Raises
        ------
        InputError
            If there are neither data nor a Gram.
        """
        data = model.data if self.data is None else self.data
        if data is None and self.grams is None:
            raise InputError("The model comes without data; give calibration inputs for it, or a Gram.")
        held_out = model.held_out if self.held_out is None else self.held_out
        return LayerInputs(data, self.grams, held_out, self.batch_size)

    def captured(self, module: nn.Module, layer: Layer) -> LayerGrams:
        """The Grams of the layer; the model runs where none are given."""
        if self.grams is not None:
            return given_grams(self.grams, layer)
        assert self.data is not None, "there are data or a Gram"
        return gram_of_layer(module, layer, self.data, batch_size=self.batch_size)

    def held_out_grams(self, module: nn.Module, layer: Layer) -> LayerGrams | None:
        """The Grams of data that are held out, from wherever they come."""
        given: Any = self.held_out
        if given is None:
            return None
        if isinstance(given, LayerGrams | Gram | str | Path):
            return given_grams(given, layer)
        if isinstance(given, Mapping) and any(isinstance(value, LayerGrams) for value in given.values()):
            return given_grams(given, layer)
        return gram_of_layer(module, layer, given, batch_size=self.batch_size)
