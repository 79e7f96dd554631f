"""Exact and certified bounds against Gurobi and against the paper's code, both sides in one run.

    python benchmarks/exact.py                      everything but the paper's code (ten minutes)
    python benchmarks/exact.py quantization-36      one part
    python benchmarks/exact.py --paper PATH         also the public code of "Pruning vs Quantization"

PATH is a checkout of that code made by you; it needs cvxpy (`pip install cvxpy`). Every part prints
medians over its problems, and ratios of medians. Gurobi runs with its bundled licence (200
variables once anything is quadratic) on both cores, the native searches on one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import gurobipy
import numpy as np
from rich.console import Console
from rich.table import Table

import pvqbounds as pvq
from pvqbounds import nn
from pvqbounds.problems import Problem
from pvqbounds.problems.formats.nf4 import NF4_LEVELS
from pvqbounds.problems.formats.number_types import E2M1
from pvqbounds.problems.grids import mse_scale, symmetric_codes
from pvqbounds.relaxations.miqp import MIQP, big_m_program, integer_program, perspective_program

GUROBI_LIMIT = 30.0
LAYERS = ("block2.0", "block3.0", "block4.0", "block5.0")


def slices(inputs: int, channels: int) -> Iterator[tuple[str, pvq.Gram, np.ndarray, np.ndarray]]:
    """Slices of `inputs` inputs of the embedded network's layers: name, Gram, layer weights, weights."""
    model = nn.load_model("digits")
    for name in LAYERS:
        layer = nn.find_layer(model.module, name)
        if layer.inputs < inputs:
            continue
        matrix = nn.gram_of_layer(model.module, layer, model.data).grams[0].matrix
        for start in (0, layer.inputs - inputs)[: 1 if layer.inputs == inputs else 2]:
            part = slice(start, start + inputs)
            gram = pvq.Gram(matrix[part, part])
            for channel in range(channels):
                yield f"{name}[{start}:]", gram, layer.weight, layer.weight[channel, part]


def written_by_hand(model: gurobipy.Model, program: MIQP) -> gurobipy.MVar:
    """The program as a script of one's own would pose it; its unknowns."""
    kinds = np.where(program.integer, "I", "C")
    x = model.addMVar(len(program.q), lb=program.lower, ub=program.upper, vtype=kinds)
    first = x[: program.n]
    model.setObjective(first @ program.Q @ first + program.q @ x + program.constant)
    if len(program.b):
        model.addConstr(program.A @ x <= program.b)
    for (a, b, c), size in zip(program.cones, program.sizes, strict=True):
        model.addConstr(x[a] * x[a] / size**2 <= x[b] * x[c])
    return x


def gurobi_seconds(program: MIQP) -> tuple[float, np.ndarray]:
    """Seconds to optimality (or the limit) and the solution found."""
    with gurobipy.Env(params={"OutputFlag": 0}) as env, gurobipy.Model(env=env) as model:
        model.Params.TimeLimit = GUROBI_LIMIT
        model.Params.MIPGap = 1e-6
        x = written_by_hand(model, program)
        start = time.perf_counter()
        model.optimize()
        return time.perf_counter() - start, x.X


def ours(problem: Problem) -> pvq.Bounds:
    bounds = pvq.solve(problem, method="exact", time_limit=120.0)
    assert bounds.status == "optimal", bounds
    assert bounds.lower_kind == "certified"
    return bounds


def quantization_problem(gram, layer_weight, weight, bits):
    qmin, qmax = symmetric_codes(bits)
    return pvq.IntegerLeastSquares(gram, weight, mse_scale(layer_weight, qmin, qmax), qmin, qmax)


def quantization_36(table: Table) -> None:
    for bits in (2, 3, 4, 8):
        mine, theirs, worst = [], [], 0.0
        for _, gram, layer_weight, weight in slices(36, 3):
            problem = quantization_problem(gram, layer_weight, weight, bits)
            bounds = ours(problem)
            program = integer_program(problem)
            seconds, solution = gurobi_seconds(program)
            found = problem.error(program.codes(solution)).upper
            assert found >= bounds.error_lower, "Gurobi beats a certified bound"
            mine.append(bounds.seconds)
            theirs.append(seconds)
            worst = max(worst, bounds.seconds)
        row(table, f"quantization, 36 inputs, {bits} bits", mine, theirs, "Gurobi, integer program", 50)


def quantization_64(table: Table) -> None:
    for bits in (2, 4):
        mine = [ours(quantization_problem(g, lw, w, bits)).seconds for _, g, lw, w in slices(64, 3)]
        row(table, f"quantization, 64 inputs, {bits} bits", mine, None, "", None)


def quantization_72(table: Table) -> None:
    for bits in (2, 4):
        mine = [ours(quantization_problem(g, lw, w, bits)).seconds for _, g, lw, w in slices(72, 2)]
        row(table, f"quantization, 72 inputs, {bits} bits", mine, None, "", None)


def levels_36(table: Table) -> None:
    """Levels with one scale a layer, beside int4 on the same slices."""
    steps = [ours(quantization_problem(g, lw, w, 4)).seconds for _, g, lw, w in slices(36, 3)]
    for name, levels in (("NF4", NF4_LEVELS), ("E2M1", E2M1.levels() / E2M1.largest)):
        mine = [
            ours(pvq.CodebookLeastSquares(g, w, np.abs(lw).max() * levels)).seconds
            for _, g, lw, w in slices(36, 3)
        ]
        row(table, f"{name}, 36 inputs", mine, None, "", None)
        ratio = statistics.median(mine) / statistics.median(steps)
        table.add_row("  median over int4's", f"{ratio:.1f}x (at most 10x)", "", "", "", "")


def joint(table: Table) -> None:
    """int4 with half of the weights, as 2:4 and as one budget."""
    for inputs in (24, 36):
        for name, rule in (("2:4", {"pattern": (2, 4)}), ("50%", {"nnz": inputs // 2})):
            mine = []
            for _, gram, layer_weight, weight in slices(inputs, 3):
                scale = mse_scale(layer_weight, -8, 7)
                problem = pvq.IntegerLeastSquares(gram, weight, scale, -8, 7, **rule)
                bounds = pvq.solve(problem, method="exact", time_limit=120.0)
                assert bounds.lower_kind == "certified"
                mine.append(bounds.seconds if bounds.status == "optimal" else np.inf)
            row(table, f"int4 and {name}, {inputs} inputs", mine, None, "", None)


def outliers(table: Table) -> None:
    """A tenth of the weights several times outside the grid, 16 inputs, 2-8 bits."""
    rng = np.random.default_rng(0)
    for bits in range(2, 9):
        mine = []
        qmin, qmax = symmetric_codes(bits)
        for _ in range(20):
            features = np.maximum(rng.standard_normal((256, 16)) @ rng.standard_normal((16, 16)), 0.0)
            weight = rng.standard_normal(16)
            scale = np.abs(weight).max() / qmax
            weight[rng.choice(16, 2, replace=False)] *= rng.uniform(4.0, 8.0, 2)
            problem = pvq.IntegerLeastSquares(features.T @ features / 256, weight, scale, qmin, qmax)
            mine.append(ours(problem).seconds)
        row(table, f"weights outside the grid, 16 inputs, {bits} bits", mine, None, "", None)


def pruning_36(table: Table) -> None:
    for density in (0.125, 0.25, 0.5):
        mine, perspective, big_m = [], [], []
        for _, gram, _, weight in slices(36, 2):
            problem = pvq.SparseLeastSquares(gram, weight, nnz=int(36 * density))
            bounds = ours(problem)
            mine.append(bounds.seconds)
            for build, seconds in ((perspective_program, perspective), (big_m_program, big_m)):
                program = build(problem)
                took, solution = gurobi_seconds(program)
                found = problem.error(problem.refit(program.support(solution))).upper
                assert found >= bounds.error_lower, "Gurobi beats a certified bound"
                seconds.append(took)
        best = min((perspective, "perspective"), (big_m, "big-M"), key=lambda s: statistics.median(s[0]))
        row(table, f"pruning, 36 inputs, density {density}", mine, best[0], f"Gurobi, {best[1]}", 50)


def paper(table: Table, checkout: Path) -> None:
    """The paper's interval (Park-Boyd SDP and randomized rounding) on the same slices."""
    path = checkout / "quantization" / "optimizers_sdp.py"
    spec = importlib.util.spec_from_file_location("optimizers_sdp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # SCS is what the CVXPY that the code pins picks where MOSEK has no licence
    problem_class = module.cp.Problem
    module.cp.Problem.solve = functools.partialmethod(problem_class.solve, solver="SCS")
    for bits in (2, 4):
        mine, theirs, widths = [], [], []
        for _, gram, layer_weight, weight in slices(36, 1):
            problem = quantization_problem(gram, layer_weight, weight, bits)
            mine.append(ours(problem).seconds)
            signal = problem.signal.middle
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                low, high, _ = module.sdp_mixed_integer_qp_bounds(
                    gram.matrix, weight, signal, problem.scale, False, problem.qmin, problem.qmax
                )
            theirs.append(time.perf_counter() - start)
            widths.append(10 * np.log10(high / max(low, 1e-12 * high)))
        row(table, f"quantization, 36 inputs, {bits} bits", mine, theirs, "the paper's code", 20)
        table.add_row("  width of its interval", "0 dB", f"{statistics.median(widths):.1f} dB", "", "", "")


def row(table, name, mine, theirs, rival, target) -> None:
    median = statistics.median(mine)
    cells = [name, milliseconds(median, max(mine)), "", "", "", f"{len(mine)}"]
    if theirs is not None:
        other = statistics.median(theirs)
        ratio = f"{other / median:.0f}x (wanted {target}x)"
        cells[2:5] = [milliseconds(other, max(theirs)), ratio, rival]
    table.add_row(*cells)


def milliseconds(median: float, largest: float) -> str:
    return f"{1e3 * median:.3g} ms ({1e3 * largest:.3g})"


PARTS = {
    "quantization-36": quantization_36,
    "quantization-64": quantization_64,
    "quantization-72": quantization_72,
    "levels-36": levels_36,
    "joint": joint,
    "outliers": outliers,
    "pruning-36": pruning_36,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="parts to run; all by default")
    parser.add_argument("--paper", type=Path, help="checkout of the paper's code")
    arguments = parser.parse_args()
    warm_up()
    parts = [PARTS[name] for name in arguments.part or PARTS]
    if arguments.paper is not None:
        parts.append(functools.partial(paper, checkout=arguments.paper))
    for part in parts:
        table = Table("problems", "native, median (max)", "rival, median (max)", "ratio", "rival", "count")
        part(table)
        Console(width=150).print(table)


def warm_up() -> None:
    """Load what is compiled, so that no timing contains it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 64))
    gram, weight = pvq.Gram(X.T @ X / 200), rng.standard_normal(64)
    pvq.solve(pvq.IntegerLeastSquares(gram, weight, 0.4, -8, 7), time_limit=5.0)
    few = gram.matrix[:12, :12], weight[:12]
    pvq.solve(pvq.SparseLeastSquares(*few, nnz=4))
    pvq.solve(pvq.IntegerLeastSquares(*few, 0.4, -8, 7, nnz=4))
    pvq.solve(pvq.CodebookLeastSquares(*few, [-1.0, 0.0, 1.0]))


if __name__ == "__main__":
    main()
