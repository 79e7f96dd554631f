"""A store that is believed in nothing: each of its units proved again from its own data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pvqbounds.errors import InputError
from pvqbounds.results.network import NetworkReport
from pvqbounds.solving.verified_files import Finding, verify_file
from pvqbounds.storage.network_store import Store, unit_files

__all__ = ["PROOF_SECONDS", "Told", "read_proved", "unit_findings"]

Told = Callable[[int, int, str], None]
"""Called with the problems of a unit that are done, their number, and the unit."""

PROOF_SECONDS = 600.0
"""For one proof, unless told."""


def unit_findings(
    store: Store, told: Told | None = None, time_limit: float = PROOF_SECONDS
) -> dict[str, list[Finding]]:
    """What is found of the units that stand, by their files, each held against the plan first.

    Raises
    ------
    InputError
        If none stands, or one is damaged or none of the plan.
    """
    done = [(layer, side) for layer, side in store.units() if store.is_done(layer.name, side)]
    if not done:
        raise InputError(f"Nothing in {store.path} has a result yet; run `pvqbounds network` first.")
    for layer, side in done:
        store.read_unit(layer, side)
    findings = {}
    for layer, side in done:
        unit = unit_files(store.path, layer.name, side)[0]
        name = str(unit.relative_to(store.path))
        progress = None if told is None else partial(_tell, told, name)
        findings[name] = verify_file(unit, progress, time_limit=time_limit)
    return findings


def read_proved(store: Store, told: Told | None = None, time_limit: float = PROOF_SECONDS) -> NetworkReport:
    """Everything that stands in a store, after all of it was proved again.

    Raises
    ------
    InputError
        If a claim does not hold, or the store cannot be read.
    """
    found = unit_findings(store, told, time_limit)
    false = {name: own for name, findings in found.items() if (own := [f for f in findings if not f.holds])}
    if false:
        name, (first, *_) = next(iter(false.items()))
        more = f"; nor do {len(false) - 1} other units" if len(false) > 1 else ""
        raise InputError(
            f"{store.path / name} does not hold in {first.where} ({first.text}){more}. `pvqbounds verify` "
            "names them all: remove them, and resume."
        )
    return replace(store.read(), proved=True)


def _tell(told: Told, doing: str, done: int, total: int) -> None:
    told(done, total, doing)
