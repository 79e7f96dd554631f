"""Loops end, and time limits, cancellation and memory are kept to by everything that solves."""

import threading
import time

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.heuristics import local_search
from pvqbounds.heuristics.rounding import gaussian_starts, improve
from pvqbounds.problems import magnitude_support
from pvqbounds.problems.code_grids import in_codes
from pvqbounds.solvers import memory
from pvqbounds.solvers.base import Capability
from pvqbounds.solvers.cone.clarabel_ import Clarabel
from pvqbounds.solvers.cone.scs_ import SCS
from pvqbounds.solvers.native.pruning.subset_search import good_support
from pvqbounds.solvers.native.quantization.search_trees import trees_fit
from pvqbounds.solvers.native.quantization.shared_kernel import envelope_sweeps
from pvqbounds.solvers.stopping import Stop

SLACK = 20.0
"""Seconds after which a time limit was not heard: no measure of speed, on however busy a machine."""


def terms(gram, centre):
    """What a descent reads of a problem over the codes from -8 to 7."""
    problem = pvq.IntegerLeastSquares(gram, centre, 1.0, -8, 7)
    inputs, most = local_search._inputs(in_codes(problem), None)
    return gram, None, inputs, most


def layer_like(n, seed=0):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal((2 * n, n)) @ (np.eye(n) + rng.standard_normal((n, n)) / n**0.5), -0.2)
    return x.T @ x / len(x), 0.05 * rng.standard_normal(n)


def brute_force(problem):
    codes = np.stack(np.meshgrid(*[np.arange(problem.qmin, problem.qmax + 1)] * problem.n), -1)
    return min(problem.error(z).upper for z in codes.reshape(-1, problem.n))


@pytest.mark.parametrize("g", [0.999999, 1.0 - 1e-9, 1.0 - 1e-12, 1.0])
@pytest.mark.parametrize("weight", [(2.5, 1.5), (1.5, 1.5), (0.5, 2.5)])
def test_a_descent_ends_where_codes_tie(g, weight):
    """Of nearly dependent inputs, rounding of the gradient looks like a gain, to and fro."""
    problem = pvq.IntegerLeastSquares([[1.0, g], [g, 1.0]], 0.1 * np.array(weight), 0.1, 0, 3)
    least = brute_force(problem)
    bounds = pvq.solve(problem, time_limit=1.0)
    assert bounds.error_lower <= least
    assert least <= bounds.error_upper <= least + 1e-12
    codes = improve(problem, problem.centre[None])
    assert problem.error(codes).upper <= problem.error(problem.codes_of_nearest()).upper


def test_a_descent_makes_no_more_moves_than_it_may():
    gram, weight = layer_like(40)
    centre = 100.0 * weight
    start = np.full(40, -8.0)
    codes = start.copy()
    _, ended = local_search.descend(*terms(gram, centre), codes, 5)
    assert not ended
    assert 0 < np.count_nonzero(codes != start) <= 5
    before = (codes - centre) @ gram @ (codes - centre)
    error, ended = local_search.descend_by_pairs(*terms(gram, centre), codes, 10_000)
    assert ended
    assert error < before
    assert error == pytest.approx((codes - centre) @ gram @ (codes - centre), rel=1e-9)


def test_a_descent_looks_at_the_clock():
    gram, weight = layer_like(300)
    problem = pvq.IntegerLeastSquares(gram, weight, 0.01, -8, 7)
    starts = np.random.default_rng(0).uniform(-8, 7, (300, 300))
    improve(problem, starts[:1], clock=Clock(10.0))
    started = time.perf_counter()
    codes = improve(problem, starts, clock=Clock(0.0))
    assert time.perf_counter() - started < SLACK
    assert problem.error(codes).upper < problem.error(np.rint(starts[0]).astype(np.int64)).upper


@pytest.mark.parametrize("size", [1.0, 1e8, 1e15, 1e17])
def test_sweeps_of_envelopes_end_at_kinks(size):
    """The minimiser on a kink, where rounding may put it on either side."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = 4
        lam = rng.choice([0.5, 1.0, 3.0, 1e-3], n)
        matrix = np.diag(rng.choice([1.0, 1.0 / 3.0, 0.1], n))
        centre = size + rng.integers(-4, 4, n) * 0.5
        z = np.clip(np.rint(centre), size - 4.0, size + 4.0)
        pull = matrix @ (z - centre)
        envelope_sweeps(matrix, centre, lam, z, pull, size - 4.0 + 0.0 * z, size + 4.0 + 0.0 * z, 3)
        assert ((size - 4.0 <= z) & (z <= size + 4.0)).all()


def test_a_relaxation_that_broke_off_is_no_start():
    mean = np.array([0.5, 1.5])
    for covariance in (np.full((2, 2), np.nan), np.array([[1.0, np.inf], [np.inf, 1.0]])):
        assert gaussian_starts(mean, covariance, 5, 0).tolist() == [mean.tolist()]
    problem = pvq.IntegerLeastSquares(np.eye(2), [0.3, 0.7], 0.1, -8, 7)
    assert improve(problem, np.full((3, 2), np.nan)).tolist() == [3, 7]


RELAXATIONS = (None, "hybrid", "splits", "box-hull", "park-boyd")
QUANTIZATION = [("auto", None), ("exact", None), *(("relax", r) for r in RELAXATIONS)]


@pytest.mark.parametrize(("method", "relaxation"), QUANTIZATION)
def test_native_quantization_keeps_to_its_limit(method, relaxation):
    gram, weight = layer_like(450)
    problem = pvq.IntegerLeastSquares(gram, weight, 0.02, -8, 7)
    pvq.solve(pvq.IntegerLeastSquares(*layer_like(6), 0.02, -8, 7), "native", method, relaxation)
    for limit, cancelled in ((0.05, None), (60.0, threading.Event())):
        if cancelled is not None:
            cancelled.set()
        started = time.perf_counter()
        bounds = pvq.solve(problem, "native", method, relaxation, time_limit=limit, cancelled=cancelled)
        assert time.perf_counter() - started < 0.05 + SLACK
        assert 0.0 < bounds.error_lower < bounds.error_upper
        assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("budget", [{"nnz": 100}, {"pattern": (2, 4)}])
@pytest.mark.parametrize("method", ["auto", "exact", "relax"])
def test_native_pruning_keeps_to_its_limit(method, budget):
    problem = pvq.SparseLeastSquares(*layer_like(600), **budget)
    pvq.solve(pvq.SparseLeastSquares(*layer_like(8), nnz=3), "native", method)
    for limit, cancelled in ((0.05, None), (60.0, threading.Event())):
        if cancelled is not None:
            cancelled.set()
        started = time.perf_counter()
        bounds = pvq.solve(problem, "native", method, time_limit=limit, cancelled=cancelled)
        assert time.perf_counter() - started < 0.05 + SLACK
        assert 0.0 < bounds.error_lower < bounds.error_upper
        assert pvq.verify(problem, bounds)


def test_a_large_tree_is_not_begun_at_the_end_of_the_time():
    assert trees_fit(1000, Clock(60.0))
    assert not trees_fit(1000, Clock(0.01))
    assert trees_fit(36, Clock(0.0))
    assert not trees_fit(1537, Clock(np.inf))


def test_a_refusal_comes_before_any_work():
    pytest.importorskip("gurobipy")
    gram, weight = layer_like(400)
    problem = pvq.IntegerLeastSquares(gram, weight, 0.02, -8, 7)
    pvq.solve(pvq.IntegerLeastSquares(*layer_like(6), 0.02, -8, 7), "gurobi")
    started = time.perf_counter()
    try:
        pvq.solve(problem, "gurobi", time_limit=0.05)
    except pvq.SolverError as error:  # where the licence is the restricted one
        assert "400 variables" in str(error)  # noqa: PT017
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("solver", ["gurobi", "highs"])
def test_the_native_part_of_an_exact_solve_keeps_to_the_limit(solver):
    pytest.importorskip({"gurobi": "gurobipy", "highs": "highspy"}[solver])
    n = 60 if solver == "gurobi" else 150
    problem = pvq.SparseLeastSquares(*layer_like(n), nnz=n // 4)
    pvq.solve(pvq.SparseLeastSquares(*layer_like(6), nnz=2), solver)
    started = time.perf_counter()
    try:
        bounds = pvq.solve(problem, solver, time_limit=0.05)
        assert pvq.verify(problem, bounds)
    except pvq.SolverFailedError as error:
        assert "time limit" in str(error)  # noqa: PT017
    assert time.perf_counter() - started < 0.05 + SLACK


def test_a_solver_that_cannot_begin_in_time_is_refused():
    pytest.importorskip("clarabel")
    problem = pvq.IntegerLeastSquares(*layer_like(110), 0.02, -8, 7)
    started = time.perf_counter()
    with pytest.raises(pvq.SolverError, match=r"clarabel takes about .* the time limit of 1; use --solver"):
        pvq.solve(problem, "clarabel", time_limit=1)
    assert time.perf_counter() - started < SLACK
    assert Clarabel().refusal(36, Capability.BOX_HULL, {}, time_limit=0.3) is None


@pytest.mark.parametrize("backend", [Clarabel(), SCS()])
def test_a_solver_that_does_not_fit_is_refused(backend, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2.0**20)
    refusal = backend.refusal(288, Capability.PERSPECTIVE, {})
    assert isinstance(refusal, pvq.SolverError)
    assert "GiB of memory for 288 inputs" in str(refusal)
    assert "--solver native" in str(refusal)
    monkeypatch.setattr(memory, "available_memory", lambda: 2.0**50)
    assert backend.refusal(288, Capability.PERSPECTIVE, {}) is None


def test_memory_is_the_least_of_all_limits(monkeypatch, tmp_path):
    info, group, groups = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "groups"
    for name, path in (("MEMORY_INFO", info), ("GROUP", group), ("GROUPS", groups)):
        monkeypatch.setattr(memory, name, path)
    monkeypatch.setattr(memory, "_of_process", lambda: np.inf)
    assert memory.available_memory() == np.inf  # nothing tells
    info.write_text("MemTotal: 100 kB\nMemAvailable: 90 kB\n")
    assert memory.available_memory() == 90 * 1024
    group.write_text("0::/jobs/one\n")
    (groups / "jobs" / "one").mkdir(parents=True)
    (groups / "jobs" / "memory.max").write_text("70000\n")
    (groups / "jobs" / "memory.current").write_text("40000\n")
    (groups / "jobs" / "memory.stat").write_text("anon 5\ninactive_file 10000\n")
    (groups / "jobs" / "one" / "memory.max").write_text("max\n")
    (groups / "jobs" / "one" / "memory.current").write_text("40000\n")
    assert memory.available_memory() == 40000  # of the group that holds this one
    group.write_text("4:cpu,memory:/old\n")
    (groups / "memory" / "old").mkdir(parents=True)
    (groups / "memory" / "old" / "memory.limit_in_bytes").write_text("5000\n")
    (groups / "memory" / "old" / "memory.usage_in_bytes").write_text("6000\n")
    assert memory.available_memory() == 0.0


def test_a_step_that_would_end_too_late_is_not_begun():
    stop = Stop(None, Clock(0.25))
    assert not stop()
    time.sleep(0.15)
    assert stop()  # a second step of 0.15 s does not fit
    assert stop.out_of_time


def test_once_time_is_up_magnitude_pruning_is_the_support():
    problem = pvq.SparseLeastSquares(*layer_like(30), nnz=8)
    assert good_support(problem, Clock(0.0)).tolist() == magnitude_support(problem).tolist()


@pytest.mark.parametrize("power", [1e-80, 1e-120, 1e-170, 1e-200, 1e-290, 0.0])
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_inputs_of_next_to_no_power_break_nothing(relaxation, power):
    problem = pvq.IntegerLeastSquares(np.diag([1.0, power]), [0.3, 0.7], 1.0, -2, 1)
    with np.errstate(all="ignore"):
        bounds = pvq.solve(problem, method="relax", relaxation=relaxation)
    assert bounds.error_lower <= brute_force(problem) <= bounds.error_upper * (1.0 + 1e-12)
    assert pvq.verify(problem, bounds)


def test_a_shared_lam_of_a_dead_input_breaks_nothing():
    gram, weight = layer_like(6)
    gram[2] = gram[:, 2] = 0.0
    problems = [pvq.IntegerLeastSquares(pvq.Gram(gram), weight * k, 0.02, -8, 7) for k in (1.0, 2.0)]
    for problem, bounds in zip(problems, pvq.solve_channels(problems, relaxation="shared"), strict=True):
        assert not bounds.note.startswith("native failed")
        assert pvq.verify(problem, bounds)
