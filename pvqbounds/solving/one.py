"""Solve a problem with any backend, prove what comes back, and verify it again later.

Certification, re-evaluation of incumbents, statuses and timing stand here, once, outside all
backends: whatever a solver says, the result is true.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError, SolverError, SolverFailedError
from pvqbounds.problems import IntegerLeastSquares, Problem, SparseLeastSquares, magnitude_support
from pvqbounds.problems.units import scaled_down
from pvqbounds.problems.validation import as_real_array
from pvqbounds.relaxations.certificates import Certificate, Proof
from pvqbounds.relaxations.dual import DualCertificate, dual_proof, steady_dual
from pvqbounds.results.bounds import Bounds, claimed, status_of
from pvqbounds.results.notes import gap_note
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Backend, Capability, ExactSolution, Options, remaining
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.solvers.relaxation import QUANTIZATION_RELAXATIONS, Relaxed, relax
from pvqbounds.solving.options import SolveOptions

__all__ = [
    "PRUNING_RELAXATIONS",
    "Verification",
    "blas_threads",
    "solve",
    "solve_one",
    "solver_for_side",
    "verify",
    "weak_bounds",
]

PRUNING_RELAXATIONS = ("perspective",)

OUT_OF_RANGE = "the multipliers that prove more than 0 leave the range of float64; rescale the inputs"
"""Status where a certificate cannot be stated in the problem's own units."""

DEFAULT_SEARCH_SHARE = 0.002
"""Share of the time limit in which, unasked, a search raises the relaxation's bound: 0.12 s of a minute."""


def solve(
    problem: Problem,
    solver: str = "auto",
    method: str = "auto",
    relaxation: str | None = None,
    *,
    time_limit: float = 60.0,
    threads: int = 1,
    tolerance: float | None = None,
    seed: int = 0,
    verbose: bool = False,
    cancelled: threading.Event | None = None,
    solver_options: Mapping[str, Any] | None = None,
) -> Bounds:
    """Bounds on the least error of one channel, from below and from above.

    Parameters
    ----------
    problem
        An :class:`IntegerLeastSquares` (quantization) or :class:`SparseLeastSquares` (pruning).
    solver
        Name of a backend, see :func:`pvqbounds.solvers`; "auto" is the native one.
    method
        "exact" (search, or the backend's integer program), "relax" (relaxation and rounding) or
        "auto": exact where it is expected to finish within the time limit, else relax.
    relaxation
        "hybrid", "splits", "box-hull" or "park-boyd" for quantization, "perspective" for pruning.
        "splits" is the box-hull SDP with split inequalities, by the native solver. "hybrid" searches
        on what the multipliers of that (of the SDP alone with other solvers) leave until the time
        limit; left out, the native solver does so in a small share of it, the others solve the
        box-hull SDP alone.
    time_limit
        Seconds. An exact method that reaches it gives the interval proved so far. What is compiled
        when it is first used counts neither here nor in ``Bounds.seconds``.
    threads
        Threads that a backend and BLAS may use; the native searches, SCS and SCIP use one.
    tolerance
        Relative accuracy that the backend is asked for: the gap of an integer program, the
        residuals of a relaxation, the gap of the last barrier with split inequalities (0.4, 0.15, 0.1
        or 0.01). Its own (see ``tolerance`` of its class) if None. The native searches end with a
        proof of the optimum whatever it is.
    seed
        Seed of the randomized rounding.
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
    asked = SolveOptions(
        solver=solver,
        method=method,
        relaxation=relaxation,
        time_limit=time_limit,
        threads=threads,
        tolerance=tolerance,
        seed=seed,
        verbose=verbose,
        cancelled=cancelled,
        solver_options={} if solver_options is None else solver_options,
    )
    return solve_one(problem, asked)


def solve_one(problem: Problem, asked: SolveOptions, relaxed: Relaxed | None = None) -> Bounds:
    """:func:`solve` with its options in one object.

    Parameters
    ----------
    relaxed
        The relaxation (quantization) of ``problem.normalised``, where it was solved together with
        those of other channels (:func:`pvqbounds.solve_channels`).
    """
    if not isinstance(problem, IntegerLeastSquares | SparseLeastSquares):
        raise InputError("A problem is an IntegerLeastSquares or a SparseLeastSquares.")
    solver, method, relaxation = asked.solver, asked.method, asked.relaxation
    options = Options(
        time_limit=asked.time_limit,
        only_if_it_finishes=method == "auto",
        cancelled=asked.cancelled,
        threads=asked.threads,
        tolerance=asked.tolerance,
        seed=asked.seed,
        verbose=asked.verbose,
        extra=dict(asked.solver_options),
        relaxed=relaxed,
    )
    from pvqbounds.solvers.native.compiling import compile_for

    # multipliers and codes are proposals: what overflows on the way to them proves nothing later
    with blas_threads(asked.threads), _breakdowns(solver), np.errstate(all="ignore"):
        if isinstance(problem, IntegerLeastSquares):
            names = ("hybrid", "splits", *QUANTIZATION_RELAXATIONS)
            name = _checked_relaxation(relaxation, names, "quantization")
            if relaxation is None and not asked.native:
                name = "box-hull"  # what a solver of its own choice is asked for
            share = (DEFAULT_SEARCH_SHARE if relaxation is None else 1.0) if name == "hybrid" else 0.0
            options = replace(options, relaxation=name, search_share=share)
            compile_for(problem, options)
            return _solve_integer(problem, solver, method, options)
        name = _checked_relaxation(relaxation, PRUNING_RELAXATIONS, "pruning")
        compile_for(problem, options)
        return _solve_sparse(problem, solver, method, name, options)


@contextmanager
def _breakdowns(solver: str) -> Iterator[None]:
    """Arithmetic or memory that gives out inside an engine, as one error that says so."""
    name = "native" if solver == "auto" else solver
    try:
        yield
    except MemoryError as error:
        raise SolverFailedError(
            f"{name} ran out of memory; a smaller problem or more memory helps."
        ) from error
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise SolverFailedError(
            f"{name} broke down on these numbers ({reason}); try another --method or --solver."
        ) from error


def weak_bounds(problem: Problem, solver: str, reason: str) -> Bounds:
    """The interval that needs no solver: E is not negative, and round to nearest or magnitude pruning."""
    start = time.perf_counter()
    codes = support = None
    if isinstance(problem, IntegerLeastSquares):
        codes = problem.codes_of_nearest()
        weight, error = problem.weight_of(codes), problem.error(codes)
    else:
        support = magnitude_support(problem)
        weight = problem.refit(support)
        error = problem.error(weight)
    upper = max(error.upper, 0.0)
    return Bounds(
        error_lower=0.0,
        error_upper=upper,
        signal_enclosure=problem.signal,
        lower_kind="certified",
        status=status_of(0.0, upper, problem.signal.upper),
        solver=solver,
        method="relax",
        relaxation=None,
        seconds=time.perf_counter() - start,
        weight=weight,
        codes=codes,
        support=support,
        certificate=None,
        note=reason,
    )


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Hold BLAS to so many threads: on matrices of a few hundred rows they only wait for each other.

    The limit is the process's own, so that only the main thread sets it and takes it back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _blas().limit(limits=threads, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of this process."""
    import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which must be loaded to be found)

    return ThreadpoolController()


def _checked_relaxation(relaxation: str | None, names: tuple[str, ...], task: str) -> str:
    if relaxation is None:
        return names[0]
    if relaxation not in names:
        raise InputError(f"There is no relaxation '{relaxation}' for {task}; use {' or '.join(names)}.")
    return relaxation


def _solve_integer(problem: IntegerLeastSquares, solver: str, method: str, options: Options) -> Bounds:
    start, clock = time.perf_counter(), Clock(options.time_limit, options.cancelled)
    backend, exact = _usable_backend(problem, solver, method, "quantization", options)
    inner = problem.normalised
    if exact:
        stated = backend.solve_integer(inner, options)
        codes = _feasible_codes(inner, stated.codes)
        solution = _with_certificate(inner, stated, clock)
        proof = solution.certificate
        dual = proof.relaxation if isinstance(proof, DualCertificate) else None
        relaxation_used = stated.relaxation or dual
    else:
        stated = solution = _relaxed_integer(inner, backend, options)
        codes = _feasible_codes(inner, stated.codes)
        relaxation_used = stated.relaxation
    return _bounds(
        problem,
        backend,
        _in_units_of(problem, solution),
        error_upper=problem.error(codes).upper,
        weight=problem.weight_of(codes),
        codes=codes,
        method=_method(exact, stated),
        relaxation=relaxation_used,
        seconds=time.perf_counter() - start,
    )


def _in_units_of(problem: Problem, solution: ExactSolution) -> ExactSolution:
    """A solution of ``problem.normalised`` in the problem's own units."""
    if problem.units == (0, 0):
        return solution
    bound, certificate, status = solution.bound, solution.certificate, solution.status
    if certificate is not None:
        certificate = certificate.in_units(problem.units.inverse)
        if not certificate.fits(problem):  # any multipliers prove something: those of zero prove 0
            zero = np.zeros(problem.n)
            kind = DualCertificate if isinstance(problem, IntegerLeastSquares) else DualCertificate
            certificate, status = kind(zero, zero), OUT_OF_RANGE
    bound = None if bound is None else scaled_down(bound, problem.units.error)
    return replace(solution, certificate=certificate, bound=bound, status=status)


def _relaxed_integer(problem: IntegerLeastSquares, backend: Backend, options: Options) -> ExactSolution:
    """Codes and certificate of a relaxation that the backend solves."""
    from pvqbounds.solvers.native.quantization.hybrid import hybrid_bound, nodes_for, or_the_box_hull
    from pvqbounds.solvers.native.quantization.integer_codes import best_known_codes

    clock, relaxation = Clock(options.time_limit, options.cancelled), options.relaxation
    if options.relaxed is not None:
        relaxed = options.relaxed
    elif relaxation == "splits" or (relaxation == "hybrid" and Capability.SPLITS in backend.capabilities):
        relaxed = backend.relax_splits(problem, options)
    else:
        name = "box-hull" if relaxation == "hybrid" else relaxation
        relaxed = relax(problem, name, lambda sdp: backend.solve_sdp(sdp, remaining(options, clock)), clock)
    if relaxation != "hybrid":
        codes = best_known_codes(problem, relaxed, options.seed, clock)
        return ExactSolution(codes, None, relaxed.reported, relaxed.certificate, relaxed.status, relaxation)
    nodes = nodes_for(options.search_share, options.time_limit)
    found = hybrid_bound(problem, relaxed, nodes, clock, options.seed)
    if Capability.SPLITS in backend.capabilities:
        found = or_the_box_hull(problem, found, clock)
    return ExactSolution(found.codes, None, None, found.certificate, found.status, found.relaxation)


def _solve_sparse(
    problem: SparseLeastSquares, solver: str, method: str, relaxation: str, options: Options
) -> Bounds:
    start, clock = time.perf_counter(), Clock(options.time_limit, options.cancelled)
    backend, exact = _usable_backend(problem, solver, method, "pruning", options)
    inner = problem.normalised
    stated = backend.solve_sparse(inner, options) if exact else backend.relax_sparse(inner, options)
    solution = _with_certificate(inner, stated, clock)
    support = _feasible_support(inner, solution.support)
    weight = problem.refit(support)
    relaxed = isinstance(solution.certificate, DualCertificate)
    return _bounds(
        problem,
        backend,
        _in_units_of(problem, solution),
        error_upper=problem.error(weight).upper,
        weight=weight,
        support=support,
        method=_method(exact, stated),
        relaxation=relaxation if relaxed or not exact else None,
        seconds=time.perf_counter() - start,
    )


def _usable_backend(
    problem: Problem, solver: str, method: str, side: str, options: Options
) -> tuple[Backend, bool]:
    """The backend, and whether its exact method is to be used; what it refuses is raised before any work."""
    exact, relaxed = _SIDES[side]
    backend, searches = _backend_for(solver, method, exact, relaxed)
    if options.relaxed is None:
        needs = exact if searches else relaxed
        refusal = backend.refusal(problem.n, needs, options.extra, time_limit=options.time_limit)
        if refusal is not None:
            raise refusal
    return backend, searches


def _backend_for(solver: str, method: str, exact: Capability, relaxed: Capability) -> tuple[Backend, bool]:
    """The backend, and whether its exact method is to be used."""
    needs = {"exact": (exact,), "relax": (relaxed,), "auto": (exact, relaxed)}[method]
    backend = backend_named(solver, *needs)
    return backend, method != "relax" and exact in backend.capabilities


def solver_for_side(
    solver: str,
    method: str,
    side: str,
    inputs: int,
    solver_options: Mapping[str, Any] | None = None,
    time_limit: float = math.inf,
) -> str:
    """The solver for one side of a layer: the one named, or "native" for what it cannot do.

    Parameters
    ----------
    side
        "quantization" or "pruning".
    inputs
        Fan-in of its largest problem.
    time_limit
        Seconds for one of them.

    Raises
    ------
    InputError
        If there is no such solver.
    SolverError
        If it is absent, unlicensed, too small for the problem or can do neither side by this method.
    """
    SolveOptions(solver=solver, method=method)
    exact, relaxed = _SIDES[side]
    try:
        backend, searches = _backend_for(solver, method, exact, relaxed)
    except SolverError as error:
        try:
            _backend_for(solver, method, *_SIDES["pruning" if side == "quantization" else "quantization"])
        except SolverError:
            raise error from None  # it is of no use at all
        return "native"
    needs = exact if searches else relaxed
    refusal = backend.refusal(inputs, needs, solver_options or {}, time_limit=time_limit)
    if refusal is not None:
        raise refusal
    return solver


_SIDES = {
    "quantization": (Capability.EXACT_QUANTIZATION, Capability.BOX_HULL),
    "pruning": (Capability.EXACT_PRUNING, Capability.PERSPECTIVE),
}
"""The exact method and the relaxation of each task."""


def _feasible_codes(problem: IntegerLeastSquares, codes: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The solver's codes if they are feasible, else round to nearest and descent."""
    from pvqbounds.heuristics.rounding import improve

    try:
        if codes is not None:
            return problem.checked_codes(codes)
    except InputError:
        pass
    return improve(problem, problem.centre[None])


def _feasible_support(problem: SparseLeastSquares, support: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The solver's support if it is feasible, else magnitude pruning's."""
    try:
        if support is not None:
            return problem.checked_support(support)
    except InputError:
        pass
    return magnitude_support(problem)


def _with_certificate(problem: Problem, solution: ExactSolution, clock: Clock) -> ExactSolution:
    """Put the native relaxation's certificate beside what a backend found or only states.

    It takes milliseconds where an integer program takes seconds, unless the backend needed it
    anyway; what the clock leaves is all that it may take. Where it proves nothing (a singular Gram) the
    stated bound is all there is.
    """
    nothing = solution.bound is None and solution.codes is None and solution.support is None
    if solution.certificate is not None or nothing:
        return solution
    certificate: Certificate
    if solution.beside is not None:
        certificate = solution.beside
    elif isinstance(problem, IntegerLeastSquares):
        from pvqbounds.solvers.native.quantization.box_hull_engine import solve_sdp

        certificate = relax(problem, "box-hull", lambda sdp: solve_sdp(sdp, clock), clock).certificate
    else:
        from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective

        certificate = maximise_perspective(problem, clock=clock)
    proves = proof_of(problem, certificate).value > 0.0
    return replace(solution, certificate=certificate) if proves else solution


def _method(exact: bool, stated: ExactSolution) -> str:
    """What the backend did: an exact method that fell back on its relaxation says "relax"."""
    dual = isinstance(stated.certificate, DualCertificate | DualCertificate)
    fell_back = dual or stated.relaxation is not None
    return "exact" if exact and not fell_back else "relax"


def _bounds(
    problem: Problem,
    backend: Backend,
    solution: ExactSolution,
    *,
    error_upper: float,
    weight: NDArray[np.float64],
    codes: NDArray[np.int64] | None = None,
    support: NDArray[np.int64] | None = None,
    method: str,
    relaxation: str | None,
    seconds: float,
) -> Bounds:
    """Put the two ends together; the lower one is proved here, or labelled as reported.

    What an exact method states beyond its certificate stands in the note, with the solver's word.

    E is a mean square, so zero is a lower bound that needs no proof. Where the stored Gram is
    singular its rounding can make E, evaluated on it, negative; that is zero, too.
    """
    note = "" if solution.status.lower() in ("optimal", "solved", "") else solution.status
    certificate = solution.certificate
    if certificate is not None:
        certificate, error_lower = _claim(problem, certificate)
        kind = "certified"
    elif solution.bound is not None and math.isfinite(solution.bound):
        error_lower, kind = solution.bound, "reported"
    else:
        raise SolverFailedError(
            f"{backend.name} gave no bound ({solution.status}); try --solver native or a longer --time-limit."
        )
    searched = isinstance(certificate, SearchCertificate | SubsetCertificate)
    if method == "exact" and not searched and solution.bound is not None:
        if solution.bound > error_upper * (1.0 + 1e-6) + 1e-9 * problem.signal.upper:
            note = (
                f"{backend.name} states the bound {solution.bound:.6g}, above the error {error_upper:.6g} "
                "of weights that are allowed: its bound is false and was dropped."
            )
            error_lower = error_lower if kind == "certified" else 0.0
        elif kind == "certified":
            note = f"{backend.name} states the bound {solution.bound:.6g} ({solution.status}), not proved."
    error_lower, error_upper = max(error_lower, 0.0), max(error_upper, 0.0)
    if kind == "certified" and error_lower > error_upper:
        raise ContradictionError(problem, certificate, weight, error_lower, error_upper)
    error_lower = min(error_lower, error_upper)  # what is only reported is right to a tolerance
    status = status_of(error_lower, error_upper, problem.signal.upper)
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
        weight=weight,
        codes=codes,
        support=support,
        certificate=certificate,
        reported_lower=solution.bound,
        note=gap_note(status, method, relaxation, note),
    )


def _claim(problem: Problem, certificate: Certificate) -> tuple[Certificate, float]:
    """A certificate that any machine can prove, and the bound to state from it."""
    if isinstance(certificate, SearchCertificate | SubsetCertificate):
        return certificate, certificate.value
    proof: Proof
    if isinstance(certificate, DualCertificate):
        assert isinstance(problem, IntegerLeastSquares)
        certificate, proof = steady_dual(problem, certificate)
    else:
        assert isinstance(problem, SparseLeastSquares)
        certificate, proof = steady_dual(problem, certificate)
    return certificate, claimed(proof, problem.signal.upper)


def proof_of(problem: Problem, certificate: Certificate) -> Proof:
    """What the certificate states (search) or what its multipliers prove (dual), in the problem's units.

    A search's value is taken as it is: it was computed by the search that just ran;
    :func:`verify` repeats that search.
    """
    if isinstance(certificate, SearchCertificate | SubsetCertificate):
        return Proof(certificate.value, 0.0, False)
    if isinstance(certificate, DualCertificate):
        assert isinstance(problem, IntegerLeastSquares)
        return dual_proof(problem, certificate)
    assert isinstance(problem, SparseLeastSquares)
    return dual_proof(problem, certificate)


@dataclass(frozen=True)
class Verification:
    """Outcome of :func:`verify`; true if both ends hold."""

    holds: bool
    error_lower: float
    """Lower bound proved from the certificate; 0 where there is none."""
    error_upper: float
    """Error of the weights, re-evaluated from codes or support; inf where they are not feasible."""
    reason: str
    """Why it does not hold, else empty."""

    def __bool__(self) -> bool:
        return self.holds


def verify(problem: Problem, bounds: Bounds, *, time_limit: float = math.inf) -> Verification:
    """Prove the lower bound again from the certificate and evaluate the upper one again.

    Nothing else of `bounds` is trusted. A bound that is only reported is not proved: it holds as
    far as its label goes, and `error_lower` is 0.

    Parameters
    ----------
    time_limit
        Seconds after which a search that is repeated counts as no proof.

    Returns
    -------
    Verification
        Whether the stated interval contains the one that is proved here.
    """
    try:
        upper = _evaluated(problem, bounds)
    except InputError as error:
        return Verification(False, 0.0, math.inf, str(error))
    ends = bounds.error_lower, bounds.error_upper
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        return Verification(False, 0.0, upper, "an end of the interval is no number")
    if not (math.isfinite(upper) and bounds.error_upper >= upper - 1e-12 * abs(upper)):
        reason = f"the weights have the error {upper!r}, not {bounds.error_upper!r}"
        return Verification(False, 0.0, upper, reason)
    if not bounds.error_lower <= bounds.error_upper:
        return Verification(False, 0.0, upper, "the lower bound is above the upper one")
    kind: object = bounds.lower_kind
    if isinstance(kind, str) and kind == "reported":
        return Verification(True, 0.0, upper, "")
    if bounds.error_lower <= 0.0:
        return Verification(True, 0.0, upper, "")
    if bounds.certificate is None:
        return Verification(False, 0.0, upper, "the lower bound is called certified, but has no certificate")
    claim: object = bounds.certificate  # of a result that someone made, anything
    if not (isinstance(claim, Certificate) and claim.fit(problem.n)):
        reason = "the certificate is not one of finite numbers about the problem's inputs and all re-fits"
        return Verification(False, 0.0, upper, reason)
    _compile_for_proof(problem)
    clock = Clock(time_limit)
    try:
        with np.errstate(all="ignore"), blas_threads(1):
            lower = _proved_again(problem, bounds.certificate, clock)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):
        lower = 0.0  # numbers at which the arithmetic of a proof breaks down prove nothing
    if clock.expired:
        reason = f"the search was not ended within {time_limit:g} seconds"
        return Verification(False, lower, upper, reason)
    if lower > upper:
        raise ContradictionError(problem, bounds.certificate, bounds.weight, lower, upper)
    if not bounds.error_lower <= lower:
        reason = f"the certificate proves {lower!r}, not {bounds.error_lower!r}"
        return Verification(False, lower, upper, reason)
    return Verification(True, lower, upper, "")


def _compile_for_proof(problem: Problem) -> None:
    from pvqbounds.solvers.native.compiling import compile_for

    compile_for(problem, Options())


def _evaluated(problem: Problem, bounds: Bounds) -> float:
    if isinstance(problem, IntegerLeastSquares):
        if bounds.codes is None:
            raise InputError("the result holds no codes")
        return max(0.0, problem.error(problem.checked_codes(bounds.codes)).upper)
    if bounds.support is None:
        raise InputError("the result holds no support")
    support = problem.checked_support(bounds.support)
    try:
        weight = as_real_array(bounds.weight, "The weight", ndim=1)
    except InputError:
        weight = np.zeros(0)
    if weight.shape != (problem.n,) or not np.isfinite(weight).all():
        raise InputError("the re-fitted weights are not finite or not of the problem's size")
    if not set(np.flatnonzero(weight).tolist()) <= set(support.tolist()):
        raise InputError("a re-fitted weight outside the support is not zero")
    return max(0.0, problem.error(weight).upper)


def _proved_again(problem: Problem, certificate: Certificate, clock: Clock) -> float:
    """What the certificate proves: searches are repeated. 0 where it proves nothing."""
    inner, moved = problem.normalised, certificate.in_units(problem.units)
    if isinstance(moved, SearchCertificate | SubsetCertificate):
        stated = scaled_down(moved.value, problem.units.error)  # what is searched for, no more than is stated
    if isinstance(inner, IntegerLeastSquares) and isinstance(moved, SearchCertificate):
        from pvqbounds.solvers.native.quantization.integer_search import prove

        return stated if prove(inner, moved, clock) else 0.0
    if isinstance(inner, SparseLeastSquares) and isinstance(moved, SubsetCertificate):
        from pvqbounds.solvers.native.pruning.subset_search import prove_sparse

        return stated if prove_sparse(inner, moved, clock) else 0.0
    fits = (DualCertificate,) if isinstance(problem, IntegerLeastSquares) else (DualCertificate,)
    return max(0.0, proof_of(problem, certificate).value) if isinstance(certificate, fits) else 0.0
