"""Bound the small network into a store, as a program that may be ended at any moment: STORE JOBS."""

import sys
from pathlib import Path

from small_network import small_data, small_network

import pvqbounds as pvq
from pvqbounds.results.network import NetworkReport


def bound_small(store: Path, jobs: int) -> NetworkReport:
    return pvq.nn.network_bounds(
        small_network(),
        small_data(),
        store=store,
        formats=["int4", "int3", "25%"],
        methods=["rtn", "randomized", "magnitude"],
        jobs=jobs,
    )


if __name__ == "__main__":
    bound_small(Path(sys.argv[1]), int(sys.argv[2]))
