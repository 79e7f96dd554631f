"""How the interval of one problem closed: as a table on the terminal, and as a picture."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.errors import InputError
from pvqbounds.report.plot import COLOURS, check_plot_path, figure_class
from pvqbounds.report.tables import in_figures, seconds_text
from pvqbounds.results.bounds import Bounds, sqnr_interval
from pvqbounds.results.decibels import interval_text
from pvqbounds.results.history import Moment
from pvqbounds.results.layer import SliceResult
from pvqbounds.storage.archive import replacing

__all__ = ["history_view", "plot_history"]


def history_view(bounds: Bounds) -> RenderableType:
    """Show the moments of a result, and which of them is proved."""
    if not bounds.history:
        return Text("No history: no search took long enough to have one.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("after", "nodes", "least error from", "to", "best SQNR"):
        table.add_column(heading, justify="right")
    for moment in _up_to_the_result(bounds):
        ends = moment.error_lower, moment.error_upper
        table.add_row(
            seconds_text(moment.seconds),
            f"{moment.nodes:,}",
            in_figures(ends[0], ROUND_FLOOR),
            in_figures(ends[1], ROUND_CEILING),
            interval_text(*sqnr_interval(bounds.signal_enclosure, *ends)),
        )
    what = f"{bounds.lower_kind} is the last line; the others are what was stated on the way."
    return Group(table, Text(what[0].upper() + what[1:], style="dim"))


def _up_to_the_result(bounds: Bounds) -> list[Moment]:
    """The moments, and the result itself where weights of a method were better than those of the solver."""
    last = bounds.history[-1]
    end = Moment(max(last.seconds, bounds.seconds), last.nodes, bounds.error_lower, bounds.error_upper)
    said = (last.error_lower, last.error_upper) == (end.error_lower, end.error_upper)
    return [*bounds.history, *([] if said else [end])]


def plot_history(result: SliceResult, source: str, path: Path) -> None:
    """Draw both ends of the interval in dB against seconds; the label says which bound is proved.

    Raises
    ------
    InputError
        If there is no history, or matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    check_plot_path(path)
    bounds, colour = result.bounds, COLOURS[result.problem.task]
    if not bounds.history:
        raise InputError(f"{source} has no history to draw: no search took long enough to have one.")
    history = _up_to_the_result(bounds)
    seconds = [moment.seconds for moment in history]
    ends = [
        sqnr_interval(bounds.signal_enclosure, moment.error_lower, moment.error_upper) for moment in history
    ]
    lower, upper = (
        [end if math.isfinite(end) else math.nan for end in side] for side in zip(*ends, strict=True)
    )
    figure = figure_class()(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.step(seconds, lower, where="post", color=colour, linewidth=1.6, label="best found")
    axes.step(seconds, upper, "--", where="post", color=colour, linewidth=1.2, label="bound, as stated then")
    axes.plot(seconds[-1:], upper[-1:], "o", color=colour, markersize=5, label=f"bound, {bounds.lower_kind}")
    axes.fill_between(seconds, lower, upper, step="post", color=colour, alpha=0.25, linewidth=0.0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("SQNR, dB")
    axes.set_title(f"{source}: how the interval closed", loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(color="0.9", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160, format=path.suffix.lower().removeprefix("."))
