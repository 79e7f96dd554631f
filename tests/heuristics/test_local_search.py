"""Descents over any values under any rule: they stay allowed, they end, and no move is left that gains."""

import itertools

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.heuristics.rounding import allowed_codes, improve, randomized_rounding
from pvqbounds.problems.code_grids import in_codes


def layer_like(n, seed):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal((3 * n, n)) @ (np.eye(n) + rng.standard_normal((n, n)) / n**0.5), -0.2)
    return x.T @ x / len(x), rng.standard_normal(n)


LEVELS = np.array([-2.0, -0.7, -0.1, 0.0, 0.2, 0.25, 1.0, 3.0])
RULES = [{}, {"nnz": 5}, {"nnz": 0}, {"pattern": (2, 4)}, {"pattern": (1, 3), "stride": 4}]


def problems(rule, seed, n=12):
    gram, weight = layer_like(n, seed)
    steps = np.random.default_rng(seed).uniform(0.2, 0.6, n)
    yield pvq.CodebookLeastSquares(gram, weight, LEVELS, **rule)
    own = [LEVELS[i % 3 : len(LEVELS) - i % 4] for i in range(n)]  # each with 0
    yield pvq.CodebookLeastSquares(gram, weight, own, **rule)
    yield pvq.IntegerLeastSquares(gram, weight, steps, -3, 2, **rule)


def error_of(problem, codes):
    """E, or None where the codes are not allowed."""
    try:
        return problem.error(problem.checked_codes(codes)).upper
    except pvq.InputError:
        return None


def neighbours_of_one(problem, codes):
    """Every code in the place of one of them."""
    low, high = problem.values.code_ends
    for i in range(problem.n):
        for code in range(low[i], high[i] + 1):
            other = codes.copy()
            other[i] = code
            yield other


def neighbours_of_two(problem, codes):
    """Two codes moved by one each."""
    for i, j in itertools.combinations(range(problem.n), 2):
        for step_i, step_j in itertools.product((-1, 1), repeat=2):
            other = codes.copy()
            other[i] += step_i
            other[j] += step_j
            yield other


def exchanges(problem, codes):
    """One weight set to zero, another one to any value."""
    zero = problem.values.zero_codes()
    low, high = problem.values.code_ends
    for i, j in itertools.permutations(range(problem.n), 2):
        for code in range(low[j], high[j] + 1):
            if codes[i] != zero[i] and codes[j] == zero[j]:
                other = codes.copy()
                other[i], other[j] = zero[i], code
                yield other


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rule", RULES)
def test_no_move_is_left_that_gains(rule, seed):
    for problem in problems(rule, seed):
        start = in_codes(problem).centre[None]
        codes = improve(problem, start)
        error = error_of(problem, codes)
        assert error is not None
        moves = [neighbours_of_one, neighbours_of_two, *([exchanges] if rule else [])]
        for other in itertools.chain.from_iterable(move(problem, codes) for move in moves):
            reached = error_of(problem, other)
            assert reached is None or reached >= error * (1 - 1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_a_descent_starts_at_what_is_allowed_and_gains(rule):
    rng = np.random.default_rng(0)
    for problem in problems(rule, 5, n=24):
        inner = in_codes(problem)
        starts = inner.centre + rng.standard_normal((20, 24))
        budgets = problem.budgets if problem.is_restricted else None
        allowed = allowed_codes(inner, starts, budgets).astype(np.int64)
        errors = [error_of(problem, codes) for codes in allowed]
        assert None not in errors
        one = error_of(problem, improve(problem, starts, pairs=False))
        two = error_of(problem, improve(problem, starts))
        assert two <= min(errors) * (1 + 1e-12)
        assert one <= min(errors) * (1 + 1e-12)
        assert error_of(problem, improve(problem, starts, clock=Clock(0.0))) is not None


@pytest.mark.parametrize("rule", RULES)
def test_starts_that_are_no_numbers_are_left_out(rule):
    for problem in problems(rule, 1):
        nothing = np.full((3, problem.n), np.nan)
        assert error_of(problem, improve(problem, nothing)) is not None


@pytest.mark.parametrize("rule", RULES)
def test_random_roundings_are_allowed(rule):
    for problem in problems(rule, 2):
        inner = in_codes(problem)
        codes = randomized_rounding(problem, inner.centre, 0.1 * np.eye(problem.n), seed=3)
        assert error_of(problem, codes) <= error_of(problem, problem.codes_of_nearest()) * (1 + 1e-12)


@pytest.mark.parametrize("g", [0.999999, 1.0 - 1e-12, 1.0])
@pytest.mark.parametrize("rule", [{}, {"nnz": 2}, {"pattern": (1, 2)}])
def test_a_descent_ends_where_values_tie(g, rule):
    """Of nearly dependent inputs, rounding of the gradient looks like a gain, to and fro."""
    gram = g * np.ones((4, 4)) + (1.0 - g) * np.eye(4)
    problem = pvq.CodebookLeastSquares(gram, [0.25, 0.15, 0.15, 0.25], [-0.1, 0.0, 0.1, 0.2, 0.3], **rule)
    codes = improve(problem, problem.weight[None])
    assert error_of(problem, codes) <= error_of(problem, problem.codes_of_nearest()) + 1e-15


def test_a_swap_finds_the_support_that_single_moves_miss():
    """The second input says what the first says, with half the error; the budget is spent on the first."""
    features = np.random.default_rng(0).standard_normal((50, 2))
    features[:, 1] = features[:, 0] + 0.1 * features[:, 1]
    gram = features.T @ features / 50
    problem = pvq.CodebookLeastSquares(gram, [0.0, 1.0], [-1.0, 0.0, 1.0], nnz=1)
    start = np.array([[1.0, 0.0]])
    assert improve(problem, start, pairs=False).tolist() == [2, 1]
    assert improve(problem, start).tolist() == [1, 2]
