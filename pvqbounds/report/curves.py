"""Budget curves in tables and pictures: best SQNR against the number of weights kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.report.plot import COLOURS, check_plot_path, figure_class
from pvqbounds.report.tables import error_text, seconds_text
from pvqbounds.results.curve import BudgetCurve
from pvqbounds.results.decibels import sqnr_text
from pvqbounds.storage.archive import replacing

__all__ = ["curve_rows", "curve_view", "plot_curve"]

MOST_ROWS = 41
"""Budgets that have a row each in a table; of more every so manieth has one."""


def curve_view(curve: BudgetCurve, source: str) -> RenderableType:
    """A row for each budget."""
    entries, last = curve.entries, len(curve.entries) - 1
    problem = entries[0].problem
    called = "joint compression" if problem.task == "joint" else problem.task
    values = f", {problem.values}" if problem.values.is_finite else ""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("kept", "least error", "best SQNR", "status", "proof"):
        table.add_column(heading, justify="right" if heading == "kept" else "left")
    step = math.ceil((last + 1) / MOST_ROWS)
    for nnz in sorted({*range(0, last + 1, step), last}):
        bounds = entries[nnz].bounds
        optimal = bounds.status == "optimal"
        table.add_row(
            str(nnz),
            error_text(bounds.error_lower, bounds.error_upper, optimal),
            Text(sqnr_text(bounds.sqnr_lower, bounds.sqnr_upper, optimal), style="bold cyan"),
            bounds.status,
            bounds.lower_kind,
        )
    optimal_ones = sum(entry.bounds.status == "optimal" for entry in entries)
    seconds = math.fsum(entry.bounds.seconds for entry in entries)
    return Group(
        Text.assemble((source, "bold"), f"  {called} of {problem.n} weights, every budget{values}"),
        table,
        Text(f"{optimal_ones} of {last + 1} budgets optimal, {seconds_text(seconds)}", style="dim"),
    )


def curve_rows(curve: BudgetCurve) -> list[dict[str, Any]]:
    """One row for each budget; errors are mean squares, SQNR in dB."""
    return [
        {
            "nnz": nnz,
            "error_lower": entry.bounds.error_lower,
            "error_upper": entry.bounds.error_upper,
            "sqnr_lower": entry.bounds.sqnr_lower,
            "sqnr_upper": entry.bounds.sqnr_upper,
            "signal": entry.bounds.signal,
            "status": entry.bounds.status,
            "lower_kind": entry.bounds.lower_kind,
            "seconds": entry.bounds.seconds,
        }
        for nnz, entry in enumerate(curve.entries)
    ]


def plot_curve(curve: BudgetCurve, source: str, path: Path) -> None:
    """Draw what is reached (solid) and the bound (dashed) against the number of weights kept.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    check_plot_path(path)
    problem, colour = curve.entries[0].problem, COLOURS[curve.entries[0].problem.task]
    figure = figure_class()(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    budgets = range(len(curve.entries))
    lower, upper = (
        np.array([getattr(entry.bounds, name) for entry in curve.entries])
        for name in ("sqnr_lower", "sqnr_upper")
    )
    lower[~np.isfinite(lower)], upper[~np.isfinite(upper)] = np.nan, np.nan  # no error: beyond any axis
    axes.plot(budgets, lower, color=colour, linewidth=1.6, label="best found")
    axes.plot(budgets, upper, "--", color=colour, linewidth=1.2, label="bound, certified")
    axes.fill_between(budgets, lower, upper, color=colour, alpha=0.25, linewidth=0.0)
    axes.set_xlabel(f"weights kept, of {problem.n}")
    axes.set_ylabel("SQNR, dB")
    axes.set_title(f"{source}: every budget of one channel", loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(color="0.9", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160, format=path.suffix.lower().removeprefix("."))
