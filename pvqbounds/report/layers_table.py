"""Several layers in one table: how far each is from the best possible."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table

from pvqbounds.report.tables import plain_text
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.results.decibels import rounded_down, rounded_up, sqnr_text
from pvqbounds.results.layer import LayerReport, Side

__all__ = ["layers_text", "layers_view"]


def layers_view(reports: Sequence[LayerReport]) -> RenderableType:
    """A row for each layer and side: bits a weight, best possible SQNR, and what somebody's weights leave.

    Parameters
    ----------
    reports
        Of different layers; where all are about one format, the table has its name.
    """
    sides = [side for report in reports for side in report.sides]
    compressed = any(side.compressed is not None for side in sides)
    names = {side.format for side in sides}
    title = next(iter(names)) if len(names) == 1 else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for heading in ("layer",) if title else ("layer", "format"):
        table.add_column(heading, header_style="bold", overflow="fold")
    for heading in ("bits", "best, dB", "reached", "left, dB")[: 4 if compressed else 2]:
        table.add_column(heading, header_style="bold", no_wrap=True)
    for report in reports:
        for side in report.sides:
            called = (report.layer,) if title else (report.layer, side.format)
            texts = _compressed_texts(report, side) if compressed else ()
            table.add_row(*called, f"{side.bits_per_weight:.2f}", _best(report, side), *texts)
    return table


def layers_text(reports: Sequence[LayerReport]) -> str:
    """The same as text, in 80 columns."""
    return plain_text(layers_view(reports))


def _best(report: LayerReport, side: Side) -> str:
    if report.protocol != "full":
        return "chunks do not add up"
    label = "" if side.proof == "certified" else f" ({side.proof.removeprefix('certified, ')})"
    return sqnr_text(*side.sqnr_interval, side.status == "optimal").removesuffix(" dB") + label


def _compressed_texts(report: LayerReport, side: Side) -> tuple[str, str]:
    """What the weights of a file reach, and by how much they can be exceeded: at least, and at most."""
    if side.compressed is None or report.protocol != "full":
        return "", ""
    reached = side.method_sqnr(AS_STORED)
    least, most = side.left
    if math.isnan(reached) or math.isnan(least):
        return "", ""
    return rounded_down(reached), f"{rounded_down(least)} .. {rounded_up(most)}"
