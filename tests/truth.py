"""The truth about small problems, in exact rational arithmetic, and families of random ones."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

from pvqbounds import IntegerLeastSquares, SparseLeastSquares


def exact_error(gram, difference) -> Fraction:
    """dᵀGd of Fractions d and a float64 Gram, without rounding."""
    n = len(difference)
    entries = [[Fraction(float(gram[i, j])) for j in range(n)] for i in range(n)]
    return sum(difference[i] * entries[i][j] * difference[j] for i in range(n) for j in range(n))


def exact_error_of_codes(problem: IntegerLeastSquares, codes) -> Fraction:
    scale = Fraction(problem.scale)
    difference = [scale * int(k) - Fraction(float(w)) for k, w in zip(codes, problem.weight, strict=True)]
    return exact_error(problem.gram, difference)


def least_integer_error(problem: IntegerLeastSquares) -> Fraction:
    """Minimum over every point of the grid: candidates ranked in float64, then exactly."""
    codes = np.array(
        list(itertools.product(range(problem.qmin, problem.qmax + 1), repeat=problem.n)), dtype=float
    )
    difference = codes * problem.scale - problem.weight
    errors = np.einsum("ki,ij,kj->k", difference, problem.gram, difference)
    magnitude = np.einsum("ki,ij,kj->k", abs(difference), abs(problem.gram), abs(difference))
    radius = 1e-13 * magnitude  # far above the rounding of n <= 6 terms
    near = np.flatnonzero(errors - radius <= (errors + radius).min())
    return min(exact_error_of_codes(problem, codes[k]) for k in near)


def random_gram(rng, n: int) -> np.ndarray:
    """XᵀX/N from one of the families that real layers show: well and badly conditioned, singular."""
    family = rng.integers(6)
    rows = max(1, n + int(rng.integers(-2, 6)))
    X = rng.standard_normal((rows, n))
    if family == 1:  # activations after a ReLU, correlated
        X = np.maximum(X @ rng.standard_normal((n, n)) + 0.3, 0.0)
    elif family == 2:  # inputs of very different size
        X = X * 10.0 ** rng.uniform(-4, 4, n)
    elif family == 3:  # almost dependent inputs: conditions up to 1e16
        X = X @ (np.ones((n, n)) + 10.0 ** -rng.uniform(1, 8) * rng.standard_normal((n, n)))
    elif family == 4:  # equal and dead inputs
        X[:, rng.integers(n)] = X[:, rng.integers(n)]
        X[:, rng.integers(n)] = 0.0
    elif family == 5:  # fewer positions than inputs
        X = X[: max(1, n // 2)]
    return X.T @ X / len(X)


def random_weight(rng, n: int) -> np.ndarray:
    weight = rng.standard_normal(n)
    family = rng.integers(4)
    if family == 1:
        weight[rng.integers(n)] *= 10.0 ** rng.uniform(0, 3)  # an outlier
    elif family == 2:
        weight[:] = weight[0]
    elif family == 3:
        weight = np.round(weight, 1)
    return weight


def random_integer_problem(rng) -> IntegerLeastSquares:
    n = int(rng.integers(1, 6))
    qmin, qmax = [(-1, 0), (-2, 1), (0, 3), (-4, 3), (1, 3), (2, 2)][rng.integers(6)]
    scale = float(10.0 ** rng.uniform(-1.5, 0.5)) if rng.random() < 0.8 else 0.5
    return IntegerLeastSquares(random_gram(rng, n), random_weight(rng, n), scale, qmin, qmax)


def random_sparse_problem(rng) -> SparseLeastSquares:
    n = int(rng.integers(1, 8))
    gram, weight = random_gram(rng, n), random_weight(rng, n)
    if rng.random() < 0.3:
        size = int(rng.integers(1, 5))
        return SparseLeastSquares(gram, weight, pattern=(int(rng.integers(0, size + 1)), size))
    return SparseLeastSquares(gram, weight, nnz=int(rng.integers(0, n + 1)))


def least_sparse_error(problem: SparseLeastSquares) -> float:
    """Minimum over every allowed support, re-fitted by least squares, in float64."""
    choices = [itertools.combinations(group, kept) for group, kept in problem.budgets]
    best = np.inf
    for parts in itertools.product(*choices):
        support = np.array(sorted(itertools.chain.from_iterable(parts)), dtype=np.int64)
        best = min(best, problem.error(problem.refit(support)).middle)
    return float(best)
