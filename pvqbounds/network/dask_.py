"""The same units on a Dask cluster: what a worker needs goes to it, and its result comes back as bytes.

Workers need this package, and see no file of this machine but compressed weights, whose path must be the same
there. A unit whose worker is lost is begun again by another one: Dask does so up to its own
``distributed.scheduler.allowed-failures`` times. Units wait here until workers are free for them, so that the
scheduler never holds more than a few Grams.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from pvqbounds.errors import ClusterError, InputError
from pvqbounds.network.capture import kept_grams
from pvqbounds.network.local import Ended, failure_of
from pvqbounds.network.solved import solve_unit
from pvqbounds.network.unit import Unit
from pvqbounds.nn.carried import model_of
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layers import find_layer
from pvqbounds.storage.network_store import Store
from pvqbounds.storage.results_written import write_layer

__all__ = ["on_cluster"]

AHEAD = 2
"""Units for each thread of the cluster that are handed out at a time."""

LOOK = 0.1
"""Seconds between two looks at what is done."""

PATIENCE = 20.0
"""Seconds in which a scheduler must answer."""

Files = tuple[bytes, bytes]
"""The JSON of a result, and its arrays."""


def on_cluster(address: str, store: Store, units: Sequence[Unit], ended: Ended) -> None:
    """Bound units on the workers of a cluster, and write what comes back.

    Parameters
    ----------
    address
        Of its scheduler, such as ``tcp://host:8786``.
    ended
        Called with each unit, and what happened where it failed.

    Raises
    ------
    InputError
        If distributed is not installed.
    ClusterError
        If the scheduler cannot be reached, or goes away.
    OutputError
        If the store cannot be written.
    """
    if not units:
        return
    client = _connected(address)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            _through(client, address, store, sorted(units, key=lambda unit: -unit.cost), ended)
    finally:
        client.close(timeout=1.0)


def _connected(address: str) -> Any:
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise InputError(
            f"A Dask cluster needs distributed ({error}); install it with `pip install 'pvqbounds[dask]'`."
        ) from error
    try:
        return distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"There is no Dask scheduler at {address} ({' '.join(str(error).split())}); start one, or leave "
            "out --dask."
        ) from error


def _through(client: Any, address: str, store: Store, units: Sequence[Unit], ended: Ended) -> None:
    waiting, running = list(units), dict[Any, Unit]()
    gone = ClusterError(
        f"The Dask scheduler at {address} went away; what stands is kept in {store.path}, and the same "
        "command goes on with it."
    )
    while waiting or running:
        try:
            free = AHEAD * max(1, sum(client.nthreads().values())) - len(running)
        except Exception as error:  # whatever its connection raises
            raise gone from error
        for unit in waiting[: max(free, 0)]:
            layer = find_layer(model_of(unit.layer), unit.layer.name)
            running[client.submit(_solved, unit, kept_grams(store, layer), pure=False)] = unit
        del waiting[: max(free, 0)]
        for future in [future for future in running if future.done()]:
            if future.cancelled() or client.status != "running":
                raise gone
            unit = running.pop(future)
            failure = future.exception()
            if failure is not None:
                ended(unit, failure_of(failure))
                continue
            store.write_files(*unit.key, *future.result())
            ended(unit, None)
        time.sleep(LOOK)


def _solved(unit: Unit, grams: LayerGrams) -> Files:
    """Bound a unit on a worker."""
    threadpool_limits(1, user_api="blas")  # for good: other threads of this worker are about the same
    report = solve_unit(unit, grams)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{_arrays_name(unit)}.json"
        write_layer(report, path)
        return path.read_bytes(), path.with_suffix(".npz").read_bytes()


def _arrays_name(unit: Unit) -> str:
    """The name that the store gives its files, which the JSON says of the arrays beside it."""
    from pvqbounds.storage.network_store import file_name

    return file_name(unit.side)
