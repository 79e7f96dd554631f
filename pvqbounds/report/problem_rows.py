"""Many problems from files: a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.report.frames import bounds_columns
from pvqbounds.report.tables import objective_text, problem_text, seconds_text
from pvqbounds.results.decibels import sqnr_text
from pvqbounds.results.layer import SliceResult

__all__ = ["failed_row", "problem_row", "problems_view"]


def problem_row(result: SliceResult, source: str) -> dict[str, Any]:
    """One solved problem; SQNR in dB, errors in the units of its file, seconds.

    A quadratic program has ``objective_lower`` and ``objective_upper`` besides.
    """
    problem, bounds = result.problem, result.bounds
    ends = result.objective_bounds
    row = {
        "file": source,
        "task": problem.task,
        "problem": problem_text(problem),
        "inputs": problem.n,
        **bounds_columns(bounds),
        "note": bounds.note,
    }
    if ends is None:
        return row
    # an objective that is known to its last digit is optimal, whatever the ends of E
    status = "optimal" if ends.lower == ends.upper else bounds.status
    return row | {"status": status, "objective_lower": ends.lower, "objective_upper": ends.upper}


def failed_row(source: str, reason: str) -> dict[str, Any]:
    """A file that gave nothing, and why."""
    return {"file": source, "failed": reason}


def problems_view(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows as a table, and below it what failed, a line each."""
    solved = [row for row in rows if "failed" not in row]
    failed = [Text(f"{row['file']}: {row['failed']}", style="red") for row in rows if "failed" in row]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("file", "problem", "best", "status", "proof", "time"):
        table.add_column(heading, header_style="bold", overflow="fold")
    for row in solved:
        optimal = row["status"] == "optimal"
        best = sqnr_text(row["sqnr_lower"], row["sqnr_upper"], optimal)
        if "objective_lower" in row:
            best = objective_text(row["objective_lower"], row["objective_upper"])
        proof = row["lower_kind"]
        table.add_row(row["file"], row["problem"], best, row["status"], proof, seconds_text(row["seconds"]))
    optimal_ones = sum(row["status"] == "optimal" for row in solved)
    told = f"{optimal_ones} of {len(rows)} files optimal, {len(failed)} failed."
    return Group(*([table] if solved else []), *failed, Text(told, style="dim"))
