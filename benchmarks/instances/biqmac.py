"""Binary quadratic programs with published optima: ours, the truth, and Gurobi beside.

    python benchmarks/instances/biqmac.py DIR               every instance, 60 s each, one thread
    python benchmarks/instances/biqmac.py DIR --gurobi      Gurobi beside, as long and on one thread
    python benchmarks/instances/biqmac.py DIR --only 'gka*d' 'be100*' --most 3 --seconds 20

DIR holds NAME.sparse or NAME.sparse.gz in the form of the Biq Mac library, and optima.json: least values
of zᵀQz by NAME. A line for each instance, as it ends: seconds and the objective, proved or as an interval;
then medians by set, in which an instance that is not proved counts with the time that it took. What
contradicts a published optimum is shouted, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np

import pvqbounds as pvq
from pvqbounds.report.tables import objective_text
from pvqbounds.storage.problem_files import load_problem

GUROBI_SLACK = 1e-6
"""Relative distance by which Gurobi's ends may be off."""


@dataclass(frozen=True)
class Outcome:
    """What one solver made of one instance."""

    seconds: float
    lower: float
    upper: float
    slack: float = 0.0
    """Relative distance by which the ends may be off."""

    @property
    def proved(self) -> bool:
        """Whether both ends are one."""
        return self.upper - self.lower <= self.slack * abs(self.upper)

    def contradicts(self, optimum: float | None) -> bool:
        """Whether the optimum lies outside the interval."""
        room = self.slack * abs(self.lower)
        return optimum is not None and not self.lower - room <= optimum <= self.upper + room

    def __str__(self) -> str:
        text = "proved" if self.proved else objective_text(self.lower, self.upper)
        gap = "" if self.proved else f" ({100.0 * (self.upper - self.lower) / abs(self.upper):.2g} %)"
        return f"{self.seconds:8.2f} s  {text + gap:31}"


Solver = Callable[[pvq.IntegerLeastSquares], Outcome]


def ours(problem: pvq.IntegerLeastSquares, seconds: float) -> Outcome:
    """The native search, and its proof of the objective."""
    bounds = pvq.solve(problem, method="exact", time_limit=seconds)
    ends = problem.quadratic.objective_bounds(bounds)
    return Outcome(bounds.seconds, ends.lower, ends.upper)


def gurobi(problem: pvq.IntegerLeastSquares, seconds: float) -> Outcome:
    """Gurobi on the program as it is published, with its own treatment of what is not convex."""
    import gurobipy

    with gurobipy.Env(params={"OutputFlag": 0}) as env, gurobipy.Model(env=env) as model:
        model.Params.TimeLimit, model.Params.Threads, model.Params.MIPGap = seconds, 1, 0.0
        z = model.addMVar(problem.n, vtype="B")
        model.setObjective(z @ problem.quadratic.matrix @ z)
        model.optimize()
        return Outcome(model.Runtime, model.ObjBound, model.ObjVal, GUROBI_SLACK)


def set_of(name: str) -> str:
    """gka3b belongs to gka?b, be120.3.4 to be120.3."""
    letter = re.fullmatch(r"([a-z]+)\d+([a-z])", name)
    return f"{letter[1]}?{letter[2]}" if letter else name.rpartition(".")[0] or name


def chosen(folder: Path, only: list[str], most: int | None) -> dict[str, list[Path]]:
    """The files by their set, in order of their numbers."""
    sets = defaultdict(list)
    for path in sorted(folder.glob("*.sparse*"), key=lambda path: [*map(int, re.findall(r"\d+", path.name))]):
        name = path.name.split(".sparse")[0]
        if any(fnmatch(name, pattern) for pattern in only):
            sets[set_of(name)].append(path)
    return {name: sets[name][:most] for name in sorted(sets)}


def warm_up() -> None:
    """Load what is compiled, so that no timing contains it."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((60, 60))
    ours(pvq.IntegerLeastSquares.from_quadratic(A + A.T, np.zeros(60), 0, 1), 10.0)


def median_line(name: str, solver: str, outcomes: list[Outcome]) -> str:
    """Median and largest seconds of a set, and how many were proved."""
    seconds = [outcome.seconds for outcome in outcomes]
    proved = sum(outcome.proved for outcome in outcomes)
    return (
        f"{name:10} {solver:7} median {statistics.median(seconds):8.3g} s, largest {max(seconds):8.3g} s, "
        f"proved {proved} of {len(seconds)}"
    )


def run(group: str, path: Path, optimum: float | None, solvers: dict[str, Solver]) -> dict[str, Outcome]:
    """Solve one instance with each solver, and print its line."""
    name, problem = path.name.split(".sparse")[0], load_problem(path)
    best = "unknown" if optimum is None else f"{optimum:7}"
    line = f"{group:8} {name:10} n = {problem.n:4}  optimum {best}"
    outcomes = {solver: solve(problem) for solver, solve in solvers.items()}
    for solver, outcome in outcomes.items():
        line += f"  {solver} {outcome}"
        if outcome.contradicts(optimum):
            line += f"  *** CONTRADICTION: {solver} says {outcome.lower!r} .. {outcome.upper!r} ***"
    print(line.rstrip(), flush=True)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where instances and optima.json lie")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each instance and solver")
    parser.add_argument("--gurobi", action="store_true", help="run Gurobi beside")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="names to take")
    parser.add_argument("--most", type=int, help="instances of each set")
    options = parser.parse_args()
    optima = json.loads((options.folder / "optima.json").read_text())
    solvers: dict[str, Solver] = {"ours": partial(ours, seconds=options.seconds)}
    if options.gurobi:
        solvers["Gurobi"] = partial(gurobi, seconds=options.seconds)
    warm_up()
    found: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    contradictions = 0
    for group, paths in chosen(options.folder, options.only, options.most).items():
        for path in paths:
            optimum = optima.get(path.name.split(".sparse")[0])
            for solver, outcome in run(group, path, optimum, solvers).items():
                found[group, solver].append(outcome)
                found["all", solver].append(outcome)
                contradictions += outcome.contradicts(optimum)
    print()
    for (group, solver), outcomes in sorted(found.items(), key=lambda item: item[0][0] == "all"):
        print(median_line(group, solver, outcomes))
    if contradictions:
        sys.exit(f"{contradictions} CONTRADICTIONS to published optima")


if __name__ == "__main__":
    main()
