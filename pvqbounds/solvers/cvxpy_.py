"""Any solver that CVXPY knows, as ``cvxpy:NAME``.

What it can do is read off CVXPY's own description of the solver. The name is always passed on:
left to choose, CVXPY takes solvers that are installed and have no licence. At the sizes of one
channel CVXPY's translation takes longer than most solvers; where a backend of its own exists, it
is the better choice.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from pvqbounds.errors import InputError, SolverError, SolverFailedError
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import Backend, Capability, Licence, Options
from pvqbounds.solvers.cone.conic import SQRT2, ConicBackend, ConicProgram, ConicSolution, Triangle
from pvqbounds.solvers.miqp.programs import EXACT, MIQPBackend, MIQPSolution, square_root

__all__ = ["CVXPY", "PREFIX", "Cvxpy", "cvxpy_backend", "usable_solvers"]

PREFIX = "cvxpy:"
CVXPY = PREFIX + "NAME"
"""What stands for all of them in a list."""

STATED_GAP = 1e-4
"""CVXPY does not pass a bound on: an optimum is taken as a bound less this relative gap, the largest
that solvers allow themselves unless told otherwise."""

THEIR_NAMES = {
    "CLARABEL": {
        "time_limit": "time_limit",
        "max_threads": "threads",
        "tol_gap_abs": "tolerance",
        "tol_gap_rel": "tolerance",
        "tol_feas": "tolerance",
    },
    "CPLEX": {
        "cplex_params/timelimit": "time_limit",
        "cplex_params/threads": "threads",
        "cplex_params/mip.tolerances.mipgap": "tolerance",
        "cplex_params/randomseed": "small_seed",
    },
    "GUROBI": {
        "TimeLimit": "time_limit",
        "Threads": "threads",
        "MIPGap": "tolerance",
        "Seed": "small_seed",
    },
    "MOSEK": {
        "mosek_params/MSK_DPAR_OPTIMIZER_MAX_TIME": "time_limit",
        "mosek_params/MSK_IPAR_NUM_THREADS": "threads",
        "mosek_params/MSK_DPAR_MIO_TOL_REL_GAP": "tolerance",
        "mosek_params/MSK_DPAR_INTPNT_CO_TOL_REL_GAP": "tolerance",
        "mosek_params/MSK_IPAR_MIO_SEED": "small_seed",
    },
    "SCIP": {
        "scip_params/limits/time": "time_limit",
        "scip_params/limits/gap": "tolerance",
        "scip_params/randomization/randomseedshift": "small_seed",
    },
    "SCS": {"time_limit_secs": "time_limit", "eps_abs": "tolerance", "eps_rel": "tolerance"},
}
"""What each solver calls our options; after a first "/" a key of that dictionary. Others get none."""


class Cvxpy(ConicBackend, MIQPBackend):
    """One solver of CVXPY; `Options.extra` is passed to ``Problem.solve``, except "formulation"."""

    module: ClassVar[str] = "cvxpy"
    install: ClassVar[str] = "pip install cvxpy"
    capabilities: ClassVar[frozenset[Capability]] = ConicBackend.capabilities | EXACT
    """What the best of them can do; a solver's own are read off CVXPY."""
    triangle: ClassVar[Triangle] = Triangle.LOWER
    accuracy: ClassVar[float] = 1e-2
    solver: ClassVar[str]
    """CVXPY's name of it."""
    citation: ClassVar[str] = """\
@article{diamond2016cvxpy,
  author  = {Steven Diamond and Stephen Boyd},
  title   = {{CVXPY}: A {P}ython-embedded modeling language for convex optimization},
  journal = {Journal of Machine Learning Research},
  volume  = {17},
  number  = {83},
  pages   = {1--5},
  year    = {2016}
}"""

    def available(self) -> bool:
        """Whether CVXPY is installed and finds the solver."""
        if find_spec(self.module) is None:
            return False
        import cvxpy

        return self.solver in cvxpy.installed_solvers()

    def licence(self) -> Licence:
        """The licence that the backend of the same solver finds, where there is one."""
        from pvqbounds.solvers.miqp.gurobi_ import Gurobi
        from pvqbounds.solvers.mosek_ import Mosek

        licensed: dict[str, type[Backend]] = {"GUROBI": Gurobi, "MOSEK": Mosek}
        if self.solver in licensed:
            return licensed[self.solver]().licence()
        return Licence(True, "as far as CVXPY knows")

    def refusal(
        self,
        n: int,
        needs: Capability,
        options: Mapping[str, Any],
        *,
        time_limit: float = math.inf,
        levels: int = 0,
    ) -> SolverError | None:
        """What the backend of the same solver refuses, where there is one."""
        own = _own_backend(self.solver)
        if own is not None and needs in own.capabilities:
            return own.refusal(n, needs, options, time_limit=time_limit, levels=levels)
        return super().refusal(n, needs, options, time_limit=time_limit, levels=levels)

    def solve_conic(self, program: ConicProgram, options: Options) -> ConicSolution:
        """Solve the program; the status is CVXPY's.

        Raises
        ------
        SolverFailedError
            If it ends with an error or without a solution.
        """
        import cvxpy

        x = cvxpy.Variable(len(program.cost))
        slack = program.offset - program.matrix @ x
        split = program.inequalities + 3 * program.triples
        above = slack[: program.inequalities] >= 0
        constraints = [above]
        if program.triples:
            triples = cvxpy.reshape(slack[program.inequalities : split], (3, program.triples), order="F")
            constraints.append(cvxpy.SOC(triples[0], triples[1:], axis=0))
        rows, columns = program.triangle.indices(program.order)
        weights = np.where(rows == columns, 1.0, SQRT2)
        place = np.empty((program.order, program.order), dtype=np.int64)
        place[rows, columns] = place[columns, rows] = np.arange(len(rows))
        entries = cvxpy.multiply(slack[split:], 1.0 / weights)[place.ravel()]
        definite = cvxpy.reshape(entries, place.shape, order="C") >> 0
        constraints.append(definite)
        problem = cvxpy.Problem(cvxpy.Minimize(program.cost @ x), constraints)
        status = self._solve(problem, options)
        if x.value is None or definite.dual_value is None:
            raise SolverFailedError(f"{self.name} gave no solution ({status}); take the native solver.")
        parts = [np.atleast_1d(above.dual_value)]
        if program.triples:
            first, others = constraints[1].dual_value
            parts.append(np.vstack([np.ravel(first), np.reshape(others, (2, -1))]).ravel(order="F"))
        parts.append(np.asarray(definite.dual_value)[rows, columns] * weights)
        return ConicSolution(np.asarray(x.value), np.concatenate(parts), status)

    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """Solve the program; status and errors as in :meth:`solve_conic`."""
        import cvxpy

        whole = [np.flatnonzero(program.integer)]
        x = cvxpy.Variable(len(program.q), integer=whole)
        constraints = []
        split = program.equations
        if split:
            constraints.append(program.A[:split] @ x == program.b[:split])
        if len(program.b) > split:
            constraints.append(program.A[split:] @ x <= program.b[split:])
        for bound, sign in ((program.lower, -1.0), (program.upper, 1.0)):
            finite = np.flatnonzero(np.isfinite(bound))
            if len(finite):
                constraints.append(sign * x[finite] <= sign * bound[finite])
        if len(program.cones):
            a, b, c = program.cones.T
            sides = cvxpy.vstack([x[b] - x[c], cvxpy.multiply(2.0 / program.sizes, x[a])])
            constraints.append(cvxpy.SOC(x[b] + x[c], sides, axis=0))
        error = cvxpy.sum_squares(square_root(program.Q) @ x[: program.n]) + program.q @ x + program.constant
        problem = cvxpy.Problem(cvxpy.Minimize(error), constraints)
        status = self._solve(problem, options)
        stated = None
        if status == cvxpy.OPTIMAL and problem.value is not None:
            gap = max(STATED_GAP, options.tolerance or 0.0)
            stated = float(problem.value) - gap * abs(float(problem.value))
        return MIQPSolution(None if x.value is None else np.asarray(x.value), stated, status)

    def _solve(self, problem: Any, options: Options) -> str:
        from pvqbounds.solvers import BACKENDS

        arguments: dict[str, Any] = dict(options.extra)
        names = THEIR_NAMES.get(self.solver, {})
        if options.tolerance is not None and "tolerance" not in names.values():
            raise SolverError(
                f"How {self.name} takes a tolerance is not known here; pass it on as a solver option by the "
                "name that CVXPY has for it."
            )
        for path, ours in names.items():
            value = getattr(options, ours)
            if value is None:  # no tolerance is named: its own
                continue
            outer, _, inner = path.partition("/")
            if inner:
                arguments[outer] = {inner: value, **arguments.get(outer, {})}
            else:
                arguments.setdefault(outer, value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": the status says so
                problem.solve(solver=self.solver, verbose=options.verbose, **arguments)
        except Exception as error:  # solvers raise classes of their own through CVXPY
            first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            own = self.solver.lower()
            directly = f", or --solver {own}, which says more" if own in BACKENDS else ""
            raise SolverFailedError(
                f"{self.name} stopped with an error ({first}); take the native solver{directly}."
            ) from error
        return str(problem.status)


def cvxpy_backend(name: str) -> Cvxpy:
    """The backend ``cvxpy:NAME``.

    Raises
    ------
    InputError
        If CVXPY knows no solver of that name.
    """
    solver = name.removeprefix(PREFIX).upper()
    # without CVXPY nothing is known of it; that it is not installed is found out next
    able = Cvxpy.capabilities if find_spec("cvxpy") is None else _capabilities(solver)
    class_of_it = type("Cvxpy", (Cvxpy,), {"name": PREFIX + solver, "solver": solver, "capabilities": able})
    backend: Cvxpy = class_of_it()
    return backend


def _own_backend(solver: str) -> Backend | None:
    """The backend of a solver of CVXPY's, where it has one."""
    from pvqbounds.solvers import BACKENDS, backend_of

    return backend_of(solver.lower()) if solver.lower() in BACKENDS else None


def usable_solvers() -> dict[str, frozenset[Capability]] | None:
    """The solvers that CVXPY finds here and what each can do, those left out that can do nothing of it.

    None where CVXPY is not installed.
    """
    if find_spec("cvxpy") is None:
        return None
    import cvxpy

    able = {}
    for name in sorted(cvxpy.installed_solvers()):
        try:
            able[name] = _capabilities(name)
        except InputError:  # neither conic nor quadratic
            continue
    return {name: capabilities for name, capabilities in able.items() if capabilities}


def _capabilities(solver: str) -> frozenset[Capability]:
    from cvxpy.reductions.solvers import defines

    conic, quadratic = defines.SOLVER_MAP_CONIC.get(solver), defines.SOLVER_MAP_QP.get(solver)
    if conic is None and quadratic is None:
        known = sorted({*defines.SOLVER_MAP_CONIC, *defines.SOLVER_MAP_QP})
        raise InputError(f"CVXPY knows no solver '{solver}'; it knows {', '.join(known)}.")
    able: set[Capability] = set()
    cones = {kind.__name__ for kind in getattr(conic, "SUPPORTED_CONSTRAINTS", [])}
    whole = {kind.__name__ for kind in getattr(conic, "MI_SUPPORTED_CONSTRAINTS", [])}
    if cones & {"PSD", "SvecPSD"}:
        able |= ConicBackend.capabilities
    if "SOC" in whole:
        able |= EXACT
    elif getattr(quadratic, "MIP_CAPABLE", False):  # no cones
        able |= {Capability.EXACT_QUANTIZATION, Capability.EXACT_LEVELS}
    return frozenset(able)
