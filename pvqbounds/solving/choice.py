"""Which backend solves a problem, and whether by its exact method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pvqbounds.errors import SolverError
from pvqbounds.problems import Problem
from pvqbounds.relaxations.miqp import indicators_of
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Backend, Options
from pvqbounds.solving.kinds import ALL_KINDS, Kind, kind_of
from pvqbounds.solving.options import SolveOptions

__all__ = ["solver_for_side", "usable_backend"]


def usable_backend(problem: Problem, solver: str, method: str, options: Options) -> tuple[Backend, bool]:
    """The backend, and whether its exact method is to be used; what it refuses is raised before any work."""
    kind = kind_of(problem)
    backend, searches = _backend_for(solver, method, kind)
    if options.relaxed is None:
        needs = kind.exact if searches else kind.relaxed
        refusal = backend.refusal(
            problem.n, needs, options.extra, time_limit=options.time_limit, levels=indicators_of(problem)
        )
        if refusal is not None:
            raise refusal
    return backend, searches


def _backend_for(solver: str, method: str, kind: Kind) -> tuple[Backend, bool]:
    """The backend, and whether its exact method is to be used."""
    needs = {"exact": (kind.exact,), "relax": (kind.relaxed,), "auto": (kind.exact, kind.relaxed)}[method]
    backend = backend_named(solver, *needs)
    return backend, method != "relax" and kind.exact in backend.capabilities


def solver_for_side(
    solver: str,
    method: str,
    kind: Kind,
    inputs: int,
    solver_options: Mapping[str, Any] | None = None,
    time_limit: float = math.inf,
    levels: int = 0,
) -> str:
    """The solver for one side of a layer: the one named, or "native" for what it cannot do.

    Parameters
    ----------
    kind
        The kind of its problems.
    inputs
        Fan-in of its largest problem.
    time_limit
        Seconds for one of them.
    levels
        Levels of all its inputs together, where the values are no steps.

    Raises
    ------
    InputError
        If there is no such solver.
    SolverError
        If it is absent, unlicensed, too small for the problem or can do no kind by this method.
    """
    SolveOptions(solver=solver, method=method)
    try:
        backend, searches = _backend_for(solver, method, kind)
    except SolverError:
        if not any(_is_able(solver, method, other) for other in ALL_KINDS):
            raise  # it is of no use at all
        return "native"
    needs = kind.exact if searches else kind.relaxed
    refusal = backend.refusal(inputs, needs, solver_options or {}, time_limit=time_limit, levels=levels)
    if refusal is not None:
        raise refusal
    return solver


def _is_able(solver: str, method: str, kind: Kind) -> bool:
    try:
        _backend_for(solver, method, kind)
    except SolverError:
        return False
    return True
