"""Tables that lie beside the page: everything that it is drawn from, and every channel."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pvqbounds.report.allocation import allocation_rows
from pvqbounds.report.frames import Row, layer_rows, write_table
from pvqbounds.report.network_tables import network_rows
from pvqbounds.results.allocation import Allocation
from pvqbounds.results.network import NetworkReport

__all__ = ["table_paths", "write_tables"]

TABLES = {"": "layers", "-channels": "channels", "-allocations": "allocations"}
"""What follows the page's name in that of a table, and what the table holds."""


def suffixes() -> tuple[str, ...]:
    """Kinds of files that tables are written in: Parquet where something writes it."""
    return (".csv", ".parquet") if find_spec("pyarrow") is not None else (".csv",)


def table_paths(page: Path) -> list[Path]:
    """Files that may be written beside a page."""
    return [page.with_name(page.stem + ending + kind) for ending in TABLES for kind in suffixes()]


def write_tables(network: NetworkReport, frontier: Sequence[Allocation], page: Path) -> dict[str, str]:
    """Write the tables of a page, those that have rows.

    Returns
    -------
    dict
        What each holds, by the name of its file.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    contents: dict[str, Sequence[Row]] = {
        "": network_rows(network),
        "-channels": [
            row
            for entry in network.layers
            if entry.report is not None
            for row in layer_rows(entry.report, per_channel=True)
        ],
        "-allocations": allocation_rows(frontier),
    }
    written = {}
    for ending, rows in contents.items():
        for kind in suffixes() if rows else ():
            path = page.with_name(page.stem + ending + kind)
            write_table(rows, path)
            written[path.name] = TABLES[ending]
    return written
