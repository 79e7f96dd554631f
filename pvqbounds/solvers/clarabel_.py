"""Clarabel: an interior-point solver for conic programs; here for both relaxations.

Its multipliers are good to about 1e-8. Its linear systems hold one dense block of order
(n+1)(n+2)/2 for the semidefinite cone, so that time grows with the sixth power of the fan-in:
seconds at 72 inputs, tens of seconds and gigabytes at 144.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.conic import ConicBackend, ConicProgram, ConicSolution, Triangle
from pvqbounds.solvers.stopping import Stop

__all__ = ["Clarabel"]


class Clarabel(ConicBackend):
    """Clarabel through its own Python interface; `Options.extra` takes the names of its settings."""

    name: ClassVar[str] = "clarabel"
    module: ClassVar[str] = "clarabel"
    install: ClassVar[str] = "pip install clarabel"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.BOX_HULL, Capability.PERSPECTIVE})
    triangle: ClassVar[Triangle] = Triangle.UPPER
    tolerance: ClassVar[float] = 1e-8
    accuracy: ClassVar[float] = 2e-5
    citation: ClassVar[str] = """\
@misc{goulart2024clarabel,
  title         = {Clarabel: An interior-point solver for conic programs with quadratic objectives},
  author        = {Paul J. Goulart and Yuwen Chen},
  year          = {2024},
  eprint        = {2405.12762},
  archiveprefix = {arXiv},
  primaryclass  = {math.OC}
}"""

    def solve_conic(self, program: ConicProgram, options: Options) -> ConicSolution:
        """Solve the program; the status is Clarabel's, "Solved" or weaker.

        Raises
        ------
        SolverError
            If `options.extra` names a setting that Clarabel does not have.
        SolverFailedError
            If it stops with an error.
        """
        import clarabel
        from scipy import sparse

        size = len(program.cost)
        cones = [
            clarabel.NonnegativeConeT(program.inequalities),
            *[clarabel.SecondOrderConeT(3)] * program.triples,
            clarabel.PSDTriangleConeT(program.order),
        ]
        nothing = sparse.csc_matrix((size, size))
        settings = self._settings(options)
        stop = Stop(options.cancelled)
        try:
            solver = clarabel.DefaultSolver(
                nothing, program.cost, program.matrix, program.offset, cones, settings
            )
            solver.set_termination_callback(stop)
            result = stop.guard(solver.solve)
        # Clarabel's own panics derive from BaseException
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise SolverFailedError(
                f"Clarabel stopped with an error ({error}); take the native solver."
            ) from error
        return ConicSolution(np.array(result.x), np.array(result.z), str(result.status))

    def _settings(self, options: Options) -> Any:
        import clarabel

        tolerance = options.tolerance or self.tolerance
        settings = clarabel.DefaultSettings()
        settings.verbose = options.verbose
        settings.time_limit = options.time_limit
        settings.max_threads = options.threads
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
        for name, value in options.extra.items():
            if not hasattr(settings, name):
                raise SolverError(
                    f"Clarabel has no setting {name!r}; its settings are attributes of "
                    "clarabel.DefaultSettings."
                )
            try:
                setattr(settings, name, value)
            except (TypeError, ValueError, OverflowError) as error:
                raise SolverError(f"Clarabel refuses {name} = {value!r} ({error}).") from error
        return settings
