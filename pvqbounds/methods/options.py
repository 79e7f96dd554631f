"""The options behind a method's name: ``gptq:damp=0.02:act-order`` sets fields of its dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from pvqbounds.errors import InputError, shown
from pvqbounds.methods.base import Method

__all__ = ["with_options"]

M = TypeVar("M", bound=Method[Any])


def with_options(method: M, texts: Sequence[str]) -> M:
    """The method with other values of its fields, each given once: a number by ``=``, a flag by itself.

    Raises
    ------
    InputError
        If it has no such option, or not of that value.
    """
    if not texts:
        return method
    names = [field.name for field in _fields(method)]
    known = {name.replace("_", "-"): name for name in names}
    own = {option: getattr(method, name) for option, name in known.items()}
    given: dict[str, Any] = {}
    for text in texts:
        option, equals, value = text.partition("=")
        read = _value(own[option], equals, value) if option in own else None
        if read is None or known[option] in given:
            there_are = ", ".join(_spelt(option, standard) for option, standard in own.items()) or "none"
            raise InputError(
                f"The option {shown(text)} of method {method.name} is unknown, repeated or of another type; "
                f"its options are: {there_are}."
            )
        given[known[option]] = read
    return cast(M, dataclasses.replace(cast(Any, method), **given))


def _fields(method: object) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cast(Any, method)) if dataclasses.is_dataclass(method) else ()


def _value(standard: object, equals: str, text: str) -> bool | int | float | None:
    """What a text stands for beside a standard value, None if nothing."""
    if isinstance(standard, bool):
        return None if equals else True
    try:
        return int(text) if isinstance(standard, int) else float(text)
    except ValueError:
        return None


def _spelt(option: str, standard: object) -> str:
    return option if isinstance(standard, bool) else f"{option}={standard}"
