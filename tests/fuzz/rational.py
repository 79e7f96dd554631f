"""The truth in exact rational arithmetic: stored float64 numbers are taken as they are, nothing is rounded.

The values of a weight are the stored levels themselves, or the exact products s k of a step and its codes;
both are written down here from the stored numbers alone, as are the budgets of a support rule.

E is a mean square. Where the rounding of a stored Gram leaves it a hair indefinite the least error
of the stored numbers may be negative, or have no least value at all: the truth is then 0.
"""

from __future__ import annotations

import itertools
import math
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Generic, TypeVar

import numpy as np

from pvqbounds import SparseLeastSquares
from pvqbounds.problems import Problem
from pvqbounds.problems.supports import All, AtMost, Groups, Pattern
from pvqbounds.problems.values import Steps, Tabulated

__all__ = [
    "Budgets",
    "Multiples",
    "allowed",
    "budgets_of",
    "exact_error",
    "exact_error_of_codes",
    "exact_signal",
    "exact_values",
    "is_semidefinite",
    "least_layer_error",
    "least_parabola",
    "least_refitted",
    "least_sparse_error",
    "least_sparse_errors",
    "least_value_error",
    "matrix_of",
    "rounded_down",
    "truth_of",
    "values_of",
    "whole_numbers",
]

Matrix = list[list[Fraction]]

MOST = 6000
"""Errors of as many choices of codes are evaluated where nothing else is said."""


def whole_numbers(values: Iterable[float]) -> tuple[list[int], int]:
    """Whole numbers m and one exponent e with value = m / 2^e, for finite float64 values."""
    ratios = [float(value).as_integer_ratio() for value in values]
    e = max(denominator.bit_length() - 1 for _, denominator in ratios)
    return [m << (e - denominator.bit_length() + 1) for m, denominator in ratios], e


def fractions(values: Iterable[float]) -> list[Fraction]:
    """The values as they are."""
    return [Fraction(float(value)) for value in values]


def rounded_down(value: Fraction) -> float:
    """The float64 next to a number that is not negative, and no larger."""
    if value >= Fraction(sys.float_info.max):
        return sys.float_info.max
    near = float(value)
    return near if Fraction(near) <= value else math.nextafter(near, -math.inf)


def exact_error(gram: np.ndarray, weight: np.ndarray, v: Sequence[Fraction]) -> Fraction:
    """(v - w)ᵀ G (v - w) without rounding."""
    n = len(weight)
    d = [a - b for a, b in zip(v, fractions(weight), strict=True)]
    used = [i for i in range(n) if d[i] != 0]
    if not used:
        return Fraction(0)
    common = math.lcm(*(d[i].denominator for i in used))
    steps = {i: int(d[i] * common) for i in used}
    entries, e = whole_numbers(gram[np.ix_(used, used)].ravel())
    rows = [entries[k : k + len(used)] for k in range(0, len(entries), len(used))]
    total = sum(
        steps[i] * sum(g * steps[j] for g, j in zip(row, used, strict=True))
        for i, row in zip(used, rows, strict=True)
    )
    return Fraction(total, common * common << e)


def exact_signal(problem: Problem) -> Fraction:
    """wᵀGw without rounding."""
    return exact_error(problem.gram, problem.weight, [Fraction(0)] * problem.n)


def is_semidefinite(gram: np.ndarray) -> bool:
    """Whether the stored matrix is positive semidefinite, exactly."""
    n = len(gram)
    return least_refit(matrix_of(gram), [Fraction(0)] * n, ()) is not None


def matrix_of(gram: np.ndarray) -> Matrix:
    """The stored matrix as it is."""
    return [fractions(row) for row in gram]


def truth_of(problem: Problem, most: int = MOST) -> Fraction | None:
    """The least error, never below 0; None where that takes too long."""
    if isinstance(problem, SparseLeastSquares):
        return least_sparse_error(problem)
    return least_value_error(problem, most)


# --------------------------------------------------------------------------- values and budgets


Number = TypeVar("Number", int, Fraction)


@dataclass(frozen=True)
class Multiples(Sequence[Number], Generic[Number]):
    """step * k for k = low, ..., high: boxes of 2^32 codes take no room."""

    step: Number
    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low + 1

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < len(self):
            raise IndexError(at)
        return self.step * (self.low + at)


def values_of(problem: Problem) -> list[Sequence[Fraction]]:
    """What each weight may be, rising, without rounding: from steps and boxes, or from stored levels."""
    values = problem.values
    if isinstance(values, Steps):
        return [
            Multiples(Fraction(float(s)), int(low), int(high))
            for s, low, high in zip(values.step, values.qmin, values.qmax, strict=True)
        ]
    if isinstance(values, Tabulated):
        return [sorted(set(fractions(row))) for row in values.table]
    raise TypeError(f"no list of values for {type(values).__name__}")


def exact_values(problem: Problem, codes: Sequence[int]) -> list[Fraction] | None:
    """The values that codes stand for; None where one stands for none."""
    found = []
    for code, values in zip(codes, values_of(problem), strict=True):
        at = int(code) - (values.low if isinstance(values, Multiples) else 0)
        if not 0 <= at < len(values):
            return None
        found.append(values[at])
    return found


def exact_error_of_codes(problem: Problem, codes: Sequence[int] | np.ndarray) -> Fraction:
    """E of the exact values of codes."""
    values = exact_values(problem, [int(code) for code in codes])
    assert values is not None, "codes that stand for no values"
    return exact_error(problem.gram, problem.weight, values)


@dataclass(frozen=True)
class Budgets:
    """Which weights may be non-zero."""

    group: list[int]
    """Number of the group of each input, -1 where it is free."""
    most: list[int]
    """Non-zeros that each group may have."""


def budgets_of(problem: Problem) -> Budgets:
    """The budgets of the problem's support rule, from its numbers."""
    rule, n = problem.rule, problem.n
    if isinstance(rule, All):
        return Budgets([-1] * n, [])
    if isinstance(rule, AtMost):
        return Budgets([0] * n, [rule.nnz])
    if isinstance(rule, Groups):
        return Budgets([int(g) for g in rule.group], [int(m) for m in rule.most])
    assert isinstance(rule, Pattern)
    # every size-th of those at one position modulo the stride begins a group
    keys = [(i % rule.stride, i // rule.stride // rule.size) for i in range(n)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return Budgets([numbers[key] for key in keys], [rule.kept] * len(numbers))


def allowed(problem: Problem, v: Sequence[Any]) -> bool:
    """Whether the support rule allows these weights."""
    budgets = budgets_of(problem)
    spent = [0] * len(budgets.most)
    for group, value in zip(budgets.group, v, strict=True):
        if group >= 0 and value != 0:
            spent[group] += 1
    return all(used <= most for used, most in zip(spent, budgets.most, strict=True))


# --------------------------------------------------------------------------- finite values


def least_parabola(values: Sequence[Fraction], w: Fraction, lam: Fraction, nu: Fraction) -> Fraction:
    """The least lam (v - w)² + 2 nu (v - w) over values that rise."""
    candidates = [values[0], values[len(values) - 1]]
    if lam > 0:
        at = bisect_left(values, w - nu / lam)
        candidates += [values[k] for k in (at - 1, at) if 0 <= k < len(values)]
    return min(lam * (v - w) ** 2 + 2 * nu * (v - w) for v in candidates)


def least_value_error(problem: Problem, most: int = 20_000) -> Fraction | None:
    """The least error over all values and supports, never below 0; None where it takes over `most` steps.

    All but one of the values are enumerated (that one has a closed form), or, where that is too
    much, visited in the order of their distance from the centre while they may still be the best. Inputs
    that are always zero are left out: whatever their values, they may be zero where budgets are spent.
    """
    choice = _of_the_live(problem)
    if choice.n == 0:
        return Fraction(0)
    sizes = sorted(map(len, choice.values))
    steps = math.prod(sizes[:-1])
    found = _enumerated(choice) if steps <= most else _searched(choice, most // 4)
    return None if found is None else max(found, Fraction(0))


@dataclass(frozen=True, eq=False)
class Choice:
    """What brute force needs to know of a problem."""

    gram: np.ndarray
    weight: np.ndarray
    values: list[Sequence[Fraction]]
    budgets: Budgets

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.weight)


def _of_the_live(problem: Problem) -> Choice:
    """The inputs that are not always zero; the others spend no budget."""
    live = np.flatnonzero(problem.gram.any(axis=1))
    lists, budgets = values_of(problem), budgets_of(problem)
    return Choice(
        problem.gram[np.ix_(live, live)],
        problem.weight[live],
        [lists[i] for i in live],
        Budgets([budgets.group[i] for i in live], budgets.most),
    )


def _in_whole_numbers(values: Sequence[Fraction], e: int) -> Sequence[int]:
    """The values times 2^e."""
    if isinstance(values, Multiples):
        return Multiples(int(values.step * 2**e), values.low, values.high)
    return [int(value * 2**e) for value in values]


def _enumerated(choice: Choice) -> Fraction:
    """Brute force in whole numbers: E = sum_i d_i (G_ii d_i + 2 sum over j < i of G_ij d_j)."""
    n, lists, budgets = choice.n, choice.values, choice.budgets
    order = sorted(range(n), key=lambda i: len(lists[i]))  # the longest list has the closed form
    entries, gram_exponent = whole_numbers(choice.gram[np.ix_(order, order)].ravel())
    G = [entries[i * n : (i + 1) * n] for i in range(n)]
    w, e = whole_numbers(choice.weight[order])
    for values in lists:
        parts = [values.step] if isinstance(values, Multiples) else values
        e = max(e, *(part.denominator.bit_length() - 1 for part in parts))
    w = [int(x * 2**e) for x in fractions(choice.weight[order])]
    V = [_in_whole_numbers(lists[i], e) for i in order]
    group = [budgets.group[i] for i in order]
    left = [*budgets.most, n]  # the last one is of those without a group, numbered -1
    best: int | None = None

    def last(linear: int) -> Iterator[int]:
        """Values among which the best last one is: the ends, and those next to the stationary point."""
        values, top = V[-1], G[-1][-1]
        yield values[0]
        yield values[len(values) - 1]
        if top > 0:  # d = -linear / G_nn
            at = bisect_left(values, w[-1] * top - linear, key=lambda v: v * top)
            yield from (values[k] for k in (at - 1, at) if 0 <= k < len(values))

    def descend(i: int, error: int, linear: list[int]) -> None:
        nonlocal best
        g = group[i]
        choices: Iterable[int] = (0,)
        if left[g] > 0:
            choices = last(linear[i]) if i == n - 1 else V[i]
        for v in choices:
            d = v - w[i]
            now = error + d * (G[i][i] * d + 2 * linear[i])
            if i == n - 1:
                best = now if best is None or now < best else best
                continue
            left[g] -= v != 0
            descend(i + 1, now, [old + row[i] * d for old, row in zip(linear, G, strict=True)])
            left[g] += v != 0

    descend(0, 0, [0] * n)
    assert best is not None
    return Fraction(best, 1 << (gram_exponent + 2 * e))


def _searched(choice: Choice, most: int) -> Fraction | None:
    """Schnorr-Euchner in fractions; None where the Gram is not definite or `most` nodes are not enough."""
    n, w, A = choice.n, fractions(choice.weight), matrix_of(choice.gram)
    lists, budgets = choice.values, choice.budgets
    # E = sum_i D_i (d_i + sum over j < i of C_ij d_j)², eliminated from the last input upwards
    for i in reversed(range(n)):
        if A[i][i] <= 0:
            return None
        for j in range(i):
            share = A[i][j] / A[i][i]
            for k in range(i):
                A[j][k] -= share * A[i][k]
    left = [*budgets.most, n]
    best: Fraction | None = None
    nodes = 0

    def descend(i: int, error: Fraction, d: list[Fraction]) -> bool:
        nonlocal best, nodes
        if i == n:
            best = error if best is None or error < best else best
            return True
        shift = sum((A[i][j] * d[j] for j in range(i)), Fraction(0)) / A[i][i]
        g = budgets.group[i]
        for v in _outwards(w[i] - shift, lists[i]) if left[g] > 0 else (Fraction(0),):
            nodes += 1
            if nodes > most:
                return False
            step = v - w[i]
            now = error + A[i][i] * (step + shift) ** 2
            if best is not None and now >= best:
                break
            left[g] -= v != 0
            ended = descend(i + 1, now, [*d, step])
            left[g] += v != 0
            if not ended:
                return False
        return True

    return best if descend(0, Fraction(0), []) else None


def _outwards(centre: Fraction, values: Sequence[Fraction]) -> Iterator[Fraction]:
    """Rising values in the order of their distance from `centre`."""
    high = bisect_left(values, centre)
    low = high - 1
    while low >= 0 or high < len(values):
        if high == len(values) or (low >= 0 and centre - values[low] <= values[high] - centre):
            yield values[low]
            low -= 1
        else:
            yield values[high]
            high += 1


# --------------------------------------------------------------------------- pruning


def least_refit(gram: Matrix, weight: Sequence[Fraction], removed: Sequence[int]) -> Fraction | None:
    """Least error of weights that are zero at `removed`, all others free; None without a least one."""
    n = len(weight)
    gone = set(removed)
    kept = [i for i in range(n) if i not in gone]
    constant = sum((gram[i][j] * weight[i] * weight[j] for i in gone for j in gone), Fraction(0))
    b = {i: -sum((gram[i][j] * weight[j] for j in gone), Fraction(0)) for i in kept}
    A = {i: {j: gram[i][j] for j in kept} for i in kept}
    while kept:  # dᵀAd + 2 bᵀd + constant, one input after the other at its best
        pivot = max(kept, key=lambda i: A[i][i])
        top = A[pivot][pivot]
        if any(A[i][i] < 0 for i in kept):
            return None
        if top == 0:
            flat = all(A[i][j] == 0 for i in kept for j in kept) and all(b[i] == 0 for i in kept)
            return constant if flat else None
        kept.remove(pivot)
        constant -= b[pivot] ** 2 / top
        for i in kept:
            share = A[i][pivot] / top
            if share:
                b[i] -= share * b[pivot]
                for j in kept:
                    A[i][j] -= share * A[pivot][j]
    return constant


def _least(values: Iterable[Fraction | None]) -> Fraction:
    """The least of several, never below 0."""
    best: Fraction | None = None
    for value in values:
        if value is None or value <= 0:
            return Fraction(0)
        best = value if best is None or value < best else best
    assert best is not None
    return best


def least_sparse_error(problem: SparseLeastSquares) -> Fraction:
    """The least error over every allowed support, re-fitted exactly, never below 0."""
    return least_refitted(matrix_of(problem.gram), fractions(problem.weight), budgets_of(problem))


def least_refitted(gram: Matrix, weight: Sequence[Fraction], budgets: Budgets) -> Fraction:
    """The same of any matrix."""
    choices = []
    for g, most in enumerate(budgets.most):
        group = [i for i in range(len(weight)) if budgets.group[i] == g]
        choices.append(itertools.combinations(group, max(0, len(group) - most)))
    return _least(
        least_refit(gram, weight, tuple(itertools.chain.from_iterable(parts)))
        for parts in itertools.product(*choices)
    )


def least_sparse_errors(problem: SparseLeastSquares) -> list[Fraction]:
    """The least error with k = 0, 1, ..., n non-zeros."""
    return [least_sparse_error(problem.with_nnz(k)) for k in range(problem.n + 1)]


def least_layer_error(least: Sequence[Sequence[Fraction]], nnz: int) -> Fraction:
    """The least sum over channels that keep `nnz` weights together; `least[c][k]` is that of c with k."""
    sums: list[Fraction] = [Fraction(0)]
    for channel in least:
        longer = len(sums) + len(channel) - 1
        sums = [
            min(sums[k - i] + channel[i] for i in range(len(channel)) if 0 <= k - i < len(sums))
            for k in range(longer)
        ]
    return sums[min(nnz, len(sums) - 1)]
