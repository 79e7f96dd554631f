"""Exact pruning, against brute force: in rational arithmetic where the bound has to be true."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import allowed_supports, least_sparse_error, rational_optimum, real_valued

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems import SparseLeastSquares, magnitude_support
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.solvers.native.pruning import forward_search, subset_search
from pvqbounds.solvers.native.pruning import subset_factor as subset_factor_module
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.pruning.subset_factor import subset_factor
from pvqbounds.solvers.native.pruning.subset_kernel import _step, _what_is_left, new_stack
from pvqbounds.solvers.native.pruning.subset_multipliers import multiplied
from pvqbounds.solvers.native.pruning.subset_search import (
    FEW,
    SINGULAR,
    good_support,
    prove_sparse,
    search_sparse,
)


def achieved(problem, solution):
    support = problem.checked_support(solution.support)
    return problem.error(problem.refit(support)).upper


def least_norm(rows, target):
    """Least ||y||² with rows y = target, in fractions: targetᵀ (rows rowsᵀ)⁻¹ target."""
    size = len(rows)
    left = [[sum(a * b for a, b in zip(r, q, strict=True)) for q in rows] for r in rows]
    cost, v = Fraction(0), list(target)
    for k in range(size):
        cost += v[k] ** 2 / left[k][k]
        for j in range(k + 1, size):
            part = left[j][k] / left[k][k]
            v[j] -= part * v[k]
            left[j] = [a - part * b for a, b in zip(left[j], left[k], strict=True)]
    return cost


def check(problem, *, slack=1e-8):
    """Both ends are true and, where the Gram is proved definite, as close as `slack` allows."""
    solution = search_sparse(problem, Clock(60.0))
    truth = rational_optimum(problem)
    signal = problem.signal.upper
    assert solution.status == "optimal" or solution.status.startswith(SINGULAR)
    assert Fraction(solution.bound) <= truth
    assert truth <= Fraction(achieved(problem, solution)) + Fraction(1e-13 * signal)
    if solution.status == "optimal":
        assert float(truth) - solution.bound <= slack * float(truth) + 1e-12 * signal
    assert prove_sparse(problem, solution.certificate, Clock(60.0))
    return solution, float(truth)


@st.composite
def problems(draw, exponent=3):
    """Small problems whose Grams are semidefinite exactly: Xᵀ X with small integers in X."""
    n = draw(st.integers(1, 6))
    positions = draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.integers(-3, 4, (positions, n)).astype(float)
    for i in range(n):
        kind = draw(st.sampled_from(["plain", "plain", "plain", "dead", "twin", "scaled"]))
        if kind == "dead":
            X[:, i] = 0.0
        elif kind == "twin":
            X[:, i] = X[:, rng.integers(n)]
        elif kind == "scaled":
            X[:, i] *= 2.0 ** draw(st.integers(-exponent, exponent))
    w = draw(
        st.sampled_from([rng.standard_normal(n), np.full(n, 0.3), rng.integers(-1, 2, n) * 0.1, np.zeros(n)])
    )
    if draw(st.booleans()):
        return SparseLeastSquares(X.T @ X, w, nnz=draw(st.integers(0, n)))
    size = draw(st.integers(1, 4))
    return SparseLeastSquares(X.T @ X, w, pattern=(draw(st.integers(0, size)), size))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_both_ends_hold_on_small_problems(problem):
    check(problem)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(problems(exponent=12))
def test_both_ends_hold_on_many_small_problems(problem):
    check(problem)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decades", [3, 8, 12])
def test_ill_conditioned(seed, decades):
    """The bound stays true for the stored matrix, whatever its condition."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    gram = Q @ np.diag(np.logspace(0, -decades, 6)) @ Q.T
    problem = SparseLeastSquares(0.5 * gram + 0.5 * gram.T, rng.standard_normal(6), nnz=3)
    solution, truth = check(problem, slack=1e-2 if decades == 12 else 1e-5)
    assert solution.certificate.radius == np.inf
    assert truth > 0.0


@pytest.mark.parametrize(("n", "nnz"), [(10, 2), (11, 5), (12, 9)])
def test_against_brute_force_in_floating_point(n, nnz):
    gram, weight = real_valued(n, n)
    problem = SparseLeastSquares(gram, weight, nnz=nnz)
    solution = search_sparse(problem, Clock(60.0))
    best = min(
        problem.error(problem.refit(np.array(support))).middle for support in allowed_supports(problem)
    )
    assert achieved(problem, solution) == pytest.approx(best, rel=1e-9)
    assert best * (1 - 1e-8) <= solution.bound <= best * (1 + 1e-12)


def test_pattern_against_brute_force():
    gram, weight = real_valued(1, 14)
    problem = SparseLeastSquares(gram, weight, pattern=(2, 4))  # the last group holds two
    solution = search_sparse(problem, Clock(60.0))
    best = min(
        problem.error(problem.refit(np.array(support))).middle for support in allowed_supports(problem)
    )
    assert best * (1 - 1e-8) <= solution.bound <= best * (1 + 1e-12)
    assert achieved(problem, solution) == pytest.approx(best, rel=1e-9)


def test_nothing_is_lost_when_the_rank_fits():
    gram, weight = real_valued(2, 20, positions=6)
    solution = search_sparse(problem := SparseLeastSquares(gram, weight, nnz=6), Clock(60.0))
    assert solution.bound == 0.0
    assert achieved(problem, solution) <= 1e-12 * problem.signal.upper
    assert solution.status == "optimal"


def test_a_singular_gram_proves_nothing_above_zero():
    gram, weight = real_valued(3, 12, positions=8)
    problem = SparseLeastSquares(gram, weight, nnz=4)
    solution = search_sparse(problem, Clock(60.0))
    best = min(
        problem.error(problem.refit(np.array(support))).middle for support in allowed_supports(problem)
    )
    assert (solution.bound, solution.status) == (0.0, f"{SINGULAR}; {FEW}")
    assert achieved(problem, solution) == pytest.approx(best, rel=1e-6)  # and the best support is found
    for radius in (np.inf, 200.0, 0.0, -1.0):
        claim = replace(solution.certificate, value=0.5 * best, radius=radius)
        assert not prove_sparse(problem, claim, Clock(60.0))


def test_inputs_that_are_multiples_of_one_another_are_named():
    """And the problem that counts them as one has the same optimum, proved."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((60, 9))
    X[:, [2, 5, 7]] = [0.3, 0.7, -1.1]  # constant
    weight = rng.standard_normal(9)
    gram = X.T @ X / 60
    problem = SparseLeastSquares(gram, weight, nnz=3)
    solution = search_sparse(problem, Clock(60.0))
    assert "inputs 2, 5, 7 are multiples" in solution.status
    one, others = 2, [5, 7]
    merged, carried = gram.copy(), weight.copy()
    carried[one] += sum(weight[i] * gram[i, one] / gram[one, one] for i in others)
    merged[others], merged[:, others] = 0.0, 0.0
    single = search_sparse(SparseLeastSquares(merged, carried, nnz=3), Clock(60.0))
    assert single.status == "optimal"
    assert single.bound == pytest.approx(achieved(problem, solution), rel=1e-9)


@pytest.mark.parametrize("k", [12, 20, 23, 25])
def test_nearly_dependent_inputs_that_may_be_removed_at_no_cost(k):
    """b = a + eps c, so that c = (b - a)/eps may go: the optimum is 0, at re-fits of size 1/eps."""
    eps = 2.0**-k
    c, x, a, z, b = [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [eps, 0, 1]
    V = np.array([c, x, a, z, b, z], dtype=float).T
    problem = SparseLeastSquares(V.T @ V, [1.0, 1, 1, 0, 1, 0], pattern=(1, 2))
    bounds = pvq.solve(problem)
    assert bounds.lower_kind == "certified"
    assert problem.error(bounds.weight).upper == bounds.error_upper
    assert bounds.error_lower <= problem.error(np.array([0.0, 1, 1 - 1 / eps, 0, 1 + 1 / eps, 0])).upper
    assert bounds.error_lower <= 1e-13 * problem.signal.upper
    assert pvq.verify(problem, bounds)
    if k > 23:
        assert "singular" in bounds.note


def test_a_claim_that_is_too_large_is_refused():
    gram, weight = real_valued(4, 16)
    problem = SparseLeastSquares(gram, weight, nnz=4)
    certificate = search_sparse(problem, Clock(60.0)).certificate
    assert prove_sparse(problem, certificate, Clock(60.0))
    for factor in (1 + 1e-7, 1.1, 1e9, np.inf, np.nan):
        assert not prove_sparse(problem, replace(certificate, value=certificate.value * factor), Clock(60.0))
    assert not prove_sparse(
        SparseLeastSquares(gram, weight, nnz=16), replace(certificate, value=1e-300), Clock(60.0)
    )


def test_time_limit_gives_a_true_interval(monkeypatch):
    monkeypatch.setattr(subset_search, "WORK", 20_000)
    gram, weight = real_valued(5, 40)
    problem = SparseLeastSquares(gram, weight, nnz=10)
    full = search_sparse(problem, Clock(60.0))
    short = search_sparse(problem, Clock(1e-3))
    assert full.status == "optimal"
    assert short.status == "time limit"
    assert 0.0 <= short.bound <= full.bound
    assert achieved(problem, full) <= achieved(problem, short) * (1 + 1e-12)
    if isinstance(short.certificate, DualCertificate):
        assert dual_bound(problem, short.certificate) == short.bound
    else:
        assert prove_sparse(problem, short.certificate, Clock(60.0))


def test_fractions_of_the_best_error_are_proved(monkeypatch):
    """Where the perspective bound is weak, partial searches take over."""
    monkeypatch.setattr(
        subset_search, "maximise_perspective", lambda p, **_: DualCertificate(*np.zeros((2, p.n)))
    )
    monkeypatch.setattr(subset_search, "WORK", 20_000)
    gram, weight = real_valued(5, 40)
    problem = SparseLeastSquares(gram, weight, nnz=10)
    full = search_sparse(problem, Clock(60.0))
    assert full.status == "optimal"
    factor = subset_factor(problem)
    best = np.ldexp(full.bound, -factor.exponent)
    claims = []
    proof = subset_search._solution
    monkeypatch.setattr(
        subset_search, "_solution", lambda f, r, v, n, status: claims.append(v) or proof(f, r, v, n, status)
    )
    poor = subset_search._rising(problem, factor, np.arange(30), 1.5 * best, Clock(60.0), True)
    assert poor.status == "optimal"
    assert poor.bound == pytest.approx(full.bound, rel=1e-8)
    assert len(claims) > 3
    assert claims == sorted(claims)
    for value in claims[1:]:
        assert prove_sparse(problem, SubsetCertificate(value, 0), Clock(60.0))


def test_auto_stops_where_the_next_claim_is_not_expected_in_time(monkeypatch):
    monkeypatch.setattr(subset_search, "WORK", 20_000)
    monkeypatch.setattr(subset_search._Claims, "next", lambda self, seconds: None)
    gram, weight = real_valued(5, 40)
    problem = SparseLeastSquares(gram, weight, nnz=10)
    stopped = search_sparse(problem, Clock(60.0), persistent=False)
    assert stopped.status == "time limit"
    assert stopped.bound == dual_bound(problem, stopped.certificate) > 0.0
    assert search_sparse(problem, Clock(60.0)).status == "optimal"


def test_claims_rise_by_what_the_time_allows():
    claims = subset_search._Claims(best=1.0, first=0.4)
    assert claims.next(1.0) == 0.4
    claims.proved(0.4, 0.001)
    second = claims.next(10.0)
    assert 0.4 < second < 1.0
    claims.proved(second, 0.002)
    assert claims.next(10.0) > second  # a doubling of work for this rise
    assert claims.next(1e-4) is None  # less time than the last one took
    claims.proved(0.999, 0.004)
    assert claims.next(10.0) == 1.0
    done = subset_search._Claims(best=1.0, first=0.99)
    assert done.next(1.0) == 1.0


@pytest.mark.parametrize("power", [-400, -31, 40, 300])
def test_scaling_by_powers_of_two_changes_nothing(power):
    gram, weight = real_valued(6, 12)
    plain = search_sparse(SparseLeastSquares(gram, weight, nnz=4), Clock(60.0))
    scaled = search_sparse(SparseLeastSquares(np.ldexp(gram, power), weight, nnz=4), Clock(60.0))
    assert scaled.bound == pytest.approx(np.ldexp(plain.bound, power), rel=1e-9)
    assert scaled.support.tolist() == plain.support.tolist()


@pytest.mark.parametrize("exponent", [-240, -200, 0, 200])
def test_extreme_magnitudes(exponent):
    """Errors near the ends of the range of float64: still an end, and a true one."""
    problem = SparseLeastSquares(np.diag([1.0, 2.0, 4.0]) * 10.0**exponent, np.ones(3), nnz=1)
    solution = search_sparse(problem, Clock(60.0))
    assert solution.support.tolist() == [2]
    assert Fraction(solution.bound) <= rational_optimum(problem)
    assert solution.bound == pytest.approx(3.0 * 10.0**exponent, rel=1e-9)
    assert prove_sparse(problem, solution.certificate, Clock(60.0))


@pytest.mark.parametrize("budget", [{"nnz": 0}, {"nnz": 4}, {"nnz": 14}, {"pattern": (2, 4)}])
def test_good_support_is_allowed_and_better_than_magnitude(budget):
    gram, weight = real_valued(8, 14)
    problem = SparseLeastSquares(gram, weight, **budget)
    support = problem.checked_support(good_support(problem))
    found, simple = (problem.error(problem.refit(s)).upper for s in (support, magnitude_support(problem)))
    assert found <= simple * (1 + 1e-9)


def test_order_of_inputs_changes_nothing():
    gram, weight = real_valued(7, 14)
    order = np.random.default_rng(0).permutation(14)
    plain = search_sparse(SparseLeastSquares(gram, weight, nnz=5), Clock(60.0))
    moved = search_sparse(SparseLeastSquares(gram[np.ix_(order, order)], weight[order], nnz=5), Clock(60.0))
    assert moved.bound == pytest.approx(plain.bound, rel=1e-9)
    assert sorted(order[moved.support].tolist()) == plain.support.tolist()


@pytest.mark.parametrize("seed", range(60))
def test_multipliers_lose_no_set(seed, monkeypatch):
    """With slices of a few nodes every search goes on with the second bound at once."""
    monkeypatch.setattr(subset_search, "WORK", 40)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 10))
    features = np.maximum(rng.standard_normal((4 * n, n)) @ rng.standard_normal((n, n)), 0.0)
    gram = features.T @ features / (4 * n) * 10.0 ** rng.uniform(-3, 3)
    weight = rng.standard_normal(n)
    if seed % 3:
        problem = SparseLeastSquares(gram, weight, nnz=int(rng.integers(1, n)))
    else:
        problem = SparseLeastSquares(gram, weight, pattern=(1, 3))
    truth = least_sparse_error(problem)
    solution = search_sparse(problem, Clock(60.0))
    assert solution.status == "optimal"
    assert problem.error(problem.refit(solution.support)).middle == pytest.approx(truth, rel=1e-9)
    assert solution.bound <= truth <= solution.bound * (1.0 + 1e-7) + 1e-14 * problem.signal.upper
    assert prove_sparse(problem, solution.certificate, Clock(60.0))
    raised = replace(solution.certificate, value=truth * (1.0 + 1e-6))
    assert truth < 1e-12 * problem.signal.upper or not prove_sparse(problem, raised, Clock(60.0))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("budget", [{"nnz": 4}, {"nnz": 7}, {"pattern": (1, 3)}])
def test_elimination_and_reflections_prove_the_same_claims(seed, budget, monkeypatch):
    """Inputs are eliminated from C, or the rows of W reflected: either way meets what the other one does."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(9, 13))
    features = rng.standard_normal((3 * n, n)) @ (np.eye(n) + rng.standard_normal((n, n)))
    problem = SparseLeastSquares(features.T @ features, rng.standard_normal(n), **budget)
    monkeypatch.setattr(forward_search, "MOST_SUPPORTS", 0)
    assert subset_factor(problem).eliminated is not None
    eliminated = search_sparse(problem, Clock(60.0))
    monkeypatch.setattr(subset_factor_module, "MOST_SLACK", 0.0)
    assert subset_factor(problem).eliminated is None
    reflected = search_sparse(problem, Clock(60.0))
    assert eliminated.status == reflected.status == "optimal"
    assert eliminated.support.tolist() == reflected.support.tolist()
    assert eliminated.bound == pytest.approx(reflected.bound, rel=1e-9)
    assert prove_sparse(problem, eliminated.certificate, Clock(60.0))
    monkeypatch.undo()
    assert prove_sparse(problem, reflected.certificate, Clock(60.0))


@pytest.mark.parametrize("decades", [0, 3, 6, 8])
def test_slack_covers_what_elimination_loses(decades):
    """Cost of every set by elimination in float64, as the kernel has it, beside the exact one of C."""
    rng = np.random.default_rng(decades)
    Q = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    gram = Q @ np.diag(np.logspace(0, -decades, 7)) @ Q.T
    problem = SparseLeastSquares(0.5 * gram + 0.5 * gram.T, rng.standard_normal(7), nnz=2)
    factor = subset_factor(problem)
    assert factor.eliminated is not None
    stack = new_stack(factor, np.inf)
    W = [[Fraction(value) for value in row] for row in factor.rows.tolist()]
    for removed in permutations(range(7), 5):
        if removed[0] > 1:  # some of them
            continue
        cost = 0.0
        for depth, i in enumerate(removed):
            cost += stack.plain.price[depth, i]
            _what_is_left(stack.plain.matrix, stack.plain.factor, depth, i, stack.row)
            chain = stack.plain
            _step(stack.row, chain.factor, chain.weight, chain.length, chain.price, depth, i)
        rows = [W[i] for i in removed]
        exact = least_norm(rows, [Fraction(factor.weight[i]) for i in removed])
        assert Fraction(cost) <= Fraction(factor.eliminated.slack) * exact * (1 + Fraction(1, 10**14))


def test_multiplied_bound_of_every_set_is_true():
    """The second bound of a complete set, as the kernel computes it, is never above its error."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        features = np.maximum(rng.standard_normal((30, 6)) @ rng.standard_normal((6, 6)), 0.0)
        problem = SparseLeastSquares(features.T @ features / 30, rng.standard_normal(6), nnz=2)
        factor = subset_factor(problem)
        dual = multiplied(problem, factor)
        assert dual is not None
        for removed in combinations(range(6), 4):
            left = dual.matrix[np.ix_(removed, removed)]
            cost = dual.target[list(removed)] @ np.linalg.solve(left, dual.target[list(removed)])
            bound = dual.root + (cost + dual.extra[list(removed)].sum()) / dual.gain
            error = problem.error(problem.refit(np.setdiff1d(np.arange(6), removed))).upper
            assert np.ldexp(bound, factor.exponent) <= error * (1.0 + 1e-12)


def test_refit_sees_inputs_of_small_power():
    """A kept input a hundred million times weaker than another still takes its share of the re-fit."""
    power = np.array([1e4, 1e-4, 1.0])
    gram = np.array([[1.0, 0.2, 0.3], [0.2, 1.0, 0.6], [0.3, 0.6, 1.0]]) * np.outer(power, power)
    problem = SparseLeastSquares(gram, np.array([1e-4, 1e4, 1.0]), nnz=2)
    v = problem.refit(np.array([0, 1]))
    gradient = gram[:2] @ (v - problem.weight)
    assert np.abs(gradient / power[:2]).max() < 1e-9


def test_inputs_of_hardly_any_power_whose_products_are_all_rounding():
    gram = [
        [1.479113727091741e-131, 7.221648827021967e-35, -4.44089051031385e-16],
        [7.221648827021967e-35, 3.525909553519841e-38, -2.168007427523908e-19],
        [-4.44089051031385e-16, -2.168007427523908e-19, 3.0],
    ]
    problem = SparseLeastSquares(gram, [0.11, 0.26, 0.18], nnz=1)
    for method in ("auto", "exact", "relax"):
        bounds = pvq.solve(problem, method=method)
        assert bounds.error_lower <= bounds.error_upper
        assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("value", [np.int8(3), np.float32(3.0), True, 10**400, float("nan")])
def test_claims_in_numbers_of_few_bits_are_no_claims(value):
    """Found by the fuzz: a threshold taken in int8 wraps around, and a search below it meets nothing."""
    gram = np.eye(6) + 0.999 * np.fliplr(np.diag([1.0, 1.0, -1.0, -1.0, 1.0, 1.0]))
    weight = np.array([-0.0969, 188223.8391, -0.1038, 0.4188, -0.2786, -0.1155])
    problem = SparseLeastSquares(gram, weight, nnz=2)
    bounds = pvq.solve(problem)
    lie = replace(bounds, error_lower=bounds.error_upper, certificate=SubsetCertificate(value, 10))
    assert not pvq.verify(problem, lie)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kept", [1, 2, 3, 5])
def test_both_searches_prove_the_same_claims(seed, kept, monkeypatch):
    """What the search by kept inputs states, the search by removal proves, and the other way round."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(kept + 1, 11))
    features = rng.standard_normal((3 * n, n)) @ (np.eye(n) + rng.standard_normal((n, n)))
    features *= 10.0 ** rng.uniform(-4, 4, n)
    problem = SparseLeastSquares(features.T @ features, rng.standard_normal(n), nnz=kept)
    truth = least_sparse_error(problem)
    by_kept = search_sparse(problem, Clock(60.0))
    monkeypatch.setattr(forward_search, "MOST_SUPPORTS", 0)
    by_removal = search_sparse(problem, Clock(60.0))
    assert by_kept.status == by_removal.status == "optimal"
    assert by_kept.support.tolist() == by_removal.support.tolist()
    assert by_kept.bound == pytest.approx(by_removal.bound, rel=1e-7)
    assert by_kept.bound <= truth * (1 + 1e-12)
    assert prove_sparse(problem, by_kept.certificate, Clock(60.0))
    monkeypatch.undo()
    for claim in (by_kept.certificate, by_removal.certificate):
        assert prove_sparse(problem, claim, Clock(60.0))
        assert not prove_sparse(problem, replace(claim, value=truth * (1 + 1e-6)), Clock(60.0))


@pytest.mark.parametrize("seed", range(10))
def test_the_search_by_kept_inputs_finds_what_no_heuristic_gave_it(seed):
    gram, weight = real_valued(seed, 12)
    problem = SparseLeastSquares(gram, weight, nnz=4)
    factor = subset_factor(problem)
    truth = least_sparse_error(problem)
    for threshold in (np.inf, 1.05 * np.ldexp(truth, -factor.exponent)):
        found = forward_search.forward_search(factor, threshold)
        assert found is not None
        assert found.removed is not None
        error = problem.error(problem.refit(factor.support(found.removed))).upper
        assert error == pytest.approx(truth, rel=1e-9)
        assert forward_search.forward_search(factor, found.cost * (1 - 1e-9)).removed is None


def test_too_many_supports_near_the_threshold_are_left_to_the_other_search():
    """Equal inputs, orthogonal: all supports are as good as one another."""
    problem = SparseLeastSquares(np.eye(12), np.ones(12), nnz=3)
    factor = subset_factor(problem)
    assert forward_search.forward_search(factor, 9.0 / 4.0) is None
    solution, truth = check(problem)
    assert (solution.status, truth) == ("optimal", 9.0)


def test_few_supports_of_many_inputs():
    """Too many inputs for the search by removal; two of them are kept."""
    gram, weight = real_valued(0, 600)
    problem = SparseLeastSquares(gram, weight, nnz=2)
    solution = search_sparse(problem, Clock(60.0))
    assert solution.status == "optimal"
    pull, corner = gram @ weight, weight @ gram @ weight
    i, j = np.triu_indices(600, 1)
    determinant = gram[i, i] * gram[j, j] - gram[i, j] ** 2
    explained = (
        gram[j, j] * pull[i] ** 2 - 2 * gram[i, j] * pull[i] * pull[j] + gram[i, i] * pull[j] ** 2
    ) / determinant
    assert solution.bound == pytest.approx(corner - explained.max(), rel=1e-5)
    assert prove_sparse(problem, solution.certificate, Clock(60.0))


@pytest.mark.parametrize("power", [0, 37])
def test_nothing_above_nothing_is_proved_of_weights_without_signal(power):
    rng = np.random.default_rng(78)
    X = rng.standard_normal((12, 8)) * 1e-3 + 1.0
    problem = pvq.SparseLeastSquares(np.ldexp(X.T @ X, power), np.zeros(8), nnz=7)
    for value in (5e-324, 1e-310, 1e-200):
        assert SubsetCertificate(value, 100).prove(problem, Clock(5.0)) == 0.0
