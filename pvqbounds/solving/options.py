"""What is asked of a solve, validated once."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from pvqbounds.errors import InputError, checked_flags, shown
from pvqbounds.problems.validation import whole_number

__all__ = ["METHODS", "SolveKeywords", "SolveOptions"]

METHODS = ("auto", "exact", "relax")


class SolveKeywords(TypedDict, total=False):
    """The keywords of :class:`SolveOptions` behind its first three, for functions that pass them on."""

    time_limit: float
    threads: int
    tolerance: float | None
    seed: int
    verbose: bool
    cancelled: threading.Event | None
    solver_options: Mapping[str, Any] | None


@dataclass(frozen=True)
class SolveOptions:
    """The keywords of :func:`pvqbounds.solve`, each with a value that can be used.

    Raises
    ------
    InputError
        If one of them is of another kind or out of range.
    """

    solver: str = "auto"
    method: str = "auto"
    relaxation: str | None = None
    time_limit: float = 60.0
    threads: int = 1
    tolerance: float | None = None
    seed: int = 0
    verbose: bool = False
    cancelled: threading.Event | None = None
    solver_options: Mapping[str, Any] | None = None
    """None is the same as no options."""

    def __post_init__(self) -> None:
        for name, value in (("solver", self.solver), ("method", self.method)):
            _check(isinstance(value, str), f"The {name} is given by its name", value)
        named = self.relaxation is None or isinstance(self.relaxation, str)
        _check(named, "The relaxation is given by its name", self.relaxation)
        if self.method not in METHODS:
            raise InputError(f"There is no method '{self.method}'; they are: {', '.join(METHODS)}.")
        _check(
            _is_positive(self.time_limit),
            "The time limit must be a positive number of seconds",
            self.time_limit,
        )
        in_range = self.tolerance is None or (_is_positive(self.tolerance) and self.tolerance < 1.0)
        _check(in_range, "The tolerance must be a number between 0 and 1", self.tolerance)
        checked_flags(verbose=self.verbose)
        object.__setattr__(self, "threads", whole_number(self.threads, "The number of threads", 1, 2**16))
        object.__setattr__(self, "seed", whole_number(self.seed, "The seed", 0, 2**63))
        event = self.cancelled is None or isinstance(self.cancelled, threading.Event)
        _check(event, "What cancels a solve is a threading.Event", self.cancelled)
        mapping = self.solver_options is None or isinstance(self.solver_options, Mapping)
        _check(mapping, "Solver options are values by name", self.solver_options)
        if self.solver_options and self.native:
            raise InputError(
                "The native solver has no options of its own; name the one that has: solver=NAME."
            )

    @property
    def native(self) -> bool:
        """Whether the native solver is asked for."""
        return self.solver in ("auto", "native")


def _is_positive(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0.0 < value < math.inf and value <= 1e300  # type: ignore[operator]


def _check(fits: bool, wanted: str, value: object) -> None:
    if not fits:
        raise InputError(f"{wanted}, not {shown(value)}.")
