"""Keywords of a function as the carrying objects that they are fields of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

__all__ = ["carried_by", "refuse_unknown"]

T = TypeVar("T")


def refuse_unknown(function: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a keyword that a function does not have, as Python does for those of a signature.

    Raises
    ------
    TypeError
        If there is one.
    """
    for name in given:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'")


def carried_by(kind: type[T], given: Mapping[str, Any]) -> T:
    """The object of this data class that has those of the keywords that are fields of it.

    Raises
    ------
    InputError
        If a value cannot be used.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in names})
