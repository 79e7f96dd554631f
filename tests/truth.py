"""The truth about small problems, in exact rational arithmetic, and families of random ones."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

from pvqbounds import (
    AnyScaleLeastSquares,
    CodebookLeastSquares,
    IntegerLeastSquares,
    LeastSquares,
    SparseLeastSquares,
)
from pvqbounds.problems.formats.nf4 import NF4_LEVELS


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


def whole_numbers(values) -> tuple[np.ndarray, int]:
    """The least power of two that makes every float64 a whole number, and these, as Python's integers."""
    fractions = [Fraction(float(x)) for x in np.ravel(values)]
    power = max(part.denominator for part in fractions)
    return np.array([int(part * power) for part in fractions], dtype=object).reshape(np.shape(values)), power


def exact_errors_at_best_scale(problem: AnyScaleLeastSquares, codes) -> list[Fraction]:
    """The infimum over s > 0 of E(s z) of each z: wᵀGw - (zᵀGw)² / zᵀGz, or wᵀGw where s goes to zero."""
    (gram, of_gram), (weight, of_weight) = whole_numbers(problem.gram), whole_numbers(problem.weight)
    z = np.array([[int(k) for k in row] for row in codes], dtype=object)
    power = gram @ weight
    products, squares = z @ power, ((z @ gram) * z).sum(axis=1)
    unit = of_gram * of_weight**2
    gains = [
        Fraction(p * p, q * unit) if p > 0 and q > 0 else 0 for p, q in zip(products, squares, strict=True)
    ]
    signal = Fraction(int(weight @ power), unit)
    return [signal - gain for gain in gains]


def least_error_at_any_scale(problem: AnyScaleLeastSquares) -> Fraction:
    """Infimum over all codes and scales, a mean square: candidates ranked in float64, then exactly."""
    low, high = problem.values.qmin, problem.values.qmax
    codes = np.array(list(itertools.product(range(low, high + 1), repeat=problem.n)), dtype=float)
    gram, weight = problem.gram, problem.weight
    product, square = codes @ gram @ weight, np.einsum("ki,ij,kj->k", codes, gram, codes)
    size = np.einsum("ki,ij,kj->k", abs(codes), abs(gram), abs(codes))
    lost = square <= 1e-9 * size  # float64 does not know them
    gain = np.where((product > 0.0) & ~lost, product**2 / np.where(lost, 1.0, square), 0.0)
    near = np.flatnonzero(lost | (gain >= gain.max() - 1e-9 * (weight @ gram @ weight)))
    return max(Fraction(0), min(exact_errors_at_best_scale(problem, codes[near])))


def values_of(problem):
    """The values of each input as pairs (code, Fraction)."""
    low, high = problem.values.code_ends
    steps = problem.values.lattice
    if steps is not None:
        return [
            [(k, Fraction(float(steps[i])) * k) for k in range(low[i], high[i] + 1)] for i in range(problem.n)
        ]
    return [
        [(k, Fraction(float(problem.values.table[i, k]))) for k in range(high[i] + 1)]
        for i in range(problem.n)
    ]


def exact_error_of_any(problem, codes) -> Fraction:
    """E of codes of any finite values, without rounding."""
    values = [dict(pairs) for pairs in values_of(problem)]
    weight = [Fraction(float(w)) for w in problem.weight]
    return exact_error(problem.gram, [values[i][int(k)] - weight[i] for i, k in enumerate(codes)])


def least_error_of_any(problem) -> Fraction:
    """Minimum over all codes that the support rule allows: candidates ranked in float64, then exactly."""
    values = values_of(problem)
    codes = np.array(list(itertools.product(*([k for k, _ in pairs] for pairs in values))))
    weights = np.array(list(itertools.product(*([float(v) for _, v in pairs] for pairs in values))))
    allowed = np.ones(len(codes), dtype=bool)
    for group, most in problem.budgets:
        allowed &= (weights[:, group] != 0.0).sum(axis=1) <= most
    codes, difference = codes[allowed], weights[allowed] - problem.weight
    errors = np.einsum("ki,ij,kj->k", difference, problem.gram, difference)
    radius = 1e-12 * np.einsum("ki,ij,kj->k", abs(difference), abs(problem.gram), abs(difference))
    near = np.flatnonzero(errors - radius <= (errors + radius).min())
    return min(exact_error_of_any(problem, codes[k]) for k in near)


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


def random_any_scale_problem(rng) -> AnyScaleLeastSquares:
    n = int(rng.integers(1, 6))
    qmin, qmax = [(-1, 0), (-2, 1), (0, 3), (-4, 3), (1, 3), (-1, 1), (2, 2)][rng.integers(7)]
    return AnyScaleLeastSquares(random_gram(rng, n), random_weight(rng, n), qmin, qmax)


def random_sparse_problem(rng) -> SparseLeastSquares:
    n = int(rng.integers(1, 8))
    gram, weight = random_gram(rng, n), random_weight(rng, n)
    if rng.random() < 0.3:
        size = int(rng.integers(1, 5))
        return SparseLeastSquares(gram, weight, pattern=(int(rng.integers(0, size + 1)), size))
    return SparseLeastSquares(gram, weight, nnz=int(rng.integers(0, n + 1)))


E2M1 = np.array([-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def random_levels(rng, zero: bool) -> np.ndarray:
    """Sorted levels for weights near 1: of formats, at random, nearly equal, of every size."""
    family = rng.integers(7)
    if family == 0:
        levels = NF4_LEVELS * rng.uniform(0.5, 4.0)
    elif family == 1:
        levels = E2M1 * rng.uniform(0.1, 1.0)
    elif family == 2:
        levels = rng.uniform(-1.0, 1.0) * (1.0 + 2.0**-52 * rng.integers(-4, 5, 4))
    elif family == 3:
        levels = rng.choice([-1.0, 1.0], 6) * 10.0 ** rng.uniform(-9.0, 1.0, 6)
    elif family == 4:
        levels = np.abs(rng.standard_normal(4))
    else:
        levels = 2.0 * rng.standard_normal(int(rng.integers(2, 7)))
    levels = np.unique(np.append(levels, 0.0) if zero else levels) + 0.0
    return levels if len(levels) > 1 else np.append(levels, levels[-1] + 1.0)


def random_rule(rng, n: int) -> dict:
    """Arguments for a support rule."""
    if rng.random() < 0.5:
        return {"nnz": int(rng.integers(0, n + 1))}
    size, stride = int(rng.integers(1, 5)), int(rng.choice([s for s in (1, 2, 3) if n % s == 0]))
    return {"pattern": (int(rng.integers(0, size + 1)), size), "stride": stride}


def random_levels_problem(rng) -> CodebookLeastSquares:
    """Levels, one list or one for each input, few enough inputs that brute force takes milliseconds."""
    n = int(rng.integers(1, 5))
    lists = [random_levels(rng, zero=False) for _ in range(n)]
    if rng.random() < 0.4:
        lists = [lists[0]] * n
    n = inputs_for(lists)
    gram, weight = random_gram(rng, n), random_weight(rng, n)
    return CodebookLeastSquares(gram, weight, lists[0] if n == 1 else lists[:n])


def random_joint_problem(rng) -> LeastSquares:
    """Steps of groups with zero points, or levels, under a support rule."""
    n = int(rng.integers(1, 6))
    if rng.random() < 0.5:
        lists = [random_levels(rng, zero=True) for _ in range(n)]
        n = inputs_for(lists)
        gram, weight = random_gram(rng, n), random_weight(rng, n)
        return CodebookLeastSquares(gram, weight, lists[:n], **random_rule(rng, n))
    scale = 10.0 ** rng.uniform(-1.5, 0.5, n)[np.arange(n) // int(rng.integers(1, n + 1))]
    qmin = -rng.integers(0, 4, n)
    qmax = rng.integers(0, 4, n)
    return IntegerLeastSquares(
        random_gram(rng, n), random_weight(rng, n), scale, qmin, qmax, **random_rule(rng, n)
    )


def inputs_for(lists) -> int:
    """How many of the inputs may stay, so that there are at most 1000 choices of all values but one."""
    n = len(lists)
    while np.prod(sorted(map(len, lists[:n]))[:-1]) > 1000:
        n -= 1
    return n


def least_sparse_error(problem: SparseLeastSquares) -> float:
    """Minimum over every allowed support, re-fitted by least squares, in float64."""
    choices = [itertools.combinations(group, kept) for group, kept in problem.budgets]
    best = np.inf
    for parts in itertools.product(*choices):
        support = np.array(sorted(itertools.chain.from_iterable(parts)), dtype=np.int64)
        best = min(best, problem.error(problem.refit(support)).middle)
    return float(best)


def every_code(problem) -> np.ndarray:
    """All codes that a problem of finite values allows, shape (points, n)."""
    low, high = problem.values.code_ends
    codes = np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    used = np.array([problem.values.weight_of(z) for z in codes]) != 0.0
    allowed = [used[:, group].sum(axis=1) <= most for group, most in problem.budgets]
    return codes[np.all(allowed, axis=0)]


def least_error(problem) -> float:
    """Minimum over all that a problem of any kind allows, in float64."""
    if not problem.values.is_finite:
        return least_sparse_error(problem)
    return float(min(problem.error(z).middle for z in every_code(problem)))


def feasible(program, x, tolerance=1e-9) -> bool:
    """Whether x is a point of a mixed-integer quadratic program."""
    inside = (x >= program.lower - tolerance).all() and (x <= program.upper + tolerance).all()
    above = program.A @ x - program.b
    rows = (above <= tolerance).all() and (above[: program.equations] >= -tolerance).all()
    whole = (np.abs(x - np.rint(x)) <= tolerance)[program.integer].all()
    cones = all(
        (x[a] / size) ** 2 <= x[b] * x[c] + tolerance
        for (a, b, c), size in zip(program.cones, program.sizes, strict=True)
    )
    return bool(inside and rows and whole and cones)


def allowed_supports(problem):
    """Every maximal support that the budget allows."""
    choices = [itertools.combinations(group.tolist(), kept) for group, kept in problem.budgets]
    for parts in itertools.product(*(list(c) for c in choices)):
        yield sorted(i for part in parts for i in part)


def rational_error(problem, support):
    """Least E over weights on `support`, exactly (the Gram has to be semidefinite exactly)."""
    G = [[Fraction(x) for x in row] for row in problem.gram.tolist()]
    w = [Fraction(x) for x in problem.weight.tolist()]
    gone = [i for i in range(problem.n) if i not in support]
    pull = [sum(G[i][j] * w[j] for j in gone) for i in range(problem.n)]
    M = [[G[i][j] for j in support] + [pull[i]] for i in support]
    M.append([pull[i] for i in support] + [sum(w[i] * pull[i] for i in gone)])
    for k in range(len(support)):
        if M[k][k] == 0:
            assert not any(M[k])  # semidefinite
            continue
        for i in range(k + 1, len(M)):
            ratio = M[i][k] / M[k][k]
            M[i] = [a - ratio * b for a, b in zip(M[i], M[k], strict=True)]
    return M[-1][-1]


def rational_optimum(problem):
    return min(rational_error(problem, support) for support in allowed_supports(problem))


def real_valued(seed, n, positions=None):
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.standard_normal((positions or 4 * n, n)) @ rng.standard_normal((n, n)), 0.0)
    return X.T @ X / len(X), rng.standard_normal(n)


def correlated_problem(n, bits, seed, outliers=0.0, spread=1.0):
    """ReLU features of a random layer, Gaussian weights, some of them far outside the grid."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((16 * n, n)) @ rng.standard_normal((n, n)), 0.0)
    features *= 10.0 ** (spread * rng.uniform(-0.5, 0.5, n))
    weight = rng.standard_normal(n)
    scale = 2.0 * np.abs(weight).max() / 2**bits
    weight[: int(np.ceil(outliers * n))] *= 6.0
    gram = features.T @ features / len(features)
    return IntegerLeastSquares(gram, weight, scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
