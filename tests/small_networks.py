"""Networks made of reports at hand, and stores of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pvqbounds.results.layer import LayerReport
from pvqbounds.results.network import LayerEntry, NetworkReport, Tied
from pvqbounds.storage.network_manifest import Manifest, PlannedLayer, digest_of
from pvqbounds.storage.network_store import Store


def formats_of(reports: Sequence[tuple[LayerReport, int]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(side.format for report, _ in reports for side in report.sides))


def network_of(reports: Sequence[tuple[LayerReport, int]], tied: Sequence[Tied] = ()) -> NetworkReport:
    """The network of some layers, each with its number of weights."""
    layers = tuple(
        LayerEntry(r.layer, r.description, r.inputs, r.channels[1], weights, r) for r, weights in reports
    )
    command = "pvqbounds network digits --store runs/digits"
    settings = {"seed": 0}
    return NetworkReport(
        "digits", "0" * 64, layers, formats_of(reports), settings, "0.1.0", command, tied=tuple(tied)
    )


def weight_of(report: LayerReport) -> NDArray[np.float64]:
    """The weights of a layer's channels."""
    return np.stack([s.problem.weight for s in report.sides[0].slices])


def store_of(reports: Sequence[tuple[LayerReport, int]], path: Path) -> Store:
    """The same in a folder."""
    forms = formats_of(reports)
    layers = tuple(
        PlannedLayer(
            *(r.layer, r.description, r.inputs, r.channels[1], weights, digest_of([weight_of(r)])),
            left_out={form: "means nothing" for form in forms if form not in [s.format for s in r.sides]},
        )
        for r, weights in reports
    )
    command = "pvqbounds network digits --store runs/digits"
    manifest = Manifest("0.1.0", command, "digits", (), {"seed": 0}, forms, {}, layers, tied=())
    store = Store.create(path, manifest)
    for report, _ in reports:
        for side in report.sides:
            store.write_unit(replace(report, sides=(side,)))
    return store
