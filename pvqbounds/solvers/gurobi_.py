"""Gurobi: mixed-integer quadratic programs for exact quantization and exact pruning.

gurobipy brings a restricted licence of its own: 2000 variables and rows, but only 200 variables
once anything is quadratic. That is quantization of 200 inputs, pruning of 66 in the perspective
form and of 100 with a big-M.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import Capability, Licence, Options
from pvqbounds.solvers.miqp import GAP, MIQPBackend, MIQPSolution, on_cancel

if TYPE_CHECKING:
    import gurobipy

__all__ = ["Gurobi"]

RESTRICTED = 200
"""Variables of a quadratic model that the bundled licence allows."""


class Gurobi(MIQPBackend):
    """Gurobi through gurobipy; `Options.extra` takes its parameters, and "formulation"."""

    name: ClassVar[str] = "gurobi"
    module: ClassVar[str] = "gurobipy"
    install: ClassVar[str] = "pip install gurobipy"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.EXACT_QUANTIZATION, Capability.EXACT_PRUNING}
    )
    citation: ClassVar[str] = """\
@misc{gurobi,
  author = {{Gurobi Optimization, LLC}},
  title  = {{Gurobi Optimizer Reference Manual}},
  year   = {2026},
  url    = {https://www.gurobi.com}
}"""

    def licence(self) -> Licence:
        """Start an environment; a success is remembered, a failure is asked again."""
        import gurobipy

        try:
            restricted = _is_restricted(os.environ.get("GRB_LICENSE_FILE"))
        except gurobipy.GurobiError as error:
            return Licence(False, f"{str(error).rstrip('.')}; GRB_LICENSE_FILE says where it looks")
        if restricted:
            return Licence(True, f"restricted licence: {RESTRICTED} variables once quadratic")
        return Licence(True, "licensed")

    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """Solve the program; the status is Gurobi's, in lower case.

        Raises
        ------
        SolverError
            If the licence is too small for it, or a parameter is unknown or refused.
        SolverFailedError
            If Gurobi stops with an error.
        """
        import gurobipy

        try:
            with gurobipy.Env(params={"OutputFlag": int(options.verbose)}) as environment:
                return _solve(program, options, environment)
        except gurobipy.GurobiError as error:
            if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
                raise SolverError(
                    f"This problem has {len(program.q)} variables in the {program.kind} form, and Gurobi's "
                    f"licence here allows {RESTRICTED} once anything is quadratic; use --solver native or "
                    "scip, or set GRB_LICENSE_FILE to a full licence."
                ) from error
            raise SolverFailedError(
                f"Gurobi stopped with an error ({error}); take the native solver."
            ) from error


@cache
def _is_restricted(licence_file: str | None) -> bool:
    """Whether a small quadratic model is already too large; exceptions are not remembered.

    Parameters
    ----------
    licence_file
        What GRB_LICENSE_FILE says, so that another one is asked anew.
    """
    import gurobipy

    with (
        gurobipy.Env(params={"OutputFlag": 0}) as environment,
        gurobipy.Model(env=environment) as model,
    ):
        x = model.addMVar(RESTRICTED + 1)
        model.setObjective(x @ x)
        try:
            model.optimize()
        except gurobipy.GurobiError as error:
            if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
                return True
            raise
        return False


def _solve(program: MIQP, options: Options, environment: gurobipy.Env) -> MIQPSolution:
    import gurobipy
    from gurobipy import GRB

    with gurobipy.Model(env=environment) as model:
        _set_parameters(model, options)
        x = _fill(model, program)
        with on_cancel(options.cancelled, model.terminate):
            model.optimize()
        status = _word(model.Status)
        if model.Status == GRB.INTERRUPTED and not (options.cancelled and options.cancelled.is_set()):
            raise KeyboardInterrupt  # Gurobi handles the signal itself
        found = np.array(x.X) if model.SolCount else None
        return MIQPSolution(found, float(model.ObjBound), status)


def _fill(model: Any, program: MIQP) -> Any:
    """Write the program into the model; returns its variables, shape (m,)."""
    x = model.addMVar(
        len(program.q),
        lb=program.lower,
        ub=program.upper,
        vtype=np.where(program.integer, "I", "C"),
    )
    model.setObjective(x @ program.Q @ x + program.q @ x + program.constant)
    if len(program.b):
        model.addConstr(program.A @ x <= program.b)
    for a, b, c in program.cones.tolist():
        model.addConstr(x[a] * x[a] <= x[b] * x[c])
    model.update()
    return x


def _set_parameters(model: Any, options: Options) -> None:
    import gurobipy

    given = {
        "TimeLimit": options.time_limit,
        "Threads": options.threads,
        "Seed": options.seed,
        "MIPGap": GAP,
        **options.extra,
    }
    for name, value in given.items():
        try:
            model.setParam(name, value)
        except (gurobipy.GurobiError, AttributeError, TypeError, ValueError) as error:
            raise SolverError(
                f"Gurobi refuses {name} = {value!r} ({str(error).rstrip('.')}); "
                "its manual lists the parameters."
            ) from error


def _word(status: int) -> str:
    from gurobipy import GRB

    names = {getattr(GRB.Status, name): name for name in dir(GRB.Status) if name.isupper()}
    return names.get(status, f"status {status}").lower().replace("_", " ")
