"""The truth in exact rational arithmetic: stored float64 numbers are taken as they are, nothing is rounded.

E is a mean square. Where the rounding of a stored Gram leaves it a hair indefinite the least error
of the stored numbers may be negative, or have no least value at all: the truth is then 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from pvqbounds import IntegerLeastSquares, SparseLeastSquares

__all__ = [
    "exact_error",
    "exact_error_of_codes",
    "exact_signal",
    "is_semidefinite",
    "least_codes_error",
    "least_layer_error",
    "least_sparse_error",
    "least_sparse_errors",
    "whole_numbers",
]

Matrix = list[list[Fraction]]


def whole_numbers(values: Iterable[float]) -> tuple[list[int], int]:
    """Whole numbers m and one exponent e with value = m / 2^e, for finite float64 values."""
    ratios = [float(value).as_integer_ratio() for value in values]
    e = max(denominator.bit_length() - 1 for _, denominator in ratios)
    return [m << (e - denominator.bit_length() + 1) for m, denominator in ratios], e


def fractions(values: Iterable[float]) -> list[Fraction]:
    """The values as they are."""
    return [Fraction(float(value)) for value in values]


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


def exact_error_of_codes(problem: IntegerLeastSquares, codes: np.ndarray) -> Fraction:
    """E(s z), the product s z taken exactly."""
    scale = Fraction(float(problem.scale))
    return exact_error(problem.gram, problem.weight, [scale * int(code) for code in codes])


def exact_signal(problem: IntegerLeastSquares | SparseLeastSquares) -> Fraction:
    """wᵀGw without rounding."""
    return exact_error(problem.gram, problem.weight, [Fraction(0)] * problem.n)


def is_semidefinite(gram: np.ndarray) -> bool:
    """Whether the stored matrix is positive semidefinite, exactly."""
    n = len(gram)
    return least_refit(matrix_of(gram), [Fraction(0)] * n, ()) is not None


def matrix_of(gram: np.ndarray) -> Matrix:
    """The stored matrix as it is."""
    return [fractions(row) for row in gram]


# --------------------------------------------------------------------------- quantization


def least_codes_error(problem: IntegerLeastSquares, most: int = 20_000) -> Fraction | None:
    """The least error over the whole box, never below 0; None where that takes more than `most` steps.

    All but the last code are enumerated (the last one has a closed form), or, where that is too
    much, visited in the order of their distance from the centre while they may still be the best.
    """
    box = problem.qmax - problem.qmin + 1
    found = _enumerated(problem) if box ** (problem.n - 1) <= most else _searched(problem, most // 4)
    return None if found is None else max(found, Fraction(0))


def _enumerated(problem: IntegerLeastSquares) -> Fraction:
    """Brute force in whole numbers: E = sum_i d_i (G_ii d_i + 2 sum over j < i of G_ij d_j)."""
    n, qmin, qmax = problem.n, problem.qmin, problem.qmax
    entries, gram_exponent = whole_numbers(problem.gram.ravel())
    G = [entries[i * n : (i + 1) * n] for i in range(n)]
    (*w, s), exponent = whole_numbers([*problem.weight, float(problem.scale)])
    best: int | None = None

    def last(linear: int) -> Iterator[int]:
        """Codes among which the best last one is: the ends, and those next to the stationary point."""
        yield qmin
        yield qmax
        if G[-1][-1] > 0:  # d = -linear / G_nn
            k = (w[-1] * G[-1][-1] - linear) // (s * G[-1][-1])
            yield from (code for code in (k, k + 1) if qmin < code < qmax)

    def descend(i: int, error: int, linear: list[int]) -> None:
        nonlocal best
        for k in last(linear[i]) if i == n - 1 else range(qmin, qmax + 1):
            d = s * k - w[i]
            now = error + d * (G[i][i] * d + 2 * linear[i])
            if i == n - 1:
                best = now if best is None or now < best else best
            else:
                descend(i + 1, now, [old + row[i] * d for old, row in zip(linear, G, strict=True)])

    descend(0, 0, [0] * n)
    assert best is not None
    return Fraction(best, 1 << (gram_exponent + 2 * exponent))


def _searched(problem: IntegerLeastSquares, most: int) -> Fraction | None:
    """Schnorr-Euchner in fractions; None where the Gram is not definite or `most` nodes are not enough."""
    n, s, w = problem.n, Fraction(float(problem.scale)), fractions(problem.weight)
    A = matrix_of(problem.gram)
    # E = sum_i D_i (d_i + sum over j < i of C_ij d_j)², eliminated from the last input upwards
    for i in reversed(range(n)):
        if A[i][i] <= 0:
            return None
        for j in range(i):
            share = A[i][j] / A[i][i]
            for k in range(i):
                A[j][k] -= share * A[i][k]
    best: Fraction | None = None
    nodes = 0

    def descend(i: int, error: Fraction, d: list[Fraction]) -> bool:
        nonlocal best, nodes
        if i == n:
            best = error if best is None or error < best else best
            return True
        shift = sum((A[i][j] * d[j] for j in range(i)), Fraction(0)) / A[i][i]
        centre = (w[i] - shift) / s
        for k in _outwards(centre, problem.qmin, problem.qmax):
            nodes += 1
            if nodes > most:
                return False
            step = s * k - w[i]
            now = error + A[i][i] * (step + shift) ** 2
            if best is not None and now >= best:
                break
            if not descend(i + 1, now, [*d, step]):
                return False
        return True

    return best if descend(0, Fraction(0), []) else None


def _outwards(centre: Fraction, qmin: int, qmax: int) -> Iterator[int]:
    """The codes of a box in the order of their distance from `centre`."""
    low = min(max(math.floor(centre), qmin - 1), qmax)
    high = low + 1
    while low >= qmin or high <= qmax:
        if high > qmax or (low >= qmin and centre - low <= high - centre):
            yield low
            low -= 1
        else:
            yield high
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
    gram, weight = matrix_of(problem.gram), fractions(problem.weight)
    choices = [
        itertools.combinations([int(i) for i in group], len(group) - kept) for group, kept in problem.budgets
    ]
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
