"""JSON documents: numbers as they can hold them, written whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pvqbounds.storage.archive import json_bytes, replacing

__all__ = ["finite", "write_json"]


def finite(value: Any) -> Any:
    """`value` as JSON can hold it: numbers that are not finite are null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(json_bytes(document))
