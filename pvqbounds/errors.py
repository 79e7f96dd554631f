"""The errors that pvqbounds raises on purpose.

Each message is one sentence that says what is wrong and what to do. The command line prints
it and exits with :attr:`PvqError.exit_code`.
"""

from __future__ import annotations

import reprlib

__all__ = [
    "InputError",
    "OutputError",
    "PvqError",
    "SolverError",
    "SolverFailedError",
    "TrainingError",
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
