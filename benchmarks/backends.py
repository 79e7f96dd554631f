"""The third-party backends: do they agree, what do they cost besides the solver, and against a script.

    python benchmarks/backends.py                  everything (about ten minutes)
    python benchmarks/backends.py agreement        one part: agreement, overhead, gurobi

Backends that are not installed or not licensed are left out. Exit code 1 if an aim is missed.
Problems are random ones of ten inputs and slices of the shipped network's layers (one output channel
each); every solver runs on one thread. CVXPY's are run where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any
from unittest import mock

import numpy as np
from exact import quantization_problem, slices, warm_up, written_by_hand
from rich.console import Console
from rich.table import Table

import pvqbounds as pvq
from pvqbounds.relaxations.miqp import MIQP, integer_program
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Backend, Capability, Options, error_unit
from pvqbounds.solvers.miqp.presolve import presolve_pruning
from pvqbounds.solvers.miqp.pruning import tight_perspective_program
from pvqbounds.solvers.relaxation import relax

LIMIT = 60.0
AIM_OVERHEAD = 0.8
Problem = pvq.IntegerLeastSquares | pvq.SparseLeastSquares

SIDES = {
    pvq.IntegerLeastSquares: {
        "exact": Capability.EXACT_QUANTIZATION,
        "relax": Capability.BOX_HULL,
    },
    pvq.SparseLeastSquares: {
        "exact": Capability.EXACT_PRUNING,
        "relax": Capability.PERSPECTIVE,
    },
}


def backends() -> list[str]:
    names = [name for name in pvq.available_solvers() if name != "native"]
    if find_spec("cvxpy") is not None:
        import cvxpy

        through = {"CLARABEL", "SCS", "SCIP"} & set(cvxpy.installed_solvers())
        names += [f"cvxpy:{name}" for name in sorted(through)]
    return names


def small_problems() -> Iterator[Problem]:
    """Ten inputs: random features after a ReLU, two bit widths, two budgets."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        features = np.maximum(rng.standard_normal((40, 10)) @ rng.standard_normal((10, 10)), 0.0)
        gram, weight = features.T @ features / len(features), rng.standard_normal(10)
        for bits in (2, 4):
            scale = 1.6 * np.abs(weight).max() / 2**bits
            yield pvq.IntegerLeastSquares(gram, weight, scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        yield pvq.SparseLeastSquares(gram, weight, nnz=3)
        yield pvq.SparseLeastSquares(gram, weight, pattern=(2, 4))


def layer_problems(inputs: int) -> Iterator[Problem]:
    for _, gram, layer_weight, weight in slices(inputs, 1):
        yield quantization_problem(gram, layer_weight, weight, 4)
        yield pvq.SparseLeastSquares(gram, weight, nnz=inputs // 4)


def agreement() -> tuple[Table, bool]:
    """Worst case of each backend over all problems, in units of its stated accuracy."""
    table = Table(
        "backend",
        "problem",
        "method",
        "count",
        "certified below native",
        "certified above optimum",
        "found above optimum",
        "stated off",
        "accuracy",
        "",
        title="agreement: worst cases relative to the least error (or 1e-3 of the signal)",
    )
    fine = True
    problems = [*small_problems(), *layer_problems(36)]
    optimum = [pvq.solve(problem, method="exact", time_limit=LIMIT).error_upper for problem in problems]
    native = [pvq.solve(problem, method="relax").error_lower for problem in problems]
    for name in backends():
        for kind, methods in SIDES.items():
            for method, needs in methods.items():
                backend = backend_or_none(name, needs)
                if backend is None:
                    continue
                rows = []
                for problem, best, bound in zip(problems, optimum, native, strict=True):
                    # exact methods that do not end on a layer's slice within a minute are left to the tests
                    slow = method == "exact" and problem.n > 10 and name not in ("gurobi",)
                    if not isinstance(problem, kind) or slow:
                        continue
                    unit = error_unit(best, problem.signal.middle)
                    found = pvq.solve(problem, name, method, time_limit=LIMIT)
                    stated = found.reported_lower
                    target = best if method == "exact" else bound
                    rows.append(
                        (
                            (bound - found.error_lower) / unit,
                            (found.error_lower - best) / unit,
                            (found.error_upper - best) / unit if method == "exact" else 0.0,
                            abs(stated - target) / unit if stated is not None else 0.0,
                        )
                    )
                below, above, upper, stated_off = np.max(rows, axis=0)
                accuracy = backend.accuracy
                # the native perspective bound is itself good to 1e-3 only
                slack = accuracy if method == "exact" else accuracy + 1e-3
                good = below <= accuracy and above <= 1e-9 and upper <= accuracy and stated_off <= slack
                fine &= bool(good)
                table.add_row(
                    name,
                    "quantization" if kind is pvq.IntegerLeastSquares else "pruning",
                    method,
                    str(len(rows)),
                    f"{below:.1e}",
                    f"{above:.1e}",
                    f"{upper:.1e}" if method == "exact" else "",
                    f"{stated_off:.1e}",
                    f"{accuracy:.0e}",
                    "" if good else "MISSED",
                )
    return table, fine


def backend_or_none(name: str, needs: Capability) -> Backend | None:
    try:
        return backend_named(name, needs)
    except pvq.SolverError:
        return None


# ------------------------------------------------------------------------------------- overhead


class Stopwatch:
    """Adds up the seconds spent in what it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start

        return timed

    def around_class(self, kind: type, *methods: str) -> Callable[..., Any]:
        """Make `kind` with its construction and some methods timed."""
        watch = self

        class Timed:
            def __init__(self, *arguments: Any, **named: Any) -> None:
                self._inner = watch.around(kind)(*arguments, **named)

            def __getattr__(self, name: str) -> Any:
                attribute = getattr(self._inner, name)
                return watch.around(attribute) if name in methods else attribute

        return Timed


@contextlib.contextmanager
def inside(name: str) -> Iterator[Stopwatch]:
    """Time what runs inside the solver behind `name`."""
    watch = Stopwatch()
    if name == "gurobi":
        import gurobipy

        patch = mock.patch.object(gurobipy.Model, "optimize", _method(watch, gurobipy.Model.optimize))
    elif name == "highs":
        import highspy

        patch = mock.patch.object(highspy.Highs, "run", _method(watch, highspy.Highs.run))
    elif name == "scip":
        import pyscipopt

        class Model(pyscipopt.Model):
            def optimizeNogil(self) -> None:  # noqa: N802
                watch.around(super().optimizeNogil)()

        patch = mock.patch.object(pyscipopt, "Model", Model)
    elif name == "clarabel":
        import clarabel

        patch = mock.patch.object(
            clarabel, "DefaultSolver", watch.around_class(clarabel.DefaultSolver, "solve")
        )
    else:
        import scs

        patch = mock.patch.object(scs, "SCS", watch.around_class(scs.SCS, "solve"))
    with patch:
        yield watch


def _method(watch: Stopwatch, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments, **named: watch.around(function)(self, *arguments, **named)


def overhead() -> tuple[Table, bool]:
    """Share of the backend's time that is the solver's own; medians over the slices."""
    table = Table(
        "backend",
        "problem",
        "inputs",
        "method",
        "backend, s",
        "inside the solver",
        "of pvqbounds.solve",
        "",
        title="overhead: share of time inside the solver, its construction included; limit 5 s, medians",
    )
    fine = True
    for name in ("clarabel", "scs", "gurobi", "highs", "scip"):
        for inputs in (36, 72):
            for kind, methods in SIDES.items():
                for method, needs in methods.items():
                    backend = backend_or_none(name, needs)
                    if backend is None or backend.refusal(inputs, needs, {}) is not None:
                        continue
                    if name == "clarabel" and kind is pvq.IntegerLeastSquares and inputs > 36:
                        continue  # a minute each
                    shares, seconds, whole = [], [], []
                    problems = [p for p in layer_problems(inputs) if isinstance(p, kind)]
                    for problem in problems[:3]:
                        options = Options(time_limit=5.0)
                        with inside(name) as watch:
                            start = time.perf_counter()
                            call(backend, problem, method, options)
                            took = time.perf_counter() - start
                        shares.append(watch.seconds / took)
                        seconds.append(took)
                        with inside(name) as watch:
                            start = time.perf_counter()
                            pvq.solve(problem, name, method, time_limit=5.0)
                            whole.append(watch.seconds / (time.perf_counter() - start))
                    share = statistics.median(shares)
                    good = share >= AIM_OVERHEAD
                    fine &= good
                    table.add_row(
                        name,
                        "quantization" if kind is pvq.IntegerLeastSquares else "pruning",
                        str(inputs),
                        method,
                        f"{statistics.median(seconds):.3g}",
                        f"{100 * share:.0f} %",
                        f"{100 * statistics.median(whole):.0f} %",
                        "" if good else "MISSED",
                    )
    return table, fine


def call(backend: Backend, problem: Problem, method: str, options: Options) -> None:
    if isinstance(problem, pvq.IntegerLeastSquares):
        if method == "exact":
            backend.solve_integer(problem, options)
        else:
            relax(problem, "box-hull", lambda sdp: backend.solve_sdp(sdp, options))
    elif method == "exact":
        backend.solve_sparse(problem, options)
    else:
        backend.relax_sparse(problem, options)


# --------------------------------------------------------------------------------------- gurobi


def by_hand(program: MIQP) -> float:
    """Seconds of the script that one would write: the same formulation and tolerances."""
    import gurobipy

    start = time.perf_counter()
    with gurobipy.Env(params={"OutputFlag": 0}) as env, gurobipy.Model(env=env) as model:
        model.Params.TimeLimit = LIMIT
        model.Params.MIPGap = 1e-6
        model.Params.FeasibilityTol = 1e-9
        model.Params.BarQCPConvTol = 1e-9
        model.Params.Threads = 1
        written_by_hand(model, program)
        model.optimize()
        return time.perf_counter() - start


def gurobi() -> tuple[Table, bool]:
    """Our whole solve, proof included, against the script on data that is already in its form."""
    table = Table(
        "problem",
        "through us: median s (max)",
        "script: median s (max)",
        "ratio of medians",
        "of sums",
        "",
        title="gurobi through pvqbounds.solve against a hand-written script of the same formulation",
    )
    if backend_or_none("gurobi", Capability.EXACT_PRUNING) is None:
        return table, True
    cases: list[tuple[str, list[tuple[Problem, MIQP]]]] = []
    grams = list(slices(36, 2))
    for bits in (2, 3, 4):
        quantized: list[Problem] = [quantization_problem(g, lw, w, bits) for _, g, lw, w in grams]
        programs = [(p, integer_program(p)) for p in quantized if isinstance(p, pvq.IntegerLeastSquares)]
        cases.append((f"quantization, 36 inputs, {bits} bits", list(programs)))
    for nnz in (4, 9, 18):
        pruned = [pvq.SparseLeastSquares(g, w, nnz=nnz) for _, g, _, w in grams]
        posed = [(p, tight_perspective_program(presolve_pruning(p))) for p in pruned]
        cases.append((f"pruning, 36 inputs, keep {nnz}", list(posed)))
    fine = True
    for label, pairs in cases:
        ours, script = [], []
        for problem, program in pairs:
            start = time.perf_counter()
            pvq.solve(problem, "gurobi", "exact", time_limit=LIMIT)
            ours.append(time.perf_counter() - start)
            script.append(by_hand(program))
        ratio = statistics.median(ours) / statistics.median(script)
        fine &= ratio <= 1.0
        table.add_row(
            label,
            f"{statistics.median(ours):.3f} ({max(ours):.3f})",
            f"{statistics.median(script):.3f} ({max(script):.3f})",
            f"{ratio:.2f}",
            f"{sum(ours) / sum(script):.2f}",
            "" if ratio <= 1.0 else "MISSED",
        )
    return table, fine


PARTS = {"agreement": agreement, "overhead": overhead, "gurobi": gurobi}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="parts to run; all by default")
    warm_up()
    fine = True
    for name in parser.parse_args().part or PARTS:
        table, good = PARTS[name]()
        Console(width=150).print(table)
        fine &= good
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
