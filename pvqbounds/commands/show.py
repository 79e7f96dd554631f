"""``pvqbounds show``: a result again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pvqbounds.commands.console import show
from pvqbounds.commands.inputs import TableOption, WordsOption
from pvqbounds.commands.outputs import Outputs
from pvqbounds.errors import InputError

__all__ = ["show_result"]

EPILOG = (
    "Examples: [bold]pvqbounds show r.json[/bold]   |   "
    "[bold]pvqbounds show r.json --plot r.pdf --no-words --table r.tex[/bold]   |   "
    "[bold]pvqbounds show problem.json --history --plot h.svg[/bold]"
)


def show_result(
    file: Annotated[Path, typer.Argument(help="What --json of layer or solve wrote.", metavar="FILE")],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the result to a .png, .svg or .pdf.")
    ] = None,
    words: WordsOption = True,
    table: TableOption = None,
    history: Annotated[
        bool,
        typer.Option("--history", help="Of one problem: how its interval closed over time; --plot draws it."),
    ] = False,
) -> None:
    """Print a result again, and draw it or write its table; nothing in it is proved anew."""
    from pvqbounds.commands.curves import CurveOutputs
    from pvqbounds.report.history import history_view, plot_history
    from pvqbounds.report.tables import problem_view
    from pvqbounds.results.curve import BudgetCurve
    from pvqbounds.results.layer import LayerReport, SliceResult
    from pvqbounds.storage.results_read import read_record

    outputs = Outputs(None, plot, table, words)
    outputs.check([file])
    result = read_record(file).result
    if history and not isinstance(result, SliceResult):
        raise InputError(f"--history is for the result of one problem, and {file} is of several.")
    if isinstance(result, LayerReport):
        outputs.write_rows([result])
        outputs.present(result)
    elif isinstance(result, BudgetCurve):
        CurveOutputs(None, plot, table).write(result, file.name)
    elif history:
        if table is not None:
            raise InputError("A history has no table of its own; leave out --table.")
        show(problem_view(result, file.name))
        show(history_view(result.bounds))
        if plot is not None:
            plot_history(result, file.name, plot)
    else:
        outputs.check_none()
        show(problem_view(result, file.name))
