"""The hybrid bound holds, is never weaker than the SDP's, and its proof cannot be talked up."""

import dataclasses

import numpy as np
import pytest
from truth import correlated_problem, exact_error_of_codes, least_integer_error, random_integer_problem

import pvqbounds as pvq
from pvqbounds import IntegerLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.methods.nearest_plane import NearestPlane
from pvqbounds.problems.grids import mse_scale
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.solvers.native.quantization import integer_codes, search_trees
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.solvers.native.quantization.hybrid import hybrid_bound
from pvqbounds.solvers.native.quantization.integer_search import prove
from pvqbounds.solvers.native.quantization.rising_search import RisingSearch
from pvqbounds.solvers.relaxation import relax


def hybrid_of(problem, nodes):
    relaxed = relax(problem, "box-hull", solve_box_hull)
    return relaxed, hybrid_bound(problem, relaxed, nodes, Clock(60.0), 0)


@pytest.mark.parametrize("seed", range(60))
def test_below_the_brute_force_optimum_at_any_budget(seed):
    problem = random_integer_problem(np.random.default_rng(seed))
    optimum = least_integer_error(problem)
    for nodes in (1, 7, 50, 10**5):
        relaxed, found = hybrid_of(problem, nodes)
        assert exact_error_of_codes(problem, found.codes) >= optimum
        sdp = dual_bound(problem, relaxed.certificate)
        if isinstance(found.certificate, SearchCertificate):
            assert found.relaxation == "hybrid"
            assert max(sdp, 0.0) < found.certificate.value <= optimum
            assert prove(problem, found.certificate, Clock(60.0))
        else:
            assert found.relaxation == "box-hull"
            assert dual_bound(problem, found.certificate) == sdp


@pytest.mark.parametrize("nodes", [3e3, 1e4, 1e5, 1e6])
def test_what_the_search_proved_and_no_more(nodes):
    """Whatever depth a budget reaches, its value is proved again, and one above the optimum is not."""
    problem = correlated_problem(48, 3, seed=3)
    relaxed, found = hybrid_of(problem, nodes)
    exact = pvq.solve(problem, method="exact")
    assert exact.status == "optimal"
    assert dual_bound(problem, relaxed.certificate) < found.certificate.value
    assert found.certificate.value <= exact.error_lower * (1 + 1e-9)
    assert prove(problem, found.certificate, Clock(60.0))
    too_high = dataclasses.replace(found.certificate, value=1.000001 * exact.error_upper)
    assert not prove(problem, too_high, Clock(60.0))


def test_a_planted_value_fails_its_verification():
    problem = correlated_problem(30, 3, seed=5)
    bounds = pvq.solve(problem, method="relax")
    assert bounds.relaxation == "hybrid"
    assert pvq.verify(problem, bounds)
    for factor in (1 + 1e-6, 1.01, 1.5):
        value = factor * bounds.error_upper
        planted = dataclasses.replace(
            bounds,
            error_lower=bounds.error_upper,
            certificate=dataclasses.replace(bounds.certificate, value=value),
        )
        assert not pvq.verify(problem, planted)


def test_more_nodes_prove_more():
    problem = correlated_problem(110, 4, seed=2, spread=0.0)
    values = [hybrid_of(problem, nodes)[1].certificate.value for nodes in (2e4, 2e5, 2e6)]
    assert values[0] < values[1] < values[2]


def test_the_default_budget_gives_the_same_bound_in_each_run():
    problem = correlated_problem(110, 4, seed=2, spread=0.0)
    first, second = (pvq.solve(problem, method="relax", time_limit=20.0) for _ in range(2))
    assert first.certificate.value == second.certificate.value
    plain = pvq.solve(problem, method="relax", relaxation="box-hull")
    assert plain.relaxation == "box-hull"
    assert isinstance(plain.certificate, DualCertificate)
    assert plain.error_lower < first.error_lower


def test_hybrid_takes_another_solvers_multipliers():
    pytest.importorskip("clarabel")
    problem = correlated_problem(40, 3, seed=8)
    bounds = pvq.solve(problem, "clarabel", "relax", "hybrid")
    assert (bounds.solver, bounds.relaxation, bounds.lower_kind) == ("clarabel", "hybrid", "certified")
    assert pvq.verify(problem, bounds)
    assert pvq.solve(problem, "clarabel", "relax").relaxation == "box-hull"


@pytest.mark.parametrize("size", [1e3, 1e-3])
@pytest.mark.parametrize("codes", [(-8, 7), (3, 3), (0, 1)])
@pytest.mark.parametrize("n", [1, 12])
def test_hostile_input(n, codes, size):
    rng = np.random.default_rng(n)
    features = rng.standard_normal((max(1, n // 2), n))  # singular
    if n > 1:
        features[:, 3] = 0.0  # dead
    problem = IntegerLeastSquares(features.T @ features, size * rng.standard_normal(n), 0.5, *codes)
    for relaxation in (None, "hybrid"):
        bounds = pvq.solve(problem, method="relax", relaxation=relaxation, time_limit=2.0)
        exact = float(exact_error_of_codes(problem, bounds.codes))
        assert 0.0 <= bounds.error_lower <= bounds.error_upper
        assert exact <= bounds.error_upper * (1 + 1e-12)
        assert pvq.verify(problem, bounds)


def test_multipliers_at_the_boundary_lose_nothing():
    """S that is not definite by rounding gets its tree from a lam a few roundings lower."""
    problem = correlated_problem(20, 3, seed=1)
    relaxed = relax(problem, "box-hull", solve_box_hull)
    smallest = np.linalg.eigvalsh(problem.gram - np.diag(relaxed.certificate.lam))[0]
    beyond = DualCertificate(relaxed.certificate.lam + 1.01 * smallest, relaxed.certificate.nu)
    minimiser = search_trees.minimiser_of(problem)
    (tree,) = search_trees.mixed_trees(problem, beyond, minimiser, (1.0,))
    assert tree.tree.root >= 0.95 * dual_bound(problem, relaxed.certificate)
    nonsense = DualCertificate(np.full(20, np.nan), relaxed.certificate.nu)
    assert search_trees.mixed_trees(problem, nonsense, minimiser, (0.9,)) == []


def test_a_rising_search_that_ends_has_the_optimum():
    problem = correlated_problem(24, 3, seed=4)
    minimiser = search_trees.minimiser_of(problem)
    plain = search_trees.plain_tree(problem, minimiser)
    start = problem.codes_of_nearest()
    search = RisingSearch(plain.tree, problem.error(start).upper)
    search.advance(np.inf, Clock(60.0))
    assert search.exhausted
    optimum = pvq.solve(problem, method="exact").error_upper
    assert problem.error(search.outcome.codes).upper == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("singular", [False, True])
def test_nearest_plane_is_gptq(singular):
    """Against GPTQ's own loop: round one input, move the others by the conditional least squares."""
    rng = np.random.default_rng(2)
    features = rng.standard_normal((9 if singular else 40, 12))
    gram = pvq.problems.Gram(features.T @ features / len(features))
    problems = [IntegerLeastSquares(gram, rng.standard_normal(12), 0.4, -4, 3) for _ in range(3)]
    for problem, codes in zip(problems, NearestPlane().propose(problems), strict=True):
        assert problem.checked_codes(codes).tolist() == codes.tolist()
        if singular:
            continue
        weight = problem.weight.copy()
        wanted = []
        for i in range(12):
            wanted.append(int(np.rint(np.clip(weight[i] / 0.4, -4, 3))))
            inverse = np.linalg.inv(problem.gram[i:, i:])
            weight[i:] -= (weight[i] - 0.4 * wanted[i]) / inverse[0, 0] * inverse[0]
        assert codes.tolist() == wanted


@pytest.mark.parametrize("n", [30, 450])
def test_codes_are_better_than_their_starts(n):
    rng = np.random.default_rng(n)
    features = np.maximum(rng.standard_normal((2 * n, n)) @ rng.standard_normal((n, n)) / n, 0.0)
    gram = features.T @ features / len(features)
    problem = IntegerLeastSquares(gram, rng.standard_normal(n), 0.5, -4, 3)
    zero = np.zeros(n)
    relaxed = dataclasses.replace(
        relax(correlated_problem(2, 3, 0), "box-hull", solve_box_hull),
        certificate=DualCertificate(zero, zero),
        mean=problem.centre,
        covariance=np.eye(n),
    )
    codes = integer_codes.best_known_codes(problem, relaxed, 0)
    error = problem.error(problem.checked_codes(codes)).upper
    (plane,) = NearestPlane().propose([problem])
    assert error <= problem.error(plane).upper
    for i in range(n):  # 1-opt
        for step in (-1, 1):
            moved = codes.copy()
            moved[i] += step
            if problem.qmin <= moved[i] <= problem.qmax:
                assert problem.error(moved).upper >= error * (1 - 1e-9)


@pytest.mark.parametrize("method", ["auto", "relax", "exact"])
@pytest.mark.parametrize("power", [1e-6, 1e-8, 1e-12])
def test_inputs_of_hardly_any_power_leave_no_bound_below_the_box_hull_one(method, power):
    """Where the SDP leaves next to no gap, neither a path that ends early nor a search may lose it."""
    for seed in (0, 1, 3):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((400, 20))
        x[:, :10] *= power**0.5
        weight = rng.standard_normal(20)
        problem = pvq.IntegerLeastSquares(x.T @ x / 400, weight, mse_scale(weight, -8, 7), -8, 7)
        bounds = pvq.solve(problem, method=method, time_limit=1.0)
        alone = pvq.solve(problem, method="relax", relaxation="box-hull")
        assert bounds.error_lower >= alone.error_lower * (1 - 1e-3)
        assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("method", ["auto", "relax", "exact"])
def test_powers_of_eighteen_decades_are_solved_by_the_box_hull(method):
    rng = np.random.default_rng(27)
    for spread in (3, 0, 0, 5):
        x = rng.standard_normal((200, 12)) * 10.0 ** rng.uniform(-spread, spread, 12)
        weight = rng.standard_normal(12)
    problem = pvq.IntegerLeastSquares(x.T @ x / 200, weight * 1e-8, 0.4e-8, -8, 7)
    bounds = pvq.solve(problem, method=method, time_limit=5.0)
    assert bounds.status == "optimal"
    assert pvq.verify(problem, bounds)
