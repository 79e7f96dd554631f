"""Solve a problem with any backend, and prove what comes back.

Certification, re-evaluation of incumbents, statuses and timing stand here, once, outside all
backends: whatever a solver says, the result is true.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard, Unpack

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, SolverFailedError
from pvqbounds.problems import AnyScaleLeastSquares, IntegerLeastSquares, Point, Problem
from pvqbounds.problems.least_squares import checked_problem
from pvqbounds.problems.units import scaled_down
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.results.bounds import Bounds, status_of
from pvqbounds.results.history import Moment, closed_by, in_units, since
from pvqbounds.results.notes import gap_note
from pvqbounds.solvers.base import Backend, ExactSolution, Options, remaining
from pvqbounds.solvers.native.compiling import compile_for
from pvqbounds.solvers.relaxation import DIRECTIONS, Relaxed
from pvqbounds.solving.choice import usable_backend
from pvqbounds.solving.every_scale import SolveAt
from pvqbounds.solving.guards import blas_threads, breakdowns
from pvqbounds.solving.kinds import STEPS, Kind, kind_of
from pvqbounds.solving.options import SolveKeywords, SolveOptions

__all__ = ["bounds_from", "in_units_of", "solve", "solve_one", "solver_at_scales", "weak_bounds"]

OUT_OF_RANGE = "the multipliers that prove more than 0 leave the range of float64; rescale the inputs"
"""Status where a certificate cannot be stated in the problem's own units."""

NATIVE = "native"
"""The backend whose searches are this package's own."""

Solve = Callable[[Backend, Problem, Options], ExactSolution]
"""A kind's exact method or relaxation."""

DEFAULT_SEARCH_SHARE = 0.002
"""Share of the time limit in which, unasked, a search raises the relaxation's bound: 0.12 s of a minute."""

DEFAULT_PRICE = 0.5
"""Decibels that "auto" wants for a second: unasked, it goes on with a search as long as that is foretold to
raise the bound by so many for each."""

MOST_OF_A_SCALE = 0.5
"""The most that this share becomes of the time for one scale."""

BRIEF_SHARE = 0.25
"""Part of this share at scales whose bounds do not hold down that for every scale."""


def solve(
    problem: Problem,
    solver: str = "auto",
    method: str = "auto",
    relaxation: str | None = None,
    **options: Unpack[SolveKeywords],
) -> Bounds:
    """Bounds on the least error of one channel, from below and from above.

    Parameters
    ----------
    problem
        An :class:`IntegerLeastSquares` or :class:`CodebookLeastSquares` (quantization, or joint
        compression under a support rule), a :class:`SparseLeastSquares` (pruning), or an
        :class:`AnyScaleLeastSquares` (quantization whatever the scale).
    solver
        Name of a backend, see :func:`pvqbounds.solvers`; "auto" is the native one.
    method
        "exact" (search, or the backend's integer program), "relax" (relaxation and rounding) or
        "auto": exact where it is expected to finish within the time limit, else relax, and search on while
        that is foretold to raise the bound by half a decibel for each second.
    relaxation
        "hybrid", "splits", "box-hull" or "park-boyd" for uniform steps, the first three for levels, "hybrid"
        or "box-hull" for joint compression, "directions" or "perspective" for pruning.
        "splits" is the box-hull SDP with split inequalities, by the native solver. "hybrid" searches
        on what the multipliers of that (of the SDP alone with other solvers) leave until the time
        limit; left out, the native solver does so in a small share of it, the others solve the
        box-hull SDP alone. Where the Gram has directions of next to no power, "hybrid" and "directions" bound
        by cases of them, too: for some seconds if left out, else until the time limit. Under N:M,
        "directions" (and "hybrid" beside its own) takes each group as a whole, which results call "blocks".
    time_limit
        Seconds, 60 unless told. An exact method that reaches it gives the interval proved so far. What is
        compiled when it is first used counts neither here nor in ``Bounds.seconds``.
    threads
        Threads (1) that a backend and BLAS may use; the native searches, SCS and SCIP use one.
    tolerance
        Relative accuracy that the backend is asked for: the gap of an integer program, the
        residuals of a relaxation, the gap of the last barrier with split inequalities (0.4, 0.15, 0.1
        or 0.01). Its own (see ``tolerance`` of its class) if None. The native searches end with a
        proof of the optimum whatever it is.
    seed
        Seed (0) of the randomized rounding.
    verbose
        Whether the backend prints its log; the native one has none.
    cancelled
        Set by another thread to stop early, as if the time limit were reached.
    solver_options
        Passed on to the backend under its own names.

    Returns
    -------
    Bounds
        ``error_lower <= least error <= error_upper``, with the weight that attains the upper end.

    Raises
    ------
    InputError
        If an option is unknown.
    SolverError
        If the backend is absent, unlicensed or unable.
    SolverFailedError
        If the backend gives nothing that can be used.
    ContradictionError
        If a proved bound lies above the error of weights that are allowed: a fault of this package.
    """
    return solve_one(problem, SolveOptions(solver, method, relaxation, **options))


def solve_one(problem: Problem, asked: SolveOptions, relaxed: Relaxed | None = None) -> Bounds:
    """:func:`solve` with its options in one object.

    Parameters
    ----------
    relaxed
        The relaxation (quantization) of ``problem.normalised``, where it was solved together with
        those of other channels (:func:`pvqbounds.solve_channels`).
    """
    kind = kind_of(checked_problem(problem))
    relaxation = kind.checked_relaxation(asked.relaxation, asked.native)
    automatic = asked.method == "auto"
    refined = relaxation in ("hybrid", DIRECTIONS)
    share = (DEFAULT_SEARCH_SHARE if asked.relaxation is None else 1.0) if refined else 0.0
    options = Options(
        time_limit=asked.time_limit,
        only_if_it_finishes=automatic,
        relaxation=relaxation,
        search_share=share,
        search_price=DEFAULT_PRICE if automatic and 0.0 < share < 1.0 else math.inf,
        cancelled=asked.cancelled,
        threads=asked.threads,
        tolerance=asked.tolerance,
        seed=asked.seed,
        verbose=asked.verbose,
        extra=dict(asked.solver_options or {}),
        relaxed=relaxed,
    )
    # multipliers and codes are proposals: what overflows on the way to them proves nothing later
    with blas_threads(asked.threads), breakdowns(asked.solver), np.errstate(all="ignore"):
        compile_for(problem, options)
        return _solved(problem, kind, asked, options)


def solver_at_scales(backend: Backend, method: str, options: Options) -> SolveAt:
    """What solves a problem at one scale as it would be solved by itself.

    Parameters
    ----------
    method
        "exact", "relax" or "auto".
    options
        Those of all scales together. The search that raises a bound unasked is as long at each scale as it
        would be for one alone, and shorter where it is to be brief.
    """
    asked = SolveOptions(backend.name, method)

    def solve_at(problem: IntegerLeastSquares, seconds: float, enough: float, *, brief: bool) -> Bounds:
        limit = max(seconds, min(1e-3, options.time_limit))
        share = options.search_share
        if share < 1.0:
            part = BRIEF_SHARE if brief else 1.0
            share = min(part * share * options.time_limit / limit, MOST_OF_A_SCALE)
        price = math.inf if brief else options.search_price
        each = replace(options, time_limit=limit, search_share=share, search_price=price)
        return _solved(problem, kind_of(problem), asked, each, enough)

    return solve_at


def _solved(
    problem: Problem, kind: Kind, asked: SolveOptions, options: Options, enough: float = math.inf
) -> Bounds:
    """Solve a problem; a bound of `enough` is not refined unless that was asked for by name."""
    start, clock = time.perf_counter(), Clock(options.time_limit, options.cancelled)
    backend, exact = usable_backend(problem, asked.solver, asked.method, options)
    inner = problem.normalised
    solve = kind.solve if exact else kind.relax
    if math.isfinite(options.search_price) and kind.refines(backend, inner, options):
        options = replace(options, search_price=math.inf)  # cases raise such a bound by more
    if asked.method != "exact" and options.search_share >= 1.0 and kind.refines(backend, inner, options):
        stated = _searched_or_refined(inner, kind, backend, solve, options, clock)
    else:
        stated = solve(backend, inner, options)
        if enough == math.inf or not _claimed(inner, stated) >= scaled_down(enough, -problem.units.error):
            stated = kind.refined(backend, inner, stated, remaining(options, clock))
    if backend.name != NATIVE and (exact or kind is not STEPS):  # a relaxation of steps is searched here
        stated = _believed(inner, stated, Clock(options.time_limit, options.cancelled))
    solution = _with_certificate(inner, kind, stated, clock) if exact else stated
    point = kind.point(problem, solution)
    relaxation = stated.relaxation or (None if exact else options.relaxation)
    if relaxation is None and is_relaxed(solution.certificate):
        relaxation = kind.relaxation_of(solution.certificate)
    return bounds_from(
        problem,
        backend,
        in_units_of(problem, solution),
        point,
        method="relax" if fell_back(stated) or not exact else "exact",
        relaxation=relaxation,
        began=start,
    )


def _believed(problem: Problem, stated: ExactSolution, clock: Clock) -> ExactSolution:
    """What somebody's backend states: what it claims by more than multipliers counts once it is proved."""
    claimed = stated.certificate
    # multipliers are proved wherever they are claimed; for every scale all parts were solved one by one
    if claimed is None or isinstance(claimed, DualCertificate) or isinstance(problem, AnyScaleLeastSquares):
        return stated
    if claimed.fits(problem) and claimed.prove(problem, clock) >= claimed.claim(problem)[1]:
        return stated
    return replace(stated, certificate=None)


def _searched_or_refined(
    problem: Problem, kind: Kind, backend: Backend, solve: Solve, options: Options, clock: Clock
) -> ExactSolution:
    """The better of a search and of what refines a bound, which has the time first: a search would take all.

    Where a short trial is not refined, the search has it.
    """
    brief = replace(options, search_share=DEFAULT_SEARCH_SHARE)
    plain = solve(backend, problem, brief)
    trial = backend.refined(problem, plain, remaining(brief, clock))
    if trial.certificate is not plain.certificate:
        trial = backend.refined(problem, trial, remaining(options, clock))
    if trial.status == "optimal" or clock.expired:
        return trial
    searched = solve(backend, problem, remaining(options, clock))
    best = max(searched, trial, key=lambda found: _claimed(problem, found))
    point = min(searched, trial, key=lambda found: kind.point(problem, found).upper)
    return replace(best, codes=point.codes, support=point.support)


def _claimed(problem: Problem, solution: ExactSolution) -> float:
    """What a solution's certificate states; nothing without one."""
    return -math.inf if solution.certificate is None else solution.certificate.claim(problem)[1]


def fell_back(stated: ExactSolution) -> bool:
    """Whether an exact method fell back on its relaxation."""
    return is_relaxed(stated.certificate) or stated.relaxation is not None


def is_relaxed(certificate: Certificate | None) -> TypeGuard[Certificate]:
    """Whether this is what a relaxation proves, and no search."""
    return certificate is not None and not certificate.searched


def in_units_of(problem: Problem, solution: ExactSolution) -> ExactSolution:
    """A solution of ``problem.normalised`` in the problem's own units."""
    if problem.units == (0, 0):
        return solution
    bound, certificate, status = solution.bound, solution.certificate, solution.status
    if certificate is not None:
        certificate = certificate.in_units(problem.units.inverse)
        if not certificate.fits(problem):  # any multipliers prove something: those of zero prove 0
            zero = np.zeros(problem.n)
            certificate, status = DualCertificate(zero, zero), OUT_OF_RANGE
    bound = None if bound is None else scaled_down(bound, problem.units.error)
    history = in_units(solution.history, problem.units.error)
    return replace(solution, certificate=certificate, bound=bound, status=status, history=history)


def _with_certificate(problem: Problem, kind: Kind, solution: ExactSolution, clock: Clock) -> ExactSolution:
    """Put the native relaxation's certificate beside what a backend found or only states.

    It takes milliseconds where an integer program takes seconds, unless the backend needed it
    anyway; what the clock leaves is all that it may take. Where it proves nothing (a singular Gram) the
    stated bound is all there is.
    """
    nothing = solution.bound is None and solution.codes is None and solution.support is None
    if solution.certificate is not None or nothing:
        return solution
    certificate = solution.beside if solution.beside is not None else kind.beside(problem, clock)
    proves = certificate.prove(problem, clock) > 0.0
    return replace(solution, certificate=certificate) if proves else solution


def bounds_from(
    problem: Problem,
    backend: Backend,
    solution: ExactSolution,
    point: Point,
    *,
    method: str,
    relaxation: str | None,
    began: float,
) -> Bounds:
    """Put the two ends together; the lower one is proved here, or labelled as reported.

    What an exact method states beyond its certificate stands in the note, with the solver's word.

    `began` is when the solve did, on the clock of ``time.perf_counter``.

    E is a mean square, so zero is a lower bound that needs no proof. Where the stored Gram is
    singular its rounding can make E, evaluated on it, negative; that is zero, too.
    """
    seconds = time.perf_counter() - began
    note = "" if solution.status.lower() in ("optimal", "solved", "") else solution.status
    certificate, error_lower = _lower_end(problem, backend, solution)
    kind = "reported" if certificate is None else "certified"
    error_upper = point.upper
    searched = certificate is not None and certificate.searched
    if method == "exact" and not searched and solution.bound is not None:
        if solution.bound > error_upper * (1.0 + 1e-6) + 1e-9 * problem.signal.upper:
            note = (
                f"{backend.name} states the bound {solution.bound:.6g}, above the error {error_upper:.6g} "
                "of weights that are allowed: its bound is false and was dropped."
            )
            error_lower = error_lower if kind == "certified" else 0.0
        elif kind == "certified":
            note = f"{backend.name} states the bound {solution.bound:.6g} ({solution.status}), not proved."
    error_lower = max(error_lower, 0.0)
    if kind == "certified" and error_lower > error_upper:
        raise ContradictionError(problem, certificate, point.weight, error_lower, error_upper)
    error_lower = min(error_lower, error_upper)  # what is only reported is right to a tolerance
    status = status_of(error_lower, error_upper, problem.signal.lower)
    if kind == "reported" and status == "bounded" and not note:
        note = f"{backend.name} states the lower end to within its tolerance, not proved."
    return Bounds(
        error_lower=error_lower,
        error_upper=error_upper,
        signal_enclosure=problem.signal,
        lower_kind="certified" if kind == "certified" else "reported",
        status=status,
        solver=backend.name,
        method=method,
        relaxation=relaxation,
        seconds=seconds,
        weight=point.weight,
        codes=point.codes,
        support=point.support,
        scale=point.scale,
        certificate=certificate,
        reported_lower=solution.bound,
        note=gap_note(status, method, relaxation, note),
        history=closed_by(since(solution.history, began), Moment(seconds, 0, error_lower, error_upper)),
    )


def _lower_end(
    problem: Problem, backend: Backend, solution: ExactSolution
) -> tuple[Certificate | None, float]:
    """What proves the lower end, None where it is only stated, and that end."""
    if solution.certificate is not None:
        return solution.certificate.kept_claim(problem)
    if solution.bound is not None and math.isfinite(solution.bound):
        return None, solution.bound
    raise SolverFailedError(
        f"{backend.name} gave no bound ({solution.status}); try --solver native or a longer --time-limit."
    )


def weak_bounds(problem: Problem, solver: str, reason: str) -> Bounds:
    """The interval that needs no solver: E is not negative, and round to nearest or magnitude pruning."""
    start = time.perf_counter()
    point = problem.start()
    return Bounds(
        error_lower=0.0,
        error_upper=point.upper,
        signal_enclosure=problem.signal,
        lower_kind="certified",
        status=status_of(0.0, point.upper, problem.signal.lower),
        solver=solver,
        method="relax",
        relaxation=None,
        seconds=time.perf_counter() - start,
        weight=point.weight,
        codes=point.codes,
        support=point.support,
        scale=point.scale,
        certificate=None,
        note=reason,
    )
