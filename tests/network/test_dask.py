"""The same units on a Dask cluster of processes: the same store, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from bound_small import bound_small
from small_network import contents, small_data, small_network

import pvqbounds as pvq
from pvqbounds.errors import ClusterError
from pvqbounds.storage.network_store import Store

distributed = pytest.importorskip("distributed")

FORMATS = ["int4", "int3", "25%"]
METHODS = ["rtn", "randomized", "magnitude"]


def bound(store: Path, address: str):
    options = {"store": store, "formats": FORMATS, "methods": METHODS, "dask": address}
    return pvq.nn.network_bounds(small_network(), small_data(), **options)


@pytest.fixture
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as found:
        yield found


def units(store: Path) -> int:
    return len(list(store.glob("units/*/[!.]*.json")))


def test_a_cluster_that_loses_a_worker_makes_the_same_store(cluster, tmp_path):
    bound_small(tmp_path / "whole", jobs=1)
    store = tmp_path / "s"
    pids = list(cluster.scheduler_info["workers"].values())
    killed = threading.Event()

    def kill():
        while units(store) < 1:
            time.sleep(0.005)
        with distributed.Client(cluster, set_as_default=False) as client:
            workers = client.run(os.getpid)
        os.kill(next(iter(workers.values())), signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    network = bound(store, cluster.scheduler_address)
    assert len(pids) == 2
    assert (network.done, network.failed) == (9, 0)
    killer.join(60.0)
    assert killed.is_set()
    assert contents(store) == contents(tmp_path / "whole")


def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    from pvqbounds.network import dask_

    monkeypatch.setattr(dask_, "PATIENCE", 0.5)
    with pytest.raises(ClusterError, match="no Dask scheduler at tcp://127"):
        bound(tmp_path / "s", "tcp://127.0.0.1:9")
    assert Store.open(tmp_path / "s").read().failed == 0


def test_a_scheduler_that_goes_away_is_one_sentence_and_what_stands_is_kept(tmp_path):
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    )
    store = tmp_path / "s"

    def close():
        while units(store) < 1:
            time.sleep(0.005)
        cluster.close()

    closer = threading.Thread(target=close, daemon=True)
    closer.start()
    with pytest.raises(ClusterError, match="went away; what stands is kept"):
        bound(store, cluster.scheduler_address)
    closer.join(60.0)
    stands = units(store)
    assert 1 <= stands < 9
    assert Store.open(store).read().done == stands
