"""Formats of a layer over their size: the interval of each at its bits a weight."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pvqbounds.problems.formats.format import REAL_BITS
from pvqbounds.results.layer import LayerReport, Side
from pvqbounds.results.relation import size_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["draw_sizes", "suits_sizes"]

APART = 0.018
"""Part of the axis by which bars of about one size are moved apart."""


def suits_sizes(report: LayerReport) -> bool:
    """Whether there are enough formats to be looked at by size, and sums that mean something."""
    drawable = sum(math.isfinite(side.sqnr_interval[0]) for side in report.sides)
    return len(report.sides) > 2 and report.protocol == "full" and drawable > 2


def draw_sizes(axes: Axes, report: LayerReport, colours: Sequence[str]) -> None:
    """Draw a bar from what is reached to the bound for each format, and the best method as a point.

    Formats of one size stand over the bits of a weight that is kept: how they trade precision for zeros.
    """
    drawn = [
        (side, colour)
        for side, colour in zip(report.sides, colours, strict=True)
        if math.isfinite(side.sqnr_interval[0])
    ]
    first = drawn[0][0].bits_per_weight
    alike = all(size_beside(side.bits_per_weight, first) == "equal" for side, _ in drawn)
    places = [_bits_of_kept(side) if alike else side.bits_per_weight for side, _ in drawn]
    for (side, colour), place in zip(drawn, _moved_apart(places), strict=True):
        _draw_side(axes, side, place, colour)
    kept = f"bits of a weight that is kept, at {first:.2f} bits a weight in all"
    axes.set_xlabel(kept if alike else "bits a weight, scales and masks counted")
    axes.set_ylabel("SQNR, dB")
    axes.margins(x=0.08, y=0.25)
    axes.grid(color="0.9", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_side(axes: Axes, side: Side, place: float, colour: str) -> None:
    lower, upper = side.sqnr_interval
    if math.isfinite(upper):
        style = "solid" if side.lower_kind == "certified" else "dotted"
        axes.plot([place, place], [lower, upper], color=colour, linewidth=5.0, alpha=0.8, linestyle=style)
    axes.plot(place, lower, marker="_", markersize=10.0, color=colour, linestyle="none")
    reached = [value for name in side.methods if math.isfinite(value := side.method_sqnr(name))]
    if reached:
        axes.plot(place, max(reached), marker="o", markersize=4.0, mfc="white", mec=colour, linestyle="none")
    top = upper if math.isfinite(upper) else lower
    label: dict[str, Any] = {"textcoords": "offset points", "rotation": 30, "fontsize": 7, "color": colour}
    axes.annotate(side.format, (place, top), (1, 4), ha="left", va="bottom", **label)


def _bits_of_kept(side: Side) -> float:
    bits = side.form.bits
    return float(REAL_BITS if bits is None else bits)


def _moved_apart(places: Sequence[float]) -> list[float]:
    """Places of which none hides another: those of about one size stand beside each other."""
    step = APART * max(max(places) - min(places), 1.0)
    moved: list[float] = []
    for place in places:
        beside = sum(abs(place - other) < step for other in places[: len(moved)])
        moved.append(place + step * beside)
    return moved
