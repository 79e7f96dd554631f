"""What "auto" loses by not trying the exact pruning search above `LARGEST_TRIAL` inputs.

    python benchmarks/pruning_trial.py

Channels 0, 5 and 11 of two layers of the shipped network, with the trial and without, one thread.
"""

from __future__ import annotations

import time

from relaxation import CONSOLE, LAYERS, layer_problems
from rich.table import Table

import pvqbounds as pvq
from pvqbounds.solvers.native import backend
from pvqbounds.solving.guards import blas_threads


def main() -> None:
    table = Table("inputs", "density", "channel", "without, s", "with, s", "narrower by, dB")
    for n in (144, 288):
        for density in (0.125, 0.25, 0.5):
            for channel in (0, 5, 11):
                dense = layer_problems(LAYERS[n], 4)[channel]
                problem = pvq.SparseLeastSquares(dense.gram, dense.weight, nnz=int(n * density))
                gaps, times = [], []
                for limit in (backend.LARGEST_TRIAL, 10**6):
                    backend.LARGEST_TRIAL, usual = limit, backend.LARGEST_TRIAL
                    start = time.perf_counter()
                    gaps.append(pvq.solve(problem).gap)
                    times.append(time.perf_counter() - start)
                    backend.LARGEST_TRIAL = usual
                seconds = (f"{took:.2f}" for took in times)
                table.add_row(str(n), f"{density:g}", str(channel), *seconds, f"{gaps[0] - gaps[1]:.4f}")
    CONSOLE.print(table)


if __name__ == "__main__":
    with blas_threads(1):
        main()
