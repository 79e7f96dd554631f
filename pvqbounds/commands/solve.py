"""``pvqbounds solve``: one problem from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    RangeOption,
    RelaxationOption,
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

__all__ = ["solve"]

EPILOG = (
    "Examples: [bold]pvqbounds solve problem.npz[/bold]   |   "
    "[bold]pvqbounds solve 0000_0000.mat --density 0.25[/bold]   |   "
    "[bold]pvqbounds solve 0000_0000.mat --format 2:4+int4 --json r.json[/bold]   |   "
    "[bold]pvqbounds solve problem.npz --curve --plot curve.svg[/bold]   |   "
    "[bold]pvqbounds solve be100.1.sparse.gz --method exact[/bold]   |   "
    "[bold]pvqbounds solve problem.npz --solver gurobi --solver-option MIPGap=1e-4[/bold]"
)


def solve(
    file: Annotated[
        Path,
        typer.Argument(
            help="A problem: .npz, .mat of the paper's script (P, q, r, x0), or a binary quadratic program "
            "or maximum cut of the Biq Mac library: .sparse, .mc, packed as .gz or not.",
            metavar="FILE",
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
    relaxation: RelaxationOption = None,
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
        Path | None, typer.Option(metavar="FILE", help="Write the curve to .csv, .parquet or .tex.")
    ] = None,
    json_path: ResultOption = None,
    seed: SeedOption = 0,
) -> None:
    """Bound one problem from a file: the quantization or the pruning of one output channel, or both."""
    from pvqbounds.report.tables import problem_view
    from pvqbounds.results.curve import BudgetCurve
    from pvqbounds.results.layer import SliceResult
    from pvqbounds.solving import one as api
    from pvqbounds.solving.budget_curve import budget_curve
    from pvqbounds.storage.problem_files import load_problem
    from pvqbounds.storage.results_written import write_problem

    outputs = CurveOutputs(json_path, plot, table)
    outputs.check(file, curve)
    budget = budget_of(form, bits, scale, range_method, density, nnz, pattern, every=curve)
    problem = load_problem(file, budget)
    if curve:
        refuse_unfit(solver, method, relaxation)
        with progress_bar("solving"):
            found = BudgetCurve.of(problem, budget_curve(problem, time_limit=time_limit, threads=threads))
        outputs.write(found, file.name)
        return
    with progress_bar("solving"):
        bounds = api.solve(
            problem,
            solver=solver,
            method=method,
            relaxation=relaxation,
            time_limit=time_limit,
            threads=threads,
            tolerance=tolerance,
            seed=seed,
            verbose=verbose,
            solver_options=solver_options_of(solver_option),
        )
    result = SliceResult(0, (0, problem.n), problem, bounds)
    if json_path is not None:
        write_problem(result, file.name, json_path)
    show(problem_view(result, file.name))
