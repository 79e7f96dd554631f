"""An allocation in words, as a table, as a document and as a picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from decimal import ROUND_CEILING, ROUND_FLOOR
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.report.plot import check_plot_path, figure_class
from pvqbounds.report.tables import LONGEST_UNFOLDED, in_figures
from pvqbounds.results.allocation import Allocation
from pvqbounds.storage.archive import replacing
from pvqbounds.storage.text import finite

__all__ = [
    "ASSUMPTIONS",
    "FrontierStep",
    "allocation_document",
    "allocation_rows",
    "allocation_text",
    "allocation_view",
    "frontier_steps",
    "plot_frontier",
]

ASSUMPTIONS = (
    "The total error is the sum over the layers of a layer's squared output error over its signal, {}. Each "
    "layer is measured on the inputs that the dense network gives it."
)
LOOKED_AT = "Of the channels that were looked at, not of whole layers: "
EQUAL, GIVEN = "all layers counted alike", "multiplied by the sensitivities given"


def assumptions_text(sensitivities: bool = False) -> str:
    """What a total error is."""
    return ASSUMPTIONS.format(GIVEN if sensitivities else EQUAL)


def allocation_text(allocation: Allocation) -> str:
    """Say what no choice can beat, and what this one reaches."""
    lower = in_figures(allocation.error_lower, ROUND_FLOOR, 4)
    reached = in_figures(allocation.error, ROUND_CEILING, 4)
    claim = f"less total error than {lower}"
    if allocation.lower_kind == "reported":
        claim += " (by bounds that a solver states and that are not proved)"
    budget = in_figures(allocation.budget_per_weight, ROUND_FLOOR, 4)  # nothing is said of a larger one
    sentence = (
        f"{'' if allocation.whole else LOOKED_AT}"
        f"No choice among these formats at {budget} bits a weight has {claim}; "
        f"this one, of {_bits(allocation.size, allocation.weights)} bits a weight, has {reached}"
    )
    if 0.0 < allocation.error_lower < allocation.error:
        sentence += f", {in_figures(allocation.error / allocation.error_lower, ROUND_CEILING, 4)} times that"
    return f"{sentence}."


def _bits(size: int, weights: int) -> str:
    """Bits a weight, rounded up: what is said to fit a budget fits it."""
    return f"{math.ceil(Fraction(1000 * size, weights)) / 1000:.3f}"


def allocation_view(
    allocation: Allocation, notes: Sequence[str] = (), *, weighted: bool = False
) -> RenderableType:
    """The format of each layer, and the sentence below.

    Parameters
    ----------
    weighted
        Whether sensitivities were given.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    widest = max(len(row.format) for row in allocation.layers)
    table.add_column("format", overflow="fold", min_width=min(widest, LONGEST_UNFOLDED))
    for heading in ("bits a\nweight", "weights", "error /\nsignal", "no less\nthan"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in allocation.layers:
        table.add_row(
            Text(" = ".join((row.layer, *row.tied))),
            Text(row.format, style="bold"),
            _bits(row.size, row.weights),
            f"{row.weights:,}",
            in_figures(row.error, ROUND_CEILING, 3),
            in_figures(row.error_lower, ROUND_FLOOR, 3),
        )
    return Group(
        table,
        Text(allocation_text(allocation), style="bold"),
        Text(assumptions_text(weighted), style="dim"),
        *(Text(f"Note: {note}", style="yellow") for note in notes),
    )


def allocation_rows(frontier: Sequence[Allocation]) -> list[dict[str, Any]]:
    """One row for each budget, with the format of each layer."""
    return [
        {
            "budget_bits_per_weight": own.budget_per_weight,
            "bits_per_weight": own.bits_per_weight,
            "bytes": -(-own.size // 8),
            "error": own.error,
            "error_lower": own.error_lower,
            "lower_kind": own.lower_kind,
        }
        | {f"format of {layer}": form for layer, form in own.choice.items()}
        for own in frontier
    ]


def allocation_document(
    allocation: Allocation, model: str, notes: Sequence[str] = (), *, weighted: bool = False
) -> dict[str, Any]:
    """The allocation for a JSON file."""
    return {
        "schema": "pvqbounds.allocation/1",
        "model": model,
        "statement": allocation_text(allocation),
        "assumptions": assumptions_text(weighted),
        "notes": list(notes),
        "bits_per_weight": allocation.bits_per_weight,
        "budget_bits": allocation.budget,
        "size_bits": allocation.size,
        "weights": allocation.weights,
        "error": finite(allocation.error),
        "error_lower": finite(allocation.error_lower),
        "lower_kind": allocation.lower_kind,
        "closed": allocation.closed,
        "whole_layers": allocation.whole,
        "layers": [{key: finite(value) for key, value in asdict(row).items()} for row in allocation.layers],
    }


class FrontierStep(NamedTuple):
    """Budgets from one that was looked at to the next."""

    start: float
    """Bits a weight."""
    stop: float
    error: float
    """Reached at the start, and so with any budget above it."""
    error_lower: float
    """No choice has less at the end, and so none with any budget below it."""


BEYOND = 0.04
"""How far a picture goes on beyond the last budget, as a part of all budgets."""


def frontier_steps(frontier: Sequence[Allocation]) -> list[FrontierStep]:
    """What holds between the budgets of a frontier, by rising budgets, and for some way beyond the last one.

    No larger budget gains anything on the last one.
    """
    steps = [
        FrontierStep(one.budget_per_weight, other.budget_per_weight, one.error, other.error_lower)
        for one, other in itertools.pairwise(frontier)
    ]
    if frontier:
        last = frontier[-1]
        end, start = last.budget_per_weight, frontier[0].budget_per_weight
        steps.append(FrontierStep(end, end + BEYOND * ((end - start) or end), last.error, last.error_lower))
    return steps


def plot_frontier(
    frontier: Sequence[Allocation], path: Path, asked: Allocation | None = None, title: str = ""
) -> None:
    """Draw the error that is reached, and the one that none is below, over the budget.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or the path cannot be written.
    """
    check_plot_path(path)
    figure: Any = figure_class()(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.subplots()
    steps = frontier_steps(frontier)
    budgets = [end for step in steps for end in (step.start, step.stop)]
    reached, lower = ([value for s in steps for value in (s[name],) * 2] for name in (2, 3))
    axes.plot(budgets, reached, color="#0072B2", label="best choice found")
    axes.plot(budgets, lower, color="#D55E00", linestyle="--", label="no choice is below")
    axes.fill_between(budgets, lower, reached, color="0.5", alpha=0.15, linewidth=0.0)
    if asked is not None:
        axes.plot(asked.bits_per_weight, asked.error, "o", color="#0072B2", label="this choice")
    if min(reached + lower, default=0.0) > 0.0:
        axes.set_yscale("log")
    axes.set_xlabel("budget, bits a weight")
    axes.set_ylabel("total error over signal")
    axes.set_title(title, loc="left")
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160, format=path.suffix.lower().removeprefix("."))
