"""A whole network on a Dask cluster: here one of two processes on this machine.

    pip install '.[nn,dask]'
    python examples/dask_cluster.py

A cluster that runs already is given by its address, here or on the command line:

    pvqbounds network --store runs/digits --dask tcp://scheduler:8786
"""

from __future__ import annotations

import sys

import pvqbounds as pvq


def main(address: str) -> None:
    network = pvq.nn.network_bounds(
        pvq.nn.load_model("digits"),
        layers=["block1.0", "block2.0"],
        formats=["int4", "nf4", "25%"],
        store="runs/digits-dask",
        dask=address,
    )
    for entry in network.layers:
        print(entry.report)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        from distributed import LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            main(cluster.scheduler_address)
