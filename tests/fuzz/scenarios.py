"""The families of cases: what is drawn, what is asked for, and what is held against what."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

import pvqbounds as pvq
from pvqbounds import InputError, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.arithmetic.enclosures import Enclosure, down, up
from pvqbounds.results.bounds import sqnr_interval
from pvqbounds.solving.layer_budget import solve_layer_budget

from . import doors, files, tampering
from .case import Case, script_of
from .checks import (
    Plan,
    attempt,
    check_agreement,
    check_bounds,
    decibels,
    other_solvers,
    plans_for,
    solve_all,
)
from .families import draw, powers
from .problems import (
    Known,
    moved,
    permuted,
    planted_codes,
    planted_sparse,
    random_codes,
    random_order,
    random_sparse,
    small_codes,
    small_sparse,
)
from .rational import least_layer_error, least_sparse_errors

__all__ = ["SCENARIOS", "Scenario"]


class Scenario(NamedTuple):
    """One family of cases."""

    run: Callable[[Case], None]
    share: float
    """How often it is drawn, in relation to the others; 0 where it is only run by name."""


def _some(case: Case, plans: list[Plan], number: int) -> list[Plan]:
    order = case.rng.permutation(len(plans))[:number]
    return [plans[i] for i in sorted(order)]


def _with_limits(case: Case, plans: list[Plan]) -> list[Plan]:
    """The plans with a seed, and now and then under a limit that stops them early."""
    limit = 5.0 if case.rng.random() < 0.8 else float(10.0 ** case.rng.uniform(-4.0, -0.5))
    seed = int(case.rng.integers(1000))
    return [Plan(p.solver, p.method, p.relaxation, limit, seed) for p in plans]


def _solvers(case: Case) -> tuple[str, ...]:
    """The other solvers, now and then."""
    return tuple(other_solvers()) if case.rng.random() < 0.15 else ()


def _solve_known(case: Case, known: Known | None, number: int = 99) -> None:
    if known is None:
        return
    case.count("truth known" if known.truth is not None else "truth unknown")
    plans = _some(case, _with_limits(case, plans_for(known.problem, _solvers(case))), number)
    solve_all(case, known.problem, known.truth, plans)


def _codes_small(case: Case) -> None:
    _solve_known(case, small_codes(case))


def _sparse_small(case: Case) -> None:
    _solve_known(case, small_sparse(case))


def _codes_planted(case: Case) -> None:
    known = planted_codes(case)
    if known is not None:
        case.count("truth known" if known.truth is not None else "truth unknown")
        plans = [
            Plan(p.solver, p.method, p.relaxation, 1.0, 0) for p in plans_for(known.problem, _solvers(case))
        ]
        solve_all(case, known.problem, known.truth, _some(case, plans, 3))


def _sparse_planted(case: Case) -> None:
    known = planted_sparse(case)
    if known is not None:
        case.count("truth known" if known.truth is not None else "truth unknown")
        plans = [
            Plan(p.solver, p.method, p.relaxation, 1.0, 0) for p in plans_for(known.problem, _solvers(case))
        ]
        solve_all(case, known.problem, known.truth, _some(case, plans, 2))


# --------------------------------------------------------------------------- relations


def _related(case: Case) -> Known | None:
    """A small problem with its least error, or one of 9 to 40 inputs without it."""
    if case.rng.random() < 0.5:
        return small_codes(case) if case.rng.random() < 0.5 else small_sparse(case)
    n = int(case.rng.integers(9, 41))
    try:
        make = random_codes if case.rng.random() < 0.5 else random_sparse
        problem, family = make(case.rng, n)
    except InputError:
        case.count("refused at the door")
        return None
    return Known(problem, None, family)


def _units(case: Case) -> None:
    """In other units by powers of two every interval holds the same least error."""
    known = _related(case)
    if known is None:
        return
    problem = known.problem
    plan = _some(case, plans_for(problem), 1)[0]
    plan = Plan(plan.solver, plan.method, plan.relaxation, 1.0, 0)
    a, b = powers(case.rng)
    try:
        other = moved(problem, a, b)
    except InputError:
        case.count("refused at the door")
        return
    exact = moved_back_exactly(problem, other, a, b)
    if not exact:
        case.count("not moved exactly")
        return
    factor = Fraction(2) ** (a + 2 * b)
    here = solve_all(case, problem, known.truth, [plan], verified=False)
    there = solve_all(case, other, None if known.truth is None else factor * known.truth, [plan])
    for (_, one), (_, two) in zip(here, there, strict=False):
        case.script = script_of(problem) + "\n" + script_of(other, "q")
        ends = f"{one.error_lower!r} .. {one.error_upper!r}, times 2^{a + 2 * b}: "
        ends += f"{two.error_lower!r} .. {two.error_upper!r}"
        lower, upper = factor * Fraction(one.error_lower), factor * Fraction(one.error_upper)
        if Fraction(two.error_lower) > upper or lower > Fraction(two.error_upper):
            certified = one.lower_kind == two.lower_kind == "certified"
            if certified:
                case.fault("contradiction in other units", str(plan), ends, plan.call)
        elif max(one.seconds, two.seconds) < 0.5 and (lower, upper) != (
            Fraction(two.error_lower),
            Fraction(two.error_upper),
        ):
            case.count("other ends in other units")


def moved_back_exactly(one: object, other: object, a: int, b: int) -> bool:
    """Whether nothing was lost to underflow or overflow on the way."""
    assert isinstance(one, IntegerLeastSquares | SparseLeastSquares)
    back = moved(other, -a, -b)  # type: ignore[arg-type]
    same = np.array_equal(back.gram, one.gram) and np.array_equal(back.weight, one.weight)
    if isinstance(one, IntegerLeastSquares) and isinstance(back, IntegerLeastSquares):
        return same and one.scale == back.scale
    return same


def _orders(case: Case) -> None:
    """The order of the inputs means nothing."""
    known = _related(case)
    if known is None:
        return
    other = permuted(known.problem, random_order(case.rng, known.problem))
    plans = [Plan(p.solver, p.method, p.relaxation, 1.0, 0) for p in plans_for(known.problem)]
    plans = _some(case, plans, 2)
    found = solve_all(case, known.problem, known.truth, plans, verified=False)
    again = solve_all(case, other, known.truth, plans)
    case.script = script_of(known.problem) + "\n" + script_of(other, "q")
    check_agreement(case, [*found, *again], "contradiction in another order")


def _larger_sets(case: Case) -> None:
    """What allows more cannot have a larger least error."""
    rng = case.rng
    n = int(rng.integers(2, 25))
    try:
        if rng.random() < 0.5:
            small, _ = random_codes(rng, n)
            lower, higher = (int(rng.integers(0, 4)) for _ in range(2))
            limits = max(-(2**31), small.qmin - lower), min(2**31, small.qmax + higher)
            large: IntegerLeastSquares | SparseLeastSquares = IntegerLeastSquares(
                small.gram, small.weight, small.scale, *limits
            )
            first: IntegerLeastSquares | SparseLeastSquares = small
        else:
            sparse, _ = random_sparse(rng, n)
            first = sparse
            if sparse.nnz is not None:
                large = sparse.with_nnz(int(rng.integers(sparse.nnz, n + 1)))
            else:
                assert sparse.pattern is not None
                kept = sum(count for _, count in sparse.budgets)
                large = SparseLeastSquares(sparse.gram, sparse.weight, nnz=kept)
    except InputError:
        case.count("refused at the door")
        return
    plans = [Plan(p.solver, p.method, p.relaxation, 1.0, 0) for p in plans_for(first)]
    plans = _some(case, plans, 2)
    inner = solve_all(case, first, None, plans, verified=False)
    outer = solve_all(case, large, None, plans, verified=False)
    case.script = script_of(first) + "\n" + script_of(large, "q")
    for plan, more in outer:
        for other, less in inner:
            if more.lower_kind == "certified" and more.error_lower > less.error_upper:
                text = (
                    f"the larger set has at least {more.error_lower!r}, the smaller one {less.error_upper!r}"
                )
                case.fault("contradiction of a larger set", f"{plan} against {other}", text, plan.call)


# --------------------------------------------------------------------------- layers


def _layer_budget(case: Case) -> None:
    """One budget over channels of one or two Grams, against the exact division of it."""
    rng = case.rng
    n, channels = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    try:
        drawn = [draw(rng, n, one_step=False) for _ in range(int(rng.integers(1, 3)))]
        grams = [pvq.Gram(one.gram) for one in drawn]
        problems = []
        for g, one in enumerate(drawn):
            for _ in range(channels):
                weight = one.weight * np.ldexp(1.0, int(rng.integers(-3, 4))) * rng.choice([-1.0, 1.0], n)
                problems.append(SparseLeastSquares(grams[g], weight, nnz=0))
    except InputError:
        case.count("refused at the door")
        return
    nnz = int(rng.integers(0, n * len(problems) + 1))
    truth = least_layer_error([least_sparse_errors(p) for p in problems], nnz)
    case.script = "\n".join(script_of(p, f"p{i}") for i, p in enumerate(problems))
    call = f"r = solve_layer_budget([{', '.join(f'p{i}' for i in range(len(problems)))}], {nnz})"
    case.step("layer budget", 5.0 * len(problems), call)
    outcome = None
    sizes = [float(np.abs(part).max()) for p in problems for part in (p.gram, p.weight) if part.any()]
    apart = max(sizes, default=1.0) / 1e200 > min(
        sizes, default=1.0
    )  # errors of no common unit may be refused
    with case.guarded("layer budget", call, refusals=apart):
        outcome = solve_layer_budget(problems, nnz, time_limit=5.0)
    case.count("solves")
    if outcome is None:
        return
    allotted, bounds, lower = outcome
    upper = sum((Fraction(b.error_upper) for b in bounds), Fraction(0))
    if Fraction(lower) > truth:
        text = f"{lower!r}, but the least error is {float(truth)!r}"
        case.fault("false lower end (certified)", "layer budget", text, call)
    if upper < truth:
        case.fault(
            "upper end below the least error", "layer budget", f"{float(upper)!r}, {float(truth)!r}", call
        )
    if sum(int(np.count_nonzero(b.weight)) for b in bounds) > nnz:
        case.fault("weights beyond the budget", "layer budget", f"more than {nnz}", call)
    for problem, result in zip(allotted, bounds, strict=True):
        case.script = script_of(problem)
        check_bounds(case, problem, result, None, "layer budget")
    tampering.attack_layer(case, problems, nnz, truth, [b.certificate for b in bounds])


def _channels(case: Case) -> None:
    """Channels of one Gram, solved together."""
    rng = case.rng
    n, count = int(rng.integers(1, 7)), int(rng.integers(1, 6))
    quantized = rng.random() < 0.7
    try:
        drawn = draw(rng, n, one_step=quantized)
        gram = pvq.Gram(drawn.gram)
        signs = [rng.choice([-1.0, 1.0, 0.5], n) for _ in range(count)]
        problems: list[IntegerLeastSquares | SparseLeastSquares] = [
            IntegerLeastSquares(gram, drawn.weight * sign, drawn.scale, -2, 1)
            if quantized
            else SparseLeastSquares(gram, drawn.weight * sign, nnz=int(rng.integers(0, n + 1)))
            for sign in signs
        ]
    except InputError:
        case.count("refused at the door")
        return
    names = ("shared", "box-hull", "park-boyd", "splits", None) if quantized else (None,)
    relaxation = names[int(rng.integers(len(names)))]
    jobs = int(rng.integers(1, 3))
    case.script = "\n".join(script_of(p, f"p{i}") for i, p in enumerate(problems))
    call = (
        f"b = pvq.solve_channels([{', '.join(f'p{i}' for i in range(count))}], method='relax', "
        f"relaxation={relaxation!r}, jobs={jobs}, time_limit=5.0)"
    )
    place = f"channels/{relaxation}"
    case.step(place, 5.0 * count, call)
    results: list[pvq.Bounds] = []
    with case.guarded(place, call, refusals=False):
        results = pvq.solve_channels(
            problems, method="relax", relaxation=relaxation, jobs=jobs, time_limit=5.0
        )
    case.count("solves", len(results))
    for problem, bounds in zip(problems, results, strict=False):
        truth = None
        if (isinstance(problem, IntegerLeastSquares) and n <= 6) or isinstance(problem, SparseLeastSquares):
            truth = tampering.truth_of(problem)
        check_bounds(case, problem, bounds, truth, place, call)


# --------------------------------------------------------------------------- the rest


def _tampered(case: Case) -> None:
    known = small_codes(case) if case.rng.random() < 0.5 else small_sparse(case)
    if known is None or known.truth is None:
        return
    case.script = script_of(known.problem)
    plan = _some(case, plans_for(known.problem), 1)[0]
    bounds = attempt(case, known.problem, plan)
    if bounds is not None:
        tampering.attack(case, known.problem, known.truth, bounds, plan)


def _multipliers(case: Case) -> None:
    known = small_codes(case) if case.rng.random() < 0.5 else small_sparse(case)
    if known is not None and known.truth is not None:
        case.script = script_of(known.problem)
        tampering.attack_with_noise(case, known.problem, known.truth)


def _decibels(case: Case) -> None:
    """SQNR intervals of any signal and error, above all near 0 dB."""
    rng = case.rng
    case.step("decibels", 10.0)
    for _ in range(200):
        signal = float(10.0 ** (rng.uniform(-3, 3) if rng.random() < 0.7 else rng.uniform(-300, 300)))
        near = rng.random() < 0.6
        error = (
            signal * (1.0 + rng.standard_normal() * 10.0 ** -rng.uniform(0, 16))
            if near
            else signal * 10.0 ** rng.uniform(-40, 8)
        )
        if not (0.0 < error < math.inf):
            continue
        lower = error * float(rng.choice([1.0, 1.0 - 1e-9, 0.5])) or error
        low, high = sqnr_interval(Enclosure(down(signal), up(signal)), lower, error)
        case.count("intervals in dB")
        call = f"print(sqnr_interval(Enclosure({down(signal)!r}, {up(signal)!r}), {lower!r}, {error!r}))"
        least = decibels(Fraction(down(signal)) / Fraction(error), ROUND_FLOOR)
        most = decibels(Fraction(up(signal)) / Fraction(lower), ROUND_CEILING)
        if not Decimal(low) <= least:
            case.fault(
                "SQNR not rounded outwards (lower)", "sqnr_interval", f"{low!r}, exactly {least}", call
            )
        if not Decimal(high) >= most:
            case.fault(
                "SQNR not rounded outwards (upper)", "sqnr_interval", f"{high!r}, exactly {most}", call
            )


def _hang(case: Case) -> None:
    """Never ends: the watchdog's own test."""
    case.step("a loop without an end", 0.1)
    while True:
        time.sleep(0.001)


def _crash(case: Case) -> None:
    """Takes its process down: the pool's own test."""
    case.step("an abort", 1.0)
    os.abort()


SCENARIOS: dict[str, Scenario] = {
    "codes": Scenario(_codes_small, 5.0),
    "sparse": Scenario(_sparse_small, 5.0),
    "codes-planted": Scenario(_codes_planted, 1.0),
    "sparse-planted": Scenario(_sparse_planted, 1.0),
    "layer-budget": Scenario(_layer_budget, 2.0),
    "channels": Scenario(_channels, 1.5),
    "units": Scenario(_units, 2.0),
    "orders": Scenario(_orders, 1.0),
    "larger-sets": Scenario(_larger_sets, 1.0),
    "multipliers": Scenario(_multipliers, 2.0),
    "tampered": Scenario(_tampered, 3.0),
    "files": Scenario(files.attack, 2.0),
    "problem-files": Scenario(doors.problem_files, 1.0),
    "arguments": Scenario(doors.arguments, 1.0),
    "decibels": Scenario(_decibels, 0.3),
    "hang": Scenario(_hang, 0.0),
    "crash": Scenario(_crash, 0.0),
}
"""By name."""
