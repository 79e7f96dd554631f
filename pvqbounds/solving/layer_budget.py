"""One budget of non-zeros for many channels: both ends for the layer, and what proves the lower one."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from pvqbounds.arithmetic.enclosures import up
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError, shown
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.least_squares import common_units
from pvqbounds.problems.units import scaled_down
from pvqbounds.problems.validation import whole_number
from pvqbounds.relaxations.dual import steady_dual
from pvqbounds.relaxations.layer_dual import layer_dual_proof
from pvqbounds.results.bounds import Bounds, status_of
from pvqbounds.results.notes import gap_note
from pvqbounds.solvers.native.compiling import compile_once, small_gram, small_weight
from pvqbounds.solvers.native.pruning.layer_pruning import layer_multipliers, layer_supports, scaled_grams

__all__ = ["compile_layer_budget", "solve_layer_budget"]


MULTIPLIERS = 0.8
"""Share of the time that the lower end may take."""


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
        certificates of `bounds` (:func:`~pvqbounds.relaxations.layer_dual.layer_dual_bound`);
        it is no sum of their lower ends.

    Raises
    ------
    InputError
        If an option or the budget is out of range, or channels differ in size.
    ContradictionError
        If a proved bound lies above the error of weights that are allowed: a fault of this package.
    """
    if not (math.isfinite(time_limit) and time_limit > 0.0):
        raise InputError(f"The time limit must be a positive number of seconds, not {shown(time_limit)}.")
    whole_number(threads, "The number of threads", 1, 2**16)
    whole_number(jobs, "The number of jobs", 1, 2**16)
    if len({problem.n for problem in problems}) != 1:
        raise InputError("A budget over a layer needs channels, all with the same number of inputs.")
    nnz = whole_number(nnz, "The budget of the layer", 0, sum(problem.n for problem in problems))
    compile_layer_budget()
    start = time.perf_counter()
    done = itertools.count(1)
    report = progress if progress is not None else lambda done: None
    units = common_units(problems)
    inner = [problem.in_units(units) for problem in problems]
    with threadpool_limits(threads, user_api="blas"), np.errstate(all="ignore"):
        grams = scaled_grams(inner)
        clock = Clock(time_limit * len(problems) / jobs)
        multipliers = layer_multipliers(
            inner,
            grams,
            nnz,
            jobs=jobs,
            clock=clock.part(MULTIPLIERS),
            progress=lambda: report(next(done)),
        )
        supports = layer_supports(inner, grams, nnz, jobs=jobs, clock=clock)
    allotted = [p.with_nnz(len(support)) for p, support in zip(problems, supports, strict=True)]
    seconds = (time.perf_counter() - start) / len(problems)
    bounds, certificates = [], []
    for problem, support, found in zip(allotted, supports, multipliers, strict=True):
        point = problem.on_support(support)
        weight, upper = point.weight, point.upper
        certificate, proof = steady_dual(problem.in_units(units), found)
        lower = max(scaled_down(proof.claimed(problem.in_units(units).signal.upper), units.error), 0.0)
        certificate = certificate.in_units(units.inverse)
        if lower > upper:
            raise ContradictionError(problem, certificate, weight, lower, upper)
        certificates.append(certificate)
        status = status_of(lower, upper, problem.signal.upper)
        bounds.append(
            Bounds(
                error_lower=lower,
                error_upper=upper,
                signal_enclosure=problem.signal,
                lower_kind="certified",
                status=status,
                solver="native",
                method="relax",
                relaxation="perspective",
                seconds=seconds,
                weight=weight,
                codes=None,
                support=support,
                certificate=certificate,
                note=gap_note(status, "relax", "perspective"),
            )
        )
    total = up(math.fsum(b.error_upper for b in bounds))
    report(len(problems))
    signal = math.fsum(problem.signal.upper for problem in allotted)
    lower = max(layer_dual_proof(allotted, certificates, nnz).claimed(signal), 0.0)
    if lower > total:
        raise ContradictionError(allotted, certificates, [b.weight for b in bounds], lower, total)
    return allotted, bounds, lower


def compile_layer_budget() -> None:
    """Compile what a budget over a layer needs, once a process."""
    compile_once("layer budget", _prune_together)


def _prune_together() -> None:
    problem = SparseLeastSquares(small_gram(), small_weight(), nnz=3)
    solve_layer_budget([problem, problem.with_nnz(2)], 5)
