"""Exact search over levels and under support rules: the optimum, its proofs, and what they refuse."""

import dataclasses
import threading

import numpy as np
import pytest
from truth import (
    correlated_problem,
    exact_error_of_any,
    least_error_of_any,
    random_gram,
    random_weight,
)

import pvqbounds as pvq
from pvqbounds import CodebookLeastSquares, IntegerLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.formats.nf4 import NF4_LEVELS
from pvqbounds.problems.supports import Pattern
from pvqbounds.problems.values import Tabulated
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers.base import Options
from pvqbounds.solvers.native.quantization import level_solver
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.solvers.native.quantization.integer_search import SearchRun, k_best, prove
from pvqbounds.solvers.native.quantization.integer_tree import build_tree
from pvqbounds.solvers.native.quantization.search_trees import minimiser_of, mixed_trees, plain_tree
from pvqbounds.solving.guards import blas_threads


def random_levels(rng):
    """A list of levels with 0: uneven, evenly spaced, one-sided, or with one far outside."""
    family = rng.integers(4)
    if family == 0:
        levels = np.round(2.0 * rng.standard_normal(rng.integers(1, 5)), int(rng.integers(0, 4)))
    elif family == 1:
        levels = float(10.0 ** rng.uniform(-1.0, 0.5)) * np.arange(-rng.integers(0, 3), rng.integers(1, 4))
    elif family == 2:
        levels = np.cumsum(10.0 ** rng.uniform(-3.0, 0.5, rng.integers(1, 4)))
    else:
        levels = np.append(rng.standard_normal(rng.integers(1, 3)), 10.0 ** rng.uniform(2.0, 5.0))
    levels = np.unique(np.append(levels, 0.0))
    return levels if len(levels) > 1 else np.array([0.0, 1.0])


def random_rule(rng, n):
    family = rng.integers(3)
    if family == 0:
        return {}
    if family == 1:
        return {"nnz": int(rng.integers(0, n + 1))}
    size = int(rng.integers(1, 5))
    stride = int(rng.choice([step for step in (1, 2, 3) if n % step == 0]))
    return {"pattern": (int(rng.integers(0, size + 1)), size), "stride": stride}


def random_problem(rng, steps=None):
    """Levels or steps of each input's own, under any rule, over any Gram."""
    n = int(rng.integers(1, 7))
    gram, weight, rule = random_gram(rng, n), random_weight(rng, n), random_rule(rng, n)
    if rng.random() < 0.3 if steps is None else steps:
        scale = 10.0 ** rng.uniform(-1.0, 0.5, n)
        return IntegerLeastSquares(
            gram, weight, scale, [-1, -2][rng.integers(2)], [0, 1][rng.integers(2)], **rule
        )
    return CodebookLeastSquares(gram, weight, [random_levels(rng) for _ in range(n)], **rule)


def small(problem):
    low, high = problem.values.code_ends
    return np.prod(high - low + 1.0) <= 3000


@pytest.mark.parametrize("seed", range(60))
def test_both_ends_hold_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    if not small(problem):
        pytest.skip("too many codes to try them all")
    truth = least_error_of_any(problem)
    for method in ("exact", "auto", "relax"):
        bounds = pvq.solve(problem, method=method)
        assert bounds.lower_kind == "certified"
        assert bounds.error_lower <= max(truth, 0)
        assert truth <= exact_error_of_any(problem, bounds.codes) <= bounds.error_upper
        assert pvq.verify(problem, bounds)
        if method == "exact" and truth > 1e-6 * bounds.signal:
            assert bounds.status == "optimal" or "rounding leaves this gap" in bounds.note


@pytest.mark.parametrize("seed", range(60))
def test_trees_at_any_multipliers_prove_no_more_than_the_truth(seed):
    """A search repeated at arbitrary multipliers never proves a value above the optimum."""
    rng = np.random.default_rng(1000 + seed)
    problem = random_problem(rng)
    live = problem.gram.any(axis=1)
    if not small(problem) or not live.any():
        pytest.skip("nothing to try")
    truth = float(least_error_of_any(problem))
    if truth < 1e-9 * problem.signal.upper:
        return
    diagonal = np.diagonal(problem.gram)
    smallest = max(0.0, np.linalg.eigvalsh(problem.gram)[0])
    for size in (1e-6, 0.1, 1.0, 30.0):
        lam = -size * rng.random(problem.n) * diagonal + 0.9 * rng.random(problem.n) * smallest
        nu = size * rng.standard_normal(problem.n) * diagonal
        for factor, provable in ((1 + 1e-6, False), (0.5, True)):
            certificate = SearchCertificate(lam, nu, factor * truth, 10**6)
            tree = build_tree(problem.among(live), lam[live], nu[live])
            # float64 cannot tell the truth from nothing where a bound starts millions of times below it
            if tree is not None and (not provable or tree.root > -1e6 * truth):
                assert prove(problem, certificate, Clock(60.0)) == provable


@pytest.mark.parametrize("seed", range(30))
def test_a_tree_counts_every_leaf_at_its_error(seed):
    """Root plus partial sum of a leaf is its error within rounding; tolls vanish at leaves."""
    rng = np.random.default_rng(2000 + seed)
    problem = random_problem(rng)
    if not small(problem) or not problem.gram.any(axis=1).all():
        pytest.skip("nothing to try")
    tree = build_tree(problem, -rng.random(problem.n) - 0.1, rng.standard_normal(problem.n))
    if tree is None:
        return
    truth = float(least_error_of_any(problem))
    run = SearchRun(tree, np.inf)
    while not run.advance(1):  # wherever it is stopped, what is open or found bounds the truth
        assert tree.bound_at(min(run.open_threshold, 1e300)) <= max(truth, tree.root)
    error = float(exact_error_of_any(problem, run.codes))
    size = abs(tree.root) + run.best + (0.0 if tree.tolls is None else tree.tolls.root)
    # S is lowered by the margin of its proof, and phi and eps are taken off
    assert tree.root + run.best == pytest.approx(error, abs=1e-6 * size)
    assert error <= truth + 1e-6 * size


def hard_levels(n=18, seed=3, **rule):
    steps = correlated_problem(n, 4, seed)
    largest = np.abs(steps.weight).max()
    return CodebookLeastSquares(steps.gram, steps.weight, largest * NF4_LEVELS, **rule)


@pytest.mark.parametrize("rule", [{}, {"nnz": 9}, {"pattern": (2, 4)}, {"pattern": (2, 4), "stride": 6}])
def test_moderate_problems_are_closed_and_proved(rule):
    problem = hard_levels(**rule)
    bounds = pvq.solve(problem, method="exact")
    assert bounds.status == "optimal"
    assert isinstance(bounds.certificate, SearchCertificate)
    certificate = bounds.certificate
    assert prove(problem, certificate, Clock(60.0))
    for lie in (bounds.error_upper * 1.000001, np.nan, np.inf):
        assert not prove(problem, dataclasses.replace(certificate, value=lie), Clock(60.0))
    # with a looser rule the least error is less, and the certificate does not fit it any more
    free = hard_levels()
    if rule:
        assert pvq.solve(free, method="exact").error_upper < bounds.error_lower
        assert not prove(free, certificate, Clock(60.0))


@pytest.mark.parametrize("rule", [{}, {"nnz": 6}, {"pattern": (2, 4)}])
def test_steps_and_their_levels_are_the_same_problem(rule):
    steps = correlated_problem(12, 3, seed=5)
    levels = CodebookLeastSquares(steps.gram, steps.weight, steps.scale * np.arange(-4, 4), **rule)
    steps = IntegerLeastSquares(steps.gram, steps.weight, steps.scale, -4, 3, **rule)
    one, other = pvq.solve(steps, method="exact"), pvq.solve(levels, method="exact")
    assert one.status == other.status == "optimal"
    assert one.error_upper == pytest.approx(other.error_upper, rel=1e-12)
    assert (one.codes == other.codes - 4).all()


@pytest.mark.parametrize("rule", [{"nnz": 12}, {"pattern": (4, 4)}, {"pattern": (3, 3)}])
def test_a_budget_that_allows_all_is_no_rule(rule):
    steps = correlated_problem(12, 3, seed=6)
    free = pvq.solve(steps, method="exact")
    same = IntegerLeastSquares(steps.gram, steps.weight, steps.scale, -4, 3, **rule)
    assert pvq.solve(same, method="exact").error_upper == free.error_upper


def test_nothing_may_be_kept():
    steps = correlated_problem(9, 3, seed=6)
    problem = IntegerLeastSquares(steps.gram, steps.weight, steps.scale, -4, 3, nnz=0)
    bounds = pvq.solve(problem, method="exact")
    assert bounds.status == "optimal"
    assert not bounds.codes.any()
    assert bounds.error_upper == pytest.approx(bounds.signal, rel=1e-12)


def test_dead_inputs_spend_no_budget():
    steps = correlated_problem(6, 3, seed=8)
    live = np.array([1, 0, 1, 1, 0, 1, 1, 1], dtype=bool)
    gram, weight = np.zeros((8, 8)), np.full(8, 100.0)
    gram[np.ix_(live, live)], weight[live] = steps.gram, steps.weight
    problem = IntegerLeastSquares(gram, weight, steps.scale, -4, 3, pattern=(2, 4))
    bounds = pvq.solve(problem, method="exact")
    assert bounds.status == "optimal"
    assert not bounds.weight[~live].any()
    assert bounds.error_upper >= least_error_of_any(problem.among(live))
    assert bounds.error_lower <= least_error_of_any(problem.among(live)) * (1 + 1e-9)
    assert pvq.verify(problem, bounds)


def test_an_optimum_does_not_depend_on_units_or_order():
    problem = hard_levels(n=14, pattern=(2, 4))
    bounds = pvq.solve(problem, method="exact")
    table = problem.values.table[0]
    large = CodebookLeastSquares(
        2.0**90 * problem.gram, 2.0**-70 * problem.weight, 2.0**-70 * table, pattern=(2, 4)
    )
    assert pvq.solve(large, method="exact").error_upper == pytest.approx(2.0**-50 * bounds.error_upper)
    order = np.random.default_rng(0).permutation(14)
    free, shuffled = hard_levels(n=14, nnz=5), None
    shuffled = CodebookLeastSquares(free.gram[np.ix_(order, order)], free.weight[order], table, nnz=5)
    one, other = pvq.solve(free, method="exact"), pvq.solve(shuffled, method="exact")
    assert one.error_upper == pytest.approx(other.error_upper, rel=1e-12)


def test_thresholds_that_end_are_proofs():
    """Every threshold below which a run finds nothing bounds the optimum; one above it finds it."""
    problem = hard_levels(n=14, pattern=(2, 4))
    bounds = pvq.solve(problem, method="exact")
    optimum, certificate = bounds.error_upper, bounds.certificate
    tree = build_tree(problem, certificate.lam, certificate.nu)
    for share in (0.0, 0.3, 0.6, 0.9, 0.999999):
        threshold = share * (optimum - tree.root)
        run = SearchRun(tree, threshold)
        while not run.advance(100_000):
            assert tree.bound_at(run.open_threshold) <= optimum
        assert run.codes is None
        assert tree.bound_at(run.open_threshold) <= optimum
    run = SearchRun(tree, 1.001 * (optimum - tree.root))
    while not run.advance(100_000):
        pass
    assert problem.error(run.codes).upper == optimum


@pytest.mark.parametrize("cut", [{"time_limit": 1e-3}, {"time_limit": 0.5}])
@pytest.mark.parametrize("rule", [{}, {"nnz": 60}, {"pattern": (2, 4)}])
def test_time_limits_leave_a_proved_interval(rule, cut):
    problem = hard_levels(n=120, **rule)
    for method in ("exact", "auto", "relax"):
        bounds = pvq.solve(problem, method=method, **cut)
        # half a second is enough for the search without a rule where nobody else uses the machine
        assert bounds.status == "bounded" or cut["time_limit"] == 0.5
        assert bounds.lower_kind == "certified"
        assert 0.0 < bounds.error_lower < bounds.error_upper
        assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("rule", [{}, {"pattern": (2, 4)}])
def test_a_cancelled_solve_is_an_interval(rule):
    cancelled = threading.Event()
    cancelled.set()
    problem = hard_levels(n=60, **rule)
    bounds = pvq.solve(problem, method="exact", cancelled=cancelled)
    assert bounds.status == "bounded"
    assert pvq.verify(problem, bounds)


def test_auto_says_when_it_does_not_search_to_the_end():
    bounds = pvq.solve(hard_levels(n=120, pattern=(2, 4)), time_limit=2.0)
    assert bounds.method == "relax"
    assert "not searched to the end" in bounds.note


@pytest.mark.parametrize("relaxation", ["hybrid", "box-hull"])
def test_the_search_raises_the_relaxation(relaxation):
    problem = hard_levels(n=40, pattern=(2, 4))
    bounds = pvq.solve(problem, method="relax", relaxation=relaxation, time_limit=3.0)
    assert bounds.relaxation == relaxation
    assert isinstance(bounds.certificate, SearchCertificate if relaxation == "hybrid" else DualCertificate)
    with blas_threads(1):  # as solve has it: sums of other threads round otherwise
        plain = level_solver.relax_codes(problem.normalised, Options(relaxation="box-hull"))
    assert bounds.error_lower >= plain.certificate.claim(problem.normalised)[1]


# ------------------------------------------------------------------ K-best and nearest plane


def plain_nearest_plane(tree):
    """Babai's nearest plane on a tree's factor, with the cheapest value at each level."""
    codes, offsets = np.zeros(tree.n), np.zeros(tree.n)
    for i in range(tree.n - 1, -1, -1):
        shift = tree.factor[i, i + 1 :] @ offsets[i + 1 :]
        values = tree.grid.table[i]
        u = values - tree.centre[i]
        costs = (tree.factor[i, i] * (values - tree.target[i]) + shift) ** 2 + (
            tree.lam[i] * u + 2 * tree.nu[i]
        ) * u
        codes[i] = costs.argmin()
        offsets[i] = values[int(codes[i])] - tree.target[i]
    inputs = np.zeros(tree.n, dtype=np.int64)
    inputs[tree.order] = codes.astype(np.int64)
    return inputs


@pytest.mark.parametrize("seed", range(5))
def test_width_one_is_nearest_plane(seed):
    problem = hard_levels(n=20, seed=seed)
    tree = plain_tree(problem, minimiser_of(problem)).tree
    np.testing.assert_array_equal(k_best(tree, 1), plain_nearest_plane(tree))


@pytest.mark.parametrize("rule", [{}, {"nnz": 9}, {"nnz": 0}, {"pattern": (2, 4)}, {"pattern": (1, 5)}])
def test_k_best_keeps_to_budgets_and_gains_by_width(rule):
    problem = hard_levels(**rule)
    solution = level_solver.relax_codes(problem, Options(relaxation="box-hull"))
    tree = mixed_trees(problem, solution.certificate, minimiser_of(problem), (0.9,))[0].tree
    errors = [problem.error(problem.checked_codes(k_best(tree, width))).upper for width in (1, 10, 1000)]
    optimum = pvq.solve(problem, method="exact").error_upper
    assert errors[2] <= errors[0]
    assert min(errors) >= optimum * (1 - 1e-12)
    assert errors[2] <= 1.05 * optimum


# ------------------------------------------------------------------ values of one's own


@dataclasses.dataclass(frozen=True, eq=False)
class Squares(Tabulated):
    """Signed squares times a unit."""

    unit: np.ndarray

    @property
    def table(self):
        return self.unit[:, None] * np.array([-4.0, -1.0, 0.0, 1.0, 4.0, 9.0])

    def among(self, inputs):
        return Squares(self.unit[inputs])

    def times(self, power):
        return Squares(np.ldexp(self.unit, power))


@pytest.mark.parametrize("pattern", [None, (1, 2)])
def test_any_table_of_values_is_searched(pattern):
    rng = np.random.default_rng(0)
    gram, weight = random_gram(rng, 5) + np.eye(5), rng.standard_normal(5)
    rule = {} if pattern is None else {"rule": Pattern(*pattern)}
    problem = LeastSquares(gram, weight, Squares(np.array([0.1, 0.2, 0.3, 0.4, 0.5])), **rule)
    bounds = pvq.solve(problem, method="exact")
    assert bounds.status == "optimal"
    assert bounds.error_lower <= least_error_of_any(problem) <= bounds.error_upper
    assert pvq.verify(problem, bounds)
