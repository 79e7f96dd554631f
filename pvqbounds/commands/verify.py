"""``pvqbounds verify``: a result proved again."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from pvqbounds.commands.console import ReportOption, check_report_path, progress_bar
from pvqbounds.errors import one_line
from pvqbounds.storage.text import write_json

__all__ = ["verify"]

EPILOG = "Example: [bold]pvqbounds verify RESULT.json[/bold]"


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            help="What --json of layer or solve wrote, or the store of a network.", metavar="FILE"
        ),
    ],
    time_limit: Annotated[
        float, typer.Option(help="Seconds for one proof; a longer search proves nothing.")
    ] = 600.0,
    json_path: ReportOption = None,
) -> None:
    """Re-prove a result from its certificates and its best weights, trusting nothing else in it."""
    from pvqbounds.network.proof import unit_findings
    from pvqbounds.solving.verified_files import verify_file
    from pvqbounds.storage.network_store import Store

    if json_path is not None:
        check_report_path(json_path, file)
    with progress_bar("verifying") as update:
        if file.is_dir():
            found = unit_findings(Store.open(file), update, time_limit)
            findings = [
                replace(own, where=f"{unit} {own.where}") for unit, those in found.items() for own in those
            ]
        else:
            findings = verify_file(
                file, lambda done, total: update(done, total, "verifying"), time_limit=time_limit
            )
    failures = [finding for finding in findings if not finding.holds]
    if json_path is not None:
        outcome = {"schema": "pvqbounds.verification/1", "file": file.name, "holds": not failures}
        write_json(json_path, outcome | {"findings": [asdict(finding) for finding in findings]})
    for finding in failures:
        print(one_line(f"FAILED {finding.where}: {finding.text}"))
    if failures:
        print(f"{file.name}: {len(failures)} claims do not hold.")
        raise typer.Exit(1)
    proved = sum(finding.text == "proved" for finding in findings)
    reported = len(findings) - proved
    rest = f", {reported} only reported and not proved" if reported else ""
    print(
        f"{file.name} holds: {proved} of {len(findings)} lower bounds proved again{rest}; "
        "all weights evaluated again."
    )
