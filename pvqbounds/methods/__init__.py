"""Proposals without proof: quantizers and pruners, one file each, found by name.

A method proposes codes or weights for the problems of a layer (:mod:`pvqbounds.methods.base`). None
is believed: what it proposes must be allowed, and its error is evaluated by whoever asks. A name may
carry options, ``gptq:act-order`` (:mod:`pvqbounds.methods.options`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from numpy.typing import NDArray

from pvqbounds.errors import InputError, did_you_mean, one_line, shown
from pvqbounds.methods.adaround import AdaRound
from pvqbounds.methods.alps import Alps
from pvqbounds.methods.base import (
    CodingMethod,
    Method,
    PruningMethod,
    QuantizationMethod,
    RoundingMethod,
)
from pvqbounds.methods.coordinate_descent import CoordinateDescent
from pvqbounds.methods.gptq import Gptq
from pvqbounds.methods.inverse import is_singular
from pvqbounds.methods.k_best import KBest
from pvqbounds.methods.magnitude import Magnitude
from pvqbounds.methods.magnitude_refit import MagnitudeRefit
from pvqbounds.methods.magnitude_rtn import MagnitudeRtn
from pvqbounds.methods.nearest_plane import NearestPlane
from pvqbounds.methods.obq import OptimalBrainQuantization
from pvqbounds.methods.obs import OptimalBrainSurgeon
from pvqbounds.methods.options import with_options
from pvqbounds.methods.randomized import RandomizedRounding
from pvqbounds.methods.rtn import RoundToNearest
from pvqbounds.methods.sparsegpt import SparseGpt
from pvqbounds.methods.swaps import Swaps
from pvqbounds.methods.wanda import Wanda
from pvqbounds.problems import Problem, Task

__all__ = [
    "CodingMethod",
    "Method",
    "PruningMethod",
    "QuantizationMethod",
    "RoundingMethod",
    "asked_for",
    "chosen",
    "get",
    "label_of",
    "names",
    "notes",
    "proposals",
    "proposing",
    "register",
]

_OWN: tuple[Method[Any], ...] = (
    RoundToNearest(),
    MagnitudeRtn(),
    NearestPlane(),
    Gptq(),
    CoordinateDescent(),
    AdaRound(),
    OptimalBrainQuantization(),
    KBest(),
    RandomizedRounding(),
    Magnitude(),
    MagnitudeRefit(),
    Wanda(),
    SparseGpt(),
    OptimalBrainSurgeon(),
    Swaps(),
    Alps(),
)
_METHODS: dict[str, Method[Any]] = {method.name: method for method in _OWN}
"""All of them, in the order in which they are listed."""

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,39}")

EVERY = "all"
"""Stands for all methods of a task."""

RESERVED = (EVERY, "none")
"""What lists of names say of themselves."""


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
    """The method of that name, with the options that follow it: ``gptq``, ``gptq:damp=0.02:act-order``.

    Raises
    ------
    InputError
        If there is none, or it has no such option.
    """
    head, *options = name.split(":") if isinstance(name, str) else (str(name),)
    found = _METHODS.get(head) if isinstance(name, str) else None
    if found is None:
        hint = did_you_mean(head, _METHODS)
        raise InputError(f"There is no method {shown(name)}; {hint} {', '.join(_METHODS)}.")
    return with_options(found, options)


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
    if method.name in RESERVED:
        raise InputError(f"The name {method.name} stands for a list of methods; give yours another one.")
    if method.name in (own.name for own in _OWN):
        raise InputError(f"The method {method.name} is the package's own; give yours another name.")
    _METHODS[method.name] = method


def label_of(name: str) -> str:
    """What a table calls a method: its name where it is not known here, as in a file of somebody else's."""
    head, *options = name.split(":")
    return ", ".join([_METHODS[head].label, *options]) if head in _METHODS else name


def chosen(methods: Iterable[str] | None, task: Task, largest: int) -> list[str]:
    """Those of `methods` that propose for `task`.

    Parameters
    ----------
    methods
        Names, "all" for every method of the task; if None those that are listed without being asked for.
    largest
        Inputs of the largest problem.

    Raises
    ------
    InputError
        If one is unknown or named twice.
    """
    if methods is None:
        return [name for name in names(task) if largest <= get(name).listed_up_to]
    named = asked_for(methods)
    found = [get(name) for name in named]
    every = [] if EVERY not in methods else [name for name in names(task) if get(name) not in found]
    return [*every, *(name for name, method in zip(named, found, strict=True) if task in method.tasks)]


def asked_for(methods: Iterable[str] | None) -> list[str]:
    """The names that are asked for one by one, in a list that may be None or hold "all".

    Raises
    ------
    InputError
        If one is unknown or named twice.
    """
    if isinstance(methods, str):
        raise InputError(f"The methods are a list of names, not one text; give [{shown(methods)}].")
    listed = list(methods or ())
    named = [name for name in listed if name != EVERY]
    found = [get(name) for name in named]
    if len(listed) - len(named) > 1 or any(method in found[:i] for i, method in enumerate(found)):
        raise InputError(f"A method is named twice in {', '.join(listed)}; name each once.")
    return named


def proposing(methods: Iterable[str], problems: Sequence[Problem]) -> list[str]:
    """Those of `methods` that are for every one of these problems: of steps alone, or of any values.

    Of steps of any scale, those that are for steps: they propose codes at the scale of least weight error.
    """
    settled = [problem.settled for problem in problems]
    return [name for name in methods if all(map(get(name).proposes_for, settled))]


def proposals(
    methods: Iterable[str], problems: Sequence[Problem], seed: int = 0
) -> dict[str, tuple[NDArray[Any], ...]]:
    """What each of the `methods` makes of every problem of a layer, by name.

    Where the scale is free, codes are proposed at that of least weight error, and count at their own best.

    Raises
    ------
    InputError
        If a method proposes what a problem does not allow.
    """
    return {name: _proposals(name, problems, seed) for name in methods}


def notes(methods: Iterable[str], problems: Sequence[Problem]) -> list[str]:
    """What has to be said of proposals where a Gram is singular: a sentence for each method."""
    told = [(label_of(name), get(name).on_singular) for name in methods if get(name).on_singular]
    grams = {problem.normalised.shared for problem in problems} if told else set()
    lived = (gram.among(gram.live) for gram in grams if gram.live.any())
    if not any(map(is_singular, lived)):
        return []
    return [f"The Gram is singular: {label} {text}." for label, text in told]


def _proposals(name: str, problems: Sequence[Problem], seed: int) -> tuple[NDArray[Any], ...]:
    try:
        points = list(get(name).propose([problem.settled for problem in problems], seed))
    except InputError as error:
        raise InputError(f"Method {name} cannot propose: {error}") from error
    if len(points) != len(problems):
        raise InputError(f"Method {name} proposes for {len(points)} of {len(problems)} problems.")
    allowed = []
    for problem, point in zip(problems, points, strict=True):
        try:
            allowed.append(problem.checked(point))
        except InputError as error:
            raise InputError(f"Method {name} proposes what is not allowed: {error}") from error
    return tuple(allowed)
