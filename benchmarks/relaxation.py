"""Certified relaxation bounds for whole layers, both sides in one run.

    python benchmarks/relaxation.py                   everything but `large` and the paper's code
    python benchmarks/relaxation.py layer width       some parts
    python benchmarks/relaxation.py large             4608 inputs (minutes)
    python benchmarks/relaxation.py paper --paper PATH

PATH is a checkout of the public code of "Pruning vs Quantization" made by you; it needs cvxpy
(`pip install cvxpy`). Layers are those of the shipped network. Times are medians over channels, in
one thread unless it says otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import math
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import pvqbounds as pvq
from pvqbounds import nn
from pvqbounds.clock import Clock
from pvqbounds.errors import SolverFailedError
from pvqbounds.problems.grids import mse_scale, symmetric_codes
from pvqbounds.relaxations.box_hull import BoxHullSDP, box_hull, park_boyd
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Capability, Options, SDPSolution
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
from pvqbounds.solvers.native.quantization.split_dual import (
    BRIEF,
    LONG,
    QUICK,
    TIGHT,
    relax_with_splits,
    solve_by_path,
)
from pvqbounds.solvers.relaxation import Relaxed, relax
from pvqbounds.solving.guards import blas_threads

LAYERS = {36: "block2.0", 72: "block3.0", 144: "block4.0", 288: "block5.0"}
CONSOLE = Console(width=140)

RIVAL_MEMORY = 12 << 30
"""Bytes of address space that another solver may take."""


@functools.cache
def layer_problems(name: str, bits: int) -> tuple[pvq.IntegerLeastSquares, ...]:
    """Every channel of a layer of the embedded network, on one Gram."""
    model = nn.load_model("digits")
    layer = nn.find_layer(model.module, name)
    gram = nn.gram_of_layer(model.module, layer, model.data).grams[0]
    qmin, qmax = symmetric_codes(bits)
    scale = mse_scale(layer.weight, qmin, qmax)
    return tuple(pvq.IntegerLeastSquares(gram, row, scale, qmin, qmax) for row in layer.weight)


def synthetic(n: int, kind: str = "relu") -> pvq.IntegerLeastSquares:
    """A channel of n inputs: correlated ReLU activations, or those of a transformer with outliers."""
    rng = np.random.default_rng(n)
    hidden = n // 2
    mixing = rng.standard_normal((hidden, n)) / math.sqrt(hidden)
    sources = rng.standard_normal((2 * n, hidden)) * np.exp(rng.standard_normal(hidden))
    inputs = np.maximum(sources @ mixing + 0.2 * rng.standard_normal((2 * n, n)), 0.0)
    if kind == "transformer":
        inputs *= np.exp(rng.standard_normal(n))
        inputs[:, rng.choice(n, n // 100 + 1, replace=False)] *= 100.0
    gram = inputs.T @ inputs / len(inputs)
    return pvq.IntegerLeastSquares(gram, rng.standard_normal(n), 0.4, -8, 7)


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """Median wall time."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def conic(arguments: argparse.Namespace) -> Table:
    """The same SDP through Clarabel and SCS, asked for a relative accuracy of 1e-4."""
    table = Table(
        "inputs",
        "native, s",
        "solver",
        "theirs, s",
        "ratio",
        "wanted",
        "their certified bound",
        title="SDP at 1e-4",
    )
    for n in (36, 144, 288):
        problem = layer_problems(LAYERS[n], 4)[0]
        sdp = box_hull(problem)
        ours = seconds(lambda sdp=sdp: solve_box_hull(sdp, tolerance=1e-4), 5)
        value = solve_box_hull(sdp).value * sdp.unit
        for name in ("clarabel", "scs"):
            found = in_child(rival, arguments.patience, name, n, arguments.patience)
            cells = "", ""
            if isinstance(found, str):
                bound = found
            else:
                cells = f"{found[0]:.3g}", f"{found[0] / ours:.0f}x"
                bound = f"{found[1] / value - 1.0:+.1e}, {found[2]}"
            wanted = "20x" if n >= 144 else ""
            table.add_row(str(n), f"{ours:.4f}", name, *cells, wanted, bound)
    return table


def rival(name: str, n: int, time_limit: float) -> tuple[float, float, str]:
    """Seconds of another solver's SDP, the bound that its multipliers prove, and its status."""
    resource.setrlimit(resource.RLIMIT_AS, (RIVAL_MEMORY, RIVAL_MEMORY))
    problem = layer_problems(LAYERS[n], 4)[0]
    backend = backend_named(name, Capability.BOX_HULL)
    options = Options(time_limit=time_limit, tolerance=1e-4)
    times = []

    def timed(sdp: BoxHullSDP) -> SDPSolution:
        start = time.perf_counter()
        solution = backend.solve_sdp(sdp, options)
        times.append(time.perf_counter() - start)
        return solution

    with blas_threads(1):
        relaxed = relax(problem, "box-hull", timed)
    return sum(times), dual_bound(problem, relaxed.certificate), relaxed.status


def in_child(work: Callable[..., tuple[float, float, str]], limit: float, *values: object) -> Any:
    """What `work` returns in a process of its own, or why it returned nothing: some calls do not stop."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, work, *values))
    child.start()
    sender.close()
    try:
        if receiver.poll(1.5 * limit + 60.0):
            return receiver.recv()
        return "did not end"
    except EOFError:
        child.join()
        return f"ended without a result (exit code {child.exitcode}; {RIVAL_MEMORY >> 30} GB allowed)"
    finally:
        child.kill()
        child.join()


def _send(sender: Connection, work: Callable[..., tuple[float, float, str]], *values: object) -> None:
    try:
        sender.send(work(*values))
    except (SolverFailedError, MemoryError) as error:
        sender.send(f"{type(error).__name__}: {error}")


def certificate(_: argparse.Namespace) -> Table:
    """What a proof costs, and what it loses against the relaxation's own value."""
    table = Table("inputs", "solve, s", "proof, s", "share", "wanted", "loss", "wanted", title="Certificates")
    for n, problem in [*((n, layer_problems(LAYERS[n], 4)[0]) for n in LAYERS), (576, synthetic(576))]:
        sdp = box_hull(problem)
        runs = 3 if n < 288 else 1
        solve = seconds(lambda sdp=sdp: solve_box_hull(sdp), runs)
        relaxed = relax(problem, "box-hull", solve_box_hull)
        prove = seconds(lambda p=problem, r=relaxed: dual_bound(p, r.certificate), runs)
        loss = 1.0 - dual_bound(problem, relaxed.certificate) / relaxed.reported
        table.add_row(
            str(n), f"{solve:.4f}", f"{prove:.4f}", f"{prove / solve:.2f}", "0.33", f"{loss:.1e}", "1e-6"
        )
    return table


def sizes(_: argparse.Namespace) -> Table:
    """One channel of large layers, in one thread; how the time grows."""
    table = Table(
        "inputs", "seconds", "wanted", "growth", "status", title="One channel, box-hull, proof included"
    )
    before: tuple[int, float] | None = None
    for n, wanted in ((288, ""), (576, "5"), (1152, "40")):
        problem = synthetic(n)
        start = time.perf_counter()
        bounds = pvq.solve(problem, method="relax", relaxation="box-hull", time_limit=300.0)
        took = time.perf_counter() - start
        growth = "" if before is None else f"n^{math.log(took / before[1]) / math.log(n / before[0]):.1f}"
        table.add_row(str(n), f"{took:.2f}", wanted, growth, f"{bounds.lower_kind}, {bounds.gap:.2f} dB")
        before = n, took
    return table


def stiff(_: argparse.Namespace) -> Table:
    """Grams like those of transformers: outlier inputs, conditions up to 1e9."""
    table = Table(
        "inputs", "condition", "seconds", "status", "loss of the proof", title="Transformer-like Grams"
    )
    for n in (96, 384):
        problem = synthetic(n, "transformer")
        start = time.perf_counter()
        relaxed = relax(problem, "box-hull", solve_box_hull)
        took = time.perf_counter() - start
        loss = 1.0 - dual_bound(problem, relaxed.certificate) / relaxed.reported
        condition = np.linalg.cond(problem.gram)
        table.add_row(str(n), f"{condition:.1e}", f"{took:.2f}", relaxed.status, f"{loss:.1e}")
    return table


def layer(_: argparse.Namespace) -> Table:
    """All 64 channels of the largest convolution, full protocol, default settings, all cores."""
    table = Table(
        "bits", "seconds", "wanted", "interval, dB", "width, dB", title="block5.0, 288 inputs, 64 channels"
    )
    for bits in (4, 3, 2):
        problems = layer_problems("block5.0", bits)
        start = time.perf_counter()
        found = pvq.solve_channels(problems, jobs=os.cpu_count() or 1)
        took = time.perf_counter() - start
        low, high = sums(found)
        table.add_row(
            str(bits),
            f"{took:.1f}",
            "20" if bits == 4 else "",
            f"{low:.2f} .. {high:.2f}",
            f"{high - low:.2f}",
        )
    return table


def width(arguments: argparse.Namespace) -> Table:
    """Interval of every layer of the embedded network: three relaxations, all channels, all cores.

    Searches that are to reach their end may take 20 s a channel.
    """
    seconds = f"hybrid, {arguments.search:g} s a channel, dB"
    table = Table("layer", "inputs", "bits", "box-hull, dB", "default, dB", seconds, "wanted", title="Width")
    wanted = {144: "3", 288: "1.5"}
    for n, name in LAYERS.items():
        if n not in arguments.inputs:
            continue
        relaxations: tuple[dict[str, Any], ...] = (
            {"method": "relax", "relaxation": "box-hull"},
            {"time_limit": 20.0} if n < 144 else {},
            {"relaxation": "hybrid", "time_limit": arguments.search},
        )
        for bits in (2, 3, 4):
            problems = layer_problems(name, bits)
            cells: list[str] = []
            for options in relaxations:
                start = time.perf_counter()
                found = pvq.solve_channels(problems, jobs=os.cpu_count() or 1, **options)
                took = time.perf_counter() - start
                low, high = sums(found)
                cells.append(f"{low:.2f} .. {high:.2f} ({high - low:.2f}; {took:.0f} s)")
                print(name, bits, options, cells[-1], file=sys.stderr, flush=True)  # a long wait
            table.add_row(name, str(n), str(bits), *cells, wanted.get(n, ""))
    return table


def splits(_: argparse.Namespace) -> Table:
    """What split inequalities gain over the SDP, one channel each: certified SQNR bounds in dB, seconds."""
    paths = {"brief": BRIEF, "quick": QUICK, "long": LONG, "tight": TIGHT}
    table = Table("inputs", "bits", "box-hull SDP", *paths, title="Certified bounds of channel 0: dB (s)")
    for n, name in LAYERS.items():
        for bits in (2, 4):
            problem = layer_problems(name, bits)[0]

            def shown(relaxed: Callable[[], Relaxed], problem: pvq.IntegerLeastSquares = problem) -> str:
                start = time.perf_counter()
                bound = dual_bound(problem, relaxed().certificate)
                took = time.perf_counter() - start
                return f"{10.0 * math.log10(problem.signal.middle / bound):.2f} ({took:.3f})"

            cells = [shown(lambda p=problem: relax(p, "box-hull", solve_box_hull))]
            for path in paths.values():
                cells.append(shown(lambda p=problem, way=path: relax_with_splits(p, Clock(600.0), way)))
            table.add_row(str(n), str(bits), *cells)
    return table


def shared(_: argparse.Namespace) -> Table:
    """One lam for all channels against one for each."""
    table = Table(
        "layer", "bits", "own lam, s", "shared, s", "loss, dB", title="Shared multipliers, whole layers"
    )
    for n in (72, 144, 288):
        for bits in (2, 4):
            problems = layer_problems(LAYERS[n], bits)
            times, uppers = [], []
            for relaxation in ("box-hull", "shared"):
                start = time.perf_counter()
                found = pvq.solve_channels(
                    problems, method="relax", relaxation=relaxation, jobs=os.cpu_count() or 1
                )
                times.append(time.perf_counter() - start)
                uppers.append(sums(found)[1])
            table.add_row(LAYERS[n], str(bits), *(f"{t:.2f}" for t in times), f"{uppers[1] - uppers[0]:.2f}")
    return table


def path(_: argparse.Namespace) -> Table:
    """The first-order path without split inequalities against the interior point: time, what it loses."""
    table = Table("inputs", "Gram", "interior point, s", "path, s", "loss", title="First-order path")
    cases = [(n, "digits", layer_problems(LAYERS[n], 4)[0]) for n in (144, 288)]
    cases += [
        (n, kind, synthetic(n, kind))
        for n, kind in ((384, "transformer"), (576, "relu"), (576, "transformer"), (1152, "relu"))
    ]
    for n, kind, problem in cases:
        sdp = box_hull(problem)
        start = time.perf_counter()
        exact = solve_box_hull(sdp)
        middle = time.perf_counter()
        found = solve_by_path(sdp, Clock(600.0))
        end = time.perf_counter()
        loss = 1.0 - found.value / exact.value
        table.add_row(str(n), kind, f"{middle - start:.2f}", f"{end - middle:.2f}", f"{loss:.1e}")
    return table


def large(_: argparse.Namespace) -> Table:
    """4608 inputs by the first-order path, all cores, and the proof of its multipliers."""
    table = Table(
        "inputs", "seconds", "proof, s", "peak memory, GB", "status", "error at least, of the signal"
    )
    problem = synthetic(4608)
    with blas_threads(os.cpu_count() or 1):
        start = time.perf_counter()
        relaxed = relax(problem, "box-hull", lambda sdp: solve_by_path(sdp, Clock(1200.0)))
        middle = time.perf_counter()
        bound = dual_bound(problem, relaxed.certificate) / problem.signal.middle
        end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    table.add_row(
        "4608", f"{middle - start:.0f}", f"{end - middle:.0f}", f"{peak:.1f}", relaxed.status, f"{bound:.3e}"
    )
    return table


def paper(arguments: argparse.Namespace) -> Table:
    """The paper's SDP solve (its relaxation, SCS) against ours, proofs included.

    "ours" is the brief path with split inequalities; its bound has to be no weaker than the optimum
    of the paper's relaxation, which "Park-Boyd" is.
    """
    table = Table(
        "inputs", "paper, s", "ours, s", "ratio", "wanted", "box-hull, s", "ratio", "Park-Boyd, s", "ratio",
        "dB: paper, Park-Boyd, box-hull, ours", title="The paper's SDP",
    )  # fmt: skip
    path = arguments.paper / "quantization" / "optimizers_sdp.py"
    spec = importlib.util.spec_from_file_location("optimizers_sdp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    problem_class = module.cp.Problem
    module.cp.Problem.solve = functools.partialmethod(problem_class.solve, solver="SCS")
    for n, wanted in ((36, 100), (144, 500)):
        problem = layer_problems(LAYERS[n], 4)[0]
        signal = problem.signal.middle
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            low, _, _ = module.sdp_mixed_integer_qp_bounds(
                problem.gram, problem.weight, signal, problem.scale, False, problem.qmin, problem.qmax
            )
        theirs = time.perf_counter() - start
        ways = {
            "ours": lambda p=problem: proved_brief(p),
            "box-hull": lambda p=problem: proved(p, "box-hull"),
            "Park-Boyd": lambda p=problem: proved(p, "park-boyd"),
        }
        times = {name: seconds(way, 9) for name, way in ways.items()}
        bounds = [10.0 * math.log10(signal / e) for e in (low, *(way() for way in reversed(ways.values())))]
        cells = [cell for t in times.values() for cell in (f"{t:.4f}", f"{theirs / t:.0f}x")]
        cells.insert(2, f"{wanted}x")
        table.add_row(str(n), f"{theirs:.2f}", *cells, ", ".join(f"{bound:.2f}" for bound in bounds))
    return table


def brief(_: argparse.Namespace) -> Table:
    """The brief path against the optimum of the paper's relaxation, Park-Boyd, both proved: 16 channels."""
    table = Table("inputs", "bits", "least gain, dB", "mean gain, dB", title="Brief path over Park-Boyd")
    for n in (36, 144):
        for bits in (2, 3, 4, 6):
            gains = [
                10.0 * math.log10(proved_brief(problem) / proved(problem, "park-boyd"))
                for problem in layer_problems(LAYERS[n], bits)[:16]
            ]
            table.add_row(str(n), str(bits), f"{min(gains):.2f}", f"{statistics.fmean(gains):.2f}")
    return table


def proved_brief(problem: pvq.IntegerLeastSquares) -> float:
    """The bound of the brief path, proved."""
    return dual_bound(problem, relax_with_splits(problem, Clock(60.0), BRIEF).certificate)


def proved(problem: pvq.IntegerLeastSquares, relaxation: str) -> float:
    """The bound of a relaxation, solved to 1e-5 and proved."""
    build = {"box-hull": box_hull, "park-boyd": park_boyd}[relaxation]
    sdp = build(problem)
    solution = solve_box_hull(sdp, tolerance=1e-5)
    factor = sdp.unit / problem.scale
    return dual_bound(problem, DualCertificate(solution.lam * factor / problem.scale, solution.nu * factor))


def sums(found: list[pvq.Bounds]) -> tuple[float, float]:
    """SQNR interval of a layer in dB, from sums over its channels."""
    assert all(bounds.lower_kind == "certified" for bounds in found)
    signal = math.fsum(bounds.signal for bounds in found)
    upper = math.fsum(bounds.error_upper for bounds in found)
    lower = math.fsum(bounds.error_lower for bounds in found)
    return 10.0 * math.log10(signal / upper), 10.0 * math.log10(signal / lower)


PARTS = {
    "conic": conic,
    "certificate": certificate,
    "sizes": sizes,
    "stiff": stiff,
    "layer": layer,
    "width": width,
    "shared": shared,
    "splits": splits,
    "brief": brief,
    "path": path,
    "large": large,
    "paper": paper,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="parts to run")
    parser.add_argument("--paper", type=Path, help="checkout of the paper's code")
    parser.add_argument("--patience", type=float, default=600.0, help="time limit of other solvers, seconds")
    parser.add_argument(
        "--inputs", type=int, nargs="+", choices=list(LAYERS), default=list(LAYERS), help="layers of `width`"
    )
    parser.add_argument("--search", type=float, default=5.0, help="seconds a channel in the part `width`")
    arguments = parser.parse_args()
    default = [name for name in PARTS if name not in ("large", "paper")]
    if "paper" in arguments.part and arguments.paper is None:
        parser.error("the part `paper` needs --paper PATH")
    warm = layer_problems("block2.0", 4)[:1]
    for method in ("relax", "auto"):
        pvq.solve_channels(warm, method=method)
    with blas_threads(1):
        for name in arguments.part or default:
            CONSOLE.print(PARTS[name](arguments))


if __name__ == "__main__":
    main()
