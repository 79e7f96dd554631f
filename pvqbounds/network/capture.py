"""The Grams of a network's layers: taken in as few runs of the model as memory allows, kept in its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pvqbounds.errors import InputError
from pvqbounds.nn.accumulation import BLOCK
from pvqbounds.nn.gram_files import read_grams, save_grams
from pvqbounds.nn.grams import Data, LayerGrams, grams_of_layers
from pvqbounds.nn.layers import Layer
from pvqbounds.nn.models import LoadedModel
from pvqbounds.solvers.memory import available_memory
from pvqbounds.solving.guards import blas_threads
from pvqbounds.storage.network_manifest import digest_of
from pvqbounds.storage.network_store import Store

__all__ = ["capture_grams", "kept_grams"]

SHARE = 0.4
"""Of the memory that is left, what sums of one run of the model may take."""


def kept_grams(store: Store, layer: Layer) -> LayerGrams:
    """The Grams of a layer as the store has them.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not the one that was written.
    """
    path = store.grams_file(layer.name)
    found = read_grams(path, layer)
    planned = next(entry for entry in store.manifest.layers if entry.name == layer.name)
    if digest_of([gram.matrix for gram in found.grams]) != planned.grams:
        raise InputError(
            f"{path} does not hold the Grams that the store was begun with; remove it, and resume."
        )
    return found


def capture_grams(
    store: Store,
    layers: Sequence[Layer],
    loaded: LoadedModel,
    data: Data | None,
    batch_size: int,
    told: Callable[[int, int], None],
) -> dict[str, InputError]:
    """Take the Grams of those layers that the store has none of.

    Parameters
    ----------
    told
        Called with the layers that have their Grams, and their number.

    Returns
    -------
    dict
        Layers that have none, with the reason.

    Raises
    ------
    InputError
        If there are no data, or they give other Grams than the store was begun with.
    OutputError
        If the store cannot be written.
    """
    known = {entry.name: entry.grams for entry in store.manifest.layers}
    missing = [x for x in layers if known[x.name] is None or not store.grams_file(x.name).exists()]
    failed: dict[str, InputError] = {}
    if not missing:
        return failed
    if data is None:
        raise InputError("The model comes without data; give calibration inputs for it.")
    passes = list(_passes(missing))
    if len(passes) > 1 and iter(data) is data:
        raise InputError(
            f"The Grams of {len(missing)} layers do not fit into memory at once, and the data can be read "
            "only once; give a list or a DataLoader."
        )
    done = 0
    for part in passes:
        told(done, len(missing))
        with blas_threads(1):  # sums that do not depend on how many cores there are
            found = grams_of_layers(loaded.module, part, data, batch_size=batch_size, failed=failed)
        _keep(store, found, known)
        done += len(part)
    return failed


def _passes(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Layers whose sums fit into memory together."""
    room = SHARE * available_memory()
    part: list[Layer] = []
    taken = 0.0
    for layer in layers:
        # the sums, their copy as Grams, and the rows that wait to be multiplied
        size = 24.0 * layer.groups * layer.inputs**2 + 8.0 * max(BLOCK, layer.groups * layer.inputs**2)
        if part and taken + size > room:
            yield part
            part, taken = [], 0.0
        part.append(layer)
        taken += size
    yield part


def _keep(store: Store, found: Mapping[str, LayerGrams], known: Mapping[str, str | None]) -> None:
    """Write Grams, and then that they are there."""
    digests = {name: digest_of([gram.matrix for gram in own.grams]) for name, own in found.items()}
    for name, digest in digests.items():
        if known[name] not in (None, digest):
            raise InputError(
                f"The data give layer '{name}' other Grams than {store.path} was begun with; give the data "
                "as they were, or another --store."
            )
    for name, own in found.items():
        save_grams({name: own}, store.grams_file(name))
    store.update(store.manifest.with_grams(digests))
