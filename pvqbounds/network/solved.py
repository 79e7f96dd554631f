"""A unit, bounded where its store is: Grams from there, the result to there."""

from __future__ import annotations

from pathlib import Path

from pvqbounds.network.capture import kept_grams
from pvqbounds.network.sampled import solve_sampled
from pvqbounds.network.unit import Bounded, Told, Unit, solve_whole
from pvqbounds.nn.carried import model_of
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layers import find_layer
from pvqbounds.results.layer import LayerReport
from pvqbounds.storage.network_store import Store

__all__ = ["solve_in_store", "solve_unit"]


def solve_unit(unit: Unit, grams: LayerGrams, told: Told | None = None) -> LayerReport:
    """Bound a unit on the Grams of its layer."""
    bounded = Bounded(unit, grams, told)
    sample = unit.asked.sample
    if sample is not None and sample < bounded.layer.channels:
        return solve_sampled(bounded, sample)
    return solve_whole(bounded)


def solve_in_store(unit: Unit, folder: Path, told: Told | None = None) -> None:
    """Bound a unit and write its result into the store in this folder.

    Raises
    ------
    InputError
        If the store or the Grams cannot be read.
    OutputError
        If the result cannot be written.
    """
    store = Store.open(folder)
    layer = find_layer(model_of(unit.layer), unit.layer.name)
    store.write_unit(solve_unit(unit, kept_grams(store, layer), told))
