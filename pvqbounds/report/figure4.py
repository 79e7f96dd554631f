"""The paper's Figure 4: intervals of chunks, quantization across and pruning up, as rows and as a picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.report.plot import COLOURS, check_plot_path, figure_class
from pvqbounds.results.decibels import ENDLESS, sqnr_text
from pvqbounds.results.layer import LayerReport
from pvqbounds.results.pairs import Pair, pairs_of
from pvqbounds.storage.archive import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figure4_rows", "figure4_view", "plot_figure4"]

ACROSS = 3
"""Layers beside each other."""
PANEL = (4.0, 3.6)
"""Inches of a layer."""
LETTERS = 72
"""Of a note above a panel, in a line."""
LINE = 9.0
"""Points of a line above a panel."""
MARGIN = 0.04
"""Of a panel, below its least box."""

MEDIANS = (
    ("quantization_sqnr_lower", 0, 0),
    ("quantization_sqnr_upper", 0, 1),
    ("pruning_sqnr_lower", 1, 0),
    ("pruning_sqnr_upper", 1, 1),
)
"""Columns of medians over the chunks: which side, and which end."""


def figure4_rows(report: LayerReport) -> list[dict[str, Any]]:
    """One row for each bit width: medians over the chunks, how many are exact, and for whom they are decided.

    SQNR in dB. Columns that end in ``_sqnr`` are medians of what methods reach.

    Raises
    ------
    InputError
        If the report is on other formats.
    """
    by_width: dict[int, list[Pair]] = {}
    for pair in pairs_of(report):
        by_width.setdefault(pair.bits, []).append(pair)
    return [_row(report, bits, pairs) for bits, pairs in by_width.items()]


def _row(report: LayerReport, bits: int, pairs: Sequence[Pair]) -> dict[str, Any]:
    alive = [pair for pair in pairs if not pair.dead]
    better = [pair.better for pair in alive]
    return {
        "model": report.model,
        "layer": report.layer,
        "protocol": report.protocol,
        "bits": bits,
        "quantization": pairs[0].quantization.format,
        "pruning": pairs[0].pruning.format,
        "channels": report.channels[0],
        "channels_in_layer": report.channels[1],
        "positions": report.positions,
        "chunks": len(pairs),
        "dead": len(pairs) - len(alive),
        "exact": sum(pair.exact for pair in pairs),
        **{name: _median([pair.ends[side][end] for pair in alive]) for name, side, end in MEDIANS},
        "quantization_better": better.count("quantization"),
        "pruning_better": better.count("pruning"),
        "undecided": better.count(None),
        "lower_kind": "certified" if all(pair.certified for pair in pairs) else "reported",
        "notes": " ".join(report.notes),
        **_methods(alive),
        "seconds": math.fsum(s.bounds.seconds for p in pairs for s in p.slices),
    }


def _median(values: Sequence[float]) -> float:
    return median(values) if values else math.nan


def _methods(pairs: Sequence[Pair]) -> dict[str, float]:
    """What each method reaches, the median over chunks, dB."""
    found: dict[str, list[float]] = {}
    for pair in pairs:
        for side in (pair.quantization, pair.pruning):
            for name in side.methods:
                found.setdefault(f"{name}_sqnr", []).append(side.method_sqnr(name))
    return {name: _median(values) for name, values in found.items()}


# --------------------------------------------------------------------------------- the table


def figure4_view(report: LayerReport) -> RenderableType:
    """The rows of a layer, with what they are about."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = ("bits", "chunks", "exact", "int, dB", "pruned, dB", "int wins", "pruned wins", "open")
    for heading in headings:
        table.add_column(heading, justify="left" if heading.endswith("dB") else "right", header_style="bold")
    rows = figure4_rows(report)
    for row in rows:
        exact = row["exact"] == row["chunks"]
        ends = [
            sqnr_text(row[f"{side}_sqnr_lower"], row[f"{side}_sqnr_upper"], exact).removesuffix(" dB")
            for side in ("quantization", "pruning")
        ]
        decided = (row["quantization_better"], row["pruning_better"], row["undecided"])
        table.add_row(str(row["bits"]), str(row["chunks"]), str(row["exact"]), *ends, *map(str, decided))
    head = Text.assemble((_called(report), "bold"), f"  {_about(report)}")
    notes = (Text(f"Note: {note}", style="yellow") for note in report.notes)
    return Group(head, table, Text(_label(report, rows), style="dim"), *notes)


def _called(report: LayerReport) -> str:
    """The layer and its model; of a factory its own name."""
    return f"{report.model.rpartition(':')[2]} {report.layer}"


def _about(report: LayerReport) -> str:
    """Kind of layer, chunks, channels and positions in words."""
    chosen, channels = report.channels
    largest = max(stop - start for start, stop in (s.inputs for s in report.sides[0].slices))
    cut = "not cut into chunks" if report.protocol == "full" else f"chunks of up to {largest} inputs"
    some = f"{channels} channels" if chosen == channels else f"{chosen} of {channels} channels"
    return f"{report.description}, {cut}, {some}, {report.positions:,} positions"


def _label(report: LayerReport, rows: Sequence[dict[str, Any]]) -> str:
    """What the numbers are."""
    kinds = {row["lower_kind"] for row in rows}
    proved = "Bounds are certified" if kinds == {"certified"} else "Some bounds are reported, not proved"
    what = "the layer's own" if report.protocol == "full" else "medians over chunks, which do not add up"
    chosen, channels = report.channels
    sample = "" if chosen == channels else f", of {chosen} of {channels} channels alone"
    without = f"; {rows[0]['dead']} chunks without signal" if rows[0]["dead"] else ""
    return f"{proved}; intervals are {what}{sample}{without}. Wins: provably better."


# ------------------------------------------------------------------------------- the picture


def plot_figure4(reports: Sequence[LayerReport], path: str | Path) -> None:
    """Draw a box for each chunk and bit width, a panel for each layer, to a ``.png``, ``.svg`` or ``.pdf``.

    A box reaches from what was found to the bound, across for quantization and up for pruning; where both are
    exact it is a point. Below the diagonal quantization is better, above it pruning; a box that it crosses is
    undecided. Boxes with dashed edges have a bound that a solver states and that is not proved. Notes of a
    layer, such as that its run was interrupted, stand above its panel, and once where they are those of all.

    Raises
    ------
    InputError
        If matplotlib is not installed, or a report is on other formats.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    path = Path(path)
    check_plot_path(path)
    pairs = [pairs_of(report) for report in reports]
    across = min(ACROSS, len(reports))
    down = math.ceil(len(reports) / across)
    colours = _colours(sorted({pair.bits for of_layer in pairs for pair in of_layer}))
    width, height = PANEL
    shared = [note for note in reports[0].notes if len(reports) > 1 and all(note in r.notes for r in reports)]
    own = [_noted([note for note in report.notes if note not in shared], 1) for report in reports]
    height += max(LINE * len(lines) for lines in own) / 72.0
    figure = figure_class()(figsize=(width * across, height * down + 0.5), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, report, of_layer, notes in zip(panels, reports, pairs, own, strict=False):
        _draw_layer(axes, report, of_layer, colours, notes)
    words: dict[str, Any] = {"fontsize": 6.5, "color": "0.3", "parse_math": False}
    figure.suptitle("\n".join(_noted(shared, across)), x=0.01, ha="left", **words)
    for axes in panels[len(reports) :]:
        axes.set_visible(False)
    _draw_legend(figure, colours, [pair for of_layer in pairs for pair in of_layer])
    kind = path.suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=140, format=kind, metadata=undated.get(kind))


def _colours(widths: Sequence[int]) -> dict[int, Any]:
    """A colour for each bit width, light to dark, told apart by the colour-blind too."""
    from matplotlib import colormaps

    ramp = colormaps["viridis_r"]
    most = max(1, len(widths) - 1)
    return {bits: ramp(0.1 + 0.85 * place / most) for place, bits in enumerate(widths)}


def _draw_layer(
    axes: Axes,
    report: LayerReport,
    pairs: Sequence[Pair],
    colours: dict[int, Any],
    notes: Sequence[str],
) -> None:
    drawn = [pair for pair in pairs if all(map(_drawable, (*pair.ends[0], *pair.ends[1])))]
    for pair in drawn:
        _draw_box(axes, pair, colours[pair.bits])
    axes.use_sticky_edges = False
    axes.autoscale_view()
    _draw_diagonal(axes)
    told = [*_captions(report, pairs, len(pairs) - len(drawn)), *notes]
    axes.set_title(_called(report), loc="left", fontsize=9, fontweight="bold", pad=8.0 + LINE * len(told))
    words: dict[str, Any] = {"fontsize": 6.5, "color": "0.3", "va": "bottom", "parse_math": False}
    axes.text(0.0, 1.02, "\n".join(told), transform=axes.transAxes, **words)
    axes.set_xlabel("quantization SQNR, dB", fontsize=8, color=COLOURS["quantization"])
    axes.set_ylabel("pruning SQNR, dB", fontsize=8, color=COLOURS["pruning"])
    axes.tick_params(labelsize=7)
    axes.grid(color="0.92", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_box(axes: Axes, pair: Pair, colour: Any) -> None:
    from matplotlib.patches import Rectangle

    (left, right), (bottom, top) = pair.ends
    if pair.exact:
        axes.plot(left, bottom, ".", color=colour, markersize=5.0, zorder=3)
        return
    box = Rectangle((left, bottom), right - left, top - bottom, linestyle="-" if pair.certified else "--")
    box.set(facecolor=(*colour[:3], 0.3), edgecolor=colour, zorder=3)
    axes.add_patch(box)
    # where a box is too small to be seen, its corner is not
    axes.plot(left, bottom, "s", color=colour, markersize=3.0, markerfacecolor="none", zorder=3)


def _captions(report: LayerReport, pairs: Sequence[Pair], left_out: int) -> tuple[str, str]:
    """What the boxes of a layer are, and what they decide."""
    chosen, channels = report.channels
    some = "" if chosen == channels else f", {chosen} of {channels} channels"
    exact = sum(pair.exact for pair in pairs)
    better = [pair.better for pair in pairs if not pair.dead]
    decided = (
        f"quantization better on {better.count('quantization')}, pruning on {better.count('pruning')}, "
        f"{better.count(None)} undecided"
    )
    note = f" ({left_out} without a place here)" if left_out else ""
    return f"{report.description}{some}; {exact} of {len(pairs)} boxes exact", decided + note


def _noted(notes: Sequence[str], panels: int) -> list[str]:
    """Notes in lines of the width of so many panels."""
    return [line for note in notes for line in textwrap.wrap(f"Note: {note}", LETTERS * panels)]


def _drawable(value: float) -> bool:
    return math.isfinite(value) and abs(value) < ENDLESS


def _draw_diagonal(axes: Axes) -> None:
    """The line of equal SQNR, and which side of it is whose."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    least = min(left, bottom)
    above = max(top, min(right, least + 0.6 * (right - least)))
    # both axes begin below the least box by as much as is seen of the larger picture
    axes.set_xlim(least - MARGIN * (right - least), right)
    axes.set_ylim(least - MARGIN * (above - least), above)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    ends = [left, max(right, top)]
    axes.plot(ends, ends, color="0.4", linewidth=0.9, zorder=2, scalex=False, scaley=False)
    axes.fill_between(ends, ends, [top, top], color=COLOURS["pruning"], alpha=0.07, linewidth=0.0, zorder=1)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    words: dict[str, Any] = {"fontsize": 7, "transform": axes.transAxes, "zorder": 2}
    axes.text(0.03, 0.95, "pruning better", color=COLOURS["pruning"], va="top", **words)
    axes.text(0.97, 0.04, "quantization better", color=COLOURS["quantization"], ha="right", **words)


def _draw_legend(figure: Any, colours: dict[int, Any], pairs: Sequence[Pair]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=f"{bits} bits") for bits, colour in colours.items()]
    handles.append(Line2D([], [], marker=".", color="0.3", linestyle="none", label="exact, both"))
    if not all(pair.exact for pair in pairs):
        handles.append(Patch(facecolor="0.85", edgecolor="0.3", label="best found to bound"))
    if not all(pair.certified for pair in pairs):
        handles.append(Patch(facecolor="none", edgecolor="0.3", linestyle="--", label="bound not proved"))
    columns = min(10, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
