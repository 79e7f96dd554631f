"""Prove a result again, from the problem and the certificate alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import Enclosure
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError, InputError, shown
from pvqbounds.problems import Problem
from pvqbounds.problems.least_squares import checked_problem
from pvqbounds.problems.validation import as_real_array
from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.results.bounds import Bounds
from pvqbounds.solvers.base import Options
from pvqbounds.solvers.native.compiling import compile_for
from pvqbounds.solving.guards import blas_threads

__all__ = ["ROUNDING", "Verification", "verify"]


ROUNDING = 1e-12
"""Relative difference between machines that passes for rounding."""


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

    Weights that are not those of the codes, and a signal that is not the problem's, do not hold either.
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
    checked_problem(problem)
    if not isinstance(bounds, Bounds):
        raise InputError(f"What is verified is what solve gives back, not {shown(bounds)}.")
    try:
        upper = _evaluated(problem, bounds)
    except InputError as error:
        return Verification(False, 0.0, math.inf, str(error))
    if not _is_signal_of(problem, bounds.signal_enclosure):
        return Verification(False, 0.0, upper, f"the signal is that of another problem: {problem.signal}")
    ends = bounds.error_lower, bounds.error_upper
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        return Verification(False, 0.0, upper, "an end of the interval is no number")
    if not (math.isfinite(upper) and bounds.error_upper >= upper - ROUNDING * abs(upper)):
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
    if not (isinstance(claim, Certificate) and claim.fits(problem)):
        reason = "the certificate is not one of finite numbers about the problem's inputs and all re-fits"
        return Verification(False, 0.0, upper, reason)
    compile_for(problem, Options())
    clock = Clock(time_limit)
    try:
        with np.errstate(all="ignore"), blas_threads(1):
            lower = claim.prove(problem, clock)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):
        lower = 0.0  # numbers at which the arithmetic of a proof breaks down prove nothing
    if clock.expired:
        reason = f"the search was not ended within {time_limit:g} seconds"
        return Verification(False, lower, upper, reason)
    if lower > upper:
        raise ContradictionError(problem, claim, bounds.weight, lower, upper)
    if not bounds.error_lower <= lower:
        reason = f"the certificate proves {lower!r}, not {bounds.error_lower!r}"
        return Verification(False, lower, upper, reason)
    return Verification(True, lower, upper, "")


def _evaluated(problem: Problem, bounds: Bounds) -> float:
    """Error of the weights, from their codes or, where values have none, from themselves."""
    if problem.values.is_finite:
        if bounds.codes is None:
            raise InputError("the result holds no codes")
        point = problem.point(bounds.codes)
        if not _are_alike(bounds.weight, point.weight):
            raise InputError("the weights are not those of the codes")
        return point.upper
    if bounds.support is None:
        raise InputError("the result holds no support")
    support = problem.checked_support(bounds.support)
    try:
        weight = as_real_array(bounds.weight, "The weight", ndim=1)
    except InputError:
        weight = np.zeros(0)
    if weight.shape != (problem.n,):
        raise InputError("the re-fitted weights are not finite or not of the problem's size")
    if not set(np.flatnonzero(weight).tolist()) <= set(support.tolist()):
        raise InputError("a re-fitted weight outside the support is not zero")
    return problem.point(weight).upper


def _is_signal_of(problem: Problem, stated: object) -> bool:
    """Whether an enclosure, of a result that someone made anything, and that of the problem's signal meet."""
    if not isinstance(stated, Enclosure):
        return False
    try:
        return bool(stated.lower <= problem.signal.upper and problem.signal.lower <= stated.upper)
    except (TypeError, ValueError):
        return False


def _are_alike(stated: Any, weight: NDArray[np.float64]) -> bool:
    """Whether weights are these but for rounding."""
    try:
        given = as_real_array(stated, "The weight", ndim=1)
    except InputError:
        return False
    slack = ROUNDING * float(np.abs(weight).max(initial=0.0))
    return given.shape == weight.shape and bool((np.abs(given - weight) <= slack).all())
