"""Packages that not every environment has: whatever test needs one that is absent is skipped."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from pvqbounds.commands.missing import EXTRAS

SOLVERS = {"cvxpy", "gurobipy", "highspy", "mosek", "pyscipopt"}
OPTIONAL = SOLVERS | EXTRAS.keys() | {"dask"}


def absent(error: BaseException | None) -> str | None:
    """The optional package whose absence is behind an error; None where it is another matter."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            name = (error.name or "").split(".")[0]
            hidden = name in sys.modules  # by the test itself, which wants to see what comes of it
            if name in OPTIONAL and not hidden and find_spec(name) is None:
                return name
        error = error.__cause__ or error.__context__
    return None
