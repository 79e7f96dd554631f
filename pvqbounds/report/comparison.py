"""Several backends on one layer: what each found, what is proved, how long it took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.report.plot import COLOURS, check_plot_path, figure_class
from pvqbounds.report.tables import seconds_text
from pvqbounds.results.bounds import Bounds, sqnr
from pvqbounds.results.decibels import interval_text
from pvqbounds.results.layer import LayerReport, labels
from pvqbounds.storage.archive import replacing

__all__ = ["Entry", "comparison_view", "entries_of", "entry_of", "plot_comparison"]


EXPLANATION = (
    "SQNR, dB: what the solver found, and what no weights exceed; bound: whether that is certified (proved "
    "here, whatever the solver says) or only reported. stated: the bound in dB that the solver states itself "
    "(proved or not). off best: dB lost to the best that any of them found."
)


@dataclass(frozen=True)
class Entry:
    """One backend on one side of the layer; without numbers where it could not solve it."""

    solver: str
    task: str
    """"quantization", "pruning" or "joint"."""
    format: str = ""
    """Name of the side's format; empty for a problem without one."""
    method: str = ""
    sqnr_lower: float = math.nan
    """SQNR in dB of the weights that it found."""
    sqnr_upper: float = math.nan
    """No weights of this kind exceed it: in dB."""
    lower_kind: str = ""
    """Whether `sqnr_upper` is "certified" or "reported"."""
    stated: float = math.nan
    """The bound in dB that the solver itself states; nan where it states none."""
    seconds: float = math.nan
    note: str = ""
    """Its first channel's note, or why there are no numbers."""


def entries_of(solver: str, report: LayerReport) -> list[Entry]:
    """One entry for each side that this solver did itself."""
    entries = []
    for side in report.sides:
        bounds = [s.bounds for s in side.slices]
        if any(b.solver != solver for b in bounds):
            entries.append(Entry(solver, side.task, side.format, note="not able to do this"))
            continue
        lower, upper = side.sqnr_interval
        entries.append(
            Entry(
                solver,
                side.task,
                side.format,
                " and ".join(sorted({b.method for b in bounds})),
                lower,
                upper,
                side.lower_kind,
                _stated(bounds),
                math.fsum(b.seconds for b in bounds),
                next((b.note for b in bounds if b.note), ""),
            )
        )
    return entries


def entry_of(task: str, bounds: Bounds) -> Entry:
    """The entry of one solved problem."""
    return Entry(
        bounds.solver,
        task,
        method=bounds.method,
        sqnr_lower=bounds.sqnr_lower,
        sqnr_upper=bounds.sqnr_upper,
        lower_kind=bounds.lower_kind,
        stated=_stated([bounds]),
        seconds=bounds.seconds,
        note=bounds.note,
    )


def _stated(bounds: Sequence[Bounds]) -> float:
    stated = [b.reported_lower for b in bounds if b.reported_lower is not None]
    if len(stated) < len(bounds):
        return math.nan
    return sqnr(math.fsum(b.signal for b in bounds), math.fsum(stated))


def by_side(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The entries of each side by its name, as in the table of a layer."""
    sides = list(dict.fromkeys((entry.task, entry.format) for entry in entries))
    names = dict(zip(sides, labels(sides), strict=True))
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(names[entry.task, entry.format], []).append(entry)
    return groups


def comparison_view(title: str, entries: Sequence[Entry]) -> RenderableType:
    """One row a backend and side: interval, distance of what it found from the best, time.

    A bound that a solver only states stands beside the one that is proved.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for heading in ("solver", "SQNR, dB", "bound", "stated", "off best", "time"):
        table.add_column(heading, no_wrap=True)
    sides = by_side(entries)
    for name, side in sides.items():
        rows = [e for e in side if e.method]
        best = max((e.sqnr_lower for e in rows), default=math.nan)
        if rows:
            table.add_row(Text(name, style="bold"))
        for entry in rows:
            ends = entry.sqnr_lower, entry.sqnr_upper
            table.add_row(
                f"  {entry.solver}",
                Text(interval_text(*ends).removesuffix(" dB"), style="bold cyan"),
                entry.lower_kind,
                f"{entry.stated:.2f}" if math.isfinite(entry.stated) else "",
                f"{best - entry.sqnr_lower:.2f}" if math.isfinite(best) else "",
                seconds_text(entry.seconds),
                end_section=entry is rows[-1],
            )
    absent = dict.fromkeys(
        f"{e.solver}, {name}: {e.note}" for name, side in sides.items() for e in side if not e.method
    )
    words = [EXPLANATION] if any(e.method for e in entries) else []
    return Group(table, *(Text(line, style="dim") for line in [*words, *absent]))


def plot_comparison(title: str, entries: Sequence[Entry], path: Path) -> None:
    """Draw each backend's interval, found to bound, to a `.png`, `.svg` or `.pdf` file.

    Bars that are hatched end in a bound that is not proved; a diamond is what the solver states.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    check_plot_path(path)
    solved = [e for e in entries if e.method and all(map(math.isfinite, (e.sqnr_lower, e.sqnr_upper)))]
    sides = by_side(solved) or by_side(entries)
    figure: Any = figure_class()(figsize=(8.0, 1.5 + 0.35 * max(len(solved), 4)), layout="constrained")
    panes = figure.subplots(len(sides), 1, squeeze=False)[:, 0]
    for axes, (name, side) in zip(panes, sides.items(), strict=True):
        rows = [e for e in side if e in solved]
        colour = COLOURS[side[0].task]
        for y, entry in enumerate(rows):
            reported = entry.lower_kind == "reported"
            axes.barh(
                y,
                entry.sqnr_upper - entry.sqnr_lower,
                left=entry.sqnr_lower,
                height=0.5,
                facecolor="white" if reported else colour,
                edgecolor=colour,
                linewidth=1.4,  # an optimum, without a length of its own, is seen as a line
                hatch="////" if reported else None,
            )
            axes.plot(entry.stated, y, marker="D", color="black", markersize=4.0, linestyle="none")
        axes.use_sticky_edges = False  # bars begin within the axis, not on it
        axes.set_yticks(range(len(rows)), [f"{e.solver}, {seconds_text(e.seconds)}" for e in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(name, loc="left", fontsize=9, color=colour)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    panes[-1].set_xlabel(
        "SQNR of the layer output, dB: best found to bound; diamond: bound stated by the solver"
    )
    figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160, format=path.suffix.lower().removeprefix("."))
