"""The published JSON Schemas (draft 2020-12) of what this package writes, one file each."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from pvqbounds.errors import InputError, shown

__all__ = ["SCHEMAS", "schema_of"]

SCHEMAS = {
    "pvqbounds.layer/2": "layer-2.json",
    "pvqbounds.problem/1": "problem-1.json",
    "pvqbounds.curve/1": "curve-1.json",
    "pvqbounds.network/1": "network-1.json",
    "pvqbounds.network-result/1": "network-result-1.json",
    "pvqbounds.allocation/1": "allocation-1.json",
    "pvqbounds.export/1": "export-1.json",
    "pvqbounds.exported-problem/1": "exported-problem-1.json",
    "pvqbounds.verification/1": "verification-1.json",
    "pvqbounds.comparison/1": "comparison-1.json",
    "pvqbounds.solvers/1": "solvers-1.json",
    "pvqbounds.weights/1": "weights-1.json",
    "pvqbounds.distributions/1": "distributions-1.json",
    "pvqbounds.training/1": "training-1.json",
    "pvqbounds.training-table/1": "training-table-1.json",
    "pvqbounds.against/1": "against-1.json",
}
"""Files of the schemas, by what a document's ``schema`` says."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of documents whose ``schema`` is `name`; others that it refers to have URNs as ``$id``.

    Raises
    ------
    InputError
        If none is published by that name.
    """
    if name not in SCHEMAS:
        raise InputError(f"No schema is called {shown(name)}; there are {', '.join(SCHEMAS)}.")
    document: dict[str, Any] = json.loads(files(__name__).joinpath(SCHEMAS[name]).read_text("utf-8"))
    return document
