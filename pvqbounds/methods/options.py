"""The options behind a method's name: ``gptq:damp=0.02:act-order`` sets fields of its dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

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
    changed = _changed(method, given)
    assert isinstance(changed, type(method)), "a replaced field leaves the class as it is"
    return changed


def _fields(method: object) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(method) if dataclasses.is_dataclass(method) else ()


def _changed(method: object, values: dict[str, Any]) -> object:
    """The method with these values of its fields; it is an instance of a dataclass."""
    assert dataclasses.is_dataclass(method), "it has fields"
    assert not isinstance(method, type), "it is a method, not its class"
    return dataclasses.replace(method, **values)


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
