"""Results of a layer as version 0.1.0 wrote them (schema ``pvqbounds.layer/1``), in words of today.

They have two sides, ``quantization`` and ``pruning``, which say ``bits`` and ``density`` in place of
a format, and one word for a verdict. All else is as it still is.
"""

from __future__ import annotations

from typing import Any

from pvqbounds.problems.plain_formats import Density, Pattern, PlainFormat, Uniform
from pvqbounds.storage.nodes import Document, Node

__all__ = ["FIRST_LAYER_SCHEMA", "FIRST_SIDES", "first_document", "first_format"]

FIRST_LAYER_SCHEMA = "pvqbounds.layer/1"
FIRST_SIDES = ("quantization", "pruning")
"""Names of the two sides, in the JSON and of their arrays."""


def first_format(side: Node, task: str) -> PlainFormat:
    """The format of a side that says its size alone."""
    if task == "quantization":
        return Uniform(side.count("bits"))
    pattern = side.optional("pattern", side.pair)
    return Density(side.number("density")) if pattern is None else Pattern(*pattern)


def first_document(document: Document, formats: tuple[PlainFormat, ...]) -> Document:
    """What a file of schema 1 ought to say of a result, from what one of today would say."""
    rest = {name: value for name, value in document.items() if name not in ("schema", "sides", "verdict")}
    sides: dict[str, Any] = {}
    for task, side, form in zip(FIRST_SIDES, document["sides"], formats, strict=True):
        size = {name: getattr(form, name) for name in ("bits", "density") if hasattr(form, name)}
        told = {name: value for name, value in side.items() if name not in NEWER}
        sides[task] = size | told
    better = [[form.name for form in formats].index(first) for first, _ in document["verdict"]]
    verdict = FIRST_SIDES[better[0]] if len(better) == 1 else "undecided"
    return {"schema": FIRST_LAYER_SCHEMA} | rest | sides | {"verdict": verdict}


NEWER = ("format", "task", "bits_per_weight")
"""What a side did not say."""
