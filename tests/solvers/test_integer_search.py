"""The search finds the optimum, honours its limits and proves what it states."""

import dataclasses
import itertools

import numpy as np
import pytest
from truth import correlated_problem, exact_error_of_codes, random_gram, random_integer_problem

import pvqbounds as pvq
from pvqbounds import IntegerLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.solvers.native.quantization import integer_search, integer_solver, integer_tree
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_moderate_problems_are_closed_and_proved(bits):
    problem = correlated_problem(24, bits, seed=bits)
    bounds = pvq.solve(problem)
    assert bounds.status == "optimal"
    assert bounds.method == "exact"
    assert bounds.error_lower <= bounds.error_upper <= bounds.error_lower * (1 + 1e-8)
    # one- and two-code moves from the optimum lose
    for i, j in itertools.combinations(range(problem.n), 2):
        for step_i, step_j in itertools.product((-1, 0, 1), repeat=2):
            codes = bounds.codes.copy()
            codes[i] += step_i
            codes[j] += step_j
            if codes.min() >= problem.qmin and codes.max() <= problem.qmax:
                assert problem.error(codes).upper >= bounds.error_lower


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_far_outside_the_grid(bits):
    problem = correlated_problem(16, bits, seed=bits, outliers=0.1)
    bounds = pvq.solve(problem)
    assert bounds.status == "optimal"
    assert bounds.certificate.nodes < 100_000  # without the box in the tree it is more than 1e9


def test_gurobi_agrees():
    gurobipy = pytest.importorskip("gurobipy")
    problem = correlated_problem(20, 3, seed=11, outliers=0.1)
    parameters = {"OutputFlag": 0, "Threads": 1, "MIPGap": 1e-9}
    with gurobipy.Env(params=parameters) as env, gurobipy.Model(env=env) as model:
        z = model.addMVar(problem.n, lb=problem.qmin, ub=problem.qmax, vtype="I")
        form, centre = problem.gram * problem.scale**2, problem.centre
        model.setObjective(z @ form @ z - 2 * (form @ centre) @ z + centre @ form @ centre)
        model.optimize()
        optimum = model.ObjVal
    bounds = pvq.solve(problem)
    assert bounds.error_upper == pytest.approx(optimum, rel=1e-6)


def test_time_limit_gives_a_valid_interval():
    problem = correlated_problem(110, 4, seed=2, spread=0.0)
    bounds = pvq.solve(problem, method="exact", time_limit=0.3)
    assert bounds.status == "bounded"
    assert 0.0 < bounds.error_lower < bounds.error_upper
    assert bounds.lower_kind == "certified"
    assert pvq.verify(problem, bounds)
    relaxed = pvq.solve(problem, method="relax", relaxation="box-hull")
    assert bounds.error_lower >= 0.999 * relaxed.error_lower


def test_auto_does_not_begin_what_it_cannot_finish():
    problem = correlated_problem(160, 4, seed=2, spread=0.0)
    bounds = pvq.solve(problem, time_limit=5.0)
    assert bounds.method == "relax"
    assert bounds.relaxation == "hybrid"
    assert "raised the bound" in bounds.note
    assert bounds.lower_kind == "certified"


def test_a_raised_bound_is_not_proved():
    problem = correlated_problem(20, 3, seed=1)
    bounds = pvq.solve(problem)
    certificate = bounds.certificate
    assert integer_search.prove(problem, certificate, Clock(60.0))
    raised = dataclasses.replace(certificate, value=bounds.error_upper * 1.000001)
    assert not integer_search.prove(problem, raised, Clock(60.0))
    assert not integer_search.prove(problem, dataclasses.replace(certificate, value=np.nan), Clock(60.0))
    assert not integer_search.prove(problem, dataclasses.replace(certificate, value=np.inf), Clock(60.0))


@pytest.mark.parametrize("seed", range(40))
def test_any_multipliers_search_soundly(seed):
    """A tree at arbitrary multipliers, proved to any value, never passes the optimum."""
    rng = np.random.default_rng(seed)
    problem = random_integer_problem(rng)
    if not problem.gram.any(axis=1).all():
        problem = IntegerLeastSquares(np.eye(3), rng.standard_normal(3), 0.4, -2, 1)
    optimum = pvq.solve(problem)
    diagonal = np.diagonal(problem.gram)
    for size in (1e-6, 0.1, 1.0):
        lam = -size * rng.random(problem.n) * diagonal
        lam += 0.5 * size * rng.random(problem.n) * max(0.0, np.linalg.eigvalsh(problem.gram)[0])
        nu = size * rng.standard_normal(problem.n) * diagonal * problem.scale
        for factor, provable in ((1 + 1e-6, False), (0.5, True)):
            value = factor * optimum.error_upper
            certificate = SearchCertificate(lam, nu, value, 10**6)
            tree = integer_tree.build_tree(problem, lam, nu)
            if tree is None or optimum.error_upper < 1e-9 * optimum.signal:
                continue
            assert integer_search.prove(problem, certificate, Clock(60.0)) == provable


def test_scaling_and_permutation_change_nothing():
    problem = correlated_problem(18, 3, seed=9)
    bounds = pvq.solve(problem)
    order = np.random.default_rng(0).permutation(problem.n)
    permuted = IntegerLeastSquares(
        problem.gram[np.ix_(order, order)], problem.weight[order], problem.scale, problem.qmin, problem.qmax
    )
    assert pvq.solve(permuted).error_upper == pytest.approx(bounds.error_upper, rel=1e-9)
    scaled = IntegerLeastSquares(
        4.0 * problem.gram, 0.5 * problem.weight, 0.5 * problem.scale, problem.qmin, problem.qmax
    )
    assert pvq.solve(scaled).error_upper == pytest.approx(bounds.error_upper, rel=1e-9)
    assert pvq.solve(scaled).sqnr_upper == pytest.approx(bounds.sqnr_upper, abs=1e-6)


def test_singular_gram_is_not_damped():
    rng = np.random.default_rng(6)
    features = rng.standard_normal((5, 12))
    problem = IntegerLeastSquares(features.T @ features / 5, rng.standard_normal(12), 0.7, -2, 1)
    bounds = pvq.solve(problem)
    assert bounds.error_upper == problem.error(bounds.codes).upper
    exact = float(exact_error_of_codes(problem, bounds.codes))
    assert bounds.error_lower <= exact
    assert exact - bounds.error_lower <= 1e-9 * bounds.signal


def test_equal_multiplier_order_of_levels_is_a_permutation():
    gram = random_gram(np.random.default_rng(0), 5) + np.eye(5)
    problem = IntegerLeastSquares(gram, np.ones(5), 1.0, -1, 1)
    tree = integer_tree.build_tree(problem, np.zeros(5), np.zeros(5))
    assert sorted(tree.order.tolist()) == list(range(5))


def test_dead_inputs_are_left_out_and_put_back():
    gram = np.zeros((4, 4))
    gram[1, 1], gram[3, 3] = 2.0, 1.0
    problem = IntegerLeastSquares(gram, np.array([5.0, 0.3, -7.0, 0.8]), 1.0, -2, 1)
    solution = integer_solver.solve_integer(problem, pvq.solvers.base.Options())
    assert solution.codes.tolist() == [1, 0, -2, 1]
    assert solution.certificate.lam.shape == (4,)


def test_costs_that_underflow_in_units_of_the_step_prove_nothing():
    # lam s² is 3e-339 where weights are near 1, and (w/s)² is 1e192
    gram = [[2.242333066605073e-145, -3.9618556351270896e-73], [-3.9618556351270896e-73, 0.7]]
    problem = IntegerLeastSquares(gram, [-1.1367179644669517e96, -2.44982611587199e23], 1.0, -4, 12)
    least = problem.point(np.array([-4, 12])).upper  # 1.1109e47: no bound may be above
    lam, nu = np.array([-1.3913603364709044e-146, -0.16620495662829987]), np.array([1.58e-50, 4.07e22])
    certificate = SearchCertificate(lam, nu, 1.001 * least, 40)
    assert certificate.prove(problem, Clock(5.0)) == 0.0
