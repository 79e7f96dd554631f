"""Larger problems whose least error is known because it was planted."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.random import Generator

from pvqbounds import CodebookLeastSquares, InputError, IntegerLeastSquares, LeastSquares, SparseLeastSquares
from pvqbounds.problems import Problem
from pvqbounds.problems.supports import ALL, AtMost, Groups
from pvqbounds.problems.values import Levels, Steps, Tabulated, ValueSet

from .case import Case
from .families import BOXES, random_gram, random_weight
from .grids import random_grid, random_levels, random_rule
from .problems import Known, random_kind, rebuilt
from .rational import (
    budgets_of,
    exact_error,
    fractions,
    is_semidefinite,
    least_layer_error,
    least_parabola,
    least_sparse_errors,
    least_value_error,
    values_of,
)

__all__ = ["lost_and_least", "planted"]

SHORT = 16
"""Most levels of a planted list: blocks of them are solved by brute force."""

MANY = 4000
"""Choices of values up to which a block is solved."""


def planted(case: Case, kind: str = "") -> Known | None:
    """A problem of 9 to 60 inputs, of a kind or of any, with its least error."""
    rng = case.rng
    kind = kind or random_kind(rng, ("codes", "groups", "levels", "joint", "sparse"))
    n = int(rng.integers(9, 25)) if rng.random() < 0.7 else int(rng.integers(25, 61))
    try:
        return (_on_the_values, _diagonal, _blocks)[int(rng.integers(3))](rng, n, kind)
    except InputError:
        case.count("refused at the door")
        return None


def _template(rng: Generator, n: int, kind: str, gram: np.ndarray) -> Problem:
    """A problem of this kind on a Gram, with weights of any family."""
    scale = float(rng.choice([1.0, 0.5, 0.1, 3e-5]))
    weight = random_weight(rng, n, scale)[1]
    if kind == "sparse":
        return SparseLeastSquares(gram, random_weight(rng, n, 1.0)[1], **random_rule(rng, n))
    if kind == "codes":
        return IntegerLeastSquares(gram, weight, scale, *BOXES[int(rng.integers(10))])
    joint = kind == "joint"
    rule: dict[str, Any] = random_rule(rng, n) if joint else {}
    if kind == "levels" or (joint and rng.random() < 0.5):
        levels, _ = random_levels(rng, n, scale, zero=joint, most=SHORT)
        return CodebookLeastSquares(gram, weight, levels, **rule)
    grid = random_grid(rng, n, scale, zero=joint)
    return IntegerLeastSquares(gram, weight, *grid, **rule)


def _on_the_values(rng: Generator, n: int, kind: str) -> Known:
    """Weights that are allowed already: the error is 0 where they are exactly so."""
    family, gram = random_gram(rng, n)
    problem = _template(rng, n, kind, gram)
    budgets = budgets_of(problem)
    left = [*budgets.most, n]
    exact = [Fraction(0)] * n
    lists = None if kind == "sparse" else values_of(problem)
    for i in rng.permutation(n).tolist():
        if left[budgets.group[i]] > 0:
            free = Fraction(float(problem.weight[i]))
            exact[i] = free if lists is None else lists[i][int(rng.integers(len(lists[i])))]
            left[budgets.group[i]] -= exact[i] != 0
    weight = np.array([float(value) for value in exact])
    placed = rebuilt(problem, gram, weight, problem.values, problem.rule)
    # s z rounds unless s is a power of two: what is left is an upper bound, and 0 a lower one
    truth = Fraction(0) if exact_error(gram, weight, exact) <= 0 else None
    return Known(placed, truth, f"{kind}: on its values, {family}")


def _diagonal(rng: Generator, n: int, kind: str) -> Known:
    """Inputs that have nothing to do with one another: each group keeps those that gain most."""
    power = np.asarray(rng.integers(0, 5, n), dtype=float) * 2.0 ** rng.integers(-3, 4, n)
    problem = _template(rng, n, kind, np.diag(power))
    (lost, least), budgets = lost_and_least(problem), budgets_of(problem)
    truth = sum((least[i] for i in range(n) if budgets.group[i] < 0), Fraction(0))
    for number, most in enumerate(budgets.most):
        own = [i for i in range(n) if budgets.group[i] == number]
        gains = sorted((lost[i] - least[i] for i in own), reverse=True)
        truth += sum((lost[i] for i in own), Fraction(0)) - sum(gains[:most], Fraction(0))
    return Known(problem, truth, f"{kind}: diagonal")


def lost_and_least(problem: Problem) -> tuple[list[Fraction], list[Fraction]]:
    """What each input of a diagonal Gram costs at zero, and at its best value."""
    g, w = fractions(np.diagonal(problem.gram)), fractions(problem.weight)
    lost = [a * b * b for a, b in zip(g, w, strict=True)]
    if not problem.values.is_finite:
        return lost, [Fraction(0)] * problem.n
    return lost, [
        least_parabola(own, b, a, Fraction(0)) for own, a, b in zip(values_of(problem), g, w, strict=True)
    ]


def _blocks(rng: Generator, n: int, kind: str) -> Known:
    """Blocks of inputs, each solved by brute force: their errors add up, their budgets are shared out."""
    parts: list[Problem] = []
    alike = ("levels", "groups")[int(rng.integers(2))] if kind == "joint" else kind
    grid, zero = BOXES[int(rng.integers(10))], kind == "joint"
    while (left := n - sum(part.n for part in parts)) > 0:
        parts.append(_block(rng, min(int(rng.integers(1, 5)), left), alike, grid, zero))
    whole = all(is_semidefinite(part.gram) for part in parts)  # else one takes from the errors of the others
    order = rng.permutation(n)
    gram = _together([part.gram for part in parts])[np.ix_(order, order)]
    weight = np.concatenate([part.weight for part in parts])[order]
    family = f"{kind}: blocks"
    if kind in ("joint", "sparse"):
        errors = [_with_each_budget(part) for part in parts] if whole else []
        if kind == "sparse" or rng.random() < 0.5:
            nnz = int(rng.integers(0, n + 1))
            truth = least_layer_error(errors, nnz) if whole else None
            if kind == "sparse":
                return Known(SparseLeastSquares(gram, weight, nnz=nnz), truth, family)
            values, rule = _values_together(parts, order), AtMost(nnz)
            return Known(LeastSquares(gram, weight, values, rule), truth, family)
        most = np.array([int(rng.integers(0, part.n + 1)) for part in parts])
        group = np.repeat(np.arange(len(parts)), [part.n for part in parts])[order]
        truth = sum((own[k] for own, k in zip(errors, most, strict=True)), Fraction(0)) if whole else None
        values = _values_together(parts, order)
        return Known(LeastSquares(gram, weight, values, Groups(group, most)), truth, family)
    least = [least_value_error(part, MANY) for part in parts]
    known = [error for error in least if error is not None]
    truth = sum(known, Fraction(0)) if whole and len(known) == len(least) else None
    placed = rebuilt(parts[0], gram, weight, _values_together(parts, order), ALL)
    return Known(placed, truth, family)


def _block(rng: Generator, size: int, kind: str, box: tuple[int, int], zero: bool) -> Problem:
    """A small problem without a support rule (that of pruning is replaced), solved in little time."""
    while True:
        gram = random_gram(rng, size)[1]
        if kind == "sparse":
            return SparseLeastSquares(gram, random_weight(rng, size, 1.0)[1], nnz=0)
        weight = random_weight(rng, size, 1.0)[1]
        made: Problem
        if kind == "codes":
            made = IntegerLeastSquares(gram, weight, 0.5, *box)
        elif kind == "groups":
            made = IntegerLeastSquares(gram, weight, *random_grid(rng, size, 1.0, zero=zero))
        else:
            made = CodebookLeastSquares(gram, weight, random_levels(rng, size, 1.0, zero=zero, most=SHORT)[0])
        if math.prod(sorted(map(len, values_of(made)))[:-1]) <= MANY:
            return made
        size = max(1, size - 1)


def _with_each_budget(part: Problem) -> list[Fraction]:
    """The least error of a block with k = 0, 1, ... non-zeros."""
    if isinstance(part, SparseLeastSquares):
        return least_sparse_errors(part)
    found = []
    for k in range(part.n + 1):
        error = least_value_error(LeastSquares(part.gram, part.weight, part.values, AtMost(k)), MANY * SHORT)
        assert error is not None
        found.append(error)
    return found


def _together(grams: list[np.ndarray]) -> np.ndarray:
    n = sum(len(gram) for gram in grams)
    whole, at = np.zeros((n, n)), 0
    for gram in grams:
        whole[at : at + len(gram), at : at + len(gram)] = gram
        at += len(gram)
    return whole


def _values_together(parts: list[Problem], order: np.ndarray) -> ValueSet:
    """The values of all blocks, in this order of their inputs."""
    sets = [part.values for part in parts]
    steps = [own for own in sets if isinstance(own, Steps)]
    if steps:
        names = ("step", "qmin", "qmax")
        return Steps(*(np.concatenate([getattr(own, name) for own in steps])[order] for name in names))
    tables = [own.table for own in sets if isinstance(own, Tabulated)]
    longest = max(table.shape[1] for table in tables)
    padded = [np.pad(table, ((0, 0), (0, longest - table.shape[1])), mode="edge") for table in tables]
    return Levels(np.concatenate(padded)[order])
