"""``pvqbounds solve``: problems from files."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pvqbounds.commands.budgets import (
    NnzOption,
    OneFormatOption,
    ProblemBitsOption,
    ScaleOption,
    budget_of,
)
from pvqbounds.commands.console import (
    DensityOption,
    MethodOption,
    PatternOption,
    ProblemRelaxationOption,
    RangeOption,
    ResultOption,
    SeedOption,
    SolverOption,
    SolverOptions,
    ThreadsOption,
    TimeLimitOption,
    ToleranceOption,
    VerboseOption,
    progress_bar,
    show,
    solver_options_of,
)
from pvqbounds.commands.curves import CurveOutputs, refuse_unfit
from pvqbounds.commands.solve_files import PLACE, FilesOutputs, Solve, solve_files
from pvqbounds.errors import InputError

if TYPE_CHECKING:
    from pvqbounds.problems import Problem
    from pvqbounds.results.bounds import Bounds
    from pvqbounds.storage.problem_files import Budget

__all__ = ["solve"]

EPILOG = (
    "Examples: [bold]pvqbounds solve problem.npz[/bold]   |   "
    "[bold]pvqbounds solve 0000_0000.mat --density 0.25[/bold]   |   "
    "[bold]pvqbounds solve 0000_0000.mat --format 2:4+int4 --json r.json[/bold]   |   "
    "[bold]pvqbounds solve matlab_data --density 0.25 --table rows.csv --json 'out/{file}.json'[/bold]   |   "
    "[bold]pvqbounds solve problem.npz --curve --plot curve.svg[/bold]   |   "
    "[bold]pvqbounds solve be100.1.sparse.gz --method exact[/bold]   |   "
    "[bold]pvqbounds solve problem.npz --solver gurobi --solver-option MIPGap=1e-4[/bold]"
)


def solve(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A problem, several or a folder of them: .npz, .mat of the paper's script (P, q, r, x0), "
            "or a binary quadratic program or maximum cut of the Biq Mac library: .sparse, .mc, packed "
            "as .gz or not.",
            metavar="FILE|DIR...",
        ),
    ],
    form: OneFormatOption = None,
    bits: ProblemBitsOption = None,
    scale: ScaleOption = None,
    range_method: RangeOption = "mse",
    density: DensityOption = None,
    nnz: NnzOption = None,
    pattern: PatternOption = None,
    solver: SolverOption = "auto",
    method: MethodOption = "auto",
    relaxation: ProblemRelaxationOption = None,
    solver_option: SolverOptions = None,
    time_limit: TimeLimitOption = 60.0,
    tolerance: ToleranceOption = None,
    threads: ThreadsOption = 1,
    verbose: VerboseOption = False,
    curve: Annotated[
        bool, typer.Option("--curve", help="Every number of weights kept in one run: 0, 1, ..., all.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curve to a .png, .svg or .pdf.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the curve, or a row for each file, to .csv, .parquet or .tex."
        ),
    ] = None,
    json_path: ResultOption = None,
    seed: SeedOption = 0,
) -> None:
    """Bound problems from files, each the quantization or the pruning of one output channel, or both."""
    from pvqbounds.solving import one as api

    if curve:
        refuse_unfit(solver, method, relaxation)
    options = solver_options_of(solver_option)

    def bounds_of(problem: Problem, cancelled: threading.Event | None = None) -> Bounds:
        return api.solve(
            problem,
            solver=solver,
            method=method,
            relaxation=relaxation,
            time_limit=time_limit,
            threads=threads,
            tolerance=tolerance,
            seed=seed,
            verbose=verbose,
            solver_options=options,
            cancelled=cancelled,
        )

    budget = budget_of(form, bits, scale, range_method, density, nnz, pattern, every=curve)
    named_by_file = json_path is not None and PLACE in json_path.name and not curve and plot is None
    if len(files) > 1 or files[0].is_dir() or named_by_file:
        _solve_several(files, budget, bounds_of, FilesOutputs(json_path, table), curve or plot is not None)
        return
    (file,) = files
    outputs = CurveOutputs(json_path, plot, table)
    outputs.check(file, curve)
    if curve:
        _solve_curve(file, budget, time_limit, threads, outputs)
    else:
        _solve_one(file, budget, bounds_of, json_path)


def _solve_several(
    files: Sequence[Path], budget: Budget, bounds_of: Solve, outputs: FilesOutputs, curve: bool
) -> None:
    from pvqbounds.storage.problem_files import problem_paths

    if curve:
        raise InputError("--curve and --plot are of one problem; give one file.")
    sources = problem_paths(files)
    outputs.check(sources)
    solve_files(sources, budget, bounds_of, outputs)


def _solve_curve(file: Path, budget: Budget, time_limit: float, threads: int, outputs: CurveOutputs) -> None:
    from pvqbounds.results.curve import BudgetCurve
    from pvqbounds.solving.budget_curve import budget_curve
    from pvqbounds.storage.problem_files import load_problem

    problem = load_problem(file, budget)
    with progress_bar("solving"):
        found = BudgetCurve.of(problem, budget_curve(problem, time_limit=time_limit, threads=threads))
    outputs.write(found, file.name)


def _solve_one(file: Path, budget: Budget, bounds_of: Solve, json_path: Path | None) -> None:
    from pvqbounds.report.tables import problem_view
    from pvqbounds.results.layer import SliceResult
    from pvqbounds.storage.problem_files import load_problem
    from pvqbounds.storage.results_written import write_problem

    problem = load_problem(file, budget)
    with progress_bar("solving"):
        bounds = bounds_of(problem)
    result = SliceResult(0, (0, problem.n), problem, bounds)
    if json_path is not None:
        write_problem(result, file.name, json_path)
    show(problem_view(result, file.name))
