"""Gurobi: mixed-integer quadratic programs, and the perspective relaxation as a continuous one.

gurobipy brings a restricted licence of its own: 2000 variables and rows, but only 200 variables
once anything is quadratic. That is quantization of 200 inputs to steps and of 11 to 16 levels, and
pruning, or joint compression on steps, of 66 in the perspective form and of 100 with a big-M.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import Capability, ExactSolution, Licence, Options, remaining
from pvqbounds.solvers.miqp.programs import EXACT, MIQPBackend, MIQPSolution, formulation_of
from pvqbounds.solvers.perspective import relax_by_its_point
from pvqbounds.solvers.stopping import on_cancel

if TYPE_CHECKING:
    import gurobipy

__all__ = ["Gurobi"]

RESTRICTED = 200
"""Variables of a quadratic model that the bundled licence allows."""

FEASIBILITY = 1e-9
"""Violation of a row or cone that passes, Gurobi's least: at its own 1e-6 the bounds that it states for
prunings lie up to 1e-4 above the optimum."""

VARIABLES = {"quantization": 1, "one-hot": 1, "perspective": 3, "big-M": 2}
"""For each input, by formulation; the one-hot one takes another for each level."""


class Gurobi(MIQPBackend):
    """Gurobi through gurobipy; `Options.extra` takes its parameters, and "formulation"."""

    name: ClassVar[str] = "gurobi"
    module: ClassVar[str] = "gurobipy"
    install: ClassVar[str] = "pip install gurobipy"
    capabilities: ClassVar[frozenset[Capability]] = EXACT | {Capability.PERSPECTIVE}
    accuracy: ClassVar[float] = 5e-4
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
            with (
                gurobipy.Env(params={"OutputFlag": int(options.verbose)}) as environment,
                gurobipy.Model(env=environment) as model,
            ):
                _set_parameters(model, program, options, options.tolerance or self.tolerance)
                return _solve(model, program, options)
        except gurobipy.GurobiError as error:
            if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
                raise self._too_large(len(program.q), program.kind, *self.capabilities) from error
            raise SolverFailedError(
                f"Gurobi stopped with an error ({error}); take the native solver."
            ) from error

    def relax_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Bound a pruning by the perspective form with k continuous; errors as in :meth:`solve_miqp`."""
        clock = Clock(options.time_limit, options.cancelled)
        _, options = formulation_of(options)
        return relax_by_its_point(
            problem, lambda program: self.solve_miqp(program, remaining(options, clock)), clock
        )

    def refusal(
        self,
        n: int,
        needs: Capability,
        options: Mapping[str, Any],
        *,
        time_limit: float = math.inf,
        levels: int = 0,
    ) -> SolverError | None:
        """What the bundled licence is too small for; see the base class."""
        if needs is Capability.EXACT_QUANTIZATION:
            kind = "quantization"
        elif levels or needs is Capability.EXACT_LEVELS:
            kind = "one-hot"
        else:
            kind = str(options.get("formulation", "perspective"))
        variables = VARIABLES.get(kind, 1) * n + levels
        if variables > RESTRICTED and _is_restricted(os.environ.get("GRB_LICENSE_FILE")):
            return self._too_large(variables, kind, needs)
        return super().refusal(n, needs, options, time_limit=time_limit, levels=levels)

    def _too_large(self, variables: int, kind: str, *needs: Capability) -> SolverError:
        from pvqbounds.solvers import alternatives

        return SolverError(
            f"This problem has {variables} variables in the {kind} form, and Gurobi's licence here allows "
            f"{RESTRICTED} once anything is quadratic; {alternatives(*needs, without=self.name)}, or set "
            "GRB_LICENSE_FILE to a full licence."
        )


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


def _solve(model: gurobipy.Model, program: MIQP, options: Options) -> MIQPSolution:
    from gurobipy import GRB

    x = _fill(model, program)
    with on_cancel(options.cancelled, model.terminate):
        model.optimize()
    status = _word(model.Status)
    if model.Status == GRB.INTERRUPTED and not (options.cancelled and options.cancelled.is_set()):
        raise KeyboardInterrupt  # Gurobi handles the signal itself
    found = np.array(x.X) if model.SolCount else None
    bound = None
    if model.IsMIP:
        bound = float(model.ObjBound)
    elif model.Status == GRB.OPTIMAL:
        bound = float(model.ObjVal)
    return MIQPSolution(found, bound, status)


def _fill(model: gurobipy.Model, program: MIQP) -> gurobipy.MVar:
    """Write the program into the model; returns its variables, shape (m,).

    Only what is not zero is handed over, and cones as scalars: with dense matrices and a matrix
    expression for each cone the model takes far longer to build.
    """
    from scipy import sparse

    x = model.addMVar(
        len(program.q), lb=program.lower, ub=program.upper, vtype=np.where(program.integer, "I", "C")
    )
    if program.start is not None and program.integer.any():
        x.setAttr("Start", program.start)
    first = x[: program.n]
    quadratic = sparse.coo_matrix(program.Q)
    model.setMObjective(quadratic, program.q, program.constant, xQ_L=first, xQ_R=first, xc=x)
    if len(program.b):
        senses = np.where(np.arange(len(program.b)) < program.equations, "=", "<")
        model.addMConstr(program.A, x, senses, program.b)
    variables = x.tolist()
    for (a, b, c), size in zip(program.cones.tolist(), program.sizes.tolist(), strict=True):
        model.addQConstr(variables[a] * variables[a] / size**2 <= variables[b] * variables[c])
    model.update()
    return x


def _set_parameters(model: gurobipy.Model, program: MIQP, options: Options, tolerance: float) -> None:
    import gurobipy

    given: dict[str, Any] = {
        "TimeLimit": options.time_limit,
        "Threads": options.threads,
        "Seed": options.small_seed,
        "MIPGap": tolerance,
        "FeasibilityTol": FEASIBILITY,
        "BarQCPConvTol": FEASIBILITY if program.integer.any() else options.tolerance or FEASIBILITY,
        **options.extra,
    }
    if program.kind == "quantization":
        given.setdefault("Heuristics", 0.0)  # the start is better than what they find: half the time
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
