"""The errors that pvqbounds raises on purpose.

Each message is one sentence that says what is wrong and what to do. The command line prints
it and exits with :attr:`PvqError.exit_code`.
"""

from __future__ import annotations

__all__ = ["InputError", "OutputError", "PvqError", "SolverError", "SolverFailedError", "TrainingError"]


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
