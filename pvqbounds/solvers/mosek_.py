"""MOSEK: both relaxations as conic programs, every exact problem as a mixed-integer conic program.

Everything is written as affine conic constraints, the quadratic objective too: models can then be
written out in every one of MOSEK's conic formats. A MIQP

    minimise yᵀQy + qᵀx + constant   becomes   minimise t + qᵀx + constant,  t >= ||F y||²,  FᵀF = Q.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.relaxations.miqp import MIQP
from pvqbounds.solvers.base import Capability, Licence, Options
from pvqbounds.solvers.cone.conic import ConicBackend, ConicProgram, ConicSolution, Triangle, entries_of_cone
from pvqbounds.solvers.miqp.programs import EXACT, MIQPBackend, MIQPSolution, square_root
from pvqbounds.solvers.stopping import Stop

if TYPE_CHECKING:
    import mosek

__all__ = ["Mosek", "conic_task", "miqp_task"]

T = TypeVar("T")

CONIC_TOLERANCE = 1e-8
"""MOSEK's own, for conic programs; `Mosek.tolerance` is the gap of integer ones."""

NO_LICENCE_FILE, BAD_LICENCE, NO_SERVER = 1008, 1014, 1021
"""MOSEK's response codes of a licence that is absent, not understood, or not to be reached."""


class Mosek(ConicBackend, MIQPBackend):
    """MOSEK through its own API; `Options.extra` takes its parameters (MSK_...), and "formulation"."""

    name: ClassVar[str] = "mosek"
    module: ClassVar[str] = "mosek"
    install: ClassVar[str] = "pip install mosek"
    capabilities: ClassVar[frozenset[Capability]] = ConicBackend.capabilities | EXACT
    triangle: ClassVar[Triangle] = Triangle.LOWER
    citation: ClassVar[str] = """\
@manual{mosek,
  title        = {{MOSEK} Optimizer {API} for {Python}},
  author       = {{MOSEK ApS}},
  organization = {MOSEK ApS},
  year         = {2026},
  url          = {https://docs.mosek.com}
}"""

    def licence(self) -> Licence:
        """Check out the licence of the conic and integer solvers, and give it back."""
        import mosek

        looks = f"it looks in {Path.home() / 'mosek' / 'mosek.lic'} or where MOSEKLM_LICENSE_FILE points"
        try:
            with mosek.Env() as environment:
                environment.checkoutlicense(mosek.feature.pton)
        except mosek.Error as error:
            reasons = {
                NO_LICENCE_FILE: f"no licence file was found; {looks}",
                BAD_LICENCE: f"its licence file cannot be read; {looks}",
                NO_SERVER: f"its licence server cannot be reached; {looks}",
            }
            return Licence(False, reasons.get(int(error.errno), f"{error}; {looks}"))
        return Licence(True, "licensed")

    def memory(self, n: int) -> float:
        """Bytes: those of a dense triangle with a row for each entry of the cone, as its manual has it."""
        return 4.0 * entries_of_cone(n) ** 2

    def solve_conic(self, program: ConicProgram, options: Options) -> ConicSolution:
        """Solve the program; the status is MOSEK's.

        Raises
        ------
        SolverError
            If there is no licence, or a parameter is unknown.
        SolverFailedError
            If MOSEK stops with an error or without a solution.
        """
        import mosek

        def read(task: mosek.Task) -> ConicSolution:
            which = mosek.soltype.itr
            if not task.solutiondef(which):
                raise SolverFailedError("mosek ended without a solution; take the native solver.")
            dual = [np.array(task.getaccdoty(which, i)) for i in range(task.getnumacc())]
            status = _word(task.getsolsta(which))
            return ConicSolution(np.array(task.getxx(which)), np.concatenate(dual), status)

        return _run(
            lambda environment: conic_task(environment, program),
            options,
            options.tolerance or CONIC_TOLERANCE,
            read,
        )

    def solve_miqp(self, program: MIQP, options: Options) -> MIQPSolution:
        """Solve the program; status and errors as in :meth:`solve_conic`."""
        import mosek

        def read(task: mosek.Task) -> MIQPSolution:
            which = mosek.soltype.itg
            x = None
            status = "no solution"
            if task.solutiondef(which):
                status = _word(task.getsolsta(which))
                x = np.array(task.getxx(which))[: len(program.q)]
            # the stated bound means nothing before the first relaxation is solved
            solved = task.getintinf(mosek.iinfitem.mio_num_relax) > 0
            bound = task.getdouinf(mosek.dinfitem.mio_obj_bound) if solved else None
            return MIQPSolution(x, bound, status)

        return _run(
            lambda environment: miqp_task(environment, program),
            options,
            options.tolerance or self.tolerance,
            read,
        )


def conic_task(environment: mosek.Env, program: ConicProgram) -> mosek.Task:
    """A task that holds `program`: free variables, one conic constraint for each cone.

    Parameters
    ----------
    program
        Its semidefinite matrix is stacked by its lower triangle, as MOSEK's vectorised cone is.
    """
    task = environment.Task()
    _add_variables(task, program.cost)
    first = _add_rows(task, -program.matrix, program.offset)
    if program.inequalities:
        task.appendaccseq(task.appendrplusdomain(program.inequalities), first, None)
    first += program.inequalities
    triple = task.appendquadraticconedomain(3) if program.triples else 0
    for _ in range(program.triples):
        task.appendaccseq(triple, first, None)
        first += 3
    rows = program.order * (program.order + 1) // 2
    task.appendaccseq(task.appendsvecpsdconedomain(rows), first, None)
    return task


def miqp_task(environment: mosek.Env, program: MIQP) -> mosek.Task:
    """A task that holds `program`; its last variable is t."""
    import mosek

    task = environment.Task()
    m = len(program.q)
    _add_variables(task, np.append(program.q, 1.0))
    task.putcfix(program.constant)
    for i in range(m):
        task.putvarbound(i, *_range(program.lower[i], program.upper[i]))
    task.putvarbound(m, mosek.boundkey.lo, 0.0, 0.0)
    whole = np.flatnonzero(program.integer).tolist()
    task.putvartypelist(whole, [mosek.variabletype.type_int] * len(whole))
    task.appendcons(len(program.b))
    for number, bound in enumerate(program.b.tolist()):
        row = program.A[number]
        task.putarow(number, row.indices.tolist(), row.data.tolist())
        key = mosek.boundkey.fx if number < program.equations else mosek.boundkey.up
        task.putconbound(number, key, bound, bound)
    # 2 u v >= ||y||² is MOSEK's rotated cone: u = t, v = 1/2, F times the first unknowns
    root = square_root(program.Q)
    rows = np.zeros((2 + len(root), m + 1))
    rows[0, m] = 1.0
    rows[2:, : program.n] = root
    offset = np.zeros(len(rows))
    offset[1] = 0.5
    task.appendaccseq(task.appendrquadraticconedomain(len(rows)), _add_rows(task, rows, offset), None)
    rotated = task.appendrquadraticconedomain(3) if len(program.cones) else 0
    for (a, b, c), size in zip(program.cones.tolist(), program.sizes.tolist(), strict=True):
        rows = np.zeros((3, m + 1))
        rows[0, b], rows[1, c], rows[2, a] = 1.0, 0.5, 1.0 / size
        task.appendaccseq(rotated, _add_rows(task, rows, np.zeros(3)), None)
    return task


def _add_variables(task: Any, cost: NDArray[np.float64]) -> None:
    """Free variables to be minimised at `cost`."""
    import mosek

    task.appendvars(len(cost))
    task.putvarboundsliceconst(0, len(cost), mosek.boundkey.fr, 0.0, 0.0)
    task.putcslice(0, len(cost), cost)
    task.putobjsense(mosek.objsense.minimize)


def _add_rows(task: Any, matrix: Any, offset: NDArray[np.float64]) -> int:
    """Affine expressions matrix @ x + offset; returns the number of the first."""
    from scipy import sparse

    first = int(task.getnumafe())
    task.appendafes(len(offset))
    entries = sparse.coo_matrix(matrix)
    rows, columns = entries.row.astype(np.int64) + first, entries.col.astype(np.int32)
    task.putafefentrylist(rows, columns, entries.data)
    task.putafegslice(first, first + len(offset), offset)
    return first


def _range(lower: float, upper: float) -> tuple[Any, float, float]:
    import mosek

    if np.isinf(lower):
        return (mosek.boundkey.fr, 0.0, 0.0) if np.isinf(upper) else (mosek.boundkey.up, 0.0, upper)
    if np.isinf(upper):
        return mosek.boundkey.lo, lower, 0.0
    return (mosek.boundkey.fx if lower == upper else mosek.boundkey.ra), lower, upper


def _run(build: Callable[[Any], Any], options: Options, tolerance: float, read: Callable[[Any], T]) -> T:
    """Build, solve and read within one environment, with MOSEK's errors in our words."""
    import mosek

    try:
        with mosek.Env() as environment, build(environment) as task:
            _set_parameters(task, options, tolerance)
            _optimize(task, options.cancelled)
            return read(task)
    except mosek.Error as error:
        kind = SolverError if int(error.errno) == NO_LICENCE_FILE else SolverFailedError
        raise kind(f"mosek stopped with an error ({error}); take the native solver.") from error


def _set_parameters(task: Any, options: Options, tolerance: float) -> None:
    import mosek

    if options.verbose:
        task.set_Stream(mosek.streamtype.log, lambda text: print(text, end=""))
    given = {
        "MSK_DPAR_OPTIMIZER_MAX_TIME": options.time_limit,
        "MSK_IPAR_NUM_THREADS": options.threads,
        "MSK_IPAR_MIO_SEED": options.small_seed,
        "MSK_DPAR_MIO_TOL_REL_GAP": tolerance,
        "MSK_DPAR_INTPNT_CO_TOL_REL_GAP": tolerance,
        "MSK_DPAR_INTPNT_CO_TOL_PFEAS": tolerance,
        "MSK_DPAR_INTPNT_CO_TOL_DFEAS": tolerance,
        **options.extra,
    }
    for name, value in given.items():
        try:
            task.putparam(name, str(value))
        except mosek.Error as error:
            raise SolverError(
                f"MOSEK refuses {name} = {value!r} ({error}); its manual lists the parameters (MSK_...)."
            ) from error


def _optimize(task: Any, cancelled: threading.Event | None) -> None:
    """Solve; MOSEK calls back often enough to be stopped by `cancelled` or by Ctrl-C."""
    stop = Stop(cancelled)
    task.set_InfoCallback(lambda *_: int(stop()))
    stop.guard(task.optimize)


def _word(status: Any) -> str:
    return str(status).rpartition(".")[2].replace("_", " ")
