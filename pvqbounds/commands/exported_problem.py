"""The part of ``pvqbounds export`` that writes a problem for other solvers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pvqbounds.commands.console import progress_bar
from pvqbounds.errors import InputError

if TYPE_CHECKING:
    from pvqbounds.storage.problem_files import Budget

__all__ = ["export_problem"]


def export_problem(source: Path, file: Path, form: str, budget: Budget, report: Path | None) -> None:
    """Write the problem of a file in another form, and say what it holds.

    Raises
    ------
    InputError
        If the problem cannot be read, or the form cannot say it, or the file would replace it.
    OutputError
        If it cannot be written.
    """
    from pvqbounds.storage.problem_files import load_problem
    from pvqbounds.storage.problem_forms import PROBLEM_FORMS, save_problem
    from pvqbounds.storage.text import write_json

    if file.resolve() == source.resolve():
        raise InputError(f"{file} would replace the problem that it is made from; give it another name.")
    with progress_bar("writing"):
        problem = load_problem(source, budget)
        save_problem(problem, file, form)
    holds = PROBLEM_FORMS[form].holds
    if report is not None:
        told = {
            "path": str(file),
            "form": form,
            "holds": holds,
            "inputs": problem.n,
            "problem": repr(problem),
        }
        write_json(report, {"schema": "pvqbounds.exported-problem/1", **told})
    print(f"{file}: {holds} of {problem!r}.")
