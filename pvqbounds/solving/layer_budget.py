"""One budget of non-zeros for many channels: both ends for the layer, and what proves the lower one."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pvqbounds.arithmetic.enclosures import up
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.least_squares import common_units
from pvqbounds.problems.units import scaled_down
from pvqbounds.problems.validation import whole_number
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.layer_dual import layer_dual_proof
from pvqbounds.results.bounds import Bounds, status_of
from pvqbounds.solvers.native.compiling import compile_once, small_gram, small_weight
from pvqbounds.solvers.native.directions.layer import layer_cases, worth_cases
from pvqbounds.solvers.native.pruning.layer_pruning import layer_multipliers, layer_supports, scaled_grams
from pvqbounds.solvers.relaxation import DIRECTIONS
from pvqbounds.solving.allotted import allotted_bounds
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.kinds import PRUNING
from pvqbounds.solving.layer_curves import Together, searched_together, suits_curves
from pvqbounds.solving.options import SolveOptions

__all__ = ["compile_layer_budget", "solve_layer_budget", "solve_together"]


MULTIPLIERS = 0.8
"""Share of the time that the lower end may take."""

BEFORE_CASES = 0.25
"""Share of the time that it may take before cases are looked at, and of what is left the upper end."""

FOR_CURVES = 0.5
"""Share of the time that searches at every budget may take, before there is a relaxation."""


def solve_layer_budget(
    problems: Sequence[SparseLeastSquares],
    nnz: int,
    *,
    time_limit: float = 60.0,
    threads: int = 1,
    jobs: int = 1,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[SparseLeastSquares], list[Bounds], float]:
    """Bound the pruning of channels that keep at most `nnz` weights together.

    Parameters
    ----------
    problems
        Channels of n inputs each, channels of one Gram together; their own budgets play no part.
    nnz
        Non-zeros of all channels together.
    time_limit
        Seconds for one channel on average; channels that are left then get a weaker bound.
    threads, jobs, progress
        As for :func:`solve_channels`.

    Returns
    -------
    problems, bounds
        Each channel with the number of weights that the best support found for the layer leaves
        it, and the bounds of that problem of its own.
    error_lower
        A certified bound on the summed error of *any* weights with `nnz` non-zeros, from the
        certificates of `bounds`: :func:`~pvqbounds.solving.layer_curves.curves_bound` where the channels
        are small enough to be searched at every budget, else
        :func:`~pvqbounds.relaxations.layer_dual.layer_dual_bound`, by cases where the Gram has
        directions of next to no power. It is no sum of their lower ends.

    Raises
    ------
    InputError
        If an option or the budget is out of range, or channels differ in size.
    ContradictionError
        If a proved bound lies above the error of weights that are allowed: a fault of this package.
    """
    asked = SolveOptions(time_limit=time_limit, threads=threads)
    return solve_together(problems, nnz, asked, Execution(jobs, progress=progress))


def solve_together(
    problems: Sequence[SparseLeastSquares], nnz: int, asked: SolveOptions, execution: Execution
) -> Together:
    """:func:`solve_layer_budget` with its options in two objects."""
    if len({problem.n for problem in problems}) != 1:
        raise InputError("A budget over a layer needs channels, all with the same number of inputs.")
    nnz = whole_number(nnz, "The budget of the layer", 0, sum(problem.n for problem in problems))
    compile_layer_budget()
    start = time.perf_counter()
    clock = Clock(asked.time_limit * len(problems) / execution.jobs, asked.cancelled)
    searches = asked.relaxation is None and asked.method != "relax" and suits_curves(problems, nnz)
    if not searches:
        return _relaxed(problems, nnz, asked, execution, clock)
    part = clock.part(FOR_CURVES)
    searched = searched_together(problems, nnz, asked.threads, execution.jobs, part)
    spent = (time.perf_counter() - start) / len(problems)
    searched = searched._replace(bounds=[replace(b, seconds=spent) for b in searched.bounds])
    if _is_optimal(searched):
        execution.report(len(problems))
        return searched
    return _better(searched, _relaxed(problems, nnz, asked, execution, clock))


def _is_optimal(found: Together) -> bool:
    """Whether the two ends of the layer meet."""
    total = math.fsum(b.error_upper for b in found.bounds)
    signal = math.fsum(b.signal_enclosure.lower for b in found.bounds)
    return status_of(found.error_lower, total, signal) == "optimal"


def _better(searched: Together, relaxed: Together) -> Together:
    """What was searched, where it proves more; else the relaxation's."""
    if not searched.error_lower > relaxed.error_lower:
        return relaxed
    totals = [math.fsum(b.error_upper for b in found.bounds) for found in (searched, relaxed)]
    if searched.error_lower > up(totals[1]):
        certificates = [b.certificate for b in searched.bounds]
        weights = [b.weight for b in relaxed.bounds]
        raise ContradictionError(
            list(relaxed.problems), certificates, weights, searched.error_lower, totals[1]
        )
    return searched


def _relaxed(
    problems: Sequence[SparseLeastSquares],
    nnz: int,
    asked: SolveOptions,
    execution: Execution,
    clock: Clock,
) -> Together:
    """Both ends by the perspective relaxation of all channels."""
    start = time.perf_counter()
    units = common_units(problems)
    inner = [problem.in_units(units) for problem in problems]
    with threadpool_limits(asked.threads, user_api="blas"), np.errstate(all="ignore"):
        proofs, supports = _proposed(inner, nnz, asked, execution, clock)
    allotted = [p.with_nnz(len(support)) for p, support in zip(problems, supports, strict=True)]
    seconds = (time.perf_counter() - start) / len(problems)
    bounds, certificates = [], []
    for problem, support, found in zip(allotted, supports, proofs, strict=True):
        certificate, claimed = found.claim(problem.in_units(units))
        certificates.append(certificate.in_units(units.inverse))
        stated = scaled_down(claimed, units.error)
        if units.lose_digits:
            certificates[-1], stated = certificates[-1].kept_claim(problem)
        relaxation = PRUNING.relaxation_of(certificates[-1])
        bounds.append(
            allotted_bounds(
                problem, support, certificates[-1], stated, relaxation=relaxation, seconds=seconds
            )
        )
    execution.report(len(problems))
    return Together(allotted, bounds, _proved_together(allotted, certificates, bounds, nnz))


def _proposed(
    problems: Sequence[SparseLeastSquares],
    nnz: int,
    asked: SolveOptions,
    execution: Execution,
    clock: Clock,
) -> tuple[Sequence[Certificate], list[NDArray[np.int64]]]:
    """What proves the lower end, and supports of the channels, within the time for all of them."""
    grams, jobs, done = scaled_grams(problems), execution.jobs, itertools.count(1)
    by_cases = asked.relaxation in (None, DIRECTIONS) and worth_cases(problems)
    report = lambda: execution.report(next(done))  # noqa: E731
    multipliers = layer_multipliers(
        problems,
        grams,
        nnz,
        jobs=jobs,
        clock=clock.part(BEFORE_CASES if by_cases else MULTIPLIERS),
        progress=(lambda: None) if by_cases else report,
    )
    for_supports = clock.part(BEFORE_CASES) if by_cases else clock
    supports = layer_supports(problems, grams, nnz, jobs=jobs, clock=for_supports)
    if not by_cases:
        return multipliers, supports
    thorough = asked.relaxation == DIRECTIONS
    by_price = layer_cases(
        problems, supports, multipliers, nnz, thorough=thorough, jobs=jobs, clock=clock, progress=report
    )
    return by_price, supports


def _proved_together(
    problems: Sequence[SparseLeastSquares],
    certificates: Sequence[Certificate],
    bounds: Sequence[Bounds],
    nnz: int,
) -> float:
    """What the certificates of all channels prove of their summed error."""
    total = up(math.fsum(b.error_upper for b in bounds))
    signal = math.fsum(problem.signal.upper for problem in problems)
    lower = max(layer_dual_proof(problems, certificates, nnz).claimed(signal), 0.0)
    if lower > total:
        weights = [found.weight for found in bounds]
        raise ContradictionError(list(problems), list(certificates), weights, lower, total)
    return lower


def compile_layer_budget() -> None:
    """Compile what a budget over a layer needs, once a process."""
    compile_once("layer budget", _prune_together)


def _prune_together() -> None:
    problem = SparseLeastSquares(small_gram(), small_weight(), nnz=3)
    for relaxation in (None, "perspective"):  # by searches, and as large layers are
        options = SolveOptions(relaxation=relaxation)
        solve_together([problem, problem.with_nnz(2)], 5, options, Execution())
