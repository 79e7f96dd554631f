"""The MIQP formulations say what the problems say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from truth import allowed_supports, feasible, real_valued

from pvqbounds.clock import Clock
from pvqbounds.errors import InputError
from pvqbounds.problems import IntegerLeastSquares, SparseLeastSquares
from pvqbounds.relaxations.miqp import big_m_program, integer_program, perspective_program, proved_big_m
from pvqbounds.solvers.native.pruning.subset_search import search_sparse

BUDGETS = [{"nnz": 3}, {"nnz": 0}, {"nnz": 9}, {"pattern": (2, 4)}]


def sparse(budget, n=9, seed=0):
    gram, weight = real_valued(seed, n)
    return SparseLeastSquares(gram, weight, **budget)


def test_quantization_program():
    gram, weight = real_valued(1, 5)
    problem = IntegerLeastSquares(gram, weight, 0.3, -2, 1)
    program = integer_program(problem)
    rng = np.random.default_rng(0)
    for _ in range(20):
        z = rng.integers(-2, 2, 5)
        assert feasible(program, z.astype(float))
        assert program.objective(z.astype(float)) == pytest.approx(problem.error(z).middle, rel=1e-9)
        assert program.codes(z + 1e-7).tolist() == z.tolist()
    assert not feasible(program, np.full(5, 2.0))
    assert not feasible(program, np.full(5, 0.5))


@pytest.mark.parametrize("budget", BUDGETS)
def test_pruning_programs_hold_every_refit(budget):
    """Every re-fit within the error is feasible, with its own error; none of another support is."""
    problem = sparse(budget)
    supports = list(allowed_supports(problem))
    weights = [problem.refit(np.array(s, dtype=np.int64)) for s in supports]
    errors = [problem.error(v).upper for v in weights]
    programs = big_m_program(problem), perspective_program(problem)
    worst = big_m_program(problem, max(errors))
    for support, v, error in zip(supports, weights, errors, strict=True):
        k = np.isin(np.arange(9), support).astype(float)
        small, split = np.concatenate([v - problem.weight, k]), np.concatenate([v, k, v * v])
        assert feasible(worst, small)
        assert feasible(programs[1], split)
        assert programs[0].objective(small) == pytest.approx(error, rel=1e-9, abs=1e-12)
        assert programs[1].objective(split) == pytest.approx(error, rel=1e-9, abs=1e-9)
        assert programs[1].support(split).tolist() == support
    if len(supports[0]) < 9:
        v, k = weights[0], np.zeros(9)
        if v.any():
            assert not feasible(worst, np.concatenate([v - problem.weight, k]))
            assert not feasible(programs[1], np.concatenate([v, k, v * v]))
        assert not feasible(programs[1], np.concatenate([v, np.ones(9), v * v]))
        assert not feasible(worst, np.concatenate([0.0 * v, np.ones(9)]))


def test_big_m_is_attained_and_never_exceeded():
    problem = sparse({"nnz": 4})
    error = 0.7
    M = proved_big_m(problem, error)
    inverse = np.linalg.inv(problem.gram)
    for i in range(9):  # the displacement of error 0.7 that moves input i farthest
        u = inverse[i] * np.sqrt(error / inverse[i, i])
        assert u @ problem.gram @ u == pytest.approx(error)
        assert u[i] <= M[i] <= u[i] * (1 + 1e-6)


def test_a_singular_gram_has_no_big_m():
    gram, weight = real_valued(2, 8, positions=4)
    problem = SparseLeastSquares(gram, weight, nnz=3)
    for build in (proved_big_m, big_m_program, perspective_program):
        with pytest.raises(InputError, match="singular"):
            build(problem)
    with pytest.raises(InputError, match="semidefinite"):
        perspective_program(problem, np.full(8, np.trace(gram)))
    with pytest.raises(InputError, match="negative"):
        perspective_program(problem, np.full(8, -1.0))


def gurobi_solution(program):
    gurobipy = pytest.importorskip("gurobipy")
    try:
        environment = gurobipy.Env(params={"OutputFlag": 0})
    except gurobipy.GurobiError as error:
        pytest.skip(f"Gurobi has no licence here ({error})")
    with environment, gurobipy.Model(env=environment) as model:
        model.Params.MIPGap = 1e-9
        model.Params.Threads = 1
        x = model.addMVar(
            len(program.q),
            lb=np.where(np.isinf(program.lower), -gurobipy.GRB.INFINITY, program.lower),
            ub=np.where(np.isinf(program.upper), gurobipy.GRB.INFINITY, program.upper),
            vtype=np.where(program.integer, "I", "C").tolist(),
        )
        first = x[: program.n]
        model.setObjective(first @ program.Q @ first + program.q @ x + program.constant)
        split = program.equations
        if split:
            model.addConstr(program.A[:split] @ x == program.b[:split])
        if len(program.b) > split:
            model.addConstr(program.A[split:] @ x <= program.b[split:])
        for a, b, c in program.cones.tolist():
            model.addConstr(x[a] * x[a] <= x[b] * x[c])
        model.optimize()
        return x.X, model.ObjVal


def test_gurobi_agrees_on_quantization():
    gram, weight = real_valued(3, 5)
    problem = IntegerLeastSquares(gram, weight, 0.4, -2, 1)
    x, value = gurobi_solution(program := integer_program(problem))
    best = min(problem.error(np.array(z)).middle for z in product(range(-2, 2), repeat=5))
    assert value == pytest.approx(best, rel=1e-6)
    assert problem.error(program.codes(x)).middle == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("build", [big_m_program, perspective_program])
@pytest.mark.parametrize("budget", [{"nnz": 5}, {"pattern": (2, 4)}])
def test_gurobi_agrees_with_the_search(build, budget):
    problem = sparse(budget, n=14, seed=4)
    x, _ = gurobi_solution(program := build(problem))
    found = problem.error(problem.refit(problem.checked_support(program.support(x)))).middle
    solution = search_sparse(problem, Clock(60.0))
    best = problem.error(problem.refit(solution.support)).middle
    assert solution.bound <= best <= found * (1 + 1e-9)
    assert found == pytest.approx(best, rel=1e-4)


def test_gurobi_agrees_with_the_search_on_24_inputs():
    gram, weight = real_valued(5, 24)
    problem = SparseLeastSquares(gram, weight, nnz=6)
    x, _ = gurobi_solution(program := perspective_program(problem))
    found = problem.error(problem.refit(problem.checked_support(program.support(x)))).middle
    solution = search_sparse(problem, Clock(60.0))
    assert solution.bound == pytest.approx(found, rel=1e-4)
    assert solution.bound <= found
