"""Solve the channels of a layer: many problems, most of them on one Gram.

Relaxations of channels that share a Gram are solved in batches where that pays: on a GPU, for
small problems, and where they share their lam. All else is done for one channel at a time, several
of them at once. A channel that cannot be solved keeps the interval that needs no solver, with a
note, so that the others are not lost.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Unpack

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.errors import InputError, SolverFailedError
from pvqbounds.problems import IntegerLeastSquares, LeastSquares, Problem, SparseLeastSquares, all_of
from pvqbounds.problems.least_squares import checked_problem
from pvqbounds.relaxations.box_hull import BoxHullSDP
from pvqbounds.results.bounds import Bounds
from pvqbounds.solvers.base import Options, SDPSolution
from pvqbounds.solvers.native.backend import Native
from pvqbounds.solvers.native.compiling import compile_for
from pvqbounds.solvers.native.linalg.arrays import Arrays, arrays_on
from pvqbounds.solvers.native.pruning.perspective_splitting import RowBudget, shared_multipliers
from pvqbounds.solvers.native.quantization.box_hull_engine import batch_size, solve_sdps
from pvqbounds.solvers.native.quantization.codes_dual import reaches_far_apart, relax_finite
from pvqbounds.solvers.native.quantization.shared import relax_shared
from pvqbounds.solvers.native.quantization.shared_values import (
    PILOT_TOLERANCE,
    PILOTS,
    relax_shared_values,
)
from pvqbounds.solvers.native.quantization.split_batch import relax_batch
from pvqbounds.solvers.native.quantization.split_dual import stages_for
from pvqbounds.solvers.relaxation import QUANTIZATION_RELAXATIONS, Relaxed, relax_together
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.guards import blas_threads
from pvqbounds.solving.kinds import SHARED, kind_of
from pvqbounds.solving.one import DEFAULT_SEARCH_SHARE, solve_one, weak_bounds
from pvqbounds.solving.options import SolveKeywords, SolveOptions
from pvqbounds.solving.rounds import solve_in_rounds

__all__ = ["SHARED", "solve_all", "solve_channels"]

NOTICEABLE = 0.1
"""Share of a time limit from which on the seconds of a batch count against it: below, results are the
same in each run."""

WITH_SPLITS: dict[str | None, float] = {None: DEFAULT_SEARCH_SHARE, "hybrid": 1.0, "splits": 0.0}
"""Relaxations with split inequalities, and the share of the time in which a search follows."""

SHARED_AT_A_TIME = 32
"""Channels of a batch that share their multipliers."""

NO_TIME = "not solved: the total time was over"
INTERRUPTED = "not solved: interrupted before"


@dataclass(frozen=True)
class Batch:
    """Channels whose relaxations were solved together, or are not solved yet."""

    positions: list[int]
    relaxed: list[Relaxed | None]
    """The relaxation of each channel where it is already solved."""
    seconds: float = 0.0
    """Each channel's share of the time that they took."""


def solve_channels(
    problems: Sequence[Problem],
    *,
    solver: str = "auto",
    method: str = "auto",
    relaxation: str | None = None,
    jobs: int = 1,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
    total_time: float | None = None,
    **options: Unpack[SolveKeywords],
) -> list[Bounds]:
    """Solve many channels, `jobs` at a time; arguments not named here are those of :func:`solve`.

    Parameters
    ----------
    relaxation
        Also "shared": the box-hull bound with one lam, the perspective bound with one D, for all channels of
        a Gram, valid and weaker, for O(n²) a channel once a few of them are solved.
    device
        Where the native relaxations of uniform steps are solved: "cpu", or "cuda" in batches (needs
        PyTorch).
    progress
        Called with the number of channels done after each one.
    total_time
        Seconds for all channels together: each gets a cheap interval first, then those whose intervals add
        most to the layer's are solved again, for longer (`time_limit` is the most for one solve). None for
        one solve of each within its `time_limit`.

    Returns
    -------
    One Bounds for each problem, in their order. A channel whose solve failed has the interval
    that needs no solver, and says so in its note; so has one that `total_time` or `cancelled` left no
    time for.

    Raises
    ------
    InputError, SolverError
        As :func:`solve`.
    SolverFailedError
        If every channel fails.
    """
    asked = SolveOptions(solver, method, relaxation, **options)
    return solve_all(problems, asked, Execution(jobs, device, progress, total_time=total_time))


def solve_all(problems: Sequence[Problem], asked: SolveOptions, execution: Execution) -> list[Bounds]:
    """:func:`solve_channels` with its options in two objects."""
    if execution.total_time is None:
        return _solve_each(problems, asked, execution, Clock(math.inf, asked.cancelled))
    with blas_threads(asked.threads):
        for problem in {kind_of(checked_problem(problem)): problem for problem in problems}.values():
            compile_for(problem, Options(relaxation="hybrid"))  # once a process, and no part of the time
    clock = Clock(execution.total_time, asked.cancelled)
    return solve_in_rounds(_solve_each, problems, asked, execution, clock)


def _solve_each(
    problems: Sequence[Problem], asked: SolveOptions, execution: Execution, clock: Clock
) -> list[Bounds]:
    """Solve each problem once; what the clock leaves no time for has the interval that needs no solver."""
    problems = [checked_problem(problem) for problem in problems]
    if asked.relaxation == SHARED and (not asked.native or asked.method == "exact"):
        raise InputError("The relaxation 'shared' is the native solver's: use it with --method relax.")
    cancelled = asked.cancelled or threading.Event()
    each = replace(asked, cancelled=cancelled)
    if asked.relaxation == SHARED:
        each = replace(each, method="relax")
    work = Work(problems, each, cancelled, clock, asked.cancelled is not None)
    results: dict[int, Bounds] = {}
    with blas_threads(asked.threads), ThreadPoolExecutor(execution.jobs) as pool:
        for batch in _batches(problems, asked, execution.device, clock):
            members = list(zip(batch.positions, batch.relaxed, strict=True))
            if execution.jobs == 1:  # in this thread, where solvers see an interrupt
                for position, known in members:
                    results[position] = work.one(position, known, batch.seconds)
                    execution.tell(position, results[position])
                    execution.report(len(results))
                continue
            futures = {
                pool.submit(work.one, position, known, batch.seconds): position for position, known in members
            }
            try:
                for future in _as_they_end(futures):
                    position = futures[future]
                    results[position] = future.result()
                    execution.tell(position, results[position])
                    execution.report(len(results))
            except BaseException:
                cancelled.set()  # the searches stop at their next slice
                pool.shutdown(cancel_futures=True)
                raise
    if work.failures and len(work.failures) == len(problems):
        first = work.failures[0]
        raise SolverFailedError(f"Every channel failed; the first: {first}") from first
    return [results[position] for position in range(len(problems))]


@dataclass(frozen=True, eq=False)
class Work:
    """The channels, and what went wrong with some of them so far."""

    problems: Sequence[Problem]
    asked: SolveOptions
    cancelled: threading.Event
    """Set where one channel raises what no other can survive, or by the user."""
    clock: Clock
    """The time for all channels."""
    keeps: bool = False
    """Whether the user may cancel, and has what stands then."""
    failures: list[Exception] = field(default_factory=list)
    stopped: list[BaseException] = field(default_factory=list)

    def one(self, position: int, relaxed: Relaxed | None, spent: float) -> Bounds:
        """The bounds of one channel, on whose relaxation so many seconds were spent."""
        found = self._attempted(position, relaxed, spent)
        return replace(found, seconds=found.seconds + spent)

    def _attempted(self, position: int, relaxed: Relaxed | None, spent: float) -> Bounds:
        if self.stopped:  # a thread takes its next problem before the main one hears of the error
            raise self.stopped[0]
        problem, limit = self.problems[position], min(self.asked.time_limit, self.clock.remaining)
        name = "native" if self.asked.solver == "auto" else self.asked.solver
        if limit <= 0.0 and relaxed is None:
            return weak_bounds(problem, name, INTERRUPTED if self.cancelled.is_set() else NO_TIME)
        asked = self.asked
        if asked.relaxation == SHARED:  # what was not solved together is solved alone
            asked = replace(asked, relaxation=kind_of(problem).plain)
        left = max(limit if spent < NOTICEABLE * limit else limit - spent, min(self.asked.time_limit, 1e-3))
        try:
            return solve_one(problem, replace(asked, time_limit=left), relaxed)
        except (SolverFailedError, ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
            self.failures.append(error)
            return weak_bounds(problem, name, f"{name} failed on this channel: {error}")
        except KeyboardInterrupt as error:  # of a solver that takes the signal for itself
            if self.keeps and not self.cancelled.is_set():
                self.cancelled.set()
                return weak_bounds(problem, name, INTERRUPTED)
            self._stop(error)
            raise
        except BaseException as error:
            self._stop(error)
            raise

    def _stop(self, error: BaseException) -> None:
        self.stopped.append(error)
        self.cancelled.set()


def _as_they_end(futures: Iterable[Future[Bounds]]) -> Iterator[Future[Bounds]]:
    """The futures as they end; a signal may reach another thread, so that this one looks up now and then."""
    left = set(futures)
    while left:
        ended, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
        yield from ended


def _batches(problems: Sequence[Problem], asked: SolveOptions, device: str, clock: Clock) -> Iterator[Batch]:
    """The channels in batches; in one, without relaxations, where solving them together gains nothing."""
    arrays = arrays_on(device)
    relaxation, tolerance = asked.relaxation, asked.tolerance or Native.tolerance
    if arrays.batches and not asked.native:
        raise InputError(f"--device {device} is for the native solver; {asked.solver} runs on the CPU.")
    sdps = asked.native and _solves_sdps_first(asked.method, relaxation, arrays)
    rest: list[int] = []
    for group in _by_gram(problems, one_grid=relaxation != SHARED):
        channels = [problems[position].normalised for position in group]
        first = channels[0]
        if relaxation == SHARED:
            shared = _shared(channels, asked, clock, tolerance, arrays)
            if shared is None:
                rest += group
            else:
                yield from _shared_batches(group, shared)
            continue
        together = sdps and kind_of(first).batched and not any(map(reaches_far_apart, channels))
        size = batch_size(first.n, arrays)
        if not together or (size == 1 and not arrays.batches):
            rest += group
            continue
        for start in range(0, len(group), size):
            if clock.expired:
                rest += group[start:]
                break
            part = channels[start : start + size]
            compile_for(first, Options())
            started = time.perf_counter()
            limit = Clock(min(asked.time_limit * len(part), clock.remaining), asked.cancelled)
            relaxed = _relaxed(part, asked, limit, tolerance, arrays)
            spent = (time.perf_counter() - started) / len(part)
            yield Batch(group[start : start + size], relaxed, spent)
    if rest:
        yield Batch(rest, [None] * len(rest))


def _shared(
    channels: Sequence[Problem], asked: SolveOptions, clock: Clock, tolerance: float, arrays: Arrays
) -> Iterator[Relaxed] | None:
    """Multipliers of channels of one Gram with one lam, or D; None where each has its own relaxation."""
    first = channels[0]
    if isinstance(first, SparseLeastSquares):
        return _pruned_together(channels)
    if SHARED not in kind_of(first).together or clock.expired or any(map(reaches_far_apart, channels)):
        return None
    limit = Clock(min(asked.time_limit * len(channels), clock.remaining), asked.cancelled)
    compile_for(first, Options())
    if kind_of(first).batched:
        quantized = all_of(IntegerLeastSquares, channels)
        return relax_shared(quantized, lambda sdps: solve_sdps(sdps, limit, arrays, tolerance=tolerance))
    finite = all_of(LeastSquares, channels)
    near = asked.tolerance or PILOT_TOLERANCE
    return relax_shared_values(finite, lambda pilot: relax_finite(pilot, limit.part(1.0 / PILOTS), near))


def _shared_batches(group: Sequence[int], relaxed: Iterator[Relaxed]) -> Iterator[Batch]:
    """Channels that share multipliers, some at a time, so that it is seen how far they are."""
    positions = iter(group)
    started = time.perf_counter()
    while part := list(islice(relaxed, SHARED_AT_A_TIME)):
        spent = (time.perf_counter() - started) / len(part)
        yield Batch(list(islice(positions, len(part))), [*part], spent)
        started = time.perf_counter()


def _pruned_together(channels: Sequence[Problem]) -> Iterator[Relaxed]:
    """One D for all of them, and the best nu of each."""
    sparse = all_of(SparseLeastSquares, channels)
    weights, budget = np.stack([channel.weight for channel in sparse]), RowBudget.of(sparse[0])
    with np.errstate(all="ignore"):
        found = shared_multipliers(sparse[0].gram, weights, budget)
    for channel, certificate in zip(sparse, found, strict=True):
        nothing = np.broadcast_to(0.0, (channel.n, channel.n))
        yield Relaxed(certificate, channel.weight, nothing, 0.0, "shared D")


def _solves_sdps_first(method: str, relaxation: str | None, arrays: Arrays) -> bool:
    """Whether each channel needs the solution of an SDP, with whatever else is done to it."""
    if relaxation == SHARED:
        return True
    if arrays.batches:
        return method != "exact"
    return method == "relax" and relaxation in QUANTIZATION_RELAXATIONS


def _by_gram(problems: Sequence[Problem], *, one_grid: bool) -> list[list[int]]:
    """Positions of the channels that share a Gram, a kind, and a budget; a grid of codes, too, if asked."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, problem in enumerate(problems):
        inner = problem.normalised
        grid: tuple[object, ...] = ()
        if isinstance(inner, IntegerLeastSquares) and one_grid:
            grid = (inner.grid,)
        elif isinstance(inner, SparseLeastSquares):
            budget = RowBudget.of(inner)
            grid = (budget.size, budget.kept, budget.stride)
        groups.setdefault((kind_of(problem), inner.shared, *grid), []).append(position)
    return list(groups.values())


def _relaxed(
    channels: Sequence[Problem], asked: SolveOptions, clock: Clock, tolerance: float, arrays: Arrays
) -> list[Relaxed | None]:
    """Relaxations of channels of one Gram; a batch that does not fit is halved, and again.

    None for a channel that does not fit alone: it is solved on its own, on the CPU.
    """
    quantized = all_of(IntegerLeastSquares, channels)
    relaxation = asked.relaxation

    def solve_together(sdps: Sequence[BoxHullSDP]) -> list[SDPSolution]:
        return solve_sdps(sdps, clock, arrays, tolerance=tolerance)

    try:
        if arrays.batches and relaxation in WITH_SPLITS:
            options = Options(search_share=WITH_SPLITS[relaxation], tolerance=asked.tolerance)
            stages = stages_for(options, quantized[0].n, clock.remaining / len(quantized))
            return relax_batch(quantized, clock, stages, arrays)
        name = "park-boyd" if relaxation == "park-boyd" else "box-hull"
        return list(relax_together(quantized, name, solve_together, clock))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "out of memory" not in str(error).lower():
            raise
        if len(channels) == 1:
            return [None]
        half = len(channels) // 2
        parts = (channels[:half], channels[half:])
        halves = (_relaxed(part, asked, clock.part(0.5), tolerance, arrays) for part in parts)
        return [known for half_of_them in halves for known in half_of_them]
