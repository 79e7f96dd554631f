"""SCS: a first-order splitting solver for conic programs; here for both relaxations.

Its multipliers are rough, which costs tightness and never truth: they are certified like any
others. The tolerance here is tighter than its default, because the bound is read off them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pvqbounds.errors import SolverError
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.conic import ConicBackend, ConicProgram, ConicSolution, Triangle

__all__ = ["SCS"]

TOLERANCE = 1e-6
"""eps_abs and eps_rel, in units of the mean diagonal of the form."""

MAX_ITERATIONS = 100_000


class SCS(ConicBackend):
    """SCS through its own Python interface; `Options.extra` takes the names of its settings."""

    name: ClassVar[str] = "scs"
    module: ClassVar[str] = "scs"
    install: ClassVar[str] = "pip install scs"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.BOX_HULL, Capability.PERSPECTIVE})
    triangle: ClassVar[Triangle] = Triangle.LOWER
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

    def solve_conic(self, program: ConicProgram, options: Options) -> ConicSolution:
        """Solve the program; the status is SCS's, "solved" or weaker.

        Raises
        ------
        SolverError
            If `options.extra` names a setting that SCS does not have.
        """
        return _solve(program, options)


def _solve(data: ConicProgram, options: Options) -> ConicSolution:
    import scs

    settings: dict[str, Any] = {
        "verbose": options.verbose,
        "time_limit_secs": options.time_limit,
        "eps_abs": TOLERANCE,
        "eps_rel": TOLERANCE,
        "max_iters": MAX_ITERATIONS,
        **options.extra,
    }
    cone = {"l": data.inequalities, "q": [3] * data.triples, "s": [data.order]}
    try:
        solver = scs.SCS({"A": data.matrix, "b": data.offset, "c": data.cost}, cone, **settings)
    except (TypeError, ValueError) as error:
        raise SolverError(
            f"SCS refuses its settings ({error}); see its documentation for their names."
        ) from error
    result = solver.solve()
    return ConicSolution(result["x"], result["y"], str(result["info"]["status"]))
