"""A layer as a picture: the interval of every channel, and of the layer, on one axis in dB."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, OutputError
from pvqbounds.methods import label_of
from pvqbounds.report.size_plot import draw_sizes, suits_sizes
from pvqbounds.report.tables import conditions_text, size_text, verdict_text
from pvqbounds.results.bounds import sqnr
from pvqbounds.results.decibels import sqnr_text
from pvqbounds.results.layer import LayerReport, SliceResult
from pvqbounds.storage.archive import check_writable, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "check_plot_path", "figure_class", "plot_layer"]

SUFFIXES = (".png", ".svg", ".pdf")

# colour-blind safe (Okabe and Ito, "Color universal design", 2008; Tol, "Colour schemes", 2021, muted)
SHADES = {
    "quantization": ("#0072B2", "#56B4E9", "#332288", "#000000"),
    "pruning": ("#D55E00", "#E69F00", "#CC79A7", "#999999"),
    "joint": ("#009E73", "#882255", "#44AA99", "#999933", "#117733", "#AA4499", "#CC6677", "#661100"),
}
"""Colours of the sides of one task, in their order; beyond them they begin anew."""
COLOURS = {task: shades[0] for task, shades in SHADES.items()}
MARKERS = {
    "rtn": "o",
    "nearest-plane": "s",
    "randomized": "D",
    "magnitude": "o",
    "magnitude+refit": "D",
    "magnitude+rtn": "^",
    "gptq": "v",
    "cd": "P",
    "adaround": "X",
    "obq": "<",
    "k-best": "h",
    "wanda": "v",
    "sparsegpt": "p",
    "obs": "P",
    "swaps": "<",
    "alps": "h",
    "compressed": "*",
}
"""By the name of a method, without its options."""

FARTHEST = 300.0
"""dB: beyond them there is no error, and no place on a common axis."""

MOST_ROWS = 40
"""Channels or chunks that have a row each; of more there is the distribution."""
TALLEST = 14.0
"""Inches, without the panel over sizes."""
OVER_SIZE = 3.0
"""Inches of that panel."""


def check_plot_path(path: Path) -> None:
    """Find out before any work whether a picture can be drawn and written to `path`.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    check_writable(path)
    figure_class()


def figure_class() -> Any:
    """Import matplotlib's Figure, or say how to get it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "A plot needs matplotlib; install it with: pip install 'pvqbounds[plot]'."
        ) from error
    return Figure


def plot_layer(report: LayerReport, path: str | Path, *, words: bool = True) -> None:
    """Draw the SQNR intervals of `report` to a `.png`, `.svg` or `.pdf` file.

    A bar reaches from the SQNR of the best weights found to the bound that no weights exceed; a
    bar without length is an optimum, and where there is an arrow in place of a bar there is no bound.
    Bars that are hatched end in a bound that a solver states and that is not proved. Markers are the
    simple methods. Beyond `MOST_ROWS` channels or chunks there is a row for each side in place of each of
    them, with their quantiles. Of three sides and more the intervals also stand over their bits a weight.

    Parameters
    ----------
    words
        Whether the layer's description, the verdict, its conditions and notes stand above.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    path = Path(path)
    check_plot_path(path)
    rows, draw_rows = len(report.sides[0].slices), _draw_rows
    room = max(1.0, len(report.sides) / 2)  # two sides beside each other in each row, or more room for more
    if rows > MOST_ROWS:
        rows, room, draw_rows = len(report.sides), 3.0, _draw_distributions
    above = 1.0 + 0.55 * len(report.sides)  # inches for the layer as a whole
    height = min(TALLEST, 1.8 + above + 0.3 * rows * room)
    below = OVER_SIZE if suits_sizes(report) else 0.0
    figure = figure_class()(figsize=(8.0, height + below), layout="constrained")
    if report.protocol == "full":
        heights = [0.7 * above, height - 1.2 - above, *([below] if below else [])]
        top, axes, *last = figure.subplots(len(heights), 1, height_ratios=heights)
        top.sharex(axes)
        top.tick_params(labelbottom=False)
        draw_rows(axes, report)
        _draw_layer(top, report)
        for panel in last:
            draw_sizes(panel, report, colours_of(report))
    else:
        top = axes = figure.subplots()
        draw_rows(axes, report)
    _draw_legend(figure, report)
    figure.suptitle(f"{report.model} {report.layer}", x=0.02, ha="left", fontweight="bold")
    notes = (f"Note: {note}" for note in report.notes)
    sentences = (report.description, verdict_text(report), conditions_text(report), *notes)
    if words:
        told = "\n".join(textwrap.fill(sentence, 105) for sentence in sentences)
        top.set_title(told, loc="left", fontsize=8, color="0.3", parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160, format=path.suffix.lower().removeprefix("."))


def colours_of(report: LayerReport) -> list[str]:
    """The colour of each side: those of one task are told apart."""
    used: Counter[str] = Counter()
    colours = []
    for side in report.sides:
        shades = SHADES[side.task]
        colours.append(shades[used[side.task] % len(shades)])
        used[side.task] += 1
    return colours


def _draw_layer(axes: Axes, report: LayerReport) -> None:
    """The intervals of the whole layer, with their numbers."""
    sides, colours = report.sides, colours_of(report)
    names = []
    for y, (side, colour) in enumerate(zip(sides, colours, strict=True)):
        ends = side.sqnr_interval
        methods = {name: side.method_sqnr(name) for name in side.methods}
        _draw_row(axes, y, colour, ends, side.lower_kind, methods, 0.55, 1.8)
        best = sqnr_text(*ends, side.status == "optimal")
        called = side.format  # of many sides the size in words takes too much room
        if len(sides) <= 2:
            called = size_text(side) if side.compressed is None else f"{side.format}: {size_text(side)}"
        names.append(f"{called}\n{best}\n{side.status}, {side.proof}")
    axes.set_yticks(range(len(sides)), names, fontsize=8)
    for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    axes.set_ylim(len(sides) - 0.4, -0.6)
    _plain(axes)


def _draw_rows(axes: Axes, report: LayerReport) -> None:
    """The intervals of every channel or chunk, in each row one side above the other."""
    slices, count = report.sides[0].slices, len(report.sides)
    for place, (side, colour) in enumerate(zip(report.sides, colours_of(report), strict=True)):
        offset = 0.8 * ((place + 0.5) / count - 0.5)
        for row, result in enumerate(side.slices):
            bounds = result.bounds
            methods = {name: sqnr(bounds.signal, errors[row]) for name, errors in side.method_errors.items()}
            if side.shared is not None:
                methods = {}  # they share the budget otherwise: a channel's own is not theirs
            ends = (bounds.sqnr_lower, bounds.sqnr_upper)
            _draw_row(axes, row + offset, colour, ends, bounds.lower_kind, methods, 0.64 / max(count, 2))
    ticks = range(len(slices))
    axes.set_yticks(ticks, [_row_name(slices[row], report) for row in ticks], fontsize=8)
    axes.set_ylim(len(slices) - 0.4, -0.6)
    axes.set_xlabel("SQNR of the layer output, dB" if report.protocol == "full" else "SQNR of the chunk, dB")
    _plain(axes)


def _draw_distributions(axes: Axes, report: LayerReport) -> None:
    """How the ends of the intervals are spread over the channels, a row for each side.

    The share of the channels whose best found (solid), and whose bound (dashed), is at most so many dB;
    between the two lines lies what is not known.
    """
    names = []
    for row, (side, colour) in enumerate(zip(report.sides, colours_of(report), strict=True)):
        base = len(report.sides) - 1 - row
        alive = [s.bounds for s in side.slices if not math.isnan(s.bounds.sqnr_lower)]
        ends = [_ends_by_rank([bounds.sqnr_lower for bounds in alive])]
        ends.append(_ends_by_rank([bounds.sqnr_upper for bounds in alive]))
        share = base + 0.85 * (np.arange(len(alive)) + 0.5) / max(len(alive), 1)
        for values, style in zip(ends, ("-", "--"), strict=True):
            axes.plot(values, share, style, color=colour, linewidth=1.4)
        axes.fill_betweenx(share, ends[0], ends[1], color=colour, alpha=0.25, linewidth=0.0)
        axes.axhline(base, color="0.8", linewidth=0.6, zorder=0)
        called = [side.format, f"{len(side.slices)} {'channels' if report.protocol == 'full' else 'chunks'}"]
        without = sum(bounds.sqnr_upper == math.inf > bounds.sqnr_lower for bounds in alive)
        names.append("\n".join([*called, *[f"{without} without a bound"] * bool(without)]))
    axes.set_yticks([len(names) - 1 - row + 0.42 for row in range(len(names))], names, fontsize=8)
    axes.set_ylim(-0.05, len(names))
    what = "channel" if report.protocol == "full" else "chunk"
    axes.set_xlabel(
        f"SQNR of a {what}, dB:\nshare of them that is below, best found (solid) and bound (dashed)"
    )
    _plain(axes)


def _ends_by_rank(values: Sequence[float]) -> NDArray[np.float64]:
    """Ends of intervals, ascending; NaN, which is not drawn, where they have no place on an axis."""
    ascending = np.sort(np.asarray(values, dtype=np.float64))
    return np.where(np.abs(ascending) < FARTHEST, ascending, np.nan)


def _row_name(result: SliceResult, report: LayerReport) -> str:
    name = f"channel {result.channel}"
    if report.protocol == "chunked":
        name += " [{}:{}]".format(*result.inputs)
    return f"{name} (dead)" if result.dead else name


def _draw_row(
    axes: Axes,
    y: float,
    colour: str,
    ends: tuple[float, float],
    lower_kind: str,
    methods: Mapping[str, float],
    height: float,
    scale: float = 1.0,
) -> None:
    """One interval, the simple methods left of it, and a thin line that ties them together."""
    points = {name: value for name, value in methods.items() if _drawable(value)}
    if points and _drawable(ends[0]):
        axes.plot([min(points.values()), ends[0]], [y, y], color=colour, linewidth=0.8, alpha=0.35, zorder=2)
    if all(map(_drawable, ends)):
        reported = lower_kind == "reported"
        axes.barh(
            y,
            ends[1] - ends[0],
            left=ends[0],
            height=height,
            facecolor="white" if reported else colour,
            edgecolor=colour,
            linewidth=1.4,  # an optimum, without a length of its own, is seen as a line
            hatch="////" if reported else None,
            zorder=3,
        )
    elif _drawable(ends[0]) and not math.isnan(ends[1]):  # what was found, and no bound to the right of it
        axes.plot(ends[0], y, marker=">", markersize=6.0 * scale, color=colour, linestyle="none", zorder=3)
    for name, value in points.items():
        axes.plot(
            value,
            y,
            marker=MARKERS.get(name.partition(":")[0], "s"),
            markersize=4.0 * scale,
            markerfacecolor="white",
            markeredgecolor=colour,
            linestyle="none",
            zorder=4,
        )


def _drawable(value: float) -> bool:
    return bool(np.isfinite(value)) and abs(value) < FARTHEST


def _plain(axes: Axes) -> None:
    axes.use_sticky_edges = False  # bars end within the axis, not on it
    axes.margins(x=0.03)
    axes.autoscale_view(scaley=False)
    axes.grid(axis="x", color="0.9", zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_legend(figure: Any, report: LayerReport) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for side, name, colour in zip(report.sides, report.names, colours_of(report), strict=True):
        handles.append(Patch(facecolor=colour, label=f"{name}: best found to bound"))
        if side.lower_kind == "reported":
            handles.append(Patch(facecolor="none", edgecolor=colour, hatch="////", label="bound not proved"))
        intervals = [side.sqnr_interval]  # of the layer; and of channels, where they have a row each
        if len(side.slices) <= MOST_ROWS:
            intervals += [(s.bounds.sqnr_lower, s.bounds.sqnr_upper) for s in side.slices]
        if any(upper == math.inf > lower for lower, upper in intervals):
            label = "best found, no bound"
            handles.append(Line2D([], [], marker=">", color=colour, linestyle="none", label=label))
    # where colours are many, those of the tasks tell markers of one shape apart
    many = len(report.sides) > 2
    markers = dict.fromkeys(
        (name, COLOURS[side.task] if many else colour)
        for side, colour in zip(report.sides, colours_of(report), strict=True)
        for name in side.methods
    )
    handles += [
        Line2D(
            [],
            [],
            marker=MARKERS.get(name.partition(":")[0], "s"),
            markerfacecolor="white",
            markeredgecolor=colour,
            linestyle="none",
            label=label_of(name),
        )
        for name, colour in markers
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
