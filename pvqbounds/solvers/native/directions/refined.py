"""A native solution made better: by blocks, and by cases of directions of next to no power."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares, Problem, SparseLeastSquares
from pvqbounds.problems.code_grids import has_grid
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.results.history import Moment, after
from pvqbounds.solvers.base import ExactSolution, Options
from pvqbounds.solvers.kept import Stated
from pvqbounds.solvers.native.directions.codes import code_cases
from pvqbounds.solvers.native.directions.near_null import NearNull, near_null
from pvqbounds.solvers.native.directions.pruning import pruning_cases
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.pruning.block_dual import block_path, block_seconds, takes_blocks
from pvqbounds.solvers.relaxation import BLOCKS, DIRECTIONS

__all__ = ["cases_of", "refined", "search_time"]

TAKING_CASES = ("hybrid", DIRECTIONS)
"""Relaxations that cases belong to."""

EFFORT = 2000.0
"""Operations over n³ that cases of supports may take unasked: 5.7 seconds at 384 inputs, at most."""

CODES_EFFORT = 3000.0
"""The same for codes: their cases all prove about as much, so that each wants its share."""

LEAST_EFFORT = 600.0
"""Without the time for so many, cases are not begun."""

MOST_WITHOUT_ENDS = 1
"""Directions at most where t has no ends: slabs that reach a thousand times as far as good weights lie are
some twenty for one direction, and hundreds for two (at 8 to 40 inputs 150 of them proved nothing)."""

BLOCK_TOLERANCE = 1e-2
"""Relative gap of the bound of blocks."""

NARROW = 0.98
"""An interval of which so much is proved is left as it is."""


def refined(problem: Problem, solution: ExactSolution, options: Options, clock: Clock) -> ExactSolution:
    """The solution, or one by blocks or cases where that proves more; its codes or support as good or better.

    Parameters
    ----------
    problem
        In units near 1.
    solution
        A native one.
    options
        Unless the relaxation was asked for by name (`search_share` is 1), cases take no more than `EFFORT` or
        `CODES_EFFORT`.
    """
    known = solution.certificate
    if known is None or solution.status == "optimal" or known.relaxation == BLOCKS:
        return solution  # blocks do not suffer from such directions as a diagonal does
    proved, error = known.claim(problem)[1], _error(problem, solution)
    if max(proved, 0.0) >= NARROW * error:
        return solution
    solution = _by_blocks(problem, solution, proved, options, clock)
    near = cases_of(problem, options, clock)
    if near is None or solution.certificate is None:
        return solution
    proved = solution.certificate.claim(problem)[1]
    moment = Moment(time.perf_counter(), 0, proved, error)
    solution = replace(solution, history=after(solution.history, [moment]))
    effort = EFFORT if isinstance(problem, SparseLeastSquares) else CODES_EFFORT
    allowed = math.inf if options.search_share >= 1.0 else _seconds(problem, effort)
    told: list[Moment] = []
    found, solution = _by_cases(problem, near, solution, allowed, clock, told)
    solution = replace(solution, history=after(solution.history, told))
    if found is None or found.value <= proved:
        return solution
    found, value = found.claim(problem)  # what its leaves state is only about what they prove
    if not value > proved:
        return solution
    status = f"the least of {found.cover.leaves} cases of {_called(near)}"
    return replace(solution, certificate=found, status=status, relaxation=found.relaxation)


def search_time(problem: Problem, options: Options) -> float:
    """Seconds that a search for codes may take: what the bound of blocks needs afterwards is left."""
    limit = options.time_limit
    if not _looks_at_blocks(problem, options) or _kept(problem, options) is not None:
        return limit
    return max(limit - 2.0 * block_seconds(problem), 0.5 * limit)


def _looks_at_blocks(problem: Problem, options: Options) -> bool:
    """Whether codes are held against the bound of blocks."""
    return options.relaxation in TAKING_CASES and problem.values.is_finite and takes_blocks(problem)


def _by_blocks(
    problem: Problem, solution: ExactSolution, proved: float, options: Options, clock: Clock
) -> ExactSolution:
    """The solution with the bound of blocks where that is more, of codes under a support rule."""
    found = _blocks(problem, options, clock) if _looks_at_blocks(problem, options) else None
    if found is None or not found.value > proved:
        return solution
    return replace(solution, certificate=found.certificate, status="solved", relaxation=BLOCKS)


def _kept(problem: Problem, options: Options) -> Stated | None:
    """The bound of blocks where it is known."""
    return None if options.kept is None else options.kept.of(problem)


def _blocks(problem: Problem, options: Options, clock: Clock) -> Stated | None:
    """The bound of blocks, found where it is not known; None without any, or without the time for it."""
    known = _kept(problem, options)
    if known is not None or block_seconds(problem) >= clock.remaining:
        return known
    found = block_path(problem, BLOCK_TOLERANCE, clock=clock)
    if found is None:
        return None
    stated = Stated(*found.certificate.claim(problem))
    if options.kept is not None and found.solved:
        options.kept.keep(problem, stated)
    return stated


def cases_of(problem: Problem, options: Options, clock: Clock) -> NearNull | None:
    """The directions whose cases may be looked at; None without any, or without the time for them."""
    if options.relaxation not in TAKING_CASES or _seconds(problem, LEAST_EFFORT) > clock.remaining:
        return None
    near = near_null(problem.shared)
    if near is None or (not problem.values.is_finite and len(near.direction) > MOST_WITHOUT_ENDS):
        return None
    return near


def _seconds(problem: Problem, effort: float) -> float:
    """What so many operations over n³ take, about."""
    return effort * problem.n**3 / FLOPS_A_SECOND


def _called(near: NearNull) -> str:
    count = len(near.direction)
    return "a direction of next to no power" if count == 1 else f"{count} directions of next to no power"


def _error(problem: Problem, solution: ExactSolution) -> float:
    if solution.codes is not None:
        return problem.point(solution.codes).upper
    if solution.support is not None and isinstance(problem, SparseLeastSquares):
        return problem.on_support(solution.support).upper
    return problem.start().upper


def _by_cases(
    problem: Problem,
    near: NearNull,
    solution: ExactSolution,
    allowed: float,
    clock: Clock,
    told: list[Moment],
) -> tuple[CasesCertificate | None, ExactSolution]:
    if isinstance(problem, SparseLeastSquares):
        point = problem.start() if solution.support is None else problem.on_support(solution.support)
        return pruning_cases(problem, near, point.weight, allowed, clock, told=told), solution
    if not (isinstance(problem, LeastSquares) and solution.codes is not None and has_grid(problem.values)):
        return None, solution
    live, codes = problem.shared.live, solution.codes.copy()
    inside = near._replace(direction=near.direction[:, live])
    found, codes[live] = code_cases(problem.among(live), inside, codes[live], allowed, clock, told)
    solution = replace(solution, codes=codes)
    return None if found is None else found.spread(live, problem.values), solution
