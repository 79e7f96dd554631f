"""The part of ``pvqbounds solve`` for several files and folders: a row for each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from pvqbounds.commands.console import check_different, progress_bar, show
from pvqbounds.commands.interrupts import INTERRUPTED, keeping_what_stands
from pvqbounds.errors import OutputError, PvqError, one_line

if TYPE_CHECKING:
    from pvqbounds.problems import Problem
    from pvqbounds.results.bounds import Bounds
    from pvqbounds.results.layer import SliceResult
    from pvqbounds.storage.problem_files import Budget

__all__ = ["PLACE", "FilesOutputs", "solve_files"]

PLACE = "{file}"
"""What stands for a file's name in that of its result."""


class Solve(Protocol):
    """What bounds a problem."""

    def __call__(self, problem: Problem, cancelled: threading.Event | None = None) -> Bounds:
        """Bounds, or those that stand once the event is set."""


@dataclass(frozen=True)
class FilesOutputs:
    """What a command on several files writes."""

    json: Path | None = None
    """One for each file; `PLACE` in its name stands for the file's."""
    table: Path | None = None
    """One for all."""

    def check(self, sources: Sequence[Path]) -> None:
        """Find out before any work whether all can be written.

        Raises
        ------
        InputError, OutputError
            If not, or if one would replace an input or another.
        """
        from pvqbounds.report.frames import check_table_path
        from pvqbounds.storage.results_written import check_result_path

        if self.table is not None:
            check_table_path(self.table)
        check_different(json=self.json, table=self.table)
        if self.json is None:
            return
        if PLACE not in self.json.name:
            raise OutputError(
                f"--json would write {len(sources)} results to {self.json}; put {PLACE} into its name, as in "
                f"{self.json.stem}-{PLACE}{self.json.suffix}, or take --table for one row each."
            )
        results = [self.result_of(source) for source in sources]
        for source, result in zip(sources, results, strict=True):
            if results.count(result) > 1:
                raise OutputError(f"Several files called {source.name} would write {result}; rename one.")
            check_result_path(result, *sources)

    def result_of(self, source: Path) -> Path:
        """Where the result of a file goes."""
        assert self.json is not None
        return self.json.with_name(self.json.name.replace(PLACE, source.name))


def solve_files(sources: Sequence[Path], budget: Budget, solve: Solve, outputs: FilesOutputs) -> None:
    """Solve one file after another; one that fails is named, and the others go on.

    Raises
    ------
    typer.Exit
        At the end, where a file failed or an interrupt came; what stands is written and shown.
    """
    from pvqbounds.report.frames import write_table
    from pvqbounds.report.problem_rows import failed_row, problem_row, problems_view

    rows: list[dict[str, Any]] = []
    try:
        with keeping_what_stands() as interrupts, progress_bar("solving") as update:
            for done, (source, name) in enumerate(zip(sources, _names(sources), strict=True)):
                update(done, len(sources), name)
                try:
                    result = _solved(source, budget, lambda p: solve(p, interrupts.stop), outputs)
                    rows.append(problem_row(result, name))
                except PvqError as error:
                    rows.append(failed_row(name, one_line(str(error))))
                interrupts.keeps = True
                if interrupts.stop.is_set():
                    break
    finally:  # what is there is shown, whatever ends it
        if outputs.table is not None and rows:
            write_table(rows, outputs.table)
        if rows:
            show(problems_view(rows))
    if interrupts.stop.is_set():
        raise typer.Exit(INTERRUPTED)
    if any("failed" in row for row in rows):
        raise typer.Exit(1)


def _names(sources: Sequence[Path]) -> list[str]:
    """What rows call the files: their names, or their paths where several have one name."""
    times = Counter(source.name for source in sources)
    return [source.name if times[source.name] == 1 else str(source) for source in sources]


def _solved(
    source: Path, budget: Budget, solve: Callable[[Problem], Bounds], outputs: FilesOutputs
) -> SliceResult:
    """The result of a file, written where it is to be."""
    from pvqbounds.results.layer import SliceResult
    from pvqbounds.storage.problem_files import load_problem
    from pvqbounds.storage.results_written import write_problem

    problem = load_problem(source, budget)
    result = SliceResult(0, (0, problem.n), problem, solve(problem))
    if outputs.json is not None:
        write_problem(result, source.name, outputs.result_of(source))
    return result
