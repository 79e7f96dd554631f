"""SCS: a first-order splitting solver for conic programs; here for both relaxations.

Its multipliers are rough, which costs tightness and never truth: they are certified like any
others. The tolerance here is tighter than its default, because the bound is read off them. It runs
on one thread, draws nothing at random, and cannot be stopped from another thread before its time
limit (Ctrl-C stops it).
"""

from __future__ import annotations

from typing import Any, ClassVar

from pvqbounds.errors import SolverError
from pvqbounds.solvers.base import Options
from pvqbounds.solvers.cone.conic import ConicBackend, ConicProgram, ConicSolution, Triangle

__all__ = ["SCS"]

MAX_ITERATIONS = 100_000


class SCS(ConicBackend):
    """SCS through its own Python interface; `Options.extra` takes the names of its settings."""

    name: ClassVar[str] = "scs"
    module: ClassVar[str] = "scs"
    install: ClassVar[str] = "pip install scs"
    triangle: ClassVar[Triangle] = Triangle.LOWER
    tolerance: ClassVar[float] = 1e-6
    accuracy: ClassVar[float] = 2e-3
    bytes_a_square: ClassVar[float] = 700.0
    """Memory over the squared fan-in; measured: 690 at 200 inputs, 290 at 800."""
    citation: ClassVar[str] = """\
@article{odonoghue2016scs,
  title   = {Conic Optimization via Operator Splitting and Homogeneous Self-Dual Embedding},
  author  = {Brendan O'Donoghue and Eric Chu and Neal Parikh and Stephen Boyd},
  journal = {Journal of Optimization Theory and Applications},
  volume  = {169},
  number  = {3},
  pages   = {1042--1068},
  year    = {2016}
}"""

    def memory(self, n: int) -> float:
        """Bytes: it holds a few matrices of the cone's order."""
        return self.bytes_a_square * float(n) ** 2

    def solve_conic(self, program: ConicProgram, options: Options) -> ConicSolution:
        """Solve the program; the status is SCS's, "solved" or weaker.

        Raises
        ------
        SolverError
            If `options.extra` names a setting that SCS does not have.
        """
        import scs

        tolerance = options.tolerance or self.tolerance
        settings: dict[str, Any] = {
            "verbose": options.verbose,
            "time_limit_secs": options.time_limit,
            "eps_abs": tolerance,
            "eps_rel": tolerance,
            "max_iters": MAX_ITERATIONS,
            **options.extra,
        }
        cone = {"l": program.inequalities, "q": [3] * program.triples, "s": [program.order]}
        data = {"A": program.matrix, "b": program.offset, "c": program.cost}
        try:
            solver = scs.SCS(data, cone, **settings)
        except (TypeError, ValueError) as error:
            raise SolverError(
                f"SCS refuses its settings ({error}); see its documentation for their names."
            ) from error
        result = solver.solve()
        if result["info"]["status_val"] == scs.SIGINT:
            raise KeyboardInterrupt  # SCS takes the signal itself
        return ConicSolution(result["x"], result["y"], str(result["info"]["status"]))
