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
from importlib import import_module
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from pvqbounds.errors import ClusterError, InputError
from pvqbounds.network.agenda import Agenda
from pvqbounds.network.local import Ended, failure_of
from pvqbounds.network.solved import grams_of_unit, solve_unit, standing
from pvqbounds.network.unit import Unit
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.results.layer import LayerReport
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


def on_cluster(address: str, store: Store, agenda: Agenda, ended: Ended) -> None:
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
    client = _connected(address)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            _through(client, address, store, agenda, ended)
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


def _through(client: Any, address: str, store: Store, agenda: Agenda, ended: Ended) -> None:
    running: dict[Any, Unit] = {}
    gone = ClusterError(
        f"The Dask scheduler at {address} went away; what stands is kept in {store.path}, and the same "
        "command goes on with it."
    )
    while True:
        try:
            free = AHEAD * max(1, sum(client.nthreads().values())) - len(running)
        except Exception as error:  # whatever its connection raises
            raise gone from error
        while free > 0 and (unit := agenda.take()) is not None:
            name = store.arrays_name(*unit.key)
            data = unit, grams_of_unit(unit, store), standing(unit, store), name
            running[client.submit(_solved, *data, pure=False)] = unit
            free -= 1
        if not running:
            return
        for future in [future for future in running if future.done()]:
            if future.cancelled() or client.status != "running":
                raise gone
            done = running.pop(future)
            failure = future.exception()
            if failure is not None:
                ended(done, failure_of(failure))
                continue
            document, arrays = future.result()
            store.write_files(*done.key, document, arrays, store.arrays_name(*done.key))
            ended(done, None)
        time.sleep(LOOK)


def _solved(unit: Unit, grams: LayerGrams, stands: LayerReport | None, name: str) -> Files:
    """Bound a unit on a worker; `name` is what its arrays are to be called."""
    threadpool_limits(1, user_api="blas")  # for good: other threads of this worker are about the same
    report = solve_unit(unit, grams, stands)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unit.json"
        write_layer(report, path, path.with_name(name))
        return path.read_bytes(), path.with_name(name).read_bytes()
