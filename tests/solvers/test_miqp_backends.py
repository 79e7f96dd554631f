"""Backends with integer programs: the right optimum, in the right units, and honest failures."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from truth import real_valued

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.solvers import backend_named
from pvqbounds.solvers.base import Capability, Options, error_unit
from pvqbounds.solvers.miqp.presolve import presolve_pruning
from pvqbounds.solvers.miqp.programs import MIQPSolution
from pvqbounds.solvers.miqp.pruning import tight_perspective_program
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective
from pvqbounds.solvers.native.pruning.subset_search import good_support


def usable(name, needs):
    try:
        return backend_named(name, needs)
    except SolverError as error:
        pytest.skip(str(error))


def accuracy(solver, problem, truth):
    """What the backend says that its answers are good to, in units of the error."""
    return backend_named(solver, *Capability).accuracy * error_unit(truth.error_upper, problem.signal.middle)


EXACT_QUANTIZATION = ["gurobi", "scip"]
EXACT_PRUNING = ["gurobi", "highs", "scip"]


def integer(n=8, bits=2, seed=0, factor=1.0):
    gram, weight = real_valued(seed, n)
    scale = 1.6 * np.abs(weight).max() / 2**bits
    return pvq.IntegerLeastSquares(
        gram * factor, weight / factor, scale / factor, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    )


@pytest.mark.parametrize("solver", EXACT_QUANTIZATION)
@pytest.mark.parametrize("factor", [1.0, 2e-7, 3e5])
@pytest.mark.parametrize("bits", [2, 4])
def test_quantization_agrees_with_the_search(solver, bits, factor):
    usable(solver, Capability.EXACT_QUANTIZATION)
    problem = integer(bits=bits, factor=factor)
    truth, bounds = pvq.solve(problem, method="exact"), pvq.solve(problem, solver, "exact")
    slack = accuracy(solver, problem, truth)
    assert bounds.error_upper == pytest.approx(truth.error_upper, rel=0.0, abs=slack)
    assert bounds.reported_lower == pytest.approx(truth.error_upper, rel=0.0, abs=slack)
    assert bounds.error_lower <= truth.error_upper
    assert (bounds.solver, bounds.method, bounds.lower_kind) == (solver, "exact", "certified")
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("solver", EXACT_PRUNING)
@pytest.mark.parametrize("budget", [{"nnz": 3}, {"pattern": (2, 4)}, {"nnz": 0}, {"nnz": 10}])
@pytest.mark.parametrize("factor", [1.0, 1e-7])
def test_pruning_agrees_with_the_search(solver, budget, factor):
    usable(solver, Capability.EXACT_PRUNING)
    gram, weight = real_valued(1, 10)
    problem = pvq.SparseLeastSquares(gram * factor, weight * factor, **budget)
    truth, bounds = pvq.solve(problem, method="exact"), pvq.solve(problem, solver, "exact")
    slack = accuracy(solver, problem, truth)
    assert bounds.error_upper == pytest.approx(truth.error_upper, rel=0.0, abs=slack)
    assert bounds.reported_lower == pytest.approx(truth.error_upper, rel=0.0, abs=slack)
    assert bounds.error_lower <= truth.error_upper
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("solver", ["gurobi", "scip"])
def test_the_formulation_of_pruning_can_be_chosen(solver):
    usable(solver, Capability.EXACT_PRUNING)
    gram, weight = real_valued(1, 10)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=3)
    best = pvq.solve(problem).error_upper
    bounds = pvq.solve(problem, solver, "exact", solver_options={"formulation": "big-M"})
    assert bounds.error_upper == pytest.approx(best, rel=1e-4)
    with pytest.raises(SolverError, match="perspective or big-M"):
        pvq.solve(problem, solver, "exact", solver_options={"formulation": "indicator"})


@pytest.mark.parametrize("solver", EXACT_PRUNING)
def test_singular_and_dead_inputs(solver):
    usable(solver, Capability.EXACT_PRUNING)
    gram, weight = real_valued(2, 8, positions=4)
    with pytest.raises(SolverError, match=r"singular.*native"):
        pvq.solve(pvq.SparseLeastSquares(gram, weight, nnz=3), solver, "exact")
    gram, weight = real_valued(2, 8)
    gram = gram.copy()
    gram[3] = gram[:, 3] = 0.0
    problem = pvq.SparseLeastSquares(gram, weight, nnz=3)
    bounds = pvq.solve(problem, solver, "exact")
    assert bounds.error_upper == pytest.approx(pvq.solve(problem).error_upper, rel=1e-4)


@pytest.mark.parametrize("solver", EXACT_QUANTIZATION)
def test_options_and_a_time_limit(solver):
    usable(solver, Capability.EXACT_QUANTIZATION)
    with pytest.raises(SolverError, match="no_such_option"):
        pvq.solve(integer(4), solver, "exact", solver_options={"no_such_option": 1})
    problem = integer(60, bits=4)
    bounds = pvq.solve(problem, solver, "exact", time_limit=1.0)
    assert "limit" in bounds.note
    assert bounds.lower_kind == "certified"
    assert bounds.status == "bounded"
    assert bounds.reported_lower <= bounds.error_upper
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("solver", EXACT_QUANTIZATION)
def test_cancelled_by_another_thread(solver):
    usable(solver, Capability.EXACT_QUANTIZATION)
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    start = time.monotonic()
    bounds = pvq.solve(integer(60, bits=4), solver, "exact", time_limit=60.0, cancelled=cancelled)
    assert time.monotonic() - start < 30.0
    assert bounds.status == "bounded"


@pytest.mark.parametrize("solver", ["gurobi", "highs"])
@pytest.mark.parametrize("budget", [{"nnz": 3}, {"pattern": (2, 4)}, {"nnz": 9}])
@pytest.mark.parametrize("dead", [False, True])
def test_the_pruning_relaxation_agrees_with_the_native_one(solver, budget, dead):
    usable(solver, Capability.PERSPECTIVE)
    gram, weight = real_valued(1, 12)
    gram = 1e-5 * gram
    if dead:
        gram[4] = gram[:, 4] = 0.0
    problem = pvq.SparseLeastSquares(gram, weight, **budget)
    own = dual_bound(problem, maximise_perspective(problem, tolerance=1e-7))
    bounds = pvq.solve(problem, solver, "relax")
    slack = accuracy(solver, problem, bounds)
    assert (bounds.method, bounds.lower_kind, bounds.relaxation) == ("relax", "certified", "perspective")
    # its own multipliers prove it: no more than the optimum of the relaxation, and hardly less
    native = dual_bound(problem, maximise_perspective(problem))
    assert native - slack <= bounds.error_lower <= own * (1.0 + 1e-6)
    assert not np.array_equal(bounds.certificate.nu, maximise_perspective(problem).nu)
    assert bounds.reported_lower == pytest.approx(own, rel=2e-3)
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("solver", ["gurobi", "highs"])
def test_prunings_without_a_relaxation(solver):
    usable(solver, Capability.PERSPECTIVE)
    gram, _ = real_valued(1, 8, positions=4)
    for problem in (
        pvq.SparseLeastSquares(gram, np.ones(8), nnz=3),
        pvq.SparseLeastSquares(gram + np.eye(8), np.ones(8), nnz=8),
    ):
        bounds = pvq.solve(problem, solver, "relax")
        assert (bounds.error_lower, bounds.lower_kind) == (0.0, "certified")
        assert bounds.reported_lower is None
    with pytest.raises(pvq.SolverFailedError, match="time limit"):
        pvq.solve(
            pvq.SparseLeastSquares(gram + np.eye(8), np.ones(8), nnz=3), solver, "relax", time_limit=1e-9
        )


@pytest.mark.parametrize("solver", EXACT_PRUNING)
def test_solvers_begin_with_a_good_support(solver):
    """Stopped at once, each still has weights as good as those of the native heuristics."""
    usable(solver, Capability.EXACT_PRUNING)
    gram, weight = real_valued(1, 40)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=10)
    bounds = pvq.solve(problem, solver, "exact", time_limit=1.0)
    start = problem.error(problem.refit(good_support(problem))).upper
    assert bounds.error_upper <= start * (1.0 + 1e-9)


def test_a_layer_too_large_for_the_licence_is_refused_before_any_work(monkeypatch):
    pytest.importorskip("torch")
    backend = usable("gurobi", Capability.EXACT_PRUNING)
    if "restricted" not in backend.licence().text:
        pytest.skip("a full licence has no limit")
    from pvqbounds import nn
    from pvqbounds.nn import layer_inputs

    monkeypatch.setattr(layer_inputs, "gram_of_layer", lambda *_, **__: pytest.fail("work was begun"))
    model = nn.load_model("digits")
    with pytest.raises(SolverError, match=r"216 variables.*perspective.*200"):
        nn.layer_bounds(model, "block3.0", solver="gurobi")
    with pytest.raises(pytest.fail.Exception):  # 144 variables
        nn.layer_bounds(model, "block3.0", solver="gurobi", solver_options={"formulation": "big-M"})


def test_gurobis_size_limit_is_one_sentence():
    backend = usable("gurobi", Capability.EXACT_PRUNING)
    if "restricted" not in backend.licence().text:
        pytest.skip("a full licence has no limit")
    gram, weight = real_valued(5, 72)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=18)
    with pytest.raises(SolverError, match=r"216 variables.*200.*use --solver native.*GRB_LICENSE_FILE"):
        pvq.solve(problem, "gurobi", "exact")


def test_gurobi_without_its_licence_file(monkeypatch):
    pytest.importorskip("gurobipy")
    monkeypatch.setenv("GRB_LICENSE_FILE", "/no/such/file")
    with pytest.raises(SolverError, match=r"no licence.*/no/such/file.*GRB_LICENSE_FILE.*native"):
        pvq.solve(integer(4), "gurobi", "exact")
    monkeypatch.undo()
    assert backend_named("gurobi", Capability.EXACT_PRUNING).licence().valid


def test_units_of_a_presolved_pruning_are_exact():
    gram, weight = real_valued(1, 9)
    problem = pvq.SparseLeastSquares(gram * 3e-9, weight * 1e4, nnz=4)
    presolved = presolve_pruning(problem)
    scaled = presolved.problem
    v = problem.refit(np.arange(4))
    error = scaled.error(v / (problem.weight[5] / scaled.weight[5]))
    assert error.middle * presolved.unit == problem.error(v).middle
    assert 0.2 < np.mean(np.diagonal(scaled.gram)) < 2.0
    assert 0.2 < np.sqrt(np.mean(scaled.weight**2)) < 3.0


def test_the_tight_diagonal_closes_the_root_further():
    """Continuous relaxations: k free in [0, 1]; by Gurobi where it is there."""
    usable("gurobi", Capability.EXACT_PRUNING)
    from dataclasses import replace

    from pvqbounds.relaxations.miqp import perspective_program

    gram, weight = real_valued(1, 16)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=5)
    backend = backend_named("gurobi", Capability.EXACT_PRUNING)
    values = []
    presolved = presolve_pruning(problem)
    for program in (perspective_program(presolved.problem), tight_perspective_program(presolved)):
        relaxed = replace(program, integer=np.zeros_like(program.integer))
        values.append(program.objective(backend.solve_miqp(relaxed, Options()).x))
    assert values[0] < 0.9 * values[1]
    assert values[1] * presolved.unit <= pvq.solve(problem).error_upper * (1 + 1e-6)


def test_answers_that_are_not_numbers_are_missing(monkeypatch):
    from pvqbounds.solvers.miqp.gurobi_ import Gurobi

    nothing = MIQPSolution(np.full(8, np.nan), np.nan, "numeric trouble")
    monkeypatch.setattr(Gurobi, "solve_miqp", lambda self, program, options: nothing)
    monkeypatch.setattr(Gurobi, "available", lambda self: True)
    monkeypatch.setattr(Gurobi, "licence", lambda self: pvq.solvers.Licence(True, ""))
    with pytest.raises(pvq.SolverFailedError, match="numeric trouble"):
        pvq.solve(integer(8), "gurobi", "exact")


def test_highs_stops_at_its_time_limit_with_a_bound():
    usable("highs", Capability.EXACT_PRUNING)
    gram, weight = real_valued(1, 36)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=9)
    bounds = pvq.solve(problem, "highs", "exact", time_limit=2.0)
    assert bounds.seconds < 10.0
    assert "limit" in bounds.note
    assert 0.0 < bounds.reported_lower <= bounds.error_upper
    assert pvq.verify(problem, bounds)


def test_highs_refuses_what_it_cannot_do():
    usable("highs", Capability.EXACT_PRUNING)
    with pytest.raises(SolverError, match=r"cannot do 'exact quantization'.*native"):
        pvq.solve(integer(4), "highs", "exact")
    gram, weight = real_valued(1, 6)
    problem = pvq.SparseLeastSquares(gram, weight, nnz=2)
    with pytest.raises(SolverError, match="no_such_option"):
        pvq.solve(problem, "highs", "exact", solver_options={"no_such_option": 1})


def test_highs_is_interrupted_once_time_is_up_whatever_it_makes_of_its_own_limit():
    usable("highs", Capability.EXACT_PRUNING)
    from pvqbounds.solvers.miqp.highs_ import _OuterApproximation

    gram, weight = real_valued(3, 12)
    presolved = presolve_pruning(pvq.SparseLeastSquares(gram, weight, nnz=3), Clock(10.0))

    class Event:
        interrupted = False

        def interrupt(self):
            self.interrupted = True

    for limit, stopped in ((1000.0, False), (0.0, True)):
        clock, event = Clock(limit), Event()
        search = _OuterApproximation(presolved, Options(time_limit=1000.0), clock, 1e-4, links=True)
        search._look(event)
        assert event.interrupted == stopped
