"""Clarabel: an interior-point solver for conic programs; here for both relaxations.

Its multipliers are good to about 1e-8. Its linear systems hold one dense block of order
(n+1)(n+2)/2 for the semidefinite cone, so that time grows with the sixth power of the fan-in:
seconds at 72 inputs, tens of seconds and gigabytes at 144. It looks at the clock between two steps
alone, so that what it cannot begin in time, and a step that would end too late, is not begun.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.solvers.base import Options
from pvqbounds.solvers.cone.conic import ConicBackend, ConicProgram, ConicSolution, Triangle, entries_of_cone
from pvqbounds.solvers.stopping import Stop

__all__ = ["Clarabel"]


class Clarabel(ConicBackend):
    """Clarabel through its own Python interface; `Options.extra` takes the names of its settings."""

    name: ClassVar[str] = "clarabel"
    module: ClassVar[str] = "clarabel"
    install: ClassVar[str] = "pip install clarabel"
    triangle: ClassVar[Triangle] = Triangle.UPPER
    tolerance: ClassVar[float] = 1e-8
    accuracy: ClassVar[float] = 2e-5
    bytes_an_entry: ClassVar[float] = 55.0
    """Memory over the squared order of the dense block; measured at 40 to 80 inputs: 50 to 57."""
    setup_an_entry: ClassVar[float] = 2e-7
    """Seconds to set it up, over the squared order of the dense block (measured at 60 to 90 inputs)."""
    step_an_entry: ClassVar[float] = 2.5e-11
    """Seconds of a step, over the cube of that order."""
    citation: ClassVar[str] = """\
@misc{goulart2024clarabel,
  title         = {Clarabel: An interior-point solver for conic programs with quadratic objectives},
  author        = {Paul J. Goulart and Yuwen Chen},
  year          = {2024},
  eprint        = {2405.12762},
  archiveprefix = {arXiv},
  primaryclass  = {math.OC}
}"""

    def memory(self, n: int) -> float:
        """Bytes: those of the dense block and its factor."""
        return self.bytes_an_entry * entries_of_cone(n) ** 2

    def seconds_to_start(self, n: int) -> float:
        """Seconds: of the preparations and one step."""
        order = entries_of_cone(n)
        return self.setup_an_entry * order**2 + self.step_an_entry * order**3

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
        clock = Clock(options.time_limit, options.cancelled)
        settings = self._settings(options)
        stop = Stop(options.cancelled, clock)
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
        status = "MaxTime" if stop.out_of_time else str(result.status)
        return ConicSolution(np.array(result.x), np.array(result.z), status)

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
