"""``pvqbounds allocate``: a format for each layer of a network under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pvqbounds.commands.console import ReportOption, check_different, check_report_path, progress_bar, show
from pvqbounds.commands.inputs import LeaveOutOption
from pvqbounds.errors import InputError, shown

if TYPE_CHECKING:
    from pvqbounds.network.proof import Told
    from pvqbounds.results.network import NetworkReport

__all__ = ["StoreArgument", "VerifyOption", "allocate", "read_store"]

EPILOG = (
    "Examples: [bold]pvqbounds allocate runs/x --bits-per-weight 4[/bold]   |   "
    "[bold]pvqbounds allocate runs/x --bytes 2000000 --sensitivities s.json --plot frontier.svg[/bold]"
)

AS_STORED = "Errors are as the store has them; --verify proves them again first."

VerifyOption = Annotated[
    bool,
    typer.Option("--verify", help="Prove all results again first; one that does not hold is refused."),
]
StoreArgument = Annotated[
    Path, typer.Argument(help="What --store of `pvqbounds network` names.", metavar="DIR", show_default=False)
]


def allocate(
    store: StoreArgument,
    bits_per_weight: Annotated[
        float | None,
        typer.Option(help="Budget, averaged over the weights of the layers, scales and masks counted."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--bytes", help="Budget in bytes, in place of --bits-per-weight.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="NAME", help="Choose among these formats alone; repeatable."),
    ] = None,
    sensitivities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="By what each layer's error is multiplied: JSON, an object of numbers by layer.",
        ),
    ] = None,
    leave_out: LeaveOutOption = None,
    verify: VerifyOption = False,
    json_path: ReportOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the error over the budget to a .png, .svg or .pdf."),
    ] = None,
) -> None:
    """Choose a format for each layer under a budget, and bound what any choice could reach."""
    from pvqbounds.network.allocation import allocate as best
    from pvqbounds.network.allocation import (
        allocation_frontier,
        budget_of,
        choices_of,
        notes_of,
    )
    from pvqbounds.report.allocation import allocation_document, allocation_view, plot_frontier
    from pvqbounds.report.plot import check_plot_path
    from pvqbounds.storage.text import write_json

    if (bits_per_weight is None) == (size is None):
        raise InputError("Give the budget, either as --bits-per-weight 4 or as --bytes 1000000.")
    read = [path for path in (sensitivities,) if path is not None]
    if json_path is not None:
        check_report_path(json_path, *read)
    if plot is not None:
        check_plot_path(plot)
    check_different(json=json_path, plot=plot)
    weighted = sensitivities is not None
    with progress_bar("reading the store") as update:
        network = read_store(store, update, verify=verify).without(leave_out or ())
        factors = None if sensitivities is None else read_sensitivities(sensitivities)
        layers = choices_of(network, formats or None, factors)
        update(0, 0, "allocation")
        budget = budget_of(layers, bits_per_weight) if bits_per_weight is not None else 8 * (size or 0)
        found, notes = best(layers, budget), notes_of(network)
        notes = notes if network.proved else (*notes, AS_STORED)
        if json_path is not None:
            write_json(json_path, allocation_document(found, network.model, notes, weighted=weighted))
        if plot is not None:
            update(0, 0, "frontier")
            plot_frontier(allocation_frontier(layers), plot, found, network.model)
    show(allocation_view(found, notes, weighted=weighted))


def read_store(path: Path, told: Told, *, verify: bool) -> NetworkReport:
    """Everything that stands in a store, proved again where that is asked for."""
    from pvqbounds.network.proof import read_proved
    from pvqbounds.storage.network_store import Store

    store = Store.open(path)
    return read_proved(store, told) if verify else store.read()


def read_sensitivities(path: Path) -> dict[str, float]:
    """Numbers by the names of layers.

    Raises
    ------
    InputError
        If the file is missing, damaged or anything else.
    """
    from pvqbounds.storage.archive import parse_json, read_bytes

    document = parse_json(read_bytes(path, LARGEST_SENSITIVITIES), path)
    if not isinstance(document, dict):
        raise InputError(f'{path} must hold an object of numbers by layer, like {{"head": 2.5}}.')
    for name, value in document.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{path} has {shown(value)} for layer {shown(name)}, where a number is wanted.")
    return {name: float(value) for name, value in document.items()}


LARGEST_SENSITIVITIES = 2**26
"""Bytes."""
