"""One budget of non-zeros for many channels: both ends for the layer, and what proves the lower one."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence

from threadpoolctl import threadpool_limits

from pvqbounds.errors import InputError, shown
from pvqbounds.notes import gap_note
from pvqbounds.problems import SparseLeastSquares
from pvqbounds.problems.arithmetic import up
from pvqbounds.problems.validation import whole_number
from pvqbounds.relaxations.perspective import layer_perspective_bound, perspective_bound
from pvqbounds.results import Bounds, claimed, status_of
from pvqbounds.solvers.base import Clock
from pvqbounds.solvers.native.layer_pruning import layer_multipliers, layer_supports, scaled_grams

__all__ = ["solve_layer_budget"]


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
        certificates of `bounds` (:func:`~pvqbounds.relaxations.perspective.layer_perspective_bound`);
        it is no sum of their lower ends.

    Raises
    ------
    InputError
        If an option or the budget is out of range, or channels differ in size.
    """
    if not (math.isfinite(time_limit) and time_limit > 0.0):
        raise InputError(f"The time limit must be a positive number of seconds, not {shown(time_limit)}.")
    whole_number(threads, "The number of threads", 1, 2**16)
    whole_number(jobs, "The number of jobs", 1, 2**16)
    if len({problem.n for problem in problems}) != 1:
        raise InputError("A budget over a layer needs channels, all with the same number of inputs.")
    nnz = whole_number(nnz, "The budget of the layer", 0, sum(problem.n for problem in problems))
    start = time.perf_counter()
    done = itertools.count(1)
    report = progress if progress is not None else lambda done: None
    with threadpool_limits(threads, user_api="blas"):
        grams = scaled_grams(problems)
        clock = Clock(time_limit * len(problems) / jobs)
        certificates = layer_multipliers(
            problems, grams, nnz, jobs=jobs, clock=clock, progress=lambda: report(next(done))
        )
        supports = layer_supports(problems, grams, nnz, jobs=jobs)
    allotted = [p.with_nnz(len(support)) for p, support in zip(problems, supports, strict=True)]
    seconds = (time.perf_counter() - start) / len(problems)
    bounds = []
    for problem, support, certificate in zip(allotted, supports, certificates, strict=True):
        weight = problem.refit(problem.checked_support(support))
        upper = max(problem.error(weight).upper, 0.0)
        lower = min(max(claimed(perspective_bound(problem, certificate), problem.signal.upper), 0.0), upper)
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
    proved = layer_perspective_bound(allotted, certificates, nnz)
    signal = math.fsum(problem.signal.upper for problem in allotted)
    return allotted, bounds, min(max(claimed(proved, signal), 0.0), total)
