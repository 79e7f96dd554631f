"""SCIP: mixed-integer quadratic programs for every exact problem.

SCIP takes linear objectives and, as PySCIPOpt brings it, runs on one thread. The quadratic one
becomes t >= ||y||², y = F x, FᵀF = Q: sums of squares of single variables are what its presolver
knows as convex.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import SolverError
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.miqp.programs import EXACT, MIQPBackend, MIQPSolution, square_root
from pvqbounds.solvers.stopping import on_cancel

__all__ = ["Scip"]

FEASIBILITY = 1e-8
"""Violation of a row that passes: the bound is that of a program this much larger."""


class Scip(MIQPBackend):
    """SCIP through PySCIPOpt; `Options.extra` takes its parameters (limits/nodes), and "formulation"."""

    name: ClassVar[str] = "scip"
    module: ClassVar[str] = "pyscipopt"
    install: ClassVar[str] = "pip install pyscipopt"
    capabilities: ClassVar[frozenset[Capability]] = EXACT
    accuracy: ClassVar[float] = 1e-3
    citation: ClassVar[str] = """\
@inproceedings{maher2016pyscipopt,
  author    = {Stephen Maher and Matthias Miltenberger and Jo{\\~a}o Pedro Pedroso and Daniel Rehfeldt
               and Robert Schwarz and Felipe Serrano},
  title     = {{PySCIPOpt}: Mathematical Programming in {Python} with the {SCIP} Optimization Suite},
  booktitle = {Mathematical Software -- ICMS 2016},
  pages     = {301--307},
  publisher = {Springer},
  year      = {2016},
  doi       = {10.1007/978-3-319-42432-3_37}
}"""

    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """Solve the program; the status is SCIP's.

        Raises
        ------
        SolverError
            If `options.extra` names a parameter that SCIP does not have.
        """
        import pyscipopt

        model = pyscipopt.Model()
        if not options.verbose:
            model.hideOutput()
        _set_parameters(model, options, options.tolerance or self.tolerance)
        x, start = _fill(model, program)
        if start is not None:
            model.addSol(start)
        with on_cancel(options.cancelled, lambda: _interrupt(model)):
            model.optimizeNogil()
        status = str(model.getStatus())
        if status == "userinterrupt" and not (options.cancelled and options.cancelled.is_set()):
            raise KeyboardInterrupt  # SCIP handles the signal itself
        found = np.array([model.getVal(variable) for variable in x]) if model.getNSols() else None
        bound = float(model.getDualbound())
        stated = bound if abs(bound) < model.infinity() else None
        return MIQPSolution(found, stated, status.replace("limit", " limit"))


def _interrupt(model: Any) -> None:
    """Ask SCIP to stop; while it sets up its search it must not be asked."""
    if model.getStageName() != "INITSOLVE":
        model.interruptSolve()


def _set_parameters(model: Any, options: Options, tolerance: float) -> None:
    given = {
        "limits/time": options.time_limit,
        "randomization/randomseedshift": options.small_seed,
        "limits/gap": tolerance,
        "numerics/feastol": FEASIBILITY,
        **options.extra,
    }
    for name, value in given.items():
        try:
            model.setParam(name, value)
        except (KeyError, TypeError, ValueError, LookupError) as error:
            raise SolverError(
                f"SCIP refuses the parameter {name} = {value!r}; its documentation lists the parameters."
            ) from error


def _fill(model: Any, program: MIQP) -> tuple[list[Any], Any]:
    """Write the program into the model; returns the variables x, and the start if there is one."""
    x = [
        model.addVar(
            lb=lower if np.isfinite(lower) else None,
            ub=upper if np.isfinite(upper) else None,
            vtype="I" if whole else "C",
        )
        for lower, upper, whole in zip(
            program.lower.tolist(), program.upper.tolist(), program.integer, strict=True
        )
    ]
    t = model.addVar(lb=0.0)
    root = square_root(program.Q)
    factors = [model.addVar(lb=None) for _ in root]
    for y, row in zip(factors, root, strict=True):
        model.addCons(y == _linear(row, x))
    squares = [y * y for y in factors]
    if squares:
        model.addCons(_sum(squares) <= t)
    for number, bound in enumerate(program.b.tolist()):
        row = program.A[number]
        left = _sum([value * x[i] for i, value in zip(row.indices, row.data.tolist(), strict=True)])
        model.addCons(left == bound if number < program.equations else left <= bound)
    for (a, b, c), size in zip(program.cones.tolist(), program.sizes.tolist(), strict=True):
        model.addCons(x[a] * x[a] / size**2 <= x[b] * x[c])
    model.setObjective(_linear(program.q, x) + t + program.constant)
    if program.start is None:
        return x, None
    image = root @ program.start[: program.n]
    values = [*program.start, *image, image @ image * (1.0 + FEASIBILITY)]
    start = model.createSol()
    for variable, value in zip([*x, *factors, t], values, strict=True):
        model.setSolVal(start, variable, float(value))
    return x, start


def _linear(coefficients: NDArray[np.float64], x: list[Any]) -> Any:
    used = np.flatnonzero(coefficients)
    return _sum([float(coefficients[i]) * x[i] for i in used])


def _sum(terms: list[Any]) -> Any:
    import pyscipopt

    return pyscipopt.quicksum(terms)
