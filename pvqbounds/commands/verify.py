"""``pvqbounds verify``: a result proved again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pvqbounds.commands.console import ReportOption, check_report_path, progress_bar
from pvqbounds.errors import InputError, one_line
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
    from pvqbounds.solving.verified_files import verify_file

    if json_path is not None:
        check_report_path(json_path, file)
    with progress_bar("verifying") as update:
        findings = []
        for unit in _files(file):
            told = "verifying" if unit == file else str(unit.relative_to(file))
            found = verify_file(unit, partial(_tell, update, told), time_limit=time_limit)
            findings += (
                found if unit == file else [replace(own, where=f"{told} {own.where}") for own in found]
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


def _tell(update: Callable[[int, int, str], None], doing: str, done: int, total: int) -> None:
    update(done, total, doing)


def _files(file: Path) -> list[Path]:
    """The file, or those of all units that stand in a store; each is held against the plan."""
    if not file.is_dir():
        return [file]
    from pvqbounds.storage.network_store import Store, unit_files

    store = Store.open(file)
    done = [(layer, side) for layer, side in store.units() if store.is_done(layer.name, side)]
    if not done:
        raise InputError(f"Nothing in {file} has a result yet; run `pvqbounds network` first.")
    for layer, side in done:
        store.read_unit(layer, side)
    return [unit_files(file, layer.name, side)[0] for layer, side in done]
