"""``pvqbounds report``: a network's results as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pvqbounds.commands.allocate import StoreArgument, VerifyOption, read_store
from pvqbounds.commands.console import ReportOption, check_report_path, progress_bar
from pvqbounds.errors import InputError, OutputError

__all__ = ["report"]

EPILOG = (
    "Examples: [bold]pvqbounds report runs/x[/bold]   |   [bold]pvqbounds report runs/x --out x.html[/bold]"
)


def report(
    store: StoreArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; report.html in the store if left out."),
    ] = None,
    verify: VerifyOption = False,
    json_path: ReportOption = None,
) -> None:
    """Draw the results of a network as one HTML page, with everything as CSV and Parquet beside it."""
    from pvqbounds.network.allocation import allocation_frontier, choices_of, notes_of
    from pvqbounds.report.allocation import allocation_rows
    from pvqbounds.report.network_tables import network_document
    from pvqbounds.report.page.document import check_page_packages, write_page
    from pvqbounds.report.page.tables import table_paths, write_tables
    from pvqbounds.storage.archive import check_writable
    from pvqbounds.storage.network_store import Store
    from pvqbounds.storage.text import write_json

    check_page_packages()
    opened = Store.open(store)
    if out is None:
        opened.refuse_links()
    page = store / "report.html" if out is None else out
    if page.suffix not in (".html", ".htm"):
        raise OutputError(f"A page is written to an .html file, not to {page}.")
    for path in (page, *table_paths(page)):
        check_writable(path)
    if json_path is not None:
        check_report_path(json_path, page, *table_paths(page))
    with progress_bar("reading the store") as update:
        network = read_store(store, update, verify=verify)
        if network.done == network.failed == 0:
            raise InputError(f"Nothing in {store} has a result yet; run `pvqbounds network` first.")
        update(0, 0, "allocations")
        try:
            frontier, notes = allocation_frontier(choices_of(network)), notes_of(network)
        except InputError as error:  # layers in chunks have no errors that add up
            frontier, notes = (), (str(error),)
        update(0, 0, "tables")
        files = write_tables(network, frontier, page)
        if json_path is not None:
            write_json(json_path, network_document(network) | {"allocations": allocation_rows(frontier)})
        update(0, 0, "page")
        write_page(network, page, frontier, files, notes)
    print(f"{page} shows {network.done} of {network.planned} results; beside it are {', '.join(files)}.")
