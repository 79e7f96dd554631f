"""What a quantizer says of its own error: a log of losses, one for each layer.

**CSV** with a header: a column ``loss`` or ``error``, and ``layer``, ``module`` or ``name``; GPTQModel's
``quant_log.csv`` numbers its layers and names the module inside (``0``, ``self_attn.q_proj``), and older
ones have a value less in each row than in the header, behind the loss. **JSON**: numbers by layer, or a list
of objects with the same names.

Each tool has its own factor (a half, tokens or sequences) and most add their damping, so that a loss is no
mean squared error by itself: what can be said is how it compares with one.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pvqbounds.errors import InputError, shown
from pvqbounds.storage.archive import parse_json, read_bytes

__all__ = ["LOGS", "claimed_loss", "read_claims"]

LOGS = ("quant_log.csv", "quant_log.json")
"""What a log beside the weights is called."""

LOSSES, PLACES = ("loss", "error"), ("name", "layer", "module")
LARGEST_LOG = 2**26


def read_claims(path: str | Path) -> dict[str, float]:
    """The losses of a log, by the names of layers as it gives them.

    Raises
    ------
    InputError
        If the file is missing or damaged, names no losses, or names one layer twice.
    """
    path = Path(path)
    content = read_bytes(path, LARGEST_LOG)
    if path.suffix == ".json":
        document = parse_json(content, path)
        entries = _of_mapping(document) if isinstance(document, dict) else document
    else:
        try:
            rows = list(csv.reader(io.StringIO(content.decode("utf-8"))))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path} is damaged or not a log of losses ({error}).") from error
        header = [name.strip().lower() for name in rows[0]] if rows else []
        entries = [dict(zip(header, row, strict=False)) for row in rows[1:] if row]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path} is no log of losses: it must have one for each layer.")
    return _claims(entries, path)


def _of_mapping(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Numbers by layer as a list of entries."""
    return [{"name": name, "loss": loss} for name, loss in document.items()]


def _claims(entries: Iterable[Mapping[str, Any]], path: Path) -> dict[str, float]:
    claims: dict[str, float] = {}
    for entry in entries:
        losses = [entry[name] for name in LOSSES if name in entry]
        parts = [str(entry[name]).strip() for name in PLACES if name in entry]
        name = ".".join(filter(None, parts))
        if not losses or not name:
            raise InputError(f"{path} is no log of losses: {shown(dict(entry))} names no layer and loss.")
        if name in claims:
            raise InputError(f"{path} has two losses of {shown(name)}.")
        claims[name] = _number(losses[0])
    return claims


def _number(value: Any) -> float:
    """A loss; NaN where somebody wrote words in its place, such as that the layer was rounded."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def claimed_loss(claims: Mapping[str, float], layer: str) -> float | None:
    """What a log claims of a layer: by its name, or the only one whose name its own ends in."""
    if layer in claims:
        return claims[layer]
    found = [loss for name, loss in claims.items() if layer.endswith(f".{name}")]
    return found[0] if len(found) == 1 else None
