"""Every budget of a channel, and of a layer, in one run: against the exact least error of each of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
from numpy.random import Generator

import pvqbounds as pvq
from pvqbounds import AnyScaleLeastSquares, Bounds, InputError, SparseLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.problems import Problem
from pvqbounds.problems.supports import AtMost
from pvqbounds.solvers.native.pruning.certificate import CurveCertificate
from pvqbounds.solving import budget_curve as module
from pvqbounds.solving.layer_budget import solve_layer_budget
from pvqbounds.solving.layer_curves import Together, curves_bound, proved_together

from . import tampering
from .case import Case, script_of
from .checks import Plan, attempt, check_agreement, check_bounds
from .families import draw, powers
from .planted import lost_and_least, planted
from .problems import moved, permuted, random_problem, same
from .rational import least_layer_error, least_sparse_errors, least_value_error, rounded_down
from .scales import least_error_at_any_scale

__all__ = ["curves", "layer_curves"]

MOST = 1000
"""Choices of values that are enumerated for one budget."""

IMPORTS = "from pvqbounds.problems.supports import AtMost\n"

LARGE: dict[str, Any] = {
    "LARGEST_SEARCHED": 0, "LARGEST_SOLVED": 0, "FEW_SUPPORTS": 1, "STEPS": 2, "FOR_ANCHORS": 0.7,
}  # fmt: skip
"""With these a channel of any size has the curve of one that is too large to be solved at every budget."""

PLAN = Plan(solver="budget_curve", method="")
"""How a curve is named where results are held against one another."""


def curves(case: Case) -> None:
    """A curve: each entry is a result of its own budget, and none is worse than one of fewer non-zeros."""
    found = _channel(case)
    if found is None:
        return
    problem, truths = found
    case.count("curves with truths" if truths[0] is not None else "curves without truths")
    curve = curve_of(case, problem, as_large=bool(case.rng.random() < 0.3))
    if curve is None:
        return
    check_curve(case, problem, curve, truths)
    _hold_beside(case, problem, curve)
    _relate(case, problem, curve, truths)
    _tamper(case, problem, curve, truths)


# --------------------------------------------------------------------------- channels and their truth


def _channel(case: Case) -> tuple[Problem, list[Fraction | None]] | None:
    """A channel of few inputs, or one of many on a diagonal Gram, and the least error of each budget."""
    rng = case.rng
    if rng.random() < 0.15:
        known = planted(case, ("joint", "sparse")[int(rng.integers(2))])
        if known is None:
            return None
        problem = known.problem.under(AtMost(0))
        diagonal = not np.count_nonzero(problem.gram - np.diag(np.diagonal(problem.gram)))
        return problem, [*_errors_of_diagonal(problem)] if diagonal else [None] * (problem.n + 1)
    n = int(rng.integers(1, 7))
    if rng.random() < 0.15:
        any_scale = _any_scale(case, min(n, 4))
        return None if any_scale is None else (any_scale, truths_of(any_scale))
    kind = "sparse" if rng.random() < 0.5 else "joint"
    found = random_problem(case, n if kind == "sparse" else min(n, 4), kind)
    if found is None:
        return None
    problem = found[0].under(AtMost(0))
    return problem, truths_of(problem)


def _any_scale(case: Case, n: int) -> Problem | None:
    """A channel of any scale, with 0 among its codes."""
    drawn = draw(case.rng, n, one_step=True)
    box = ((-1, 0), (0, 1), (-1, 1), (-2, 1), (0, 3))[int(case.rng.integers(5))]
    try:
        return AnyScaleLeastSquares(drawn.gram, drawn.weight, *box, nnz=0)
    except InputError:
        case.count("refused at the door")
        return None


def truths_of(problem: Problem) -> list[Fraction | None]:
    """The least error with 0, 1, ..., n non-zeros; None for each that takes too long."""
    if isinstance(problem, SparseLeastSquares):
        return [*least_sparse_errors(problem)]
    posed = [problem.under(AtMost(nnz)) for nnz in range(problem.n + 1)]
    return [
        least_error_at_any_scale(one)
        if isinstance(one, AnyScaleLeastSquares)
        else least_value_error(one, MOST)
        for one in posed
    ]


def _errors_of_diagonal(problem: Problem) -> Iterator[Fraction]:
    """The same of inputs that have nothing to do with one another: those that gain most are kept."""
    lost, least = lost_and_least(problem)
    gains = sorted((a - b for a, b in zip(lost, least, strict=True)), reverse=True)
    for nnz in range(problem.n + 1):
        yield sum(lost, Fraction(0)) - sum(gains[:nnz], Fraction(0))


# --------------------------------------------------------------------------- the curve


@contextmanager
def _sizes(as_large: bool) -> Iterator[None]:
    """What the sizes of large channels are, within the block."""
    with mock.patch.multiple(module, **LARGE) if as_large else nullcontext():
        yield


def curve_of(case: Case, problem: Problem, *, as_large: bool = False) -> list[Bounds] | None:
    """The curve, now and then under a limit that stops it early; None, and a fault, where there is none.

    Parameters
    ----------
    as_large
        Whether few budgets are solved, as of a large channel, and their multipliers serve the others.
    """
    limit = 5.0 if case.rng.random() < 0.8 else float(10.0 ** case.rng.uniform(-4.0, -0.5))
    case.script = IMPORTS + script_of(problem)
    if as_large:
        patched = f"mock.patch.multiple('pvqbounds.solving.budget_curve', **{LARGE!r})"
        case.script = f"from unittest import mock\n{patched}.start()\n{case.script}"
    call = f"curve = pvq.budget_curve(p, time_limit={limit!r})"
    case.step(f"budget curve: n = {problem.n}", limit, call)
    found: list[Bounds] | None = None
    with case.guarded("budget_curve", call, refusals=False), _sizes(as_large):
        found = pvq.budget_curve(problem, time_limit=limit)
    case.count("solves")
    if found is not None and len(found) != problem.n + 1:
        case.fault("a curve without all budgets", "budget_curve", f"{len(found)} of {problem.n + 1}", call)
        return None
    return found


def check_curve(
    case: Case, problem: Problem, curve: Sequence[Bounds], truths: Sequence[Fraction | None]
) -> None:
    """Each entry is what a result must be, and proved again; neither end rises with the budget."""
    call = "curve = pvq.budget_curve(p, time_limit=5.0)"
    for nnz, (bounds, truth) in enumerate(zip(curve, truths, strict=True)):
        posed = problem.under(AtMost(nnz))
        own = f"{call}\np, b = p.under(AtMost({nnz})), curve[{nnz}]"
        check_bounds(case, posed, bounds, truth, "budget_curve", own)
    for nnz, (fewer, more) in enumerate(itertools.pairwise(curve)):
        if more.error_upper > fewer.error_upper:
            text = f"{nnz}: {fewer.error_upper!r}, {nnz + 1}: {more.error_upper!r}"
            case.fault("an upper end that rises with the budget", "budget_curve", text, call)
        if more.error_lower > fewer.error_upper:
            text = f"{nnz}: error {fewer.error_upper!r}, {nnz + 1}: at least {more.error_lower!r}"
            case.fault("contradiction between budgets", "budget_curve", text, call)
        case.count("lower ends that rise with the budget", more.error_lower > fewer.error_lower)


def _hold_beside(case: Case, problem: Problem, curve: Sequence[Bounds]) -> None:
    """One budget solved by itself contradicts no entry."""
    nnz = int(case.rng.integers(problem.n + 1))
    posed = problem.under(AtMost(nnz))
    plan = Plan(time_limit=1.0, method=("auto", "relax")[int(case.rng.integers(2))])
    bounds = attempt(case, posed, plan)
    if bounds is not None:
        check_agreement(case, [(plan, bounds), (PLAN, curve[nnz])], "contradiction between curve and solve")


def _relate(case: Case, problem: Problem, curve: Sequence[Bounds], truths: Sequence[Fraction | None]) -> None:
    """The same channel in other units, or with its inputs in another order, has the same curve."""
    rng, power = case.rng, 0
    try:
        if rng.random() < 0.5 and not isinstance(problem, AnyScaleLeastSquares):
            a, b = powers(rng)
            power, other = a + 2 * b, moved(problem, a, b)
            if not same(moved(other, -a, -b), problem):
                return case.count("not moved exactly")
        else:
            order = rng.permutation(problem.n)
            other = (
                AnyScaleLeastSquares(
                    problem.gram[np.ix_(order, order)],
                    problem.weight[order],
                    problem.values.qmin,
                    problem.values.qmax,
                    nnz=0,
                )
                if isinstance(problem, AnyScaleLeastSquares)
                else permuted(problem, order)
            )
    except InputError:
        return case.count("refused at the door")
    factor = Fraction(2) ** power
    again = curve_of(case, other)
    if again is None:
        return None
    check_curve(case, other, again, [None if t is None else factor * t for t in truths])
    for nnz, (one, two) in enumerate(zip(curve, again, strict=True)):
        ends = f"budget {nnz}: {one.error_lower!r} .. {one.error_upper!r}, times 2^{power}: "
        ends += f"{two.error_lower!r} .. {two.error_upper!r}"
        lower, upper = factor * Fraction(one.error_lower), factor * Fraction(one.error_upper)
        if Fraction(two.error_lower) > upper or lower > Fraction(two.error_upper):
            case.fault("contradiction of curves of one channel", "budget_curve", ends)
    return None


def _tamper(case: Case, problem: Problem, curve: Sequence[Bounds], truths: Sequence[Fraction | None]) -> None:
    """No certificate, of whichever budget and however spoilt, proves more than is true of a budget."""
    rng = case.rng
    case.script = IMPORTS + script_of(problem)
    for nnz in rng.permutation(problem.n + 1)[:3].tolist():
        posed, truth, bounds = problem.under(AtMost(nnz)), truths[nnz], curve[nnz]
        if truth is None:
            continue
        case.script = IMPORTS + script_of(posed)
        for other in curve:
            if other.certificate is not None:
                tampering.prove(case, posed, other.certificate, truth, other.error_lower)
        if not isinstance(posed, AnyScaleLeastSquares):  # whose values have no list to make noise of
            tampering.attack(case, posed, truth, bounds, Plan(), tries=6)
    known = [truth for truth in truths if truth is not None]
    if isinstance(problem, SparseLeastSquares) and len(known) == len(truths):
        for _ in range(4):
            check_claims(case, problem, random_claims(rng, known), known)


# --------------------------------------------------------------------------- claims of every budget


def random_claims(rng: Generator, truths: Sequence[Fraction]) -> CurveCertificate:
    """Claims of searches at every budget: the truth, a hair or far above it, or of another budget."""
    values = np.array([float(truth) for truth in truths])
    with np.errstate(all="ignore"):
        kind = int(rng.integers(5))
        if kind == 0:
            values = values * (1.0 + 10.0 ** -rng.uniform(0.0, 15.0))
        elif kind == 1:
            values = values * np.where(rng.random(len(values)) < 0.5, 1.0 - 1e-9, 1.5)
        elif kind == 2:
            values = np.roll(values, int(rng.integers(1, 3)))
        elif kind == 3:
            values = np.full(len(values), values.max() or 1.0)
    values = np.maximum.accumulate(np.where(np.isfinite(values), values, 0.0)[::-1])[::-1].copy()
    return CurveCertificate(values, rng.integers(0, 100, len(values)))


def check_claims(
    case: Case, problem: SparseLeastSquares, claims: CurveCertificate, truths: Sequence[Fraction]
) -> None:
    """What a curve's claims prove, of each budget by itself and of all at once, is true."""
    call = f"c = {tampering.shown(claims)}\nprint(c.fits(p), c.proved(p, Clock(5.0)))"
    case.step(f"claims of every budget: n = {problem.n}", 10.0, call)
    with case.guarded("prove budget curve", call, refusals=False), np.errstate(all="ignore"):
        if not claims.fits(problem):
            return case.fault("claims that do not fit", "prove budget curve", "", call)
        proved = [*claims.proved(problem, Clock(5.0)).tolist()]
        own = [claims.prove(problem.with_nnz(nnz), Clock(5.0)) for nnz in range(problem.n + 1)]
        case.count("claims of every budget")
        for nnz, truth in enumerate(truths):
            for value in (proved[nnz], own[nnz]):
                if tampering.exceeds(value, truth):
                    text = f"budget {nnz}: {value!r}, least error {float(truth)!r}"
                    case.fault("a proof of what is false", "prove budget curve", text, call)
    return None


# --------------------------------------------------------------------------- layers


def layer_curves(case: Case) -> None:
    """Channels under one budget by their curves: what these prove holds of every budget of the layer."""
    rng = case.rng
    problems = _channels(case)
    if problems is None:
        return
    least = [least_sparse_errors(p) for p in problems]
    nnz = int(rng.integers(0, sum(p.n for p in problems) + 1))
    names = ", ".join(f"p{i}" for i in range(len(problems)))
    case.script = "\n".join(script_of(p, f"p{i}") for i, p in enumerate(problems))
    call = f"r = solve_layer_budget([{names}], {nnz}, time_limit=5.0)"
    case.step("layer curves", 5.0 * len(problems), call)
    found: Together | None = None
    with case.guarded("layer curves", call, refusals=False):
        found = Together(*solve_layer_budget(problems, nnz, time_limit=5.0))
    case.count("solves")
    if found is None:
        return
    certificates = [b.certificate for b in found.bounds]
    curves = [own for own in certificates if isinstance(own, CurveCertificate)]
    check_together(case, found, least, nnz, call)
    if len(curves) < len(problems):
        return case.count("layers without curves")
    case.count("layers with curves")
    check_proved(case, problems, curves, least, {nnz: found.error_lower})
    for _ in range(4):
        tampered = [
            random_claims(rng, own) if rng.random() < 0.7 else known
            for own, known in zip(least, curves, strict=True)
        ]
        check_proved(case, problems, tampered, least, {})
    stacked = [np.array([rounded_down(error) for error in own]) for own in least]
    for budget in range(sum(p.n for p in problems) + 1):
        bound, truth = curves_bound(stacked, budget), least_layer_error(least, budget)
        if Fraction(bound) > truth:
            text = f"budget {budget}: {bound!r}, least error {float(truth)!r}: {stacked!r}"
            case.fault("a proof of what is false", "curves_bound", text)
    return None


def _channels(case: Case) -> list[SparseLeastSquares] | None:
    """Channels of one or two Grams, of sizes up to 1e8 apart, some of them copies of one another."""
    rng = case.rng
    n, channels = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    problems: list[SparseLeastSquares] = []
    try:
        for _ in range(int(rng.integers(1, 3))):
            drawn = draw(rng, n, one_step=True)
            gram = pvq.Gram(drawn.gram)
            for _ in range(channels):
                size = 2.0 ** int(rng.integers(-27, 28)) if rng.random() < 0.5 else 1.0
                weight = drawn.weight * size * rng.choice([-1.0, 1.0], n)
                problems.append(SparseLeastSquares(gram, weight, nnz=0))
    except InputError:
        case.count("refused at the door")
        return None
    if rng.random() < 0.3:
        problems += problems[:1]
    sizes = [float(np.abs(part).max()) for p in problems for part in (p.gram, p.weight) if part.any()]
    if sizes and max(sizes) / 1e100 > min(sizes):  # errors of no common unit may be refused
        case.count("channels too far apart")
        return None
    return problems


def check_together(
    case: Case, found: Together, least: Sequence[Sequence[Fraction]], nnz: int, call: str
) -> None:
    """Both ends of a layer hold the exact division of its budget, which its weights keep to."""
    truth = least_layer_error(least, nnz)
    upper = sum((Fraction(b.error_upper) for b in found.bounds), Fraction(0))
    ends = f"{found.error_lower!r} .. {float(upper)!r}, least error {float(truth)!r}"
    if tampering.exceeds(found.error_lower, truth):
        case.fault("false lower end (certified)", "layer curves", ends, call)
    if upper < truth:
        case.fault("upper end below the least error", "layer curves", ends, call)
    if sum(int(np.count_nonzero(b.weight)) for b in found.bounds) > nnz:
        case.fault("weights beyond the budget", "layer curves", f"more than {nnz}", call)
    for problem, bounds, errors in zip(found.problems, found.bounds, least, strict=True):
        case.script = script_of(problem)
        assert problem.nnz is not None
        check_bounds(case, problem, bounds, errors[min(problem.nnz, problem.n)], "layer curves")


def check_proved(
    case: Case,
    problems: Sequence[SparseLeastSquares],
    certificates: Sequence[CurveCertificate],
    least: Sequence[Sequence[Fraction]],
    stated: dict[int, float],
) -> None:
    """What curves prove of the layer is true of each budget, at least what is stated, and never rises.

    Parameters
    ----------
    stated
        By the budget, what an honest result states of the layer.
    """
    case.script = "\n".join(script_of(p, f"p{i}") for i, p in enumerate(problems))
    names = ", ".join(f"p{i}" for i in range(len(problems)))
    shown = ", ".join(map(tampering.shown, certificates))
    total = sum(p.n for p in problems)
    budgets = sorted({0, total, int(case.rng.integers(total + 1)), *stated})
    before: float | None = None
    for budget in budgets:
        call = f"print(proved_together([{names}], [{shown}], {budget}))"
        case.step("proof of a layer by curves", 10.0 * len(problems), call)
        proved = 0.0
        with case.guarded("proved_together", call, refusals=False):
            proved = proved_together(problems, certificates, budget, 5.0)
        case.count("proofs of layers by curves")
        truth = least_layer_error(least, budget)
        if tampering.exceeds(proved, truth):
            text = f"budget {budget}: {proved!r}, least error {float(truth)!r}"
            case.fault("a proof of what is false", "proved_together", text, call)
        if budget in stated and not stated[budget] <= proved:
            text = f"stated {stated[budget]!r}, proved {proved!r}"
            case.fault("a result that does not verify", "layer curves", text, call)
        if before is not None and proved > before:
            text = f"budget {budget}: {proved!r}, of fewer {before!r}"
            case.fault("a proof that rises with the budget", "proved_together", text, call)
        before = proved
