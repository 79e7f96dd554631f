"""Proposals without proof: quantizers and pruners, one file each, found by name.

A method proposes codes or weights for the problems of a layer (:mod:`pvqbounds.methods.base`). None
is believed: what it proposes must be allowed, and its error is evaluated by whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from numpy.typing import NDArray

from pvqbounds.errors import InputError, did_you_mean, one_line, shown
from pvqbounds.methods.base import (
    CodingMethod,
    Method,
    PruningMethod,
    QuantizationMethod,
    RoundingMethod,
)
from pvqbounds.methods.k_best import KBest
from pvqbounds.methods.magnitude import Magnitude
from pvqbounds.methods.magnitude_refit import MagnitudeRefit
from pvqbounds.methods.magnitude_rtn import MagnitudeRtn
from pvqbounds.methods.nearest_plane import NearestPlane
from pvqbounds.methods.randomized import RandomizedRounding
from pvqbounds.methods.rtn import RoundToNearest
from pvqbounds.problems import Problem, Task

__all__ = [
    "CodingMethod",
    "Method",
    "PruningMethod",
    "QuantizationMethod",
    "RoundingMethod",
    "chosen",
    "get",
    "label_of",
    "names",
    "proposals",
    "proposing",
    "register",
]

_OWN: tuple[Method[Any], ...] = (
    RoundToNearest(),
    MagnitudeRtn(),
    NearestPlane(),
    KBest(),
    RandomizedRounding(),
    Magnitude(),
    MagnitudeRefit(),
)
_METHODS: dict[str, Method[Any]] = {method.name: method for method in _OWN}
"""All of them, in the order in which they are listed."""

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,39}")


def names(task: Task | None = None) -> list[str]:
    """Names of all methods, or of those that propose for "quantization", "pruning" or "joint".

    Raises
    ------
    InputError
        If there is no such task.
    """
    if task is None:
        return list(_METHODS)
    if task not in get_args(Task):
        raise InputError(f"A method is one for {' or '.join(get_args(Task))}, not for {shown(task)}.")
    return [name for name, method in _METHODS.items() if task in method.tasks]


def get(name: str) -> Method[Any]:
    """The method of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    found = _METHODS.get(name) if isinstance(name, str) else None
    if found is None:
        hint = did_you_mean(str(name), _METHODS)
        raise InputError(f"There is no method {shown(name)}; {hint} {', '.join(_METHODS)}.")
    return found


def register(method: Method[Any]) -> None:
    """Make a method of one's own known by its name, in place of one that was registered by it before.

    Raises
    ------
    InputError
        If it is no method, or has the name of one of the package's own.
    """
    if not isinstance(method, Method):
        raise InputError(
            "What is registered is an object of a class that derives from methods.QuantizationMethod, "
            f"methods.CodingMethod or methods.PruningMethod, not {shown(method)}."
        )
    texts = {part: getattr(method, part, None) for part in ("name", "label", "citation")}
    for part, text in texts.items():
        if not isinstance(text, str) or text != one_line(text) or not text:
            raise InputError(f"A method says its {part} in one line of text, not by {shown(text)}.")
    if not _NAME.fullmatch(method.name):
        raise InputError(
            f"The name of a method is at most 40 small letters, digits and +-._, not {shown(method.name)}."
        )
    if method.name in (own.name for own in _OWN):
        raise InputError(f"The method {method.name} is the package's own; give yours another name.")
    _METHODS[method.name] = method


def label_of(name: str) -> str:
    """What a table calls a method: its name where it is not known here, as in a file of somebody else's."""
    return _METHODS[name].label if name in _METHODS else name


def chosen(methods: Iterable[str] | None, task: Task, largest: int) -> list[str]:
    """Those of `methods` that propose for `task`.

    Parameters
    ----------
    methods
        Names; if None those that are listed without being asked for.
    largest
        Inputs of the largest problem.

    Raises
    ------
    InputError
        If one is unknown or named twice.
    """
    if methods is None:
        return [name for name in names(task) if largest <= get(name).listed_up_to]
    if isinstance(methods, str):
        raise InputError(f"The methods are a list of names, not one text; give [{shown(methods)}].")
    listed = list(methods)
    tasks = [get(name).tasks for name in listed]
    if len(set(listed)) < len(listed):
        raise InputError(f"A method is named twice in {', '.join(listed)}; name each once.")
    return [name for name, own in zip(listed, tasks, strict=True) if task in own]


def proposing(methods: Iterable[str], problems: Sequence[Problem]) -> list[str]:
    """Those of `methods` that are for every one of these problems: of steps alone, or of any values."""
    return [name for name in methods if all(map(get(name).proposes_for, problems))]


def proposals(
    methods: Iterable[str], problems: Sequence[Problem], seed: int = 0
) -> dict[str, tuple[NDArray[Any], ...]]:
    """What each of the `methods` makes of every problem of a layer, by name.

    Raises
    ------
    InputError
        If a method proposes what a problem does not allow.
    """
    return {name: _proposals(get(name), problems, seed) for name in methods}


def _proposals(method: Method[Any], problems: Sequence[Problem], seed: int) -> tuple[NDArray[Any], ...]:
    points = list(method.propose(problems, seed))
    if len(points) != len(problems):
        raise InputError(f"Method {method.name} proposes for {len(points)} of {len(problems)} problems.")
    allowed = []
    for problem, point in zip(problems, points, strict=True):
        try:
            allowed.append(problem.checked(point))
        except InputError as error:
            raise InputError(f"Method {method.name} proposes what is not allowed: {error}") from error
    return tuple(allowed)
