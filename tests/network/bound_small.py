"""Bound the small network into a store, as a program that may be ended at any moment: STORE JOBS."""

import sys

from small_network import small_data, small_network

import pvqbounds as pvq

FORMATS = ["int4", "int3", "25%"]

if __name__ == "__main__":
    found = pvq.nn.network_bounds(
        small_network(),
        small_data(),
        store=sys.argv[1],
        formats=FORMATS,
        methods=["rtn", "randomized", "magnitude"],
        jobs=int(sys.argv[2]),
    )
    print(found.done, found.failed)
