"""A layer as a picture: the interval of every channel, and of the layer, on one axis in dB."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pvqbounds.errors import InputError, OutputError
from pvqbounds.methods import label_of
from pvqbounds.report.tables import conditions_text, size_text, verdict_text
from pvqbounds.results.bounds import sqnr
from pvqbounds.results.decibels import sqnr_text
from pvqbounds.results.layer import LayerReport, Side, SliceResult
from pvqbounds.storage.archive import check_writable, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "check_plot_path", "figure_class", "plot_layer"]

SUFFIXES = (".png", ".svg", ".pdf")

# colour-blind safe (Okabe and Ito, "Color universal design", 2008)
COLOURS = {"quantization": "#0072B2", "pruning": "#D55E00"}
MARKERS = {"rtn": "o", "nearest-plane": "s", "randomized": "D", "magnitude": "o", "magnitude+refit": "D"}

MOST_LABELLED_ROWS = 40
TALLEST = 14.0
"""Inches."""


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


def plot_layer(report: LayerReport, path: str | Path) -> None:
    """Draw the SQNR intervals of `report` to a `.png`, `.svg` or `.pdf` file.

    A bar reaches from the SQNR of the best weights found to the bound that no weights exceed; a
    bar without length is an optimum, and where there is an arrow in place of a bar there is no bound.
    Bars that are hatched end in a bound that a solver states and that is not proved. Markers are the
    simple methods.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    path = Path(path)
    check_plot_path(path)
    rows = len(report.quantization.slices)
    height = min(TALLEST, 3.9 + 0.3 * rows)
    figure = figure_class()(figsize=(8.0, height), layout="constrained")
    sides = (report.quantization, report.pruning)
    if report.protocol == "full":
        top, axes = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, height - 3.2])
        _draw_rows(axes, report)
        _draw_layer(top, sides)
    else:
        top = axes = figure.subplots()
        _draw_rows(axes, report)
    _draw_legend(figure, sides)
    figure.suptitle(f"{report.model} {report.layer}", x=0.02, ha="left", fontweight="bold")
    sentences = (report.description, verdict_text(report), conditions_text(report))
    words = "\n".join(textwrap.fill(sentence, 105) for sentence in sentences)
    top.set_title(words, loc="left", fontsize=8, color="0.3")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160, format=path.suffix.lower().removeprefix("."))


def _draw_layer(axes: Axes, sides: Sequence[Side]) -> None:
    """The intervals of the whole layer, with their numbers."""
    names = []
    for y, side in enumerate(sides):
        ends = side.sqnr_interval
        methods = {name: side.method_sqnr(name) for name in side.methods}
        _draw_row(axes, y, side, ends, side.lower_kind, methods, scale=1.8)
        best = sqnr_text(*ends, side.status == "optimal")
        names.append(f"{size_text(side)}\n{best}\n{side.status}, {side.lower_kind}")
    axes.set_yticks(range(len(sides)), names, fontsize=8)
    for label, side in zip(axes.get_yticklabels(), sides, strict=True):
        label.set_color(COLOURS[side.task])
    axes.set_ylim(len(sides) - 0.4, -0.6)
    _plain(axes)


def _draw_rows(axes: Axes, report: LayerReport) -> None:
    """The intervals of every channel or chunk: quantization above, pruning below in each row."""
    slices = report.quantization.slices
    for side, offset in ((report.quantization, -0.2), (report.pruning, 0.2)):
        for row, result in enumerate(side.slices):
            bounds = result.bounds
            methods = {name: sqnr(bounds.signal, errors[row]) for name, errors in side.method_errors.items()}
            if side.shared is not None:
                methods = {}  # they share the budget otherwise: a channel's own is not theirs
            ends = (bounds.sqnr_lower, bounds.sqnr_upper)
            _draw_row(axes, row + offset, side, ends, bounds.lower_kind, methods)
    step = math.ceil(len(slices) / MOST_LABELLED_ROWS)
    ticks = range(0, len(slices), step)
    axes.set_yticks(ticks, [_row_name(slices[row], report) for row in ticks], fontsize=8)
    axes.set_ylim(len(slices) - 0.4, -0.6)
    axes.set_xlabel("SQNR of the layer output, dB" if report.protocol == "full" else "SQNR of the chunk, dB")
    _plain(axes)


def _row_name(result: SliceResult, report: LayerReport) -> str:
    name = f"channel {result.channel}"
    if report.protocol == "chunked":
        name += " [{}:{}]".format(*result.inputs)
    return f"{name} (dead)" if result.dead else name


def _draw_row(
    axes: Axes,
    y: float,
    side: Side,
    ends: tuple[float, float],
    lower_kind: str,
    methods: Mapping[str, float],
    scale: float = 1.0,
) -> None:
    """One interval, the simple methods left of it, and a thin line that ties them together."""
    colour = COLOURS[side.task]
    points = {name: value for name, value in methods.items() if _drawable(value)}
    if points and _drawable(ends[0]):
        axes.plot([min(points.values()), ends[0]], [y, y], color=colour, linewidth=0.8, alpha=0.35, zorder=2)
    if all(map(_drawable, ends)):
        reported = lower_kind == "reported"
        axes.barh(
            y,
            ends[1] - ends[0],
            left=ends[0],
            height=0.32 if scale == 1.0 else 0.55,
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
            marker=MARKERS.get(name, "s"),
            markersize=4.0 * scale,
            markerfacecolor="white",
            markeredgecolor=colour,
            linestyle="none",
            zorder=4,
        )


def _drawable(value: float) -> bool:
    # beyond 300 dB there is no error, and no place on a common axis
    return bool(np.isfinite(value)) and abs(value) < 300.0


def _plain(axes: Axes) -> None:
    axes.use_sticky_edges = False  # bars end within the axis, not on it
    axes.margins(x=0.03)
    axes.autoscale_view(scaley=False)
    axes.grid(axis="x", color="0.9", zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_legend(figure: Any, sides: Sequence[Side]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for side in sides:
        colour = COLOURS[side.task]
        handles.append(Patch(facecolor=colour, label=f"{side.task}: best found to bound"))
        if side.lower_kind == "reported":
            handles.append(Patch(facecolor="none", edgecolor=colour, hatch="////", label="bound not proved"))
        if any(s.bounds.sqnr_upper == math.inf > s.bounds.sqnr_lower for s in side.slices):
            label = "best found, no bound"
            handles.append(Line2D([], [], marker=">", color=colour, linestyle="none", label=label))
        handles += [
            Line2D(
                [],
                [],
                marker=MARKERS.get(name, "s"),
                markerfacecolor="white",
                markeredgecolor=colour,
                linestyle="none",
                label=label_of(name),
            )
            for name in side.methods
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
