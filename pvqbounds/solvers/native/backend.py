"""The native backend: exact searches and dual engines of this project."""

from __future__ import annotations

from dataclasses import replace

from pvqbounds.clock import Clock
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, Problem, SparseLeastSquares
from pvqbounds.relaxations.box_hull import BoxHullSDP
from pvqbounds.solvers.base import Backend, Capability, ExactSolution, Options, SDPSolution
from pvqbounds.solvers.relaxation import DIRECTIONS, Relaxed

__all__ = ["Native"]

PERSPECTIVE_TOLERANCE = 1e-3
"""Relative accuracy of the perspective relaxation; `Native.tolerance` is that of the box-hull one."""

LARGEST_TRIAL = 128
"""Inputs above which "auto" tries no search over supports, unless there are few supports."""


class Native(Backend):
    """Needs no licence and has no size limit; the default."""

    name = "native"
    module = "numba"
    install = "pip install pvqbounds"
    capabilities = frozenset(
        {
            Capability.BOX_HULL,
            Capability.EXACT_QUANTIZATION,
            Capability.EXACT_PRUNING,
            Capability.PERSPECTIVE,
            Capability.SPLITS,
            Capability.EXACT_LEVELS,
            Capability.EXACT_JOINT,
            Capability.JOINT,
        }
    )
    citation = """@software{pvqbounds,
  title = {pvqbounds: certified bounds for layer-wise quantization and pruning},
  author = {{The pvqbounds developers}},
  year = {2026}
}"""

    def solve_sdp(self, sdp: BoxHullSDP, options: Options) -> SDPSolution:
        """Interior point on the dual, or a first-order method where the time limit allows no more."""
        from pvqbounds.solvers.native.quantization.box_hull_engine import solve_sdp

        clock = Clock(options.time_limit, options.cancelled)
        return solve_sdp(sdp, clock, tolerance=options.tolerance or self.tolerance)

    def relax_splits(self, problem: IntegerLeastSquares, options: Options) -> Relaxed:
        """A path of barriers on the dual, with the inequalities that its points violate."""
        from pvqbounds.solvers.native.quantization.split_dual import relax_with_splits, stages_for

        clock = Clock(options.time_limit, options.cancelled)
        return relax_with_splits(problem, clock, stages_for(options, problem.n, clock.remaining))

    def solve_integer(self, problem: IntegerLeastSquares, options: Options) -> ExactSolution:
        """Schnorr-Euchner search with multipliers."""
        from pvqbounds.solvers.native.quantization.integer_solver import solve_integer

        return solve_integer(problem, options)

    def solve_codes(self, problem: LeastSquares, options: Options) -> ExactSolution:
        """Search over levels, or under a support rule."""
        from pvqbounds.solvers.native.directions.refined import search_time
        from pvqbounds.solvers.native.quantization.level_solver import solve_codes

        return solve_codes(problem, replace(options, time_limit=search_time(problem, options)))

    def relax_codes(self, problem: LeastSquares, options: Options) -> ExactSolution:
        """The box-hull relaxation of levels, or under a support rule."""
        from pvqbounds.solvers.native.quantization.level_solver import relax_codes

        return relax_codes(problem, options)

    def solve_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Branch and bound over supports."""
        from pvqbounds.solvers.native.pruning.forward_search import has_few_supports
        from pvqbounds.solvers.native.pruning.subset_search import relaxed_sparse, search_sparse

        automatic, clock = options.only_if_it_finishes, Clock(options.time_limit, options.cancelled)
        if automatic and problem.n > LARGEST_TRIAL and not has_few_supports(problem):
            return relaxed_sparse(problem, "solved", clock=clock)
        return search_sparse(problem, clock, persistent=not automatic)

    def relax_sparse(self, problem: SparseLeastSquares, options: Options) -> ExactSolution:
        """Interior point on the dual of blocks, or on the perspective dual, and a good support."""
        from pvqbounds.solvers.native.pruning.subset_search import relaxed_sparse

        clock, blocks = Clock(options.time_limit, options.cancelled), options.relaxation == DIRECTIONS
        tolerance = options.tolerance or PERSPECTIVE_TOLERANCE
        return relaxed_sparse(problem, "solved", tolerance, clock, blocks=blocks)

    def refines(self, problem: Problem, options: Options) -> bool:
        """Whether the Gram has directions of next to no power, and there is time to look for them."""
        from pvqbounds.solvers.native.directions.refined import cases_of

        return cases_of(problem, options, Clock(options.time_limit, options.cancelled)) is not None

    def refined(self, problem: Problem, solution: ExactSolution, options: Options) -> ExactSolution:
        """By cases, where the Gram has directions of next to no power."""
        from pvqbounds.solvers.native.directions.refined import refined

        return refined(problem, solution, options, Clock(options.time_limit, options.cancelled))
