"""Runs against the bounds, and the miniature of the paper's table: on a terminal, drawn, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.report.plot import COLOURS, check_plot_path, figure_class
from pvqbounds.results.decibels import ENDLESS, rounded_down, rounded_up, sqnr_text
from pvqbounds.results.layer import Side
from pvqbounds.storage.archive import replacing
from pvqbounds.storage.text import finite
from pvqbounds.train.accuracy_table import AccuracyTable, Cell
from pvqbounds.train.layer_gaps import TRAINED, LayerAgainst, RunAgainst

__all__ = [
    "accuracy_document",
    "accuracy_view",
    "against_document",
    "against_view",
    "percent",
    "plot_accuracy",
    "plot_against",
]

TASKS = ("quantization", "pruning")
"""What networks are trained to."""

SIZES_A_TABLE = 7
"""Sizes side by side in 80 columns; more go into further tables."""

MEANINGS = {
    "dense": "output error with respect to the dense model's weights, on its calibration inputs",
    "latent": "output error with respect to the latent weights, on the trained model's calibration inputs",
}


def percent(fraction: float) -> str:
    """Name an accuracy or a sparsity in percent."""
    return "none" if math.isnan(fraction) else f"{100.0 * fraction:.2f} %"


def size_of(layer: LayerAgainst) -> str:
    """Name the size of a layer's weights in a few characters."""
    form = layer.side.form
    if form.bits is not None:
        return f"{form.bits} bits"
    return form.name if form.layer_budget(1) is None else f"{form.density:.3g}"


def gap_text(lower: float, upper: float) -> str:
    """Name a gap in dB, rounded outwards."""
    if math.isnan(lower) or math.isnan(upper):
        return ""
    if lower >= ENDLESS:
        return "∞"
    return f"{rounded_down(lower)} .. {rounded_up(upper)}"


def _best(side: Side) -> str:
    return sqnr_text(*side.sqnr_interval, side.status == "optimal").removesuffix(" dB")


def against_view(run: RunAgainst) -> RenderableType:
    """One row a layer: what training reached, what is possible, the gap between them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    free = any(layer.free is not None for layer in run.layers)
    headings = ("layer", "size", "reached", "possible, dB", *["any scale, dB"] * free, "gap, dB", "proof")
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "layer", overflow="fold")
    for layer in run.layers:
        side = layer.side
        table.add_row(
            layer.layer,
            size_of(layer),
            Text("none" if math.isnan(layer.sqnr) else rounded_down(layer.sqnr), style="bold"),
            Text(_best(side), style="bold cyan"),
            *[_best(layer.free) if layer.free else ""] * free,
            gap_text(*layer.gap),
            side.lower_kind,
        )
    lines = [Text(MEANINGS[run.reference], style="dim")]
    if any(layer.side.task == "pruning" for layer in run.layers):
        words = "pruning is bounded at the non-zeros that each channel was left with (or its pattern)"
        lines.append(Text(words, style="dim"))
    else:
        lines.append(Text("quantization is bounded at the scales that the run ended with", style="dim"))
    partly = [layer for layer in run.layers if len(layer.side.slices) < layer.channels]
    if partly:
        most = max(len(layer.side.slices) for layer in partly)
        lines.append(Text(f"only the first {most} output channels are looked at", style="dim"))
    lines += [Text(f"FAILED {sentence}", style="bold red") for sentence in run.failures]
    before, after = percent(run.accuracy_before), percent(run.accuracy_after)
    title = Text.assemble((run.name, "bold"), f"  {run.model}, accuracy {before} dense, {after} compressed")
    return Group(title, table, *lines)


def against_document(run: RunAgainst) -> dict[str, Any]:
    """The same as JSON, with every channel."""
    return {
        "schema": "pvqbounds.against/1",
        "run": run.name,
        "model": run.model,
        "reference": run.reference,
        "accuracy_dense": finite(run.accuracy_before),
        "accuracy": finite(run.accuracy_after),
        "holds": not run.failures,
        "failures": list(run.failures),
        "layers": [_layer_document(layer) for layer in run.layers],
        "seconds": run.seconds,
    }


def _layer_document(layer: LayerAgainst) -> dict[str, Any]:
    side = layer.side
    form = side.form
    lower, upper = side.sqnr_interval
    least, most = layer.gap
    return {
        "layer": layer.layer,
        "description": layer.description,
        "inputs": layer.inputs,
        "channels": layer.channels,
        "channels_bounded": len(side.slices),
        "format": form.name,
        "bits": form.bits,
        "density": form.density,
        "pattern": side.slices[0].problem.pattern,
        "error": layer.error,
        "sqnr": finite(layer.sqnr),
        "error_lower": side.error_lower,
        "error_upper": side.error_upper,
        "sqnr_lower": finite(lower),
        "sqnr_upper": finite(upper),
        "gap_at_least": finite(least),
        "gap_at_most": finite(most),
        "signal": side.signal_enclosure.middle,
        "status": side.status,
        "lower_kind": side.lower_kind,
        "any_scale": None if layer.free is None else _free_document(layer.free),
        "impossible_channels": list(layer.impossible),
        "per_channel": [
            {
                "channel": s.channel,
                "scale": getattr(s.problem, "scale", None),
                "nnz": getattr(s.problem, "nnz", None),
                "error": error,
                "error_lower": s.bounds.error_lower,
                "error_upper": s.bounds.error_upper,
                "signal": s.bounds.signal,
                "status": s.bounds.status,
                "lower_kind": s.bounds.lower_kind,
                "method": s.bounds.method,
            }
            for s, error in zip(side.slices, side.method_errors[TRAINED], strict=True)
        ],
    }


def _free_document(side: Side) -> dict[str, Any]:
    """What is possible whatever the scale of each channel, and the scales found."""
    lower, upper = side.sqnr_interval
    return {
        "format": side.format,
        "error_lower": side.error_lower,
        "error_upper": side.error_upper,
        "sqnr_lower": finite(lower),
        "sqnr_upper": finite(upper),
        "status": side.status,
        "lower_kind": side.lower_kind,
        "scales": [s.bounds.scale for s in side.slices],
    }


def plot_against(run: RunAgainst, path: Path) -> None:
    """Draw each layer's interval and what training reached, to a `.png`, `.svg` or `.pdf` file.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    check_plot_path(path)
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows = [layer for layer in run.layers if math.isfinite(layer.sqnr)]
    figure: Any = figure_class()(figsize=(8.0, 2.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colour = COLOURS[rows[0].side.task if rows else "quantization"]
    for y, layer in enumerate(rows):
        lower, upper = layer.side.sqnr_interval
        axes.plot([layer.sqnr, lower], [y, y], color=colour, linewidth=1.0, alpha=0.4)
        if math.isfinite(upper):
            reported = layer.side.lower_kind == "reported"
            axes.barh(
                y,
                upper - lower,
                left=lower,
                height=0.5,
                facecolor="white" if reported else colour,
                edgecolor=colour,
                linewidth=1.4,  # an optimum, without a length of its own, is seen as a line
                hatch="////" if reported else None,
            )
        axes.plot(
            layer.sqnr,
            y,
            marker="X" if layer.impossible else "o",
            markersize=7,
            markerfacecolor="red" if layer.impossible else "white",
            markeredgecolor=colour,
            linestyle="none",
        )
    axes.use_sticky_edges = False  # bars begin within the axis, not on it
    axes.margins(x=0.03)
    axes.set_yticks(range(len(rows)), [f"{layer.layer}\n{size_of(layer)}" for layer in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("SQNR of the layer output, dB")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles: list[Any] = [
        Line2D([], [], marker="o", markerfacecolor="white", markeredgecolor=colour, linestyle="none"),
        Patch(facecolor=colour),
    ]
    labels = ["reached by the run", "best possible: found to bound"]
    if any(layer.side.lower_kind == "reported" for layer in rows):
        handles.append(Patch(facecolor="white", edgecolor=colour, hatch="////"))
        labels.append("bound not proved")
    if run.failures:
        handles.append(Line2D([], [], marker="X", color="red", linestyle="none"))
        labels.append("better than is possible: a failed run")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    accuracies = f"accuracy {percent(run.accuracy_before)} dense, {percent(run.accuracy_after)} compressed"
    figure.suptitle(f"{run.name}: {run.model}", x=0.02, ha="left", fontweight="bold", fontsize=10)
    axes.set_title(f"{accuracies}\n{MEANINGS[run.reference]}", loc="left", fontsize=8, color="0.3")
    _save(figure, path)


# ------------------------------------------------------------------------- the table in miniature


def accuracy_view(accuracies: AccuracyTable) -> RenderableType:
    """Accuracy after quantization and pruning at equal size: one row a method, one column a size."""
    starts = range(0, len(accuracies.bits), SIZES_A_TABLE)
    tables = [_accuracy_table(accuracies, accuracies.bits[start : start + SIZES_A_TABLE]) for start in starts]
    seeds = f", mean of {accuracies.seeds} seeds" if accuracies.seeds > 1 else ""
    title = Text.assemble(
        (f"{accuracies.model} on {accuracies.data}", "bold"),
        f"  accuracy and sparsity in percent{seeds}; dense {100 * accuracies.dense:.1f}",
    )
    images = f"One of the {accuracies.test_images} test images is {100 / accuracies.test_images:.2f} points."
    return Group(title, *tables, Text(f"{images} {accuracies.seconds:.0f} s in all.", style="dim"))


def _accuracy_table(accuracies: AccuracyTable, sizes: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for bits in sizes:
        table.add_column(f"{bits} b", justify="right", no_wrap=True)
    densities = [f"{100 * (1 - bits / 16):.4g}" for bits in sizes]
    table.add_row("sparsity", *densities, style="dim")
    for task in TASKS:
        cells = [accuracies.cell(task, bits) for bits in sizes]
        best = [cell.mean >= max(accuracies.cell(t, cell.bits).mean for t in TASKS) for cell in cells]
        texts = [Text(f"{100 * c.mean:.1f}", "bold" if b else "") for c, b in zip(cells, best, strict=True)]
        table.add_row(task, *texts)
        if accuracies.seeds > 1:
            for name, end in (("least", min), ("most", max)):
                ends = [f"{100 * end(cell.accuracies):.1f}" for cell in cells]
                table.add_row(f"  {name}", *ends, style="dim")
    return table


def accuracy_document(accuracies: AccuracyTable) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "schema": "pvqbounds.training-table/1",
        "model": accuracies.model,
        "data": accuracies.data,
        "accuracy_dense": accuracies.dense,
        "test_images": accuracies.test_images,
        "recipes": {task: recipe.to_json() for task, recipe in accuracies.recipes.items()},
        "cells": [
            {
                "task": cell.task,
                "bits": cell.bits,
                "sparsity": 1.0 - cell.bits / 16,
                "accuracy": cell.mean,
                "accuracies": list(cell.accuracies),
            }
            for cell in accuracies.cells
        ],
        "seconds": accuracies.seconds,
    }


def plot_accuracy(accuracies: AccuracyTable, path: Path) -> None:
    """Draw accuracy against size for both, with the spread over seeds."""
    check_plot_path(path)
    figure: Any = figure_class()(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for task in TASKS:
        colour = COLOURS[task]
        cells = [accuracies.cell(task, bits) for bits in accuracies.bits]
        means = [100 * cell.mean for cell in cells]
        axes.plot(accuracies.bits, means, marker="o", color=colour, label=task)
        lows, highs = _ends(cells)
        axes.fill_between(accuracies.bits, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(100 * accuracies.dense, color="0.4", linestyle=":", label="dense")
    axes.set_xticks(accuracies.bits, [f"{bits} b\n{100 * (1 - bits / 16):.4g} %" for bits in accuracies.bits])
    axes.invert_xaxis()
    axes.set_xlabel("bits a weight, and the sparsity of the same size")
    axes.set_ylabel("test accuracy, %")
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    shade = f"; shaded: {accuracies.seeds} seeds" if accuracies.seeds > 1 else ""
    axes.set_title(f"{accuracies.model} on {accuracies.data}, fine-tuned{shade}", loc="left", fontsize=10)
    _save(figure, path)


def _ends(cells: Sequence[Cell]) -> tuple[list[float], list[float]]:
    return [100 * min(c.accuracies) for c in cells], [100 * max(c.accuracies) for c in cells]


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160, format=path.suffix.lower().removeprefix("."))
