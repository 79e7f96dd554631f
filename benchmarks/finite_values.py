"""The relaxation of levels and of joint compression: time, and what is lost against the converged value.

    python benchmarks/finite_values.py              36 to 384 inputs
    python benchmarks/finite_values.py --inputs 768 1536

In one thread. `CPU, s` is processor time, for machines that others use, too. Channels of 36 to 288 inputs
are those of the shipped network, larger ones are made up. `interior point` solves the same box-hull SDP.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
from relaxation import LAYERS, layer_problems, synthetic
from rich.console import Console
from rich.table import Table

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.formats.nf4 import NF4_LEVELS
from pvqbounds.problems.formats.number_types import E4M3
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
from pvqbounds.solvers.relaxation import Relaxed, relax_levels
from pvqbounds.solving.guards import blas_threads

WANTED = {("2:4 + int4", 384): "2"}


def problems(base: pvq.IntegerLeastSquares) -> Iterator[tuple[str, LeastSquares]]:
    """A channel in several formats."""
    gram, weight, n = base.shared, base.weight, base.n
    largest = float(np.abs(weight).max())
    steps = (weight, base.scale, base.qmin, base.qmax)
    yield "int4", base
    yield "nf4", pvq.CodebookLeastSquares(gram, weight, largest * NF4_LEVELS)
    yield "e4m3", pvq.CodebookLeastSquares(gram, weight, largest / E4M3.largest * E4M3.levels())
    yield "2:4 + int4", pvq.IntegerLeastSquares(gram, *steps, pattern=(2, 4))
    yield "25% + int4", pvq.IntegerLeastSquares(gram, *steps, nnz=n // 4)
    yield "50% + nf4", pvq.CodebookLeastSquares(gram, weight, largest * NF4_LEVELS, nnz=n // 2)
    yield "2:4 + int8", pvq.IntegerLeastSquares(gram, weight, largest / 127, -128, 127, pattern=(2, 4))


def timed(work: Callable[[], Relaxed]) -> tuple[float, float, Relaxed]:
    """Wall and processor seconds, the least of three runs, and what came of it."""
    found, wall, cpu = work(), [], []
    for _ in range(3):
        start, used = time.perf_counter(), time.process_time()
        found = work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return min(wall), min(cpu), found


def table(inputs: list[int]) -> Table:
    """One row for each size and format."""
    rows = Table(
        "inputs", "format", "seconds", "CPU, s", "wanted", "loss", "interior point, CPU, s", "status",
        title="Relaxation to 1e-3, proof excluded; loss: of the proved bound, against 1e-6",
    )  # fmt: skip
    for n in inputs:
        base = layer_problems(LAYERS[n], 4)[0] if n in LAYERS else synthetic(n)
        for name, problem in problems(base):
            wall, cpu, found = timed(lambda p=problem: relax_finite(p, Clock(600.0)))
            best = dual_bound(problem, relax_finite(problem, Clock(600.0), 1e-6).certificate)
            loss = 1.0 - dual_bound(problem, found.certificate) / best
            other = ""
            if not problem.is_restricted:
                other = f"{timed(lambda p=problem: relax_levels(p, by_interior_point))[1]:.3f}"
            wanted = WANTED.get((name, n), "")
            rows.add_row(
                str(n), name, f"{wall:.3f}", f"{cpu:.3f}", wanted, f"{loss:.1e}", other, found.status
            )
    return rows


def by_interior_point(sdp):  # type: ignore[no-untyped-def]
    """The same SDP, to the same tolerance."""
    return solve_box_hull(sdp, tolerance=1e-3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, nargs="+", default=[36, 144, 384])
    with blas_threads(1):
        Console(width=140).print(table(parser.parse_args().inputs))
