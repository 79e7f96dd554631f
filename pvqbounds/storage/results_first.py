"""Results of a layer as version 0.1.0 wrote them (schema ``pvqbounds.layer/1``), in words of today.

They have two sides, ``quantization`` and ``pruning``, which say ``bits`` and ``density`` in place of
a format, and one word for a verdict. All else is as it still is.
"""

from __future__ import annotations

from typing import Any

from pvqbounds.problems.formats import Format, density_format, int_format, pattern_format
from pvqbounds.storage.nodes import Document, Node

__all__ = ["FIRST_LAYER_SCHEMA", "FIRST_SIDES", "first_document", "first_format", "with_todays_kinds"]

FIRST_LAYER_SCHEMA = "pvqbounds.layer/1"
FIRST_SIDES = ("quantization", "pruning")
"""Names of the two sides, in the JSON and of their arrays."""


def first_format(side: Node, task: str) -> Format:
    """The format of a side that says its size alone."""
    if task == "quantization":
        return int_format(side.count("bits"))
    pattern = side.optional("pattern", side.pair)
    return density_format(side.number("density")) if pattern is None else pattern_format(pattern)


def first_document(document: Document, formats: tuple[Format, ...]) -> Document:
    """What a file of schema 1 ought to say of a result, from what one of today would say."""
    told = {"schema", "sides", "verdict", "dominates", "contains"}
    rest = {name: value for name, value in document.items() if name not in told}
    sides: dict[str, Any] = {}
    for task, side, form in zip(FIRST_SIDES, document["sides"], formats, strict=True):
        numbers = {"bits": form.bits, "density": form.density}
        size = {name: number for name, number in numbers.items() if number is not None}
        sides[task] = size | {name: value for name, value in side.items() if name not in NEWER}
    better = [[form.name for form in formats].index(first) for first, _ in document["verdict"]]
    verdict = FIRST_SIDES[better[0]] if len(better) == 1 else "undecided"
    return {"schema": FIRST_LAYER_SCHEMA} | rest | sides | {"verdict": verdict}


NEWER = ("format", "task", "bits_per_weight")
"""What a side did not say."""

DUALS = ("box-hull dual", "perspective dual")
"""What certificates of multipliers were called, of codes and of pruning: they are one kind today."""


def with_todays_kinds(document: Document) -> Document:
    """What a file says, its certificates called what they are called today."""
    sides = {side: document[side] for side in FIRST_SIDES if isinstance(document.get(side), dict)}
    entries = {side: told["per_channel"] for side, told in sides.items()}
    renamed = {side: sides[side] | {"per_channel": list(map(_renamed, entries[side]))} for side in sides}
    alone = {"result": _renamed(document["result"])} if "result" in document else {}
    return document | renamed | alone


def _renamed(entry: Document) -> Document:
    certificate = entry.get("certificate")
    if certificate is None or certificate["kind"] not in DUALS:
        return entry
    return entry | {"certificate": certificate | {"kind": "dual"}}
