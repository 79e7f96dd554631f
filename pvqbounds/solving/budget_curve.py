"""Error against the number of non-zeros of one channel: bounds for every budget in one run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError
from pvqbounds.problems import Problem, SparseLeastSquares
from pvqbounds.problems.least_squares import checked_problem
from pvqbounds.problems.supports import AtMost
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.results.bounds import Bounds, status_of
from pvqbounds.results.notes import gap_note
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Capability, Options
from pvqbounds.solvers.native.compiling import compile_for
from pvqbounds.solvers.native.pruning.perspective_splitting import scaled_gram
from pvqbounds.solvers.native.pruning.subset_curve import search_curve
from pvqbounds.solvers.native.pruning.supports import supports_by_size
from pvqbounds.solving.candidates import with_candidates
from pvqbounds.solving.guards import blas_threads
from pvqbounds.solving.kinds import kind_of
from pvqbounds.solving.one import bounds_from, fell_back, in_units_of, solve_one, weak_bounds
from pvqbounds.solving.options import SolveOptions

__all__ = ["budget_curve", "searched_curve"]

LARGEST_SEARCHED = 128
"""Inputs up to which every budget of a pruning is searched for."""

STEPS = 16
"""Steps from 0 to n whose budgets are solved where not all are; between them their multipliers serve."""

FEW_SUPPORTS = 100_000
"""Supports of one budget up to which they are searched whatever the number of inputs."""

LARGEST_SOLVED = 36
"""Inputs up to which every budget of a joint compression is solved."""

FOR_ANCHORS = 0.7
"""Share of the time that these may take."""

BETWEEN = "from the certificate of a budget beside it"


def budget_curve(problem: Problem, *, time_limit: float = 60.0, threads: int = 1) -> list[Bounds]:
    """Bounds on the least error of one channel with at most 0, 1, ..., n non-zeros, all in one run.

    Parameters
    ----------
    problem
        Pruning (:class:`SparseLeastSquares`) or, of steps or levels with 0 among them, joint compression;
        its own number of non-zeros plays no part.
    time_limit
        Seconds for the whole curve.
    threads
        As for :func:`pvqbounds.solve`.

    Returns
    -------
    n + 1 Bounds, the one with index k about ``problem.under(AtMost(k))`` (``problem.with_nnz(k)`` of a
    pruning), which :func:`pvqbounds.verify` takes. The upper end never rises with k; the lower one does by
    no more than a solve leaves open.

    Raises
    ------
    InputError
        If the problem has groups with budgets of their own, or values without 0.

    Notes
    -----
    A pruning of up to 128 inputs is searched at every budget, on one factor and from one chain of supports.
    Beyond, and for joint compression of more than 36 inputs, some budgets are solved; multipliers prove
    something under every budget, and those of the two beside a budget bound it.
    """
    asked = SolveOptions(time_limit=time_limit, threads=threads)
    if checked_problem(problem).is_restricted and problem.nnz is None:
        raise InputError(
            "A budget curve is about the number of non-zeros of a channel, not about a pattern or groups; "
            "give the problem with nnz."
        )
    posed = [problem.under(AtMost(nnz)) for nnz in range(problem.n + 1)]
    clock = Clock(time_limit)
    compile_for(posed[0], Options())
    with blas_threads(threads), np.errstate(all="ignore"):
        if isinstance(problem, SparseLeastSquares) and problem.n <= LARGEST_SEARCHED:
            solved = dict(enumerate(searched_curve(problem, clock)))
        else:
            solved = dict(_solved(posed, asked, clock))
        return _lowest(posed, _raised(posed, _completed(posed, solved), clock))


def searched_curve(problem: SparseLeastSquares, clock: Clock) -> Iterator[Bounds]:
    """The bounds of every budget of a pruning, by search, each as the time for it allows."""
    native, kind = backend_named("native", Capability.EXACT_PRUNING), kind_of(problem)
    began = time.perf_counter()
    for nnz, stated in enumerate(search_curve(problem.normalised, clock)):
        own = problem.with_nnz(nnz)
        point = kind.point(own, stated)
        relaxed = fell_back(stated)
        yield bounds_from(
            own,
            native,
            in_units_of(own, stated),
            point,
            method="relax" if relaxed else "exact",
            relaxation="perspective" if relaxed else None,
            began=began,
        )
        began = time.perf_counter()


def _solved(posed: Sequence[Problem], asked: SolveOptions, clock: Clock) -> Iterator[tuple[int, Bounds]]:
    """All budgets of few inputs, some of many, by a solve each."""
    n = len(posed) - 1
    few = {nnz for nnz in range(n + 1) if math.comb(n, nnz) <= FEW_SUPPORTS}
    chosen = sorted(few | set(_anchors(n))) if n > LARGEST_SOLVED else list(range(n + 1))
    own = clock.part(FOR_ANCHORS) if len(chosen) <= n else clock
    for place, nnz in enumerate(chosen):
        share = max(own.part(1.0 / (len(chosen) - place)).remaining, 1e-3)
        exact = not posed[nnz].values.is_finite and nnz in few
        # multipliers serve the budgets between
        method = "exact" if exact else "auto" if own is clock else "relax"
        yield nnz, solve_one(posed[nnz], replace(asked, time_limit=share, method=method))


def _anchors(n: int) -> Iterator[int]:
    """Some budgets from 0 to n: in even steps, and closer together towards both ends."""
    yield from (round(n * step / STEPS) for step in range(STEPS + 1))
    for power in range((n // STEPS).bit_length()):
        yield from (2**power, n - 2**power)


def _completed(posed: Sequence[Problem], solved: Mapping[int, Bounds]) -> list[Bounds]:
    """Bounds of all budgets: supports of a pruning where none was solved for, and no lower end there yet."""
    first = posed[0]
    missing = len(solved) < len(posed)
    supports = None
    if missing and isinstance(first, SparseLeastSquares):
        inner = first.normalised
        supports = supports_by_size(inner, scaled_gram(inner.gram).conditioned())
    curve = []
    for nnz, problem in enumerate(posed):
        if nnz in solved:
            curve.append(solved[nnz])
            continue
        bounds = weak_bounds(problem, "native", BETWEEN)
        if supports is not None and isinstance(problem, SparseLeastSquares):
            bounds = with_candidates(problem, bounds, [problem.on_support(supports[nnz]).weight])
        curve.append(bounds)
    return curve


def _raised(posed: Sequence[Problem], curve: Sequence[Bounds], clock: Clock) -> list[Bounds]:
    """Lower ends raised, where they are open, by what proves those of the budgets beside them."""
    known = [
        (nnz, bounds.certificate)
        for nnz, bounds in enumerate(curve)
        if bounds.certificate is not None and not bounds.certificate.searched
    ]
    raised = []
    for nnz, (problem, bounds) in enumerate(zip(posed, curve, strict=True)):
        below = [own for other, own in known if other < nnz][-1:]
        above = [own for other, own in known if other > nnz][:1]
        for certificate in [*above, *below] if bounds.status != "optimal" else []:
            if not clock.expired:
                bounds = _with_certificate(problem, bounds, certificate, clock)
        raised.append(bounds)
    return raised


def _with_certificate(problem: Problem, bounds: Bounds, certificate: Certificate, clock: Clock) -> Bounds:
    """Bounds with a lower end by the certificate of another budget, where that is higher."""
    steady, lower = certificate.kept_claim(problem)
    if certificate.restates and lower > bounds.error_lower:  # of fewer non-zeros it may be false here
        lower = min(lower, steady.prove(problem, clock))
    if not lower > bounds.error_lower:
        return bounds
    if lower > bounds.error_upper:
        raise ContradictionError(problem, steady, bounds.weight, lower, bounds.error_upper)
    relaxation = kind_of(problem).relaxation_of(steady)
    status = status_of(lower, bounds.error_upper, problem.signal.lower)
    return replace(
        bounds,
        error_lower=lower,
        certificate=steady,
        lower_kind="certified",
        relaxation=relaxation,
        status=status,
        note=gap_note(status, bounds.method, relaxation, ""),
    )


def _lowest(posed: Sequence[Problem], curve: Sequence[Bounds]) -> list[Bounds]:
    """Upper ends that do not rise: weights that keep fewer are allowed too."""
    lowest = [curve[0]]
    for problem, bounds in zip(posed[1:], curve[1:], strict=True):
        before = lowest[-1]
        if before.error_upper < bounds.error_upper:
            known = before.weight if before.codes is None else before.codes
            bounds = with_candidates(problem, bounds, [known])
        lowest.append(bounds)
    return lowest
