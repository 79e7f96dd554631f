"""A unit, bounded where its store is: Grams from there, the result to there."""

from __future__ import annotations

from pathlib import Path

from pvqbounds.network.capture import kept_grams
from pvqbounds.network.sampled import solve_again, solve_sampled
from pvqbounds.network.unit import Told, Unit, UnitBounds, solve_whole
from pvqbounds.nn.carried import model_of
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layers import find_layer
from pvqbounds.results.layer import LayerReport
from pvqbounds.storage.network_store import Store

__all__ = ["grams_of_unit", "solve_in_store", "solve_unit", "standing"]


def solve_unit(
    unit: Unit, grams: LayerGrams, stands: LayerReport | None = None, told: Told | None = None
) -> LayerReport:
    """Bound a unit on the Grams of its layer.

    Parameters
    ----------
    stands
        What is known of it, where some of its channels are solved again.
    """
    bounded = UnitBounds(unit, grams, told)
    if stands is not None:
        return solve_again(bounded, stands)
    sample = unit.settings.sample
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
    stands = standing(unit, store)
    report = solve_unit(unit, grams_of_unit(unit, store), stands, told)
    if stands is None:
        store.write_unit(report)
    else:
        store.rewrite_unit(report)


def grams_of_unit(unit: Unit, store: Store) -> LayerGrams:
    """The Grams of its layer."""
    return kept_grams(store, find_layer(model_of(unit.layer), unit.layer.name))


def standing(unit: Unit, store: Store) -> LayerReport | None:
    """What is known of a unit whose channels are solved again; None for one that is new."""
    if not unit.again:
        return None
    layer = next(entry for entry in store.manifest.layers if entry.name == unit.layer.name)
    return store.read_unit(layer, unit.side)
