"""Problems whose least errors are the same, or one no less than the other, whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from pvqbounds import CodebookLeastSquares, InputError, LeastSquares, SparseLeastSquares
from pvqbounds.problems import Problem
from pvqbounds.problems.inclusion import contains
from pvqbounds.problems.supports import ALL, All, AtMost, Groups, Pattern
from pvqbounds.problems.values import Levels, Steps

from .case import Case, script_of
from .checks import Plan, check_agreement, plans_for, solve_all
from .families import powers
from .problems import (
    FINITE,
    Known,
    as_groups,
    chosen,
    moved,
    permuted,
    random_kind,
    random_order,
    random_problem,
    rebuilt,
    same,
    small,
)
from .rational import values_of

__all__ = ["equals", "larger_sets", "orders", "units"]


def _related(case: Case, kind: str = "") -> Known | None:
    """A small problem with its least error, or one of 9 to 40 inputs without it."""
    if case.rng.random() < 0.5:
        return small(case, kind)
    found = random_problem(case, int(case.rng.integers(9, 41)), kind)
    return None if found is None else Known(found[0], None, found[1])


def _plans(case: Case, problem: Problem, number: int) -> list[Plan]:
    """Some ways to bound a problem, a second for each."""
    plans = [Plan(p.solver, p.method, p.relaxation, 1.0, 0) for p in plans_for(problem)]
    return [plans[i] for i in sorted(case.rng.permutation(len(plans))[:number])]


def units(case: Case) -> None:
    """In other units by powers of two every interval holds the same least error."""
    known = _related(case)
    if known is None:
        return
    problem = known.problem
    (plan,) = _plans(case, problem, 1)
    a, b = powers(case.rng)
    try:
        other = moved(problem, a, b)
        back = moved(other, -a, -b)
    except InputError:
        case.count("refused at the door")
        return
    if not same(back, problem):
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


def orders(case: Case) -> None:
    """The order of the inputs means nothing, where groups and values move along."""
    known = _related(case)
    if known is not None:
        other = permuted(known.problem, random_order(case.rng, known.problem))
        _hold_together(case, known, other, "another order")


def equals(case: Case) -> None:
    """The same problem written in another way."""
    known = _related(case, random_kind(case.rng, FINITE))
    if known is None:
        return
    ways = [(name, way(known.problem)) for name, way in EQUALS.items()]
    there = [(name, other) for name, other in ways if other is not None]
    if not there:
        case.count("no other way to write it")
        return
    name, other = there[int(case.rng.integers(len(there)))]
    case.count(f"equal problems: {name}")
    _hold_together(case, known, other, name)


def _hold_together(case: Case, known: Known, other: Problem, name: str) -> None:
    """Solve both, and hold all results against one another."""
    found = solve_all(case, known.problem, known.truth, _plans(case, known.problem, 2), verified=False)
    again = solve_all(case, other, known.truth, _plans(case, other, 2))
    case.script = script_of(known.problem) + "\n" + script_of(other, "q")
    check_agreement(case, [*found, *again], f"contradiction in {name}")


def as_levels(problem: Problem) -> Problem | None:
    """A grid given as its levels, where those are float64 numbers and few."""
    if not isinstance(problem.values, Steps) or (problem.values.qmax - problem.values.qmin).max() > 40:
        return None
    exact = values_of(problem)
    rows = [np.array([float(value) for value in values]) for values in exact]
    if any(list(map(Fraction, row.tolist())) != list(own) for row, own in zip(rows, exact, strict=True)):
        return None
    if min(map(len, rows)) < 2:
        return None
    return CodebookLeastSquares(problem.gram, problem.weight, rows).under(problem.rule)


def with_all_allowed(problem: Problem) -> Problem | None:
    """No rule, and one that allows everything."""
    n = problem.n
    if problem.is_restricted or not problem.values.has_zero().all():
        return None
    rules = (AtMost(n), Pattern(3, 3)) if isinstance(problem.rule, All) else (ALL,)
    return rebuilt(problem, problem.gram, problem.weight, problem.values, rules[n % len(rules)])


def without_dead(problem: Problem) -> Problem | None:
    """Inputs that are always zero, left out: they spend no budget."""
    live = np.flatnonzero(problem.gram.any(axis=1))
    if not 0 < len(live) < problem.n:
        return None
    gram, weight = problem.gram[np.ix_(live, live)], problem.weight[live]
    try:
        return LeastSquares(gram, weight, chosen(problem.values, live), as_groups(problem, live))
    except InputError:  # the large weights were those left out, and errors of the others would underflow
        return None


def with_dead(problem: Problem) -> Problem | None:
    """An input that is always zero, added at the front."""
    n = problem.n
    gram = np.zeros((n + 1, n + 1))
    gram[1:, 1:] = problem.gram
    order = np.array([0, *range(n)])
    rule = as_groups(problem, order)
    return LeastSquares(gram, problem.weight[order], chosen(problem.values, order), rule)


def through_the_general_door(problem: Problem) -> Problem | None:
    """The same values and the same groups as a LeastSquares."""
    return LeastSquares(
        problem.shared, problem.weight, problem.values, as_groups(problem, np.arange(problem.n))
    )


EQUALS: dict[str, Callable[[Problem], Problem | None]] = {
    "a grid as levels": as_levels,
    "a rule that allows all": with_all_allowed,
    "no dead inputs": without_dead,
    "one dead input more": with_dead,
    "the general door": through_the_general_door,
}


# --------------------------------------------------------------------------- larger sets


def larger_sets(case: Case) -> None:
    """What allows more cannot have a larger least error."""
    rng = case.rng
    found = random_problem(case, int(rng.integers(2, 25)))
    if found is None:
        return
    first = found[0]
    try:
        made = [way(case, first) for way in (wider, freer, refitted)]
    except InputError:
        case.count("refused at the door")
        return
    larger = [problem for problem in made if problem is not None]
    if not larger:
        return
    large = larger[int(rng.integers(len(larger)))]
    if not contains(large, first):
        case.fault("inclusion", "contains", "a larger set is not known as one", f"{large!r}, {first!r}")
    inner = solve_all(case, first, None, _plans(case, first, 2), verified=False)
    outer = solve_all(case, large, None, _plans(case, large, 2), verified=False)
    case.script = script_of(first) + "\n" + script_of(large, "q")
    for plan, more in outer:
        for other, less in inner:
            if more.lower_kind == "certified" and more.error_lower > less.error_upper:
                text = (
                    f"the larger set has at least {more.error_lower!r}, the smaller one {less.error_upper!r}"
                )
                case.fault("contradiction of a larger set", f"{plan} against {other}", text, plan.call)


def wider(case: Case, problem: Problem) -> Problem | None:
    """More codes, or one level more."""
    rng, values, n = case.rng, problem.values, problem.n
    if isinstance(values, Steps):
        qmin = np.maximum(values.qmin - rng.integers(0, 4), -(2**31))
        qmax = np.minimum(values.qmax + rng.integers(0, 4), 2**31)
        values = Steps(values.step, qmin, qmax)
    elif isinstance(values, Levels):
        size = float(np.abs(values.levels).max())
        more = np.concatenate([values.levels, size * rng.standard_normal((n, 1))], axis=1)
        longest = [np.unique(row) for row in more]
        width = max(map(len, longest))
        values = Levels(np.array([np.pad(row, (0, width - len(row)), mode="edge") for row in longest]))
    else:
        return None
    return rebuilt(problem, problem.gram, problem.weight, values, problem.rule)


def freer(case: Case, problem: Problem) -> Problem | None:
    """A larger budget, one for all in place of N:M, or none."""
    if not problem.is_restricted:
        return None
    rule, n = problem.rule, problem.n
    kept = sum(most for _, most in problem.budgets)
    rules = [AtMost(int(case.rng.integers(kept, n + 1)))]
    if isinstance(rule, Pattern):
        rules.append(AtMost(kept))
    if problem.values.is_finite and case.rng.random() < 0.3:
        return rebuilt(problem, problem.gram, problem.weight, problem.values, ALL)
    chosen_rule = rules[int(case.rng.integers(len(rules)))]
    return rebuilt(problem, problem.gram, problem.weight, problem.values, chosen_rule)


def refitted(case: Case, problem: Problem) -> Problem | None:
    """The non-zeros of a joint problem re-fitted freely."""
    if isinstance(problem.rule, All | Groups) or not problem.values.is_finite:
        return None
    return SparseLeastSquares(problem.gram, problem.weight, nnz=0).under(problem.rule)
