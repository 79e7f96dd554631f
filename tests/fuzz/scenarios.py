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
from pvqbounds import InputError, SparseLeastSquares
from pvqbounds.arithmetic.enclosures import Enclosure, down, up
from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares, Problem
from pvqbounds.problems.code_grids import has_grid
from pvqbounds.problems.supports import AtMost
from pvqbounds.relaxations.blocks import has_blocks
from pvqbounds.results.bounds import sqnr_interval
from pvqbounds.solvers.native.directions.codes import code_cases
from pvqbounds.solvers.native.directions.near_null import NearNull, near_null
from pvqbounds.solvers.native.directions.pruning import pruning_cases
from pvqbounds.solvers.native.pruning.block_dual import maximise_blocks
from pvqbounds.solving.channels import SHARED
from pvqbounds.solving.kinds import STEPS, kind_of
from pvqbounds.solving.layer_budget import solve_layer_budget

from . import curves, doors, files, one_scale, one_size, quadratics, relations, scales, tampering, tied
from .case import Case, script_of
from .checks import (
    Plan,
    attempt,
    check_bounds,
    decibels,
    other_solvers,
    plans_for,
    solve_all,
)
from .families import draw
from .multipliers import changed_blocks, random_blocks
from .planted import planted
from .problems import Known, random_kind, random_problem, rebuilt, small
from .rational import least_layer_error, least_sparse_errors, truth_of

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


def _small(kind: str) -> Callable[[Case], None]:
    """Small problems of one kind, solved in every way."""
    return lambda case: _solve_known(case, small(case, kind))


def _planted(case: Case) -> None:
    known = planted(case)
    if known is None:
        return
    case.count("truth known" if known.truth is not None else "truth unknown")
    plans = [Plan(p.solver, p.method, p.relaxation, 1.0, 0) for p in plans_for(known.problem, _solvers(case))]
    solve_all(case, known.problem, known.truth, _some(case, plans, 3))


# --------------------------------------------------------------------------- layers


def _layer_budget(case: Case) -> None:
    """One budget over channels of one or two Grams, against the exact division of it."""
    rng = case.rng
    n, channels = int(rng.integers(1, 7)), int(rng.integers(1, 5))  # cases from five inputs on
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


def _layer_multipliers(case: Case) -> None:
    """One budget over channels of any values and Grams: no multipliers prove more than the truth."""
    rng = case.rng
    problems, least = [], []
    for _ in range(int(rng.integers(1, 4))):
        found = random_problem(case, int(rng.integers(1, 4)), random_kind(rng, ("joint", "sparse")))
        if found is None:
            return
        problem = found[0]
        if isinstance(problem, SparseLeastSquares):
            errors: list[Fraction | None] = list(least_sparse_errors(problem.with_nnz(0)))
        else:
            free = [
                rebuilt(problem, problem.shared, problem.weight, problem.values, AtMost(k))
                for k in range(problem.n + 1)
            ]
            errors = [truth_of(one, 500) for one in free]
        known = [error for error in errors if error is not None]
        if len(known) < len(errors):
            return
        problems.append(problem)
        least.append(known)
    nnz = int(rng.integers(0, sum(problem.n for problem in problems) + 1))
    truth = least_layer_error(least, nnz)
    case.script = "\n".join(script_of(p, f"p{i}") for i, p in enumerate(problems))
    tampering.attack_layer(case, problems, nnz, truth, [None] * len(problems), tries=40, apart=True)


def _channels(case: Case) -> None:
    """Channels of one Gram, solved together: all of one kind, or one of another among them."""
    rng = case.rng
    n, count = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    found = random_problem(case, n)
    if found is None:
        return
    first = found[0]
    try:
        problems: list[Problem] = [
            rebuilt(
                first, first.shared, first.weight * rng.choice([-1.0, 1.0, 0.5], n), first.values, first.rule
            )
            for _ in range(count)
        ]
        if rng.random() < 0.3:
            problems.append(SparseLeastSquares(first.shared, first.weight, nnz=int(rng.integers(0, n + 1))))
    except InputError:
        case.count("refused at the door")
        return
    kinds = {kind_of(problem) for problem in problems}
    names: list[str | None] = [None]
    if len(kinds) == 1:
        names += [*kind_of(first).relaxations, *([SHARED] if kinds == {STEPS} else [])]
    relaxation = names[int(rng.integers(len(names)))]
    jobs = int(rng.integers(1, 3))
    case.script = "\n".join(script_of(p, f"p{i}") for i, p in enumerate(problems))
    call = (
        f"b = pvq.solve_channels([{', '.join(f'p{i}' for i in range(len(problems)))}], method='relax', "
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
        check_bounds(case, problem, bounds, truth_of(problem, 1000), place, call)


# --------------------------------------------------------------------------- the rest


def _tampered(case: Case) -> None:
    known = small(case)
    if known is None or known.truth is None:
        return
    case.script = script_of(known.problem)
    plan = _some(case, plans_for(known.problem), 1)[0]
    bounds = attempt(case, known.problem, plan)
    if bounds is not None:
        tampering.attack(case, known.problem, known.truth, bounds, plan)


def _multipliers(case: Case) -> None:
    known = small(case, most=1000)
    if known is not None and known.truth is not None:
        case.script = script_of(known.problem)
        tampering.attack_with_noise(case, known.problem, known.truth)


def _cases(case: Case) -> None:
    """The engine of bounds by cases, along any directions: what it claims is true, and proved again."""
    rng = case.rng
    known = small(case, most=1000)
    if known is None or known.truth is None:
        return
    problem = known.problem.normalised
    case.script = script_of(known.problem)
    near = near_null(problem.shared)
    if near is None or rng.random() < 0.3:
        near = _some_directions(case, problem)
    certificate = None
    call = "refined(p, native solution, Options('hybrid'), Clock(5.0))"
    case.step("bounds by cases", 10.0, call)
    with case.guarded("cases", call, refusals=False), np.errstate(all="ignore"):  # as solve calls it
        if isinstance(problem, SparseLeastSquares):
            certificate = pruning_cases(problem, near, problem.start().weight, 0.05, Clock(5.0))
        elif isinstance(problem, LeastSquares) and has_grid(problem.values) and problem.shared.live.all():
            codes = problem.start().codes
            assert codes is not None
            certificate, better = code_cases(problem, near, codes, 0.05, Clock(5.0))
            if problem.point(better).upper < known.truth / Fraction(2) ** known.problem.units.error:
                case.fault("upper end below the least error", "cases", f"{better.tolist()}", call)
    case.count("bounds by cases", certificate is not None)
    if certificate is not None:
        truth = known.truth / Fraction(2) ** known.problem.units.error
        tampering.prove(case, problem, certificate, truth, certificate.value)
        tampering.claimed(case, problem, certificate)
        for _ in range(5):
            other = tampering.spoilt_cases(rng, certificate)
            tampering.prove(case, problem, other, truth, other.value)


def _blocks(case: Case) -> None:
    """The dual that takes groups as a whole: what its engine claims, and what any other multipliers prove."""
    rng = case.rng
    known = small(case, ("sparse", "joint")[int(rng.integers(2))], most=1000)
    if known is None or known.truth is None or not has_blocks(known.problem):
        case.count("without blocks")
        return
    problem, truth = known.problem, known.truth
    case.script = script_of(problem)
    best, proved_best = random_blocks(rng, problem), -math.inf
    call = "maximise_blocks(p.normalised, clock=Clock(5.0))"
    case.step("blocks", 10.0, call)
    with case.guarded("blocks", call, refusals=False):
        found = maximise_blocks(problem.normalised, clock=Clock(5.0))
        case.count("bounds of blocks", found is not None)
        if found is not None:
            best = found.in_units(problem.units.inverse)
            tampering.claimed(case, problem, best)
    for number in range(40):
        certificate = best if number == 0 else random_blocks(rng, problem)
        if number % 3:
            certificate = changed_blocks(rng, problem, best)
        proved = tampering.prove(case, problem, certificate, truth, math.inf)
        if proved >= proved_best:
            best, proved_best = certificate, proved


def _some_directions(case: Case, problem: Problem) -> NearNull:
    """Random orthonormal directions, zero at dead inputs, with a guess of their power."""
    rng, live = case.rng, problem.shared.live
    m = int(rng.integers(1, min(3, problem.n) + 1))
    rows = np.linalg.qr(rng.standard_normal((problem.n, m)))[0].T * live
    power = np.abs(np.einsum("ij,jk,ik->i", rows, problem.gram, rows))
    most = float(np.diagonal(problem.gram).max(initial=0.0)) or 1.0
    return NearNull(rows, np.sort(power), most * float(rng.uniform(0.01, 1.0)))


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
    "codes": Scenario(_small("codes"), 3.0),
    "groups": Scenario(_small("groups"), 3.0),
    "levels": Scenario(_small("levels"), 4.0),
    "joint": Scenario(_small("joint"), 5.0),
    "own": Scenario(_small("own"), 1.0),
    "sparse": Scenario(_small("sparse"), 3.0),
    "any-scale": Scenario(scales.any_scale, 2.0),
    "planted": Scenario(_planted, 3.0),
    "layer-budget": Scenario(_layer_budget, 2.0),
    "channels": Scenario(_channels, 1.5),
    "units": Scenario(relations.units, 2.0),
    "orders": Scenario(relations.orders, 1.5),
    "equals": Scenario(relations.equals, 2.0),
    "larger-sets": Scenario(relations.larger_sets, 1.5),
    "quadratic": Scenario(quadratics.quadratic, 1.0),
    "layer-multipliers": Scenario(_layer_multipliers, 0.7),
    "multipliers": Scenario(_multipliers, 3.0),
    "cases": Scenario(_cases, 2.0),
    "blocks": Scenario(_blocks, 2.0),
    "tampered": Scenario(_tampered, 3.0),
    "files": Scenario(files.attack, 2.0),
    "problem-files": Scenario(doors.problem_files, 1.0),
    "arguments": Scenario(doors.arguments, 1.0),
    "decibels": Scenario(_decibels, 0.3),
    "curves": Scenario(curves.curves, 1.5),
    "layer-curves": Scenario(curves.layer_curves, 1.0),
    "joint-curve": Scenario(one_size.joint_curve, 0.7),
    "one-scale": Scenario(one_scale.one_scale, 1.0),
    "tied": Scenario(tied.tied, 0.7),
    "hang": Scenario(_hang, 0.0),
    "crash": Scenario(_crash, 0.0),
}
"""By name."""
