"""How the interval of one problem closed, as a table on the terminal."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.report.tables import in_figures, seconds_text
from pvqbounds.results.bounds import Bounds, sqnr_interval
from pvqbounds.results.decibels import interval_text

__all__ = ["history_view"]


def history_view(bounds: Bounds) -> RenderableType:
    """Show the moments of a result, and which of them is proved."""
    if not bounds.history:
        return Text("No history: no search took long enough to have one.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("after", "nodes", "least error from", "to", "best SQNR"):
        table.add_column(heading, justify="right")
    for moment in bounds.history:
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
