"""``pvqbounds solvers``: the backends, and what each can do."""

from __future__ import annotations

from typing import Annotated

import typer

from pvqbounds.commands.console import ReportOption, check_report_path, show
from pvqbounds.storage.text import write_json

__all__ = ["solvers"]

EPILOG = "Examples: [bold]pvqbounds solvers[/bold]   |   [bold]pvqbounds solvers --cite scs[/bold]"


def solvers(
    cite: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print how to cite this solver, in BibTeX.")
    ] = None,
    json_path: ReportOption = None,
) -> None:
    """List every known backend: installed or not, licensed or not, and what it can do."""
    if cite is not None:
        from pvqbounds.solvers import citation

        print(citation(cite))
        return
    from pvqbounds.report.tables import solvers_view
    from pvqbounds.solvers import solvers as known_solvers

    if json_path is not None:
        check_report_path(json_path)
    known = known_solvers()
    if json_path is not None:
        listed = [
            {
                "name": info.name,
                "installed": info.installed,
                "licensed": info.licence is not None and info.licence.valid,
                "licence": None if info.licence is None else info.licence.text,
                "capabilities": sorted(capability.value for capability in info.capabilities),
                "install": info.install,
                "citation": info.citation,
            }
            for info in known
        ]
        write_json(json_path, {"schema": "pvqbounds.solvers/1", "solvers": listed})
    show(solvers_view(known))
