"""The errors that pvqbounds raises on purpose.

Each message is one sentence that says what is wrong and what to do. The command line prints
it and exits with :attr:`PvqError.exit_code`.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "ClusterError",
    "ContradictionError",
    "InputError",
    "OutputError",
    "PvqError",
    "SolverError",
    "SolverFailedError",
    "TrainingError",
    "checked_flags",
    "did_you_mean",
    "nearest_name",
    "one_line",
    "shown",
]

LONGEST_SHOWN = 60
"""Characters of a value that a sentence has room for."""


class PvqError(Exception):
    """Base class: something that the caller can mend."""

    exit_code = 2


class InputError(PvqError, ValueError):
    """Data, a name or an option that cannot be used."""


class OutputError(PvqError, OSError):
    """A path that cannot be written."""


class SolverError(PvqError, RuntimeError):
    """A backend that is absent, unlicensed, too small for the problem or unable to solve it."""


class SolverFailedError(PvqError, RuntimeError):
    """A backend that could do the job, tried, and gave nothing that can be used."""

    exit_code = 1


class ContradictionError(PvqError, RuntimeError):
    """A bound that is proved lies above the error of weights that are allowed: a fault of this package.

    Attributes
    ----------
    problem
        The problem, as it was given.
    certificate
        What proves the lower end.
    weight
        The allowed weights, shape (n,).
    error_lower, error_upper
        The two ends that contradict each other.
    """

    exit_code = 1

    def __init__(
        self, problem: Any, certificate: Any, weight: Any, error_lower: float, error_upper: float
    ) -> None:
        super().__init__(
            f"The proved lower bound {error_lower!r} is above the error {error_upper!r} of allowed weights: "
            "this is a fault of pvqbounds and no result; please report it with the problem."
        )
        self.problem, self.certificate, self.weight = problem, certificate, weight
        self.error_lower, self.error_upper = error_lower, error_upper


class ClusterError(PvqError, RuntimeError):
    """A cluster that cannot be reached, or goes away."""

    exit_code = 1


class TrainingError(PvqError, RuntimeError):
    """A training run that cannot go on: its loss is not finite, or memory has run out."""

    exit_code = 1


def shown(value: object) -> str:
    """`value` as a sentence can hold it: on one line, and short however long it is."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = LONGEST_SHOWN
    try:
        text = " ".join(brief.repr(value).split())
    except Exception:  # whatever somebody's class does, and numbers of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def one_line(text: str) -> str:
    """`text` on one line, without characters that would steer a terminal."""

    def plain(character: str) -> str:
        if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is no UTF-8
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character if character.isprintable() else ascii(character)[1:-1]

    return "".join(map(plain, " ".join(text.split())))


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is spelt most like `name`; None where none is as like as `cutoff`, 0 to 1."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What stands before the list of all names: the nearest one, where one is near."""
    near = nearest_name(name, known)
    return "they are:" if near is None else f"did you mean {near}?"


def checked_flags(**flags: object) -> None:
    """Refuse what is neither true nor false, by its name: a text, even "no", would count as true.

    Raises
    ------
    InputError
        For the first of them.
    """
    for name, value in flags.items():
        if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):  # numpy's, too
            raise InputError(f"{name} is True or False, not {shown(value)}.")
