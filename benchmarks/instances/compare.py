"""Solvers on the set of instances: who proves what, and in how many seconds.

    python benchmarks/instances/compare.py DIR                       everything that is installed, 5 s each
    python benchmarks/instances/compare.py DIR --seconds 60 --most-inputs 100
    python benchmarks/instances/compare.py DIR --only 'MobileNet*' --every 4 --part exact

DIR is what `build.py` made. Two parts:

**exact**: the native solver on the problem, and Gurobi and SCIP on the file that `pvqbounds export` writes of
it (`.mps`), which they read and solve with their own defaults, on one thread, to 1e-6 of the least error that
is known: an absolute gap, since the objective of a file lacks a constant that a relative one would count.
"Our form" is the same solver asked through this package, which gives it a start and, for pruning and levels,
a formulation with the multipliers of the native relaxation; HiGHS, which solves no integer program with a
quadratic objective, is asked so alone, for pruning. What a licence is too small for, and a singular Gram that
has no big M, is "refused".

**relaxation**: the native solver, Clarabel and SCS on the box-hull and the perspective relaxation, through
this package, which proves what each of them gives.

What solvers find is evaluated again from its codes or support; bounds are what they state. Better weights
than the best known, and better bounds that are proved, go into DIR/instances.parquet. Written are
DIR/exact.parquet and DIR/relaxation.parquet, a row for each instance and solver, and the setting of each part
beside it as JSON; `page.py` makes docs/instances.md of them. Until they are written each outcome stands in
DIR/running.jsonl: the same command goes on where it was ended, and refuses what another version began.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import pvqbounds as pvq
from pvqbounds.errors import PvqError
from pvqbounds.problems import Point, Problem

GAP = 1e-6
"""Gap, over the error, at which a problem counts as solved."""

PACKAGES = {
    "gurobi": "gurobipy",
    "scip": "pyscipopt",
    "highs": "highspy",
    "clarabel": "clarabel",
    "scs": "scs",
}

RUNNING = "running.jsonl"
"""Setting and outcomes of a run that has not ended."""

Outcome = dict[str, Any]
Run = Callable[[], Outcome | None]


def through_us(problem: Problem, seconds: float, within: float, *, solver: str, method: str) -> Outcome:
    """A solver of this package's list, whose answer is proved or only stated."""
    started = time.perf_counter()
    bounds = pvq.solve(problem, solver, method, time_limit=seconds)
    passed = time.perf_counter() - started
    stated = bounds.error_lower if bounds.reported_lower is None else bounds.reported_lower
    lower = bounds.error_lower if solver == "native" else max(stated, bounds.error_lower)
    return {"seconds": passed, "upper": bounds.error_upper, "lower": lower, "certified": certified(bounds)}


def certified(bounds: pvq.Bounds) -> float:
    """The lower end as far as it is proved; the error is a mean square."""
    return bounds.error_lower if bounds.lower_kind == "certified" else 0.0


def written(problem: Problem, folder: str) -> tuple[str, float]:
    """The problem's integer program, and what its objective lacks."""
    path = Path(folder) / "problem.mps"
    pvq.save_problem(problem, path)
    with path.open() as lines:
        offset = next(line for line in lines if "offset = " in line)
    return str(path), float(offset.rsplit("= ", 1)[1])


def point_of(problem: Problem, values: dict[str, float]) -> Point:
    """What a solution of the integer program says, by the names of its unknowns, evaluated again.

    z are codes, b say which value an input has, k which inputs are kept, whose weights are re-fitted.
    """
    numbers = range(1, problem.n + 1)
    if isinstance(problem, pvq.SparseLeastSquares):
        return problem.on_support([i - 1 for i in numbers if values[f"k{i}"] > 0.5])
    if "z1" in values:
        return problem.point(np.array([round(values[f"z{i}"]) for i in numbers]))
    chosen = [(name.removeprefix("b").split("_"), value) for name, value in values.items() if name[0] == "b"]
    codes = problem.values.code_ends[0].copy()
    for (i, place), value in chosen:
        if value > 0.5:
            codes[int(i) - 1] += int(place) - 1
    return problem.point(codes)


def by_gurobi(problem: Problem, seconds: float, within: float) -> Outcome | None:
    """Gurobi on the file, to an absolute gap; None where its licence is too small."""
    import gurobipy

    with TemporaryDirectory() as folder, gurobipy.Env(params={"OutputFlag": 0}) as env:
        path, offset = written(problem, folder)
        with gurobipy.read(path, env=env) as model:
            model.Params.TimeLimit, model.Params.Threads = seconds, 1
            model.Params.MIPGap, model.Params.MIPGapAbs = 0.0, within
            started = time.perf_counter()
            try:
                model.optimize()
            except gurobipy.GurobiError as error:
                if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
                    return None
                raise
            passed = time.perf_counter() - started
            found = {x.VarName: x.X for x in model.getVars()} if model.SolCount else None
            upper = None if found is None else point_of(problem, found).upper
            return {"seconds": passed, "upper": upper, "lower": model.ObjBound + offset}


def by_scip(problem: Problem, seconds: float, within: float) -> Outcome:
    """SCIP on the file, to an absolute gap."""
    import pyscipopt

    with TemporaryDirectory() as folder:
        path, offset = written(problem, folder)
        model = pyscipopt.Model()
        model.hideOutput()
        model.readProblem(path)
        model.setParam("limits/time", seconds)
        model.setParam("limits/gap", 0.0)
        model.setParam("limits/absgap", within)
        started = time.perf_counter()
        model.optimize()
        passed = time.perf_counter() - started
        found = {x.name: model.getVal(x) for x in model.getVars()} if model.getNSols() else None
        upper = None if found is None else point_of(problem, found).upper
        return {"seconds": passed, "upper": upper, "lower": model.getDualbound() + offset}


EXACT: dict[str, Callable[[Problem, float, float], Outcome | None]] = {
    "native": partial(through_us, solver="native", method="exact"),
    "gurobi": by_gurobi,
    "scip": by_scip,
    **{
        f"{name}, our form": partial(through_us, solver=name, method="exact")
        for name in ("gurobi", "scip", "highs")
    },
}
RELAXED = ("native", "clarabel", "scs")


def solved(found: Outcome) -> bool:
    """Whether the interval is closed."""
    upper = found["upper"]
    return upper is not None and upper - found["lower"] <= 2.0 * GAP * abs(upper)


def compare(row: dict[str, Any], solver: str, solve: Run) -> Outcome:
    """One line of the table: what a solver made of an instance, or why nothing."""
    line = {
        "name": row["name"],
        "kind": row["kind"],
        "n": row["n"],
        "format": row["format"],
        "solver": solver,
    }
    try:
        found = solve()
    except PvqError as error:
        return {**line, "outcome": "refused", "why": str(error)}
    if found is None:
        return {**line, "outcome": "refused", "why": "its licence is too small"}
    return {**line, "outcome": "solved" if solved(found) else "open", **found}


def chosen(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    fitting = [row for row in rows if row["n"] <= options.most_inputs]
    fitting = [row for row in fitting if any(fnmatch(row["name"], pattern) for pattern in options.only)]
    return fitting[:: options.every]


def installed(names: list[str]) -> list[str]:
    here = pvq.available_solvers()
    return [name for name in names if name.split(",")[0] in here]


def setting(seconds: float) -> dict[str, Any]:
    """Hardware, versions and limits, as a page has to state them."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        model = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown"
        )
    versions = {"native": f"pvqbounds {pvq.__version__}"}  # not what is installed, which may be another
    for solver, package in PACKAGES.items():
        try:
            versions[solver] = f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return {
        "seconds": seconds,
        "processor": model,
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit(),
        "gap": GAP,
    }


def commit() -> str:
    """The last one that changed the package; "-dirty" where it differs, "unknown" outside a repository."""

    def git(*words: str) -> str:
        command = ["git", *words, "--", str(Path(pvq.__file__).parent)]
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout

    try:
        last, changed = git("log", "-1", "--format=%h").strip(), git("status", "--porcelain")
    except FileNotFoundError:  # no git
        return "unknown"
    return f"{last}-dirty" if last and changed else last or "unknown"


class Running:
    """The outcomes of a run, each in its file at once, so that what ended the run costs one of them."""

    def __init__(self, path: Path, said: dict[str, Any]) -> None:
        self.path = path
        first = json.dumps(said) + "\n"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if whole and whole[0] != first:
            sys.exit(f"{path} is of another setting, {whole[0].strip()}; remove it to begin anew.")
        path.write_text("".join(whole or [first]))
        outcomes = [json.loads(line) for line in whole[1:]]
        self.done = {(line["part"], line["name"], line["solver"]): line for line in outcomes}

    def line(self, part: str, row: dict[str, Any], solver: str, solve: Run) -> Outcome:
        """The outcome that is there, or a new one."""
        key = part, row["name"], solver
        if key not in self.done:
            self.done[key] = {"part": part} | compare(row, solver, solve)
            with self.path.open("a") as file:
                file.write(json.dumps(self.done[key]) + "\n")
        return self.done[key]


def runs_of(row: dict[str, Any], problem: Problem, seconds: float) -> Iterator[tuple[str, str, Run]]:
    """Part, solver and what to call, for all that can be asked about an instance."""
    for name in installed([*EXACT]):
        if "highs" not in name or row["kind"] == "pruning":
            yield "exact", name, partial(EXACT[name], problem, seconds, GAP * row["best"])
    if row["kind"] != "joint":  # a relaxation that other solvers are not given
        for name in installed([*RELAXED]):
            yield "relaxation", name, partial(relaxed, problem, name, seconds)


def learn(path: Path, lines: list[Outcome]) -> None:
    """Take better weights, and better bounds of the native solver, into the table of the set."""
    rows = pq.read_table(path).to_pylist()
    for line in lines:
        row = next(row for row in rows if row["name"] == line["name"])
        ends = line.get("upper"), line.get("certified")
        who = {"_by": f"{line['solver']} exact", "_seconds": line.get("seconds")}
        if ends[0] is not None and ends[0] < row["best"]:
            row |= {"best": ends[0]} | {f"best{key}": value for key, value in who.items()}
        if ends[1] is not None and ends[1] > row["bound"]:
            row |= {"bound": ends[1]} | {f"bound{key}": value for key, value in who.items()}
        if row["best"] - row["bound"] <= GAP * row["best"]:
            row["status"] = "optimal"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


def warm_up() -> None:
    """Load what is compiled, so that no timing contains it."""
    X = np.random.default_rng(0).standard_normal((40, 8))
    gram, weights = pvq.Gram(X.T @ X / 40), np.linspace(-1.0, 1.0, 8)[None]
    for form in ("int2", "nf4", "25%", "2:4+int4"):
        problem = pvq.formats.parse(form).problems(gram, weights)[0]
        for method in ("exact", "relax"):
            pvq.solve(problem, method=method, time_limit=30.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each instance and solver")
    parser.add_argument("--most-inputs", type=int, default=72, help="larger instances are left out")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="names to take")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="every K-th of them")
    parser.add_argument("--part", choices=("exact", "relaxation", "both"), default="both")
    options = parser.parse_args()
    begun, used = time.perf_counter(), time.process_time()
    said = setting(options.seconds)
    running = Running(options.folder / RUNNING, said)
    warm_up()
    rows = chosen(pq.read_table(options.folder / "instances.parquet").to_pylist(), options)
    tables: dict[str, list[Outcome]] = {"exact": [], "relaxation": []}
    for row in rows:
        problem = pvq.load_problem(options.folder / row["file"])
        for part, name, run in runs_of(row, problem, options.seconds):
            if options.part not in (part, "both"):
                continue
            line = running.line(part, row, name, run)
            tables[part].append(line)
            seconds = f"{line['seconds']:7.2f} s" if "seconds" in line else ""
            print(f"{part:10} {row['name']:58} {name:9} {line['outcome']:8} {seconds}", flush=True)
    share = (time.process_time() - used) / (time.perf_counter() - begun)  # since it last went on
    said |= {"command": " ".join(["python", *sys.argv]), "share": share}
    for part, lines in tables.items():
        if lines:
            (options.folder / f"{part}.json").write_text(json.dumps(said, indent=2))
            pq.write_table(pa.Table.from_pylist(_filled(lines)), options.folder / f"{part}.parquet")
    learn(options.folder / "instances.parquet", tables["exact"])
    running.path.unlink()


def relaxed(problem: Problem, solver: str, seconds: float) -> Outcome:
    """The plain relaxation, that all of them solve."""
    started = time.perf_counter()
    name = "perspective" if problem.task == "pruning" else "box-hull"
    bounds = pvq.solve(problem, solver, "relax", name, time_limit=seconds)
    passed = time.perf_counter() - started
    ends = {"upper": bounds.error_upper, "lower": bounds.error_lower, "certified": certified(bounds)}
    return {"seconds": passed, **ends}


def _filled(lines: list[Outcome]) -> list[Outcome]:
    """All columns in every row: Parquet takes those of the first."""
    columns = (
        "name",
        "kind",
        "n",
        "format",
        "solver",
        "outcome",
        "seconds",
        "upper",
        "lower",
        "certified",
        "why",
    )
    return [{column: line.get(column) for column in columns} for line in lines]


if __name__ == "__main__":
    main()
