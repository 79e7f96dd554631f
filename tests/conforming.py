"""Whether documents conform to the published JSON Schemas."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pvqbounds.storage.schemas import SCHEMAS, schema_of

ALONE = ("pvqbounds.problem/1", "pvqbounds.curve/1")
"""Entries of these may have fields of their own."""


def strict(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: strict(part) for name, part in schema.items()}
    # a part that refers to another adds to its fields: what is left over is known to the whole alone
    if "$ref" in schema and "properties" in schema:
        return parts | {"unevaluatedProperties": False}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        return parts | {"additionalProperties": False}
    return parts


def validator(name: str, *, closed: bool) -> Any:
    import jsonschema
    import referencing

    schemas = {key: schema_of(key) for key in SCHEMAS}
    if closed:
        schemas = {key: strict(schema) for key, schema in schemas.items()}
        schemas |= {alone: schema_of(alone) for alone in ALONE}
    resources = [(s["$id"], referencing.Resource.from_contents(s)) for s in schemas.values()]
    registry = referencing.Registry().with_resources(resources)
    return jsonschema.Draft202012Validator(schemas[name], registry=registry)


def faults(document: dict[str, Any], *, closed: bool = False) -> list[str]:
    """What is wrong with a document, or with one that has fields that no schema names (`closed`)."""
    found = validator(document["schema"], closed=closed).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def written_as_published(path: str | Path) -> bool:
    """Whether a file says what a published schema knows of and nothing else; unseen without jsonschema."""
    return find_spec("jsonschema") is None or faults(json.loads(Path(path).read_text()), closed=True) == []
