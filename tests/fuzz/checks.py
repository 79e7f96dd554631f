"""What every result must be, held against the truth where it is known."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np

import pvqbounds as pvq
from pvqbounds import AnyScaleLeastSquares, Bounds
from pvqbounds.problems import Problem
from pvqbounds.solvers import BACKENDS, backend_named
from pvqbounds.solvers.base import Capability
from pvqbounds.solving.kinds import PRUNING, Kind, kind_of

from .case import Case, script_of
from .rational import allowed, exact_error, exact_signal, exact_values, fractions

__all__ = ["Plan", "attempt", "check_agreement", "check_bounds", "decibels", "plans_for", "solve_all"]

SLACK = 3.0
"""Seconds of the processor beyond its limit that pass for the end of a step."""

REPORTED = 1e-3
"""How far off, in units of the error or of a thousandth of the signal, a reported bound may be."""

CANCELLED = 1e-9
"""Share of the terms of the signal that may be lost where they cancel: a solver adds them up in float64."""


@dataclass(frozen=True)
class Plan:
    """What is asked of :func:`pvqbounds.solve`."""

    solver: str = "auto"
    method: str = "auto"
    relaxation: str | None = None
    time_limit: float = 5.0
    seed: int = 0

    def __str__(self) -> str:
        return "/".join(filter(None, (self.solver, self.method, self.relaxation)))

    @property
    def call(self) -> str:
        """Python that asks for it."""
        return (
            f"b = pvq.solve(p, {self.solver!r}, {self.method!r}, {self.relaxation!r}, "
            f"time_limit={self.time_limit!r}, seed={self.seed})"
        )

    @property
    def native(self) -> bool:
        """Whether no other solver has a part in it."""
        return self.solver in ("auto", "native")


def native_plans(kind: Kind) -> list[Plan]:
    """Every way in which the native solver bounds problems of a kind."""
    names = () if kind is PRUNING else (None, *kind.relaxations)
    relaxed = [Plan(method="relax", relaxation=name) for name in names] or [Plan(method="relax")]
    return [Plan(method="auto"), Plan(method="exact"), *relaxed]


def other_solvers() -> list[str]:
    """The solvers at hand that are not ours."""
    names = [name for name in pvq.available_solvers() if name != "native"]
    try:
        import cvxpy
    except ImportError:
        return names
    return names + [f"cvxpy:{name}" for name in cvxpy.installed_solvers() if name in ("SCS", "CLARABEL")]


def _capabilities(name: str) -> frozenset[Capability]:
    if name in BACKENDS:
        return backend_named(name, *Capability).capabilities
    return frozenset({Capability.BOX_HULL, Capability.PERSPECTIVE})


def plans_for(problem: Problem, solvers: tuple[str, ...] = ()) -> list[Plan]:
    """Every way in which the native solver and `solvers` can bound the problem."""
    kind = kind_of(problem)
    plans = native_plans(kind)
    for name in solvers:
        able = _capabilities(name)
        for capability, method in ((kind.exact, "exact"), (kind.relaxed, "relax")):
            if capability in able:
                plans.append(Plan(name, method))
    return plans


def attempt(case: Case, problem: Problem, plan: Plan) -> Bounds | None:
    """Solve; None where that was refused or went wrong, which is a fault of the native solver."""
    bounds = None
    # what is compiled on the way counts once: a step that is late is tried a second time
    for again in (False, True):
        case.step(f"{plan}: n = {problem.n}", plan.time_limit, plan.call)
        start, begun = time.process_time(), time.perf_counter()
        with case.guarded(str(plan), plan.call, refusals=not plan.native):
            bounds = pvq.solve(
                problem,
                plan.solver,
                plan.method,
                plan.relaxation,
                time_limit=plan.time_limit,
                seed=plan.seed,
            )
        used, passed = time.process_time() - start, time.perf_counter() - begun
        if used <= plan.time_limit + SLACK:
            break
        if again:
            text = f"{used:.1f} s of the processor under a limit of {plan.time_limit} s, n = {problem.n}"
            case.fault("late", str(plan), text, plan.call)
    case.count("solves")
    if bounds is not None and not 0.0 <= bounds.seconds <= passed:
        case.fault("seconds that have not passed", str(plan), f"{bounds.seconds} of {passed}", plan.call)
    return bounds


def solve_all(
    case: Case, problem: Problem, truth: Fraction | None, plans: list[Plan], *, verified: bool = True
) -> list[tuple[Plan, Bounds]]:
    """Solve in every way, hold each result against the truth, and all of them against one another."""
    case.script = script_of(problem)
    found = []
    for plan in plans:
        bounds = attempt(case, problem, plan)
        if bounds is not None:
            check_bounds(case, problem, bounds, truth, str(plan), plan.call, verified=verified)
            found.append((plan, bounds))
    check_agreement(case, found)
    return found


def check_bounds(
    case: Case,
    problem: Problem,
    bounds: Bounds,
    truth: Fraction | None,
    place: str,
    call: str = "",
    *,
    verified: bool = True,
) -> None:
    """Everything that one result must be."""

    def fault(kind: str, text: str) -> None:
        case.fault(kind, place, text, call)

    lower, upper = bounds.error_lower, bounds.error_upper
    ends = f"{lower!r} .. {upper!r} ({bounds.status}, {bounds.lower_kind})"
    case.count("results")
    if {type(lower), type(upper)} - {float, np.float64}:
        return fault("ends that are no float", f"{type(lower)}, {type(upper)}")
    if not (math.isfinite(upper) and 0.0 <= lower <= upper):
        return fault("ends that are no interval", ends)
    achieved = exact_error_of(problem, bounds, fault)
    if achieved is not None and achieved > Fraction(upper):
        fault("upper end below the weights' own error", f"{ends}, exactly {float(achieved)!r}")
    signal = max(exact_signal(problem), Fraction(0))
    if truth is not None:
        slack = Fraction(0)
        if bounds.lower_kind == "reported":
            slack = Fraction(REPORTED) * max(truth, signal / 1000, Fraction(CANCELLED) * _terms(problem))
        if Fraction(lower) > truth + slack:
            fault(
                f"false lower end ({bounds.lower_kind})", f"{ends}, but the least error is {float(truth)!r}"
            )
        if truth > Fraction(upper):
            fault("upper end below the least error", f"{ends}, but the least error is {float(truth)!r}")
    certificate = bounds.certificate
    if bounds.lower_kind == "certified" and lower > 0.0 and certificate is None:
        fault("certified without a certificate", ends)
    if bounds.status == "optimal" and not _closed(lower, upper, signal):
        fault("optimal with a gap", f"{ends}, signal {float(signal)!r}")
    radius = getattr(certificate, "radius", math.inf)
    if math.isfinite(radius) and bounds.lower_kind == "certified" and lower > 0.0:
        fault("certified with a condition", f"{ends}, radius {radius!r}")
    check_decibels(fault, bounds, signal, truth)
    if not isinstance(str(bounds), str) or not isinstance(repr(bounds), str):
        fault("no text", ends)
    if verified:
        verify_honest(case, problem, bounds, truth, place, call)


def _terms(problem: Problem) -> Fraction:
    """The size of the terms that the signal is the sum of."""
    inner = problem.normalised
    size = float(np.abs(inner.weight) @ np.abs(inner.gram) @ np.abs(inner.weight))
    return Fraction(size) * Fraction(2) ** problem.units.error


def _closed(lower: float, upper: float, signal: Fraction) -> bool:
    gap = Fraction(upper) - Fraction(lower)
    return gap <= max(Fraction(1.0001e-6) * Fraction(upper), Fraction(1.0001e-12) * signal)


def verify_honest(
    case: Case, problem: Problem, bounds: Bounds, truth: Fraction | None, place: str, call: str = ""
) -> None:
    """A result holds on the machine that made it, and no more is proved than is true."""
    case.step(f"verify {place}: n = {problem.n}", 60.0, f"{call}\nprint(pvq.verify(p, b))")
    with case.guarded(f"verify {place}", f"{call}\nprint(pvq.verify(p, b))", refusals=False):
        outcome = pvq.verify(problem, bounds, time_limit=60.0)
        case.count("verified")
        if not outcome and "not ended within" not in outcome.reason:
            case.fault(
                "a result that does not verify", place, outcome.reason, f"{call}\nprint(pvq.verify(p, b))"
            )
        if truth is not None and Fraction(outcome.error_lower) > truth:
            case.fault(
                "verify proves what is false",
                place,
                f"{outcome.error_lower!r}, but the least error is {float(truth)!r}",
                f"{call}\nprint(pvq.verify(p, b))",
            )


def exact_error_of(problem: Problem, bounds: Bounds, fault: Any) -> Fraction | None:
    """The exact error of the returned weights; None, and a fault, where they are not allowed."""
    weight = np.asarray(bounds.weight)
    if weight.shape != (problem.n,) or weight.dtype != np.float64 or not np.isfinite(weight).all():
        fault("weights that are none", f"{weight!r}")
        return None
    v = fractions(weight)
    if problem.values.is_finite:
        codes = np.asarray(bounds.codes)
        if codes.shape != (problem.n,) or codes.dtype.kind != "i":
            fault("codes that are none", f"{codes!r}")
            return None
        fixed = problem.at(bounds.scale) if isinstance(problem, AnyScaleLeastSquares) else problem
        exact = exact_values(fixed, codes.tolist())
        if exact is None:
            fault("codes outside the box", f"{codes!r}")
            return None
        if [float(value) for value in exact] != weight.tolist():
            fault("weights that are not the codes' own", f"{weight!r}, {codes!r}")
        v = exact
    if not allowed(problem, v):
        fault("weights beyond the budget", f"{weight!r}")
        return None
    if not problem.values.is_finite or problem.is_restricted:
        support = set(np.asarray(bounds.support).tolist())
        if not {i for i, value in enumerate(v) if value != 0} <= support:
            fault("weights outside the support", f"{weight!r}, {sorted(support)}")
    return exact_error(problem.gram, problem.weight, v)


# --------------------------------------------------------------------------- decibels


def decibels(ratio: Fraction, rounding: str) -> Decimal:
    """10 log10 of a positive fraction, to 50 digits, rounded the way that is asked for."""
    wide = Context(prec=80, Emax=10**6, Emin=-(10**6))
    quotient = wide.divide(Decimal(ratio.numerator), Decimal(ratio.denominator))
    return Context(prec=50, rounding=rounding).plus(10 * quotient.log10(wide))


def check_decibels(fault: Any, bounds: Bounds, signal: Fraction, truth: Fraction | None) -> None:
    """SQNRs are the interval's own, rounded outwards, and hold the truth."""
    low, high = bounds.sqnr_lower, bounds.sqnr_upper
    if signal <= 0:
        if not (math.isnan(low) or low == -math.inf) and Fraction(bounds.error_upper) > 0:
            fault("an SQNR without signal", f"{low!r} .. {high!r}")
        return
    if math.isnan(low) and math.isnan(high):
        return  # no signal can be proved
    for end, error, rounding in (
        ("lower", Fraction(bounds.error_upper), ROUND_FLOOR),
        ("upper", Fraction(bounds.error_lower), ROUND_CEILING),
    ):
        stated = low if end == "lower" else high
        if error == 0:
            if end == "upper" and stated != math.inf:
                fault("a finite SQNR of no error", f"{stated!r}")
            continue
        exact = decibels(signal / error, rounding)
        inside = Decimal(stated) <= exact if end == "lower" else Decimal(stated) >= exact
        if not inside or math.isnan(stated):
            fault(f"SQNR not rounded outwards ({end})", f"{stated!r}, exactly {exact:.25g}")
    if truth is not None and truth > 0 and bounds.lower_kind == "certified":
        exact = decibels(signal / truth, ROUND_CEILING)
        if not low <= exact + Decimal("1e-40") or not high >= exact - Decimal("1e-40"):
            fault("SQNR interval without the truth", f"{low!r} .. {high!r}, exactly {exact:.25g}")


# --------------------------------------------------------------------------- agreement


def check_agreement(case: Case, found: list[tuple[Plan, Bounds]], what: str = "contradiction") -> None:
    """No certified lower end lies above any upper end, whoever found it."""
    for (one, a), (other, b) in itertools.permutations(found, 2):
        if a.lower_kind == "certified" and a.error_lower > b.error_upper:
            case.fault(
                what,
                f"{one} against {other}",
                f"{one} proves {a.error_lower!r}, {other} has weights with {b.error_upper!r}",
                f"{one.call}\n{other.call.replace('b = ', 'c = ')}",
            )
