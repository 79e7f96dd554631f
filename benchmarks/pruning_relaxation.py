"""Benchmarks of the pruning relaxation: against Clarabel, by size, and of one budget for a layer.

    python benchmarks/pruning_relaxation.py                 all but the two below
    python benchmarks/pruning_relaxation.py rival layers    some parts
    python benchmarks/pruning_relaxation.py rival-144       Clarabel at 144 inputs (minutes)
    python benchmarks/pruning_relaxation.py largest         4608 inputs (minutes, 2 GB)

Both sides of a comparison run in one process, one after the other, on one core each. Bounds are
certified ones, in dB of SQNR: less is a tighter bound.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import pvqbounds as pvq
from pvqbounds import nn
from pvqbounds.clock import Clock
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.relaxations.layer_dual import layer_dual_bound
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.native.pruning.layer_pruning import layer_multipliers, scaled_grams
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective
from pvqbounds.solvers.native.pruning.perspective_splitting import RowBudget, shared_multipliers
from pvqbounds.solvers.native.pruning.subset_search import good_support
from pvqbounds.solving.layer_budget import solve_layer_budget

LAYERS = ("block2.0", "block3.0", "block4.0", "block5.0")


def layer_problems(name: str, **budget) -> list[pvq.SparseLeastSquares]:
    """Every channel of a layer of the embedded network, with a quarter of its weights by default."""
    model = nn.load_model("digits")
    layer = nn.find_layer(model.module, name)
    gram = nn.gram_of_layer(model.module, layer, model.data).grams[0]
    budget = budget or {"nnz": layer.inputs // 4}
    return [pvq.SparseLeastSquares(gram, weight, **budget) for weight in layer.weight]


def synthetic(n: int, kind: str) -> pvq.SparseLeastSquares:
    """A channel after a ReLU: "plain", "outliers" (100 times the rest), "condition 1eK", "singular"."""
    rng = np.random.default_rng(n)
    latent = rng.standard_normal((4 * n, n // 4)) @ rng.standard_normal((n // 4, n)) / math.sqrt(n // 4)
    X = np.maximum(latent + 0.5 * rng.standard_normal((4 * n, n)), 0.0)
    if kind == "outliers":
        X[:, rng.choice(n, max(1, n // 100), replace=False)] *= 100.0
    elif kind.startswith("condition"):
        basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
        X = X @ (basis * np.logspace(0.0, -0.5 * float(kind[-1]), n)) @ basis.T
    elif kind == "singular":
        X = X[: n // 2]
    weight = rng.standard_normal(n) / math.sqrt(n)
    return pvq.SparseLeastSquares(X.T @ X / len(X), weight, nnz=n // 4)


def timed(work: Callable):
    """What it gives, wall seconds, and seconds of this process's cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def decibel(signal: float, error: float) -> float:
    return 10.0 * math.log10(signal / error) if error > 0.0 else math.inf


def rival(console: Console, cases=(("block2.0", 5), ("block3.0", 3))) -> None:
    table = Table("inputs", "ours, median (max)", "Clarabel, median (max)", "ratio", "bound: ours - Clarabel")
    clarabel = backend_named("clarabel", Capability.PERSPECTIVE)
    for name, count in cases:
        mine, theirs, differences = [], [], []
        for problem in layer_problems(name)[:count]:
            own, _, seconds = timed(lambda p=problem: maximise_perspective(p))
            mine.append(seconds)
            other, _, seconds = timed(lambda p=problem: clarabel.relax_sparse(p, Options(time_limit=300.0)))
            theirs.append(seconds)
            ends = [dual_bound(problem, c) for c in (own, other.certificate)]
            differences.append(decibel(ends[1], ends[0]))
        ratio = statistics.median(theirs) / statistics.median(mine)
        table.add_row(
            str(problem.n),
            spread(mine),
            spread(theirs),
            f"{ratio:.0f}",
            f"{max(differences):+.4f} dB at most",
        )
    console.print("CPU seconds; our bound is lower in dB where the difference is negative", table)


def rival_144(console: Console) -> None:
    rival(console, (("block4.0", 1),))


def sizes(console: Console, names=(576, 1152), kinds=("plain",)) -> None:
    table = Table("inputs", "Gram", "one D, then nu", "best D and nu", "proof", "support", "SQNR, dB", "GB")
    for n in names:
        for kind in kinds:
            problem = synthetic(n, kind)
            signal = problem.signal.middle
            (first,), _, shared = timed(
                lambda p=problem: shared_multipliers(p.gram, p.weight[None], RowBudget.of(p))
            )
            best, _, dual = timed(lambda p=problem: maximise_perspective(p))
            bound, _, proof = timed(lambda p=problem, c=best: dual_bound(p, c))
            support, _, found = timed(lambda p=problem: good_support(p))
            upper = problem.error(problem.refit(support)).upper
            ends = [decibel(signal, e) for e in (upper, bound, dual_bound(problem, first))]
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            table.add_row(
                str(n),
                kind,
                *(f"{s:.2g} s" for s in (shared, dual, proof, found)),
                "{:.2f} .. {:.2f} ({:.2f} with one D)".format(*ends),
                f"{memory:.1f}",
            )
    console.print("CPU seconds of one channel, a quarter of the weights kept", table)


def conditions(console: Console) -> None:
    kinds = ("plain", "outliers", "condition 1e5", "condition 1e7", "condition 1e9", "singular")
    sizes(console, (288,), kinds)


def largest(console: Console) -> None:
    sizes(console, (4608,))


def layers(console: Console) -> None:
    table = Table(
        "layer",
        "channels",
        "multipliers, one D",
        "both ends, best D",
        "the same by the clock",
        "a budget each",
        "one budget",
        "one D",
    )
    for name in LAYERS:
        problems = layer_problems(name)
        nnz = sum(p.nnz for p in problems)
        signal = math.fsum(p.signal.middle for p in problems)
        grams = scaled_grams(problems)
        first, _, cheap = timed(
            lambda p=problems, g=grams, k=nnz: layer_multipliers(
                p, g, k, jobs=1, clock=Clock(0.0), progress=lambda: None
            )
        )
        (_, bounds, lower), wall, cpu = timed(lambda p=problems, k=nnz: solve_layer_budget(p, k, jobs=2))
        apart = pvq.solve_channels(problems, method="relax", jobs=2)
        own = [
            decibel(signal, math.fsum(getattr(b, e) for b in apart)) for e in ("error_upper", "error_lower")
        ]
        one = [decibel(signal, math.fsum(b.error_upper for b in bounds)), decibel(signal, lower)]
        weak = decibel(signal, layer_dual_bound(problems, first, nnz))
        table.add_row(
            f"{name}, {problems[0].n} inputs",
            str(len(problems)),
            f"{cheap:.2g} s",
            f"{cpu:.2g} s",
            f"{wall:.2g} s, 2 threads",
            "{:.2f} .. {:.2f}".format(*own),
            "{:.2f} .. {:.2f}".format(*one),
            f"{weak:.2f}",
        )
    console.print("All channels, a quarter of the weights kept; intervals of the best SQNR, dB", table)


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3g} s ({max(seconds):.3g})"


PARTS = {
    "rival": rival,
    "rival-144": rival_144,
    "sizes": sizes,
    "conditions": conditions,
    "layers": layers,
    "largest": largest,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", nargs="*", choices=[*PARTS, []], help="parts to run; all but rival-144 and largest by default"
    )
    arguments = parser.parse_args()
    console = Console(width=150)
    with threadpool_limits(1):
        maximise_perspective(synthetic(24, "plain"))  # load what is compiled
        good_support(synthetic(24, "plain"))
        solve_layer_budget(layer_problems("block1.0"), 20)
        for name in arguments.part or [name for name in PARTS if name not in ("rival-144", "largest")]:
            PARTS[name](console)


if __name__ == "__main__":
    main()
