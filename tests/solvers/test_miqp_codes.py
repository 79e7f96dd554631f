"""Levels and joint compression by backends with integer programs, against all codes one by one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from test_miqp_backends import accuracy, usable
from truth import every_code, feasible, least_error, random_gram, random_weight, real_valued

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.supports import Groups
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.solvers import available_solvers, backend_of
from pvqbounds.solvers.base import Capability, Options, error_unit
from pvqbounds.solvers.miqp.coded import program_of_codes
from pvqbounds.solvers.miqp.programs import EXACT, MIQPSolution
from pvqbounds.solvers.native.quantization import level_solver
from pvqbounds.solvers.native.quantization.found import Found
from pvqbounds.solving.choice import solver_for_side
from pvqbounds.solving.kinds import LEVELS

SOLVERS = ["gurobi", "scip", "mosek", "cvxpy:SCIP", "cvxpy:GUROBI"]
BOTH = (Capability.EXACT_LEVELS, Capability.EXACT_JOINT)
LOWER = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
NF4 = np.array([*LOWER, 0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.723, 1.0])


def random_lists(rng, n, with_zero):
    lists = []
    for _ in range(n):
        row = np.round(rng.standard_normal(rng.integers(2, 5)), int(rng.integers(1, 6)))
        lists.append(np.unique(np.append(row, 0.0 if with_zero else row[0] + 0.5)))
    return lists


def random_budget(rng, n):
    return [
        {},
        {"nnz": int(rng.integers(0, n + 1))},
        {"pattern": (1, 2)},
        {"pattern": (2, 3)},
        {"pattern": (1, 2), "stride": n if n % 2 else n // 2},
    ][rng.integers(5)]


def random_problem(rng):
    n = int(rng.integers(1, 7))
    gram, weight, budget = random_gram(rng, n), random_weight(rng, n), random_budget(rng, n)
    if rng.random() < 0.5:
        return pvq.CodebookLeastSquares(gram, weight, random_lists(rng, n, bool(budget)), **budget)
    low, high = [(-1, 0), (-2, 1), (0, 3), (-1, 1)][rng.integers(4)]
    scale = 0.1 + np.abs(rng.standard_normal(n)) if rng.random() < 0.5 else 0.5
    return pvq.IntegerLeastSquares(gram, weight, scale, low, high, **(budget or {"nnz": n // 2}))


def check(problem, solver, truth, **options):
    bounds = pvq.solve(problem, solver, "exact", **options)
    slack = backend_of(solver).accuracy * error_unit(truth, problem.signal.upper)
    assert truth - 1e-12 * problem.signal.upper <= bounds.error_upper * (1.0 + 1e-12)
    assert bounds.error_upper <= truth + slack
    assert bounds.error_lower <= truth + 1e-12 * problem.signal.upper or bounds.lower_kind == "reported"
    assert bounds.reported_lower == pytest.approx(truth, rel=0.0, abs=slack)
    assert (bounds.solver, bounds.method) == (solver, "exact")
    assert pvq.verify(problem, bounds)
    return bounds


@pytest.mark.parametrize(("solver", "trials"), list(zip(SOLVERS, [60, 25, 10, 8, 8], strict=True)))
def test_random_problems_against_all_codes(solver, trials):
    usable(solver, Capability.EXACT_JOINT)
    rng = np.random.default_rng(5)
    for _ in range(trials):
        problem = random_problem(rng)
        form = "big-M" if rng.random() < 0.3 else "perspective"
        check(problem, solver, least_error(problem), solver_options={"formulation": form})


@pytest.mark.parametrize("solver", ["gurobi", "scip"])
@pytest.mark.parametrize("kind", ["steps", "levels"])
@pytest.mark.parametrize("factor", [1.0, 1e-7, 1e80])
def test_every_budget_and_any_unit(solver, kind, factor):
    """nnz from none to all, monotone; the same in other units."""
    usable(solver, Capability.EXACT_JOINT)
    gram, weight = real_valued(1, 5)
    gram, weight = gram * factor, weight * factor
    errors = []
    for nnz in range(6):
        if kind == "steps":
            problem = pvq.IntegerLeastSquares(gram, weight, 0.4 * factor, -2, 1, nnz=nnz)
        else:
            levels = factor * np.array([-1.0, -0.2, 0.0, 0.9])
            problem = pvq.CodebookLeastSquares(gram, weight, levels, nnz=nnz)
        bounds = check(problem, solver, least_error(problem))
        assert np.count_nonzero(bounds.weight) <= nnz
        errors.append(bounds.error_upper)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(problem.signal.middle)


@pytest.mark.parametrize("solver", ["gurobi", "scip"])
def test_patterns_along_a_stride_and_groups_of_ones_own(solver):
    usable(solver, Capability.EXACT_JOINT)
    gram, weight = real_valued(2, 6)
    errors = []
    for stride in (1, 2, 3):
        problem = pvq.IntegerLeastSquares(gram, weight, 0.5, -2, 1, pattern=(1, 2), stride=stride)
        errors.append(check(problem, solver, least_error(problem)).error_upper)
    assert len(set(errors)) == 3
    rule = Groups(np.array([0, 0, 1, -1, 1, 1]), np.array([1, 2]))
    problem = LeastSquares(gram, weight, problem.values, rule)
    check(problem, solver, least_error(problem))
    problem = LeastSquares(gram, weight, problem.values)
    check(problem, solver, least_error(problem))


@pytest.mark.parametrize("solver", ["gurobi", "scip"])
def test_lists_without_zero_and_grams_that_are_singular_or_dead(solver):
    usable(solver, Capability.EXACT_LEVELS)
    gram, weight = real_valued(3, 5)
    dead = gram.copy()
    dead[2] = dead[:, 2] = 0.0
    singular, _ = real_valued(3, 5, positions=2)
    apart = np.diag([1e-3, 1.0, 1e3, 0.1, 10.0])
    for matrix in (gram, dead, singular, 0.0 * gram, apart @ gram @ apart):
        for problem in (
            pvq.CodebookLeastSquares(matrix, weight, [-0.7, 0.3, 1.1]),
            pvq.CodebookLeastSquares(matrix, weight, [-0.7, 0.0, 0.3], pattern=(1, 2)),
            pvq.IntegerLeastSquares(matrix, weight, 0.5, 0, 2, nnz=2),
        ):
            bounds = check(problem, solver, least_error(problem))
            assert "proof" not in bounds.note
    with pytest.raises(pvq.InputError, match=r"0 is not among the values of input 0"):
        pvq.CodebookLeastSquares(gram, weight, [-0.7, 0.3, 1.1], nnz=2)


def test_long_lists_by_a_solver_without_a_limit():
    """E4M3: 253 levels an input."""
    usable("scip", Capability.EXACT_LEVELS)
    powers = np.concatenate(
        [2.0**-9 * np.arange(1, 8), np.ldexp(1 + np.arange(8) / 8, np.arange(-6, 9)[:, None]).ravel()]
    )
    levels = np.sort(np.concatenate([-powers[:-1], [0.0], powers[:-1]]))
    gram, weight = real_valued(4, 2)
    problem = pvq.CodebookLeastSquares(gram, weight, levels * np.abs(weight).max() / levels[-1])
    assert len(levels) == 253
    check(problem, "scip", least_error(problem))


def test_sixteen_levels_at_what_gurobis_licence_allows():
    """NF4 of eleven inputs; twelve are refused before any work, in one sentence."""
    backend = usable("gurobi", Capability.EXACT_LEVELS)
    gram, weight = real_valued(5, 12)
    levels = NF4 * np.abs(weight).max()
    problem = pvq.CodebookLeastSquares(gram[:11, :11], weight[:11], levels)
    bounds = pvq.solve(problem, "gurobi", "exact")
    assert bounds.reported_lower == pytest.approx(bounds.error_upper, rel=1e-5)
    assert bounds.error_upper <= problem.start().upper
    if "restricted" not in backend.licence().text:
        pytest.skip("a full licence has no limit")
    large = pvq.CodebookLeastSquares(gram, weight, levels)
    with pytest.raises(
        SolverError, match=r"204 variables.*one-hot.*200.*use --solver native.*GRB_LICENSE"
    ) as caught:
        pvq.solve(large, "gurobi", "exact")
    assert str(caught.value).count(". ") == 0
    # of a layer, whose problems are not there yet, the levels are said by their number
    assert solver_for_side("gurobi", "exact", LEVELS, 11, levels=176) == "gurobi"
    with pytest.raises(SolverError, match="204 variables"):
        solver_for_side("gurobi", "exact", LEVELS, 12, levels=192)


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr(level_solver, "relaxed_codes", lambda *_: pytest.fail("work was begun"))


@pytest.mark.parametrize("n", [66, 67, 100, 101])
def test_joint_problems_too_large_for_the_licence_are_refused_before_any_work(no_work, n):
    backend = usable("gurobi", Capability.EXACT_JOINT)
    if "restricted" not in backend.licence().text:
        pytest.skip("a full licence has no limit")
    problem = pvq.IntegerLeastSquares(np.eye(n), np.ones(n), 0.4, -2, 1, pattern=(2, 4))
    for form, size in (("perspective", 3 * n), ("big-M", 2 * n)):
        options = {"solver_options": {"formulation": form}}
        with pytest.raises(pytest.fail.Exception if size <= 200 else SolverError, match=f"begun|{size} var"):
            pvq.solve(problem, "gurobi", "exact", **options)


@pytest.mark.parametrize("solver", ["scip", "gurobi"])
def test_a_million_levels_are_refused_before_any_work(no_work, solver):
    usable(solver, Capability.EXACT_LEVELS)
    problem = pvq.CodebookLeastSquares(np.eye(40), np.ones(40), np.linspace(-1.0, 1.0, 2**16 - 1))
    with pytest.raises(SolverError, match=r"2621\d\d\d .*native") as caught:
        pvq.solve(problem, solver, "exact")
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize("solver", ["gurobi", "scip"])
def test_a_time_limit_and_another_thread_stop_it(solver):
    usable(solver, Capability.EXACT_JOINT)
    gram, weight = real_valued(0, 40)
    problem = pvq.IntegerLeastSquares(gram, weight, 0.3, -8, 7, nnz=13)
    limit = {"gurobi": "NodeLimit", "scip": "limits/nodes"}[solver]
    for options in ({"time_limit": 1.0}, {"solver_options": {limit: 1}}):
        try:
            bounds = pvq.solve(problem, solver, "exact", **options)
        except pvq.SolverFailedError as error:  # on a slow machine it has not begun in a second
            assert "time limit" in str(error)  # noqa: PT017
            continue
        assert "limit" in bounds.note
        assert bounds.status == "bounded"
        assert bounds.reported_lower <= bounds.error_upper <= problem.start().upper
        assert pvq.verify(problem, bounds)
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    start = time.monotonic()
    try:
        assert pvq.solve(problem, solver, "exact", cancelled=cancelled).status == "bounded"
    except pvq.SolverFailedError:
        assert cancelled.is_set()
    assert time.monotonic() - start < 30.0


@pytest.mark.parametrize("solver", ["gurobi", "scip"])
def test_a_box_of_2_to_the_32_codes(solver):
    """Indicators within the solver's tolerance of 0 must not let codes pass."""
    usable(solver, Capability.EXACT_JOINT)
    gram, weight = real_valued(6, 5)
    best = pvq.solve(pvq.SparseLeastSquares(gram, weight, nnz=2)).error_upper
    for step, form in ((1e-3, "perspective"), (1e-6, "perspective"), (1e-6, "big-M")):
        fine = pvq.IntegerLeastSquares(gram, weight, step, -(2**31), 2**31, nnz=2)
        bounds = pvq.solve(fine, solver, "exact", solver_options={"formulation": form})
        slack = accuracy(solver, fine, bounds) + 1e-6 * best  # the grid's own distance
        assert bounds.error_upper == pytest.approx(best, rel=0.0, abs=slack)
        assert bounds.reported_lower == pytest.approx(best, rel=0.0, abs=slack)
        assert len(bounds.support) <= 2


def test_the_start_is_a_point_of_the_program_and_the_multipliers_are_used(monkeypatch):
    """Planted: what the native relaxation gives is what solvers begin with, and lam stands in the form."""
    gram, weight = real_valued(7, 5)
    for lists in ([-0.9, -0.1, 0.0, 0.6], None):
        for budget in ({"nnz": 2}, {"pattern": (1, 2)}):
            problem = (
                pvq.IntegerLeastSquares(gram, weight, 0.4, -2, 1, **budget)
                if lists is None
                else pvq.CodebookLeastSquares(gram, weight, lists, **budget)
            )
            codes = every_code(problem)[-3]
            lam = 0.9 * np.linalg.eigvalsh(gram)[0] * np.array([1.0, -1.0, 0.5, 1.0, 0.0])
            given = Found(codes, DualCertificate(lam, 0.0 * lam), "")
            monkeypatch.setattr(level_solver, "relaxed_codes", lambda problem, options, given=given: given)
            posed = program_of_codes(problem, "perspective", Options(), Clock(10.0))
            program = posed.program
            assert program.kind == ("perspective" if lists is None else "one-hot")
            assert feasible(program, program.start)
            assert program.codes(program.start).tolist() == codes.tolist()
            error = problem.error(codes).middle
            assert program.objective(program.start) * posed.unit == pytest.approx(error, rel=1e-9)
            if lists is not None:
                power = np.log2(program.upper[:5] / 0.6)
                rest = program.Q * posed.unit * 2.0 ** (power[:, None] + power)
                np.testing.assert_allclose(rest, gram - np.diag(lam), rtol=1e-12, atol=1e-15)


def test_multipliers_that_are_too_large_are_left_out(monkeypatch):
    gram, weight = real_valued(7, 5)
    problem = pvq.CodebookLeastSquares(gram, weight, [-0.9, -0.1, 0.0, 0.6])
    large = DualCertificate(np.full(5, np.trace(gram)), np.zeros(5))
    given = Found(problem.codes_of_nearest(), large, "")
    monkeypatch.setattr(level_solver, "relaxed_codes", lambda problem, options: given)
    posed = program_of_codes(problem, "perspective", Options(), Clock(10.0))
    assert np.linalg.eigvalsh(posed.program.Q)[0] > -1e-12
    assert posed.codes.tolist() == problem.codes_of_nearest().tolist()


def test_a_false_answer_is_not_believed(monkeypatch):
    """Planted: codes that the rule forbids, and a bound above what is known."""
    usable("gurobi", Capability.EXACT_JOINT)
    gram, weight = real_valued(8, 4)
    problem = pvq.CodebookLeastSquares(gram, weight, [-0.9, 0.0, 0.6], nnz=1)
    gurobi = type(backend_of("gurobi"))

    def solve_miqp(self, program, options):
        x = np.zeros(len(program.q))
        x[4::3] = 1.0  # the first level of each input
        return MIQPSolution(x, 1e6, "optimal")

    monkeypatch.setattr(gurobi, "solve_miqp", solve_miqp)
    bounds = pvq.solve(problem, "gurobi", "exact")
    assert len(bounds.support) <= 1
    assert bounds.error_lower <= least_error(problem) <= bounds.error_upper
    assert "its bound is false" in bounds.note


def test_what_each_backend_says_that_it_can_do():
    """Who solves one exact problem with cones solves all four; HiGHS has no quadratic integer programs."""
    for name in ("gurobi", "scip", "mosek"):
        assert backend_of(name).capabilities >= EXACT
        assert Capability.JOINT not in backend_of(name).capabilities
    for name in ("highs", "clarabel", "scs"):
        assert not backend_of(name).capabilities & set(BOTH)
    gram, weight = real_valued(1, 4)
    levels, joint = (
        pvq.CodebookLeastSquares(gram, weight, [-1.0, 0.0, 1.0]),
        pvq.IntegerLeastSquares(gram, weight, 0.4, -2, 1, nnz=2),
    )
    for problem, words in ((levels, "exact quantization to levels"), (joint, "exact joint compression")):
        for name in {"highs", "clarabel", "scs"} & set(available_solvers()):
            with pytest.raises(SolverError, match=f"cannot do '{words}'.*native"):
                pvq.solve(problem, name, "exact")
