"""Random problems of every kind, and the same problem in other units, another order, another form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.random import Generator

from pvqbounds import CodebookLeastSquares, InputError, IntegerLeastSquares, LeastSquares, SparseLeastSquares
from pvqbounds.problems import Problem
from pvqbounds.problems.supports import All, Groups, Pattern, SupportRule
from pvqbounds.problems.values import Levels, Steps, ValueSet

from .case import Case
from .families import draw, random_box
from .grids import random_grid, random_levels, random_rule, spread_levels
from .rational import MOST, budgets_of, truth_of, values_of

__all__ = [
    "FINITE",
    "KINDS",
    "Known",
    "moved",
    "permuted",
    "random_kind",
    "random_order",
    "random_problem",
    "rebuilt",
    "same",
    "small",
]


@dataclass(frozen=True, eq=False)
class Known:
    """A problem and its least error."""

    problem: Problem
    truth: Fraction | None
    """None where it would take too long to know."""
    family: str


def _codes(rng: Generator, n: int) -> tuple[Problem, str]:
    """Quantization with one step and one box."""
    drawn = draw(rng, n, one_step=True)
    qmin, qmax = random_box(rng)
    weight = drawn.weight
    if rng.random() < 0.3:  # weights in the box, where it is far away
        weight = weight + drawn.scale * float(qmin)
    return IntegerLeastSquares(drawn.gram, weight, drawn.scale, qmin, qmax), drawn.families


def _groups(rng: Generator, n: int) -> tuple[Problem, str]:
    """Quantization with steps and boxes of their own."""
    drawn = draw(rng, n, one_step=bool(rng.random() < 0.5))
    grid = random_grid(rng, n, drawn.scale)
    weight = _into_the_box(rng, drawn.weight, drawn.scale, grid.scale, grid.qmin)
    return IntegerLeastSquares(drawn.gram, weight, *grid), drawn.families


def _into_the_box(rng: Generator, weight: Any, scale: float, step: Any, qmin: Any) -> Any:
    """The weights in units of their own steps, and now and then beside their own boxes."""
    kind = int(rng.integers(3))
    if kind == 0:
        return weight
    own = weight * (step / scale)
    return own if kind == 1 else own + step * np.asarray(qmin, dtype=np.float64)


def _levels(rng: Generator, n: int) -> tuple[Problem, str]:
    """Quantization to levels."""
    drawn = draw(rng, n, one_step=bool(rng.random() < 0.5))
    levels, family = random_levels(rng, n, drawn.scale)
    weight = _near_levels(rng, drawn.weight, levels)
    return CodebookLeastSquares(drawn.gram, weight, levels), f"{drawn.families}/{family}"


def _near_levels(rng: Generator, weight: Any, levels: Any) -> Any:
    """The weights as they are, or some on levels, or between two of them."""
    if rng.random() < 0.5:
        return weight
    near = weight.copy()
    for i, row in enumerate(spread_levels(levels, len(weight))):
        at, kind = int(rng.integers(len(row) - 1)), int(rng.integers(4))
        if kind == 1:
            near[i] = row[at]
        elif kind == 2:
            near[i] = 0.5 * row[at] + 0.5 * row[at + 1]
        elif kind == 3:
            near[i] = row[at] + rng.uniform(-1.0, 2.0) * (row[at + 1] - row[at])
    return near


def _joint(rng: Generator, n: int) -> tuple[Problem, str]:
    """Steps or levels under a support rule."""
    drawn = draw(rng, n, one_step=bool(rng.random() < 0.5))
    rule = random_rule(rng, n)
    if rng.random() < 0.5:
        levels, family = random_levels(rng, n, drawn.scale, zero=True)
        weight = _near_levels(rng, drawn.weight, levels)
        coded = CodebookLeastSquares(drawn.gram, weight, levels, **rule)
        return _regrouped(rng, coded), f"{drawn.families}/{family}"
    grid = random_grid(rng, n, drawn.scale, zero=True)
    weight = _into_the_box(rng, drawn.weight, drawn.scale, grid.scale, 0)
    return _regrouped(rng, IntegerLeastSquares(drawn.gram, weight, *grid, **rule)), drawn.families


def _regrouped(rng: Generator, problem: Problem) -> Problem:
    """The problem, or now and then the same under budgets of any groups."""
    if rng.random() < 0.8:
        return problem
    n = problem.n
    groups = int(rng.integers(1, n + 1))
    return problem.under(Groups(rng.integers(-1, groups, n), rng.integers(0, 4, groups)))


def _sparse(rng: Generator, n: int) -> tuple[Problem, str]:
    """Pruning to some non-zeros, or N:M of neighbours or of inputs some way apart."""
    drawn = draw(rng, n, one_step=False)
    rule = random_rule(rng, n)
    return SparseLeastSquares(drawn.gram, drawn.weight, **rule), drawn.families


def _own(rng: Generator, n: int) -> tuple[Problem, str]:
    """A value set and a support rule of one's own, through the door for them."""
    kind = ("groups", "levels", "joint")[int(rng.integers(3))]
    problem, family = KINDS[kind](rng, n)
    return LeastSquares(problem.shared, problem.weight, problem.values, problem.rule), family


KINDS: dict[str, Callable[[Generator, int], tuple[Problem, str]]] = {
    "codes": _codes,
    "groups": _groups,
    "levels": _levels,
    "joint": _joint,
    "own": _own,
    "sparse": _sparse,
}
"""Random problems of n inputs by the name of their kind."""

FINITE = tuple(kind for kind in KINDS if kind != "sparse")

SHARES = {"codes": 2.0, "groups": 2.0, "levels": 3.0, "joint": 4.0, "own": 1.0, "sparse": 3.0}


def random_kind(rng: Generator, among: tuple[str, ...] = tuple(KINDS)) -> str:
    """A kind of problem."""
    shares = np.array([SHARES[kind] for kind in among])
    return str(rng.choice(list(among), p=shares / shares.sum()))


def random_problem(case: Case, n: int, kind: str = "") -> tuple[Problem, str] | None:
    """A problem of n inputs, of a kind or of any; None where its numbers are refused."""
    try:
        return KINDS[kind or random_kind(case.rng)](case.rng, n)
    except InputError:
        case.count("refused at the door")
        return None


def small(case: Case, kind: str = "", most: int = MOST) -> Known | None:
    """A small problem, of a kind or of any, with its least error; None where its numbers are refused."""
    kind, n = kind or random_kind(case.rng), int(case.rng.integers(1, 9))
    while True:
        found = random_problem(case, n, kind)
        if found is None:
            return None
        problem, family = found
        if n <= 2 or kind == "sparse" or _choices(problem) <= most // 2:
            return Known(problem, truth_of(problem, most), f"{kind}: {family}")
        n -= 1


def _choices(problem: Problem) -> int:
    """Choices of all values but one, as brute force meets them; long boxes have searches."""
    sizes = sorted(map(len, values_of(problem)))
    return math.prod(size if size <= 100 or problem.n > 3 else 10 for size in sizes[:-1])


# --------------------------------------------------------------------------- the same in another form


def rebuilt(problem: Problem, gram: Any, weight: np.ndarray, values: ValueSet, rule: SupportRule) -> Problem:
    """A problem from these parts, of the class of `problem` where that holds such values."""
    if isinstance(problem, SparseLeastSquares):
        return SparseLeastSquares(gram, weight, nnz=0).under(rule)
    if isinstance(problem, IntegerLeastSquares) and isinstance(values, Steps):
        grid: list[Any] = [values.step, values.qmin, values.qmax]
        if problem.is_uniform and all((part == part[0]).all() for part in grid):
            grid = [part[0].item() for part in grid]
        return IntegerLeastSquares(gram, weight, *grid).under(rule)
    if isinstance(problem, CodebookLeastSquares) and isinstance(values, Levels):
        return CodebookLeastSquares(gram, weight, [np.unique(row) for row in values.levels]).under(rule)
    return LeastSquares(gram, weight, values, rule)


def same(problem: Problem, other: Problem) -> bool:
    """Whether two problems have the same numbers, however they were given."""
    arrays = np.array_equal(problem.gram, other.gram) and np.array_equal(problem.weight, other.weight)
    if not (arrays and _budgets(problem) == _budgets(other)):
        return False
    finite = problem.values.is_finite, other.values.is_finite
    if False in finite:
        return not any(finite)
    return values_of(problem) == values_of(other)


def _budgets(problem: Problem) -> set[tuple[tuple[int, ...], int]]:
    """The groups that are not free, with what each may have."""
    budgets = budgets_of(problem)
    members = [
        tuple(i for i, group in enumerate(budgets.group) if group == g) for g in range(len(budgets.most))
    ]
    return {(own, most) for own, most in zip(members, budgets.most, strict=True) if most < len(own)}


def times(values: ValueSet, power: int) -> ValueSet:
    """The values times 2^power."""
    if isinstance(values, Steps):
        return Steps(np.ldexp(values.step, power), values.qmin, values.qmax)
    return Levels(np.ldexp(values.levels, power)) if isinstance(values, Levels) else values


def chosen(values: ValueSet, inputs: np.ndarray) -> ValueSet:
    """The values of some inputs, in this order."""
    if isinstance(values, Steps):
        return Steps(values.step[inputs], values.qmin[inputs], values.qmax[inputs])
    return Levels(values.levels[inputs]) if isinstance(values, Levels) else values


def as_groups(problem: Problem, inputs: np.ndarray) -> SupportRule:
    """The support rule for some inputs, in this order, as groups that need no order."""
    budgets = budgets_of(problem)
    if not budgets.most:
        return All()
    return Groups(np.array(budgets.group)[inputs], np.array(budgets.most))


def moved(problem: Problem, gram_power: int, weight_power: int) -> Problem:
    """The problem in other units: the Gram times 2^gram_power, weights and values times 2^weight_power."""
    with np.errstate(all="ignore"):
        gram, weight = np.ldexp(problem.gram, gram_power), np.ldexp(problem.weight, weight_power)
        values = times(problem.values, weight_power)
    return rebuilt(problem, gram, weight, values, problem.rule)


def permuted(problem: Problem, order: np.ndarray) -> Problem:
    """The problem with its inputs in another order, groups and lists of values moved along."""
    gram, weight = problem.gram[np.ix_(order, order)], problem.weight[order]
    rule = problem.rule
    if isinstance(rule, Pattern | Groups) and not isinstance(problem, SparseLeastSquares):
        rule = as_groups(problem, order)
    return rebuilt(problem, gram, weight, chosen(problem.values, order), rule)


def random_order(rng: Generator, problem: Problem) -> np.ndarray:
    """An order of the inputs under which the problem stays the same one: any, but for pruning to N:M."""
    if not isinstance(problem, SparseLeastSquares) or problem.pattern is None:
        return rng.permutation(problem.n)
    if problem.stride > 1:
        return np.arange(problem.n)
    size = problem.pattern[1]
    groups = [rng.permutation(np.arange(i, min(i + size, problem.n))) for i in range(0, problem.n, size)]
    whole = [group for group in groups if len(group) == size]
    rest = [group for group in groups if len(group) < size]
    return np.concatenate([*(whole[i] for i in rng.permutation(len(whole))), *rest]).astype(np.int64)
