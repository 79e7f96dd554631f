"""Packages that not every environment has: whatever test needs one that is absent is skipped."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from pvqbounds.commands.missing import EXTRAS
from pvqbounds.errors import InputError, SolverError

SOLVERS = {"cvxpy", "gurobipy", "highspy", "mosek", "pyscipopt"}
OPTIONAL = SOLVERS | EXTRAS.keys() | {"dask"}


def absent(error: BaseException | None) -> str | None:
    """The optional package whose absence an error states; None where it is another matter.

    What failed to be imported says so, or a sentence of the project that was raised from that. An error that
    came up while such a one was handled is a fault of its own: so is a comparison that does not hold.
    """
    met: list[BaseException] = []
    while isinstance(error, ImportError | InputError | SolverError) and error not in met:
        if isinstance(error, ModuleNotFoundError):
            name = (error.name or "").split(".")[0]
            hidden = name in sys.modules  # by the test itself, which wants to see what comes of it
            if name in OPTIONAL and not hidden and find_spec(name) is None:
                return name
        met.append(error)
        error = error.__cause__
    return None
