"""A whole network on the terminal: a row for each layer and format, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pvqbounds.methods import label_of
from pvqbounds.report.frames import layer_rows
from pvqbounds.results.bounds import sqnr
from pvqbounds.results.compressed import AS_STORED
from pvqbounds.results.decibels import interval_text, rounded_down, sqnr_text
from pvqbounds.results.layer import Side
from pvqbounds.results.network import LayerEntry, NetworkReport
from pvqbounds.storage.text import finite

__all__ = ["network_document", "network_rows", "network_view"]

NETWORK_RESULT_SCHEMA = "pvqbounds.network-result/1"


def network_rows(network: NetworkReport) -> list[dict[str, Any]]:
    """One row for each layer and format that stands, as tables in files have it."""
    rows = []
    for entry in network.layers:
        if entry.report is not None:
            rows += [row | {"weights": entry.weights} for row in layer_rows(entry.report)]
    return rows


def network_document(network: NetworkReport) -> dict[str, Any]:
    """What ``--json`` of a network writes: its rows, what failed, and what was asked."""
    return {
        "schema": NETWORK_RESULT_SCHEMA,
        "model": network.model,
        "digest": network.digest,
        "version": network.version,
        "command": network.command,
        "settings": dict(network.settings),
        "formats": list(network.formats),
        "planned": network.planned,
        "done": network.done,
        "rows": [{name: finite(value) for name, value in row.items()} for row in network_rows(network)],
        "failures": _texts(network, "failures"),
        "left_out": _texts(network, "left_out"),
        "notes": list(network.notes),
    }


def _texts(network: NetworkReport, name: str) -> list[dict[str, str]]:
    return [
        {"layer": entry.name, "side": side, "reason": text}
        for entry in network.layers
        for side, text in dict(getattr(entry, name)).items()
    ]


def network_view(network: NetworkReport) -> RenderableType:
    """The best possible SQNR of each layer in each format, with its label, and the best method beside it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("format", overflow="fold")
    table.add_column("best possible SQNR", no_wrap=True)
    table.add_column("proof", no_wrap=True)
    table.add_column("best method", overflow="fold")
    for entry in network.layers:
        for number, cells in enumerate(_cells(entry, network.formats)):
            table.add_row(*map(Text, (entry.name if number == 0 else "", *cells)))
    failed = f", {network.failed} failed" if network.failed else ""
    return Group(
        Text.assemble((network.model, "bold"), f"  {len(network.layers)} layers"),
        table,
        Text(f"{network.done} of {network.planned} layers in a format stand{failed}."),
        *(Text(text, style="red") for text in failures_of(network)),
        *(Text(text) for text in presumed_of(network)),
        *(Text(f"Note: {note}", style="yellow") for note in network.notes),
    )


def presumed_of(network: NetworkReport) -> list[str]:
    """What intervals of files presume that do not say which grid their weights were held to."""
    return [
        f"{entry.name} {side.format}: {side.compressed.condition}"
        for entry in network.layers
        if entry.report is not None
        for side in entry.report.sides
        if side.compressed is not None and side.compressed.presumed
    ]


def failures_of(network: NetworkReport) -> list[str]:
    """What happened to each unit that failed, a sentence each."""
    return [
        f"{entry.name} {side} failed: {text.rstrip('.')}."
        for entry in network.layers
        for side, text in entry.failures.items()
    ]


def _cells(entry: LayerEntry, formats: tuple[str, ...]) -> list[list[str]]:
    """What is said of a layer, a row for each format, and one more for what is estimated."""
    sides: Mapping[str, Side] = {} if entry.report is None else {s.format: s for s in entry.report.sides}
    rows = []
    for form in formats:
        if form in sides:
            rows += _side_cells(sides[form])
        elif form in entry.failures:
            rows.append([form, "failed", "", ""])
        elif form in entry.left_out:
            rows.append([form, "means nothing here", "", ""])
        else:
            rows.append([form, "not done yet", "", ""])
    return rows


def _side_cells(side: Side) -> list[list[str]]:
    best = sqnr_text(*side.sqnr_interval, side.status == "optimal")
    rows = [[side.format, best, side.proof, _best_method(side)]]
    if side.estimate is not None:
        found, signal = side.estimate, side.signal_enclosure.middle
        ends = sqnr(signal, found.error_upper.value), sqnr(signal, found.error_lower.value)
        outer = sqnr(signal, found.error_upper.high), sqnr(signal, found.error_lower.low)
        label = ", ".join(filter(None, (f"estimated ({len(found.sample)} channels)", side.presumption)))
        rows.append(["", interval_text(*ends), label, ""])
        rows.append(["", interval_text(*outer), "with 95 % confidence", ""])
    return rows


def _best_method(side: Side) -> str:
    if not side.methods:
        return ""
    mixed = side.compressed is not None and side.compressed.mixed  # methods took values of several grids
    name = AS_STORED if mixed else min(side.methods, key=side.method_error)
    return f"{rounded_down(side.method_sqnr(name))} dB {label_of(name)}"
