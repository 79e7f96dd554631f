"""The block bound of prunings with small groups: true for any multipliers, the relaxation's value at best."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems.supports import Groups, Pattern
from pvqbounds.relaxations.blocks import BlockCertificate, Couplings, block_bound, couplings_of, has_blocks
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.solvers.native.pruning.block_dual import block_seconds, maximise_blocks, takes_blocks
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective

PATTERNS = [(2, 4), (1, 4), (1, 2), (2, 3), (3, 4)]


def problem_of(rng, n, pattern, rows=3, spread=0.5):
    x = rng.standard_normal((rows * n, n)) @ (np.eye(n) + spread * rng.standard_normal((n, n)))
    return pvq.SparseLeastSquares(x.T @ x / len(x), rng.standard_normal(n), pattern=pattern)


def least_error(problem) -> float:
    """By all supports, re-fitted in float64."""
    parts = [itertools.combinations(group, most) for group, most in problem.budgets]
    gram, weight = problem.gram, problem.weight
    least = math.inf
    for choice in itertools.product(*parts):
        kept = np.array([i for part in choice for i in part], dtype=int)
        removed = np.setdiff1d(np.arange(problem.n), kept)
        d = np.zeros(problem.n)
        d[removed] = -weight[removed]
        if len(kept):
            d[kept] = np.linalg.lstsq(gram[np.ix_(kept, kept)], -gram[np.ix_(kept, removed)] @ d[removed])[0]
        least = min(least, float(d @ gram @ d))
    return least


def some_multipliers(rng, problem) -> BlockCertificate:
    """Anything near what could be good."""
    scale = float(np.linalg.eigvalsh(problem.gram)[0])
    pairs = couplings_of(problem)
    lam = scale * rng.uniform(0.1, 1.2, problem.n)
    coupling = scale * rng.uniform(-0.4, 0.4, len(pairs.first))
    return BlockCertificate(lam, scale * rng.standard_normal(problem.n), pairs, coupling)


@pytest.mark.parametrize("seed", range(40))
def test_any_multipliers_prove_a_true_bound(seed):
    rng = np.random.default_rng(seed)
    problem = problem_of(rng, int(rng.integers(3, 10)), PATTERNS[seed % len(PATTERNS)])
    truth = least_error(problem)
    for _ in range(5):
        certificate = some_multipliers(rng, problem)
        assert block_bound(problem, certificate) <= truth * (1.0 + 1e-12)
    best = maximise_blocks(problem.normalised)
    if best is None:
        return
    own = best.in_units(problem.units.inverse)
    found = block_bound(problem, own)
    assert found <= truth * (1.0 + 1e-12)
    stated, value = own.claim(problem)
    assert value <= found
    assert stated.prove(problem, Clock(math.inf)) >= value


@pytest.mark.parametrize("seed", range(10))
def test_the_bound_is_the_formula(seed):
    rng = np.random.default_rng(seed)
    problem = problem_of(rng, 8, (2, 4))
    certificate = maximise_blocks(problem.normalised).in_units(problem.units.inverse)
    D = np.diag(certificate.lam)
    first, second = certificate.pairs
    D[first, second] = D[second, first] = certificate.coupling
    w, nu = problem.weight, certificate.nu
    expected = -nu @ np.linalg.solve(problem.gram - D, nu)
    for group, most in problem.budgets:
        block = D[np.ix_(group, group)]
        c = block @ w[group] - nu[group]
        costs = [
            c[list(kept)] @ np.linalg.solve(block[np.ix_(kept, kept)], c[list(kept)])
            for kept in itertools.combinations(range(len(group)), most)
        ]
        expected += w[group] @ block @ w[group] - 2.0 * nu[group] @ w[group] - max(costs)
    assert block_bound(problem, certificate) == pytest.approx(expected, rel=1e-9)
    assert block_bound(problem, certificate) <= expected + 1e-9 * abs(expected)


def test_a_diagonal_proves_what_the_perspective_bound_does():
    problem = problem_of(np.random.default_rng(0), 12, (2, 4))
    dual = maximise_perspective(problem)
    pairs = couplings_of(problem)
    same = BlockCertificate(dual.lam, dual.nu, pairs, np.zeros(len(pairs.first)))
    assert block_bound(problem, same) == pytest.approx(dual_bound(problem, dual), rel=1e-8)


@pytest.mark.parametrize("pattern", [(2, 4), (1, 4), (4, 8)])
def test_blocks_prove_more_than_a_diagonal(pattern):
    ratios = []
    for seed in range(6):
        problem = problem_of(np.random.default_rng(seed), 24, pattern, rows=2).normalised
        blocks = block_bound(problem, maximise_blocks(problem))
        ratios.append(blocks / dual_bound(problem, maximise_perspective(problem)))
    assert min(ratios) > 0.985  # tolerances
    assert np.median(ratios) > 1.1


@pytest.mark.parametrize("seed", range(4))
def test_the_best_is_the_value_of_the_relaxation(seed):
    """Its primal, by a cone solver: (v, vvᵀ) of each group in the hull of what it allows."""
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(seed)
    problem = problem_of(rng, 8, [(2, 4), (1, 4)][seed % 2], rows=2).normalised
    G, w, n = problem.gram, problem.weight, problem.n
    v, lifted = cp.Variable(n), cp.Variable((n, n), symmetric=True)
    constraints = [
        cp.bmat([[np.ones((1, 1)), cp.reshape(v, (1, n), "C")], [cp.reshape(v, (n, 1), "C"), lifted]]) >> 0
    ]
    for group, most in problem.budgets:
        pieces = []
        for kept in itertools.combinations(range(len(group)), most):
            piece = cp.Variable((most + 1, most + 1), symmetric=True)
            place = np.zeros((len(group) + 1, most + 1))
            place[0, 0] = 1.0
            place[1 + np.array(kept), 1 + np.arange(most)] = 1.0
            constraints.append(piece >> 0)
            pieces.append(place @ piece @ place.T)
        whole = sum(pieces)
        constraints += [
            whole[0, 0] == 1.0,
            whole[0, 1:] == v[group],
            lifted[np.ix_(group, group)] == whole[1:, 1:],
        ]
    error = cp.trace(G @ lifted) - 2.0 * (G @ w) @ v + w @ G @ w
    value = cp.Problem(cp.Minimize(error), constraints).solve(solver="CLARABEL")
    found = block_bound(problem, maximise_blocks(problem, tolerance=1e-6))
    assert found == pytest.approx(value, rel=2e-5)


def test_inputs_that_are_dead_or_in_groups_that_lose_nothing():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, 14))
    x[:, [1, 4, 5, 6]] = 0.0  # of the second group one input is left, which keeps two
    problem = pvq.SparseLeastSquares(x.T @ x, rng.standard_normal(14), pattern=(2, 4)).normalised
    truth = least_error(problem)
    found = block_bound(problem, maximise_blocks(problem))
    assert 0.0 < found <= truth * (1.0 + 1e-12)
    assert found > 0.5 * truth


def test_groups_with_a_stride_of_any_size_and_without_a_weight_left():
    rng = np.random.default_rng(6)
    gram = problem_of(rng, 12, (2, 4)).gram
    for rule in (
        Pattern(2, 4, stride=3),
        Groups(np.array([0, 1, 0, 2, 1, 0, 2, 2, 0, 3, 3, 1]), np.array([2, 1, 0, 1])),
    ):
        problem = pvq.SparseLeastSquares(gram, rng.standard_normal(12), nnz=0).under(rule).normalised
        assert takes_blocks(problem)
        truth = least_error(problem)
        found = block_bound(problem, maximise_blocks(problem))
        assert 0.3 * truth < found <= truth * (1.0 + 1e-12)


@pytest.mark.parametrize("exponent", [-300, -40, 40, 300])
def test_units_change_nothing(exponent):
    problem = problem_of(np.random.default_rng(7), 8, (2, 4))
    plain = block_bound(problem, maximise_blocks(problem.normalised).in_units(problem.units.inverse))
    scaled = pvq.SparseLeastSquares(np.ldexp(problem.gram, exponent), problem.weight, pattern=(2, 4))
    found = maximise_blocks(scaled.normalised).in_units(scaled.units.inverse)
    assert math.ldexp(block_bound(scaled, found), -exponent) == pytest.approx(plain, rel=1e-9)


def test_what_does_not_fit_proves_nothing():
    problem = problem_of(np.random.default_rng(8), 8, (2, 4))
    good = maximise_blocks(problem.normalised).in_units(problem.units.inverse)
    first, second = good.pairs
    assert good.fits(problem)
    across = first.copy()
    across[0] = 7  # of the other group
    wrong = [
        replace(good, lam=good.lam[:-1]),
        replace(good, nu=np.full(8, np.nan)),
        replace(good, coupling=good.coupling[:-1]),
        replace(good, coupling=np.full(len(first), np.inf)),
        replace(good, pairs=Couplings(across, second)),
        replace(good, pairs=Couplings(second, first)),
        replace(good, pairs=Couplings(first.astype(np.int64), second)),
        replace(good, pairs=Couplings(first - 8, second)),
        replace(good, pairs=Couplings(np.append(first, first[0]), np.append(second, second[0]))),
        replace(good, pairs=(first, second)),
    ]
    for bad in wrong:
        assert not bad.fits(problem)
        assert block_bound(problem, bad) == -math.inf
    free = pvq.IntegerLeastSquares(problem.gram, problem.weight, 0.1, -8, 7)
    assert not good.fits(free)


def test_indefinite_multipliers_are_shrunk_or_prove_nothing():
    problem = problem_of(np.random.default_rng(9), 8, (2, 4)).normalised
    good = maximise_blocks(problem)
    assert block_bound(problem, good.times(1.0 + 1e-9)) <= least_error(problem)
    assert block_bound(problem, good.times(100.0)) <= 0.0 or block_bound(
        problem, good.times(100.0)
    ) < least_error(problem)
    assert block_bound(problem, replace(good, lam=-good.lam)) == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_codes_under_the_rule_have_no_less_error(seed):
    rng = np.random.default_rng(seed)
    real = problem_of(rng, 8, (2, 4))
    problem = pvq.IntegerLeastSquares(real.gram, real.weight, 0.4, -3, 3, pattern=(2, 4))
    least = pvq.solve(problem, method="exact").error_upper
    certificate = maximise_blocks(problem.normalised).in_units(problem.units.inverse)
    assert certificate.fits(problem)
    assert 0.0 < block_bound(problem, certificate) <= least * (1.0 + 1e-12)
    assert block_bound(problem, certificate) == pytest.approx(block_bound(real, certificate), rel=1e-9)


def test_large_groups_and_one_budget_have_no_blocks():
    rng = np.random.default_rng(10)
    gram, weight = problem_of(rng, 40, (2, 4)).gram, rng.standard_normal(40)
    assert not has_blocks(pvq.SparseLeastSquares(gram, weight, nnz=10))
    assert not has_blocks(pvq.SparseLeastSquares(gram, weight, pattern=(10, 20)))
    assert has_blocks(pvq.SparseLeastSquares(gram, weight, pattern=(4, 8)))
    assert not takes_blocks(pvq.SparseLeastSquares(gram, weight, pattern=(4, 4)))


def test_a_singular_gram_has_none():
    rng = np.random.default_rng(11)
    x = rng.standard_normal((5, 8))
    problem = pvq.SparseLeastSquares(x.T @ x, rng.standard_normal(8), pattern=(2, 4)).normalised
    assert maximise_blocks(problem) is None


def test_solve_says_so_and_files_keep_it(tmp_path):
    problem = problem_of(np.random.default_rng(12), 40, (2, 4), rows=2)
    bounds = pvq.solve(problem, method="relax")
    assert isinstance(bounds.certificate, BlockCertificate)
    assert "blocks" in str(bounds.note)
    plain = pvq.solve(problem, method="relax", relaxation="perspective")
    assert not isinstance(plain.certificate, BlockCertificate)
    assert bounds.error_lower > plain.error_lower
    assert pvq.verify(problem, bounds).holds
    false = replace(bounds, error_lower=1.01 * bounds.error_lower)
    assert not pvq.verify(problem, false).holds


def test_a_step_whose_arithmetic_breaks_down_ends_the_path():
    gram = [
        [0.6440981456833814, 0.11845867835065359, 0.48639545555734964, 0.42386742970450036],
        [0.11845867835065359, 1.3917687133407284, 0.057920567910308966, -0.0006814993308015509],
        [0.48639545555734964, 0.057920567910308966, 1.3703498804495113, 0.2093655319204859],
        [0.42386742970450036, -0.0006814993308015509, 0.2093655319204859, 1.50281750811222],
    ]
    weight = [1.4216846227430395, 1.4956732179240155, 0.03430883063776426, 0.0]
    problem = pvq.SparseLeastSquares(gram, weight, pattern=(3, 4))
    # nothing is lost, and of a bound of 0 no accuracy is relative
    bounds = pvq.solve(problem, method="relax")
    assert 0.0 <= bounds.error_lower <= 1e-12
    assert pvq.verify(problem, bounds).holds
    found = maximise_blocks(problem, tolerance=0.0, max_iterations=1000)
    assert block_bound(problem, found) <= 1e-12


def test_it_is_no_less_than_the_perspective_bound():
    """The best D of an ill-conditioned Gram leaves so little that its proof costs a quarter of the bound."""
    gram = [
        [1.7352599836884293, 1.7446480204074313, 1.789954582469963],
        [1.7446480204074313, 1.754406011760343, 1.800060155631331],
        [1.789954582469963, 1.800060155631331, 1.8469301319047953],
    ]
    weight = [-0.7135924938972312, 0.6700889202803881, 0.6054163887709623]
    problem = pvq.SparseLeastSquares(gram, weight, pattern=(1, 2))
    plain = pvq.solve(problem, method="relax", relaxation="perspective")
    assert pvq.solve(problem, method="relax").error_lower >= (1.0 - 1e-6) * plain.error_lower


def test_a_path_is_begun_only_where_there_is_time_and_memory_for_it():
    rng = np.random.default_rng(13)
    problem = problem_of(rng, 96, (2, 4))
    seconds = {
        pattern: block_seconds(pvq.SparseLeastSquares(problem.gram, problem.weight, pattern=pattern))
        for pattern in [(2, 4), (4, 8), (14, 16)]
    }
    assert seconds[2, 4] < 0.1 < seconds[14, 16] / 100.0
    assert seconds[2, 4] < seconds[4, 8] < seconds[14, 16]
    assert has_blocks(pvq.SparseLeastSquares(problem.gram, problem.weight, pattern=(14, 16)))
    assert not takes_blocks(pvq.SparseLeastSquares(problem.gram, problem.weight, pattern=(14, 16)))
    few = pvq.SparseLeastSquares(problem.gram[:48, :48], problem.weight[:48], pattern=(14, 16))
    assert takes_blocks(few)
    bounds = pvq.solve(few, method="relax", time_limit=2.0)
    assert bounds.seconds < 2.0  # a path takes half a minute
    assert not isinstance(bounds.certificate, BlockCertificate)


def test_inputs_that_are_all_dead_lose_nothing():
    problem = pvq.SparseLeastSquares(np.zeros((8, 8)), np.ones(8), pattern=(2, 4))
    bounds = pvq.solve(problem, method="relax")
    assert bounds.error_lower == 0.0
    assert bounds.status == "optimal"


def test_one_budget_of_many_inputs_is_not_counted_support_by_support():
    rng = np.random.default_rng(15)
    problem = pvq.SparseLeastSquares(np.eye(1200), rng.standard_normal(1200), nnz=600)
    assert pvq.solve(problem, method="relax", time_limit=20.0).relaxation == "perspective"


def test_a_search_that_does_not_end_proves_no_less():
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((500, 128)) @ rng.standard_normal((128, 128)), 0.0)
    problem = pvq.SparseLeastSquares(x.T @ x / 500, rng.standard_normal(128), pattern=(2, 4))
    relaxed = pvq.solve(problem, method="relax")
    assert isinstance(relaxed.certificate, BlockCertificate)
    for method in ("auto", "exact"):
        searched = pvq.solve(problem, method=method, time_limit=4.0)
        assert searched.error_lower >= (1.0 - 1e-3) * relaxed.error_lower
        assert pvq.verify(problem, searched).holds
