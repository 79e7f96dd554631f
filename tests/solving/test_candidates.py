"""The upper end is no worse than any method of the same table, and than what is simple."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pvqbounds as pvq
import pvqbounds.nn.side_bounds as bounds_module
from pvqbounds.clock import Clock
from pvqbounds.errors import ContradictionError
from pvqbounds.nn import layer_bounds
from pvqbounds.problems import magnitude_support
from pvqbounds.results.bounds import Bounds
from pvqbounds.solvers.native.pruning import layer_pruning
from pvqbounds.solvers.native.pruning.subset_search import good_support
from pvqbounds.solving.candidates import at_least_methods_together, with_candidates
from pvqbounds.solving.layer_budget import solve_layer_budget, solve_together
from pvqbounds.solving.one import weak_bounds
from pvqbounds.solving.verified_files import verify_file
from pvqbounds.storage.results_written import write_layer


def few_positions(n, positions, seed):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal((positions, n)), 0.0) * rng.lognormal(0.0, 1.0, n)
    return x.T @ x / positions, rng.standard_normal(n) * rng.lognormal(0.0, 0.5, n)


@pytest.mark.parametrize("budget", [{"pattern": (2, 4)}, {"pattern": (1, 4)}, {"nnz": 8}, {"nnz": 30}])
@pytest.mark.parametrize(("n", "positions"), [(48, 20), (48, 40), (160, 50), (160, 120)])
def test_supports_of_singular_grams_are_as_good_as_magnitude_pruning(n, positions, budget):
    problem = pvq.SparseLeastSquares(*few_positions(n, positions, seed=n), **budget)
    simple = problem.error(problem.refit(magnitude_support(problem))).upper
    found = problem.refit(problem.checked_support(good_support(problem)))
    assert problem.error(found).upper <= simple
    for method in ("auto", "relax"):
        bounds = pvq.solve(problem, method=method, time_limit=2.0)
        assert bounds.error_upper <= simple
        assert pvq.verify(problem, bounds)


def test_a_better_candidate_takes_the_upper_end():
    problem = pvq.IntegerLeastSquares([[1.0, 0.5], [0.5, 1.0]], [0.12, 0.34], 0.1, -4, 3)
    weak = weak_bounds(problem, "native", "planted")
    poor = with_candidates(problem, weak, [np.array([-4, -4])])
    assert poor is weak
    best = pvq.solve(problem)
    found = with_candidates(problem, weak, [np.array([0, 0]), best.codes])
    assert found.error_upper <= best.error_upper
    assert found.codes.tolist() == best.codes.tolist()
    assert found.weight.tolist() == problem.weight_of(best.codes).tolist()
    assert found.note == "planted"
    assert pvq.verify(problem, found)
    with pytest.raises(pvq.InputError):
        with_candidates(problem, weak, [np.array([9, 9])])


def test_a_pruning_candidate_keeps_its_weights():
    problem = pvq.SparseLeastSquares(np.eye(3) + 0.5, [1.0, 2.0, 3.0], nnz=2)
    poor = pvq.solve(problem)
    refit = problem.refit(np.array([0]))
    poor = Bounds(
        **vars(poor) | {"error_upper": problem.error(refit).upper, "weight": refit, "support": np.array([0])}
    )
    weight = np.array([0.0, 2.2, 3.2])
    found = with_candidates(problem, poor, [weight])
    assert (found.support.tolist(), found.weight.tolist()) == ([1, 2], weight.tolist())
    assert found.error_upper == problem.error(weight).upper
    assert pvq.verify(problem, found)
    with pytest.raises(pvq.InputError):
        with_candidates(problem, poor, [np.ones(3)])


def test_a_candidate_below_a_bound_is_a_contradiction_or_drops_a_stated_one():
    problem = pvq.IntegerLeastSquares([[1.0]], [0.14], 0.1, 0, 3)
    codes, true = np.array([3]), problem.error(np.array([1])).upper
    parts = {
        "error_upper": problem.error(codes).upper,
        "codes": codes,
        "weight": problem.weight_of(codes),
        "error_lower": 2.0 * true,
        "status": "bounded",
        "certificate": None,
    }
    false = Bounds(**vars(pvq.solve(problem)) | parts)
    with pytest.raises(ContradictionError):
        with_candidates(problem, false, [np.array([1])])
    stated = with_candidates(problem, Bounds(**vars(false) | {"lower_kind": "reported"}), [np.array([1])])
    assert (stated.error_lower, stated.error_upper) == (0.0, true)
    assert "dropped" in stated.note


@pytest.mark.parametrize(
    "options", [{"pattern": (2, 4)}, {"density": 0.3}, {"budget": "layer", "density": 0.3}]
)
def test_no_method_of_the_table_is_better_than_the_best_possible(options):
    """A layer with fewer positions than inputs."""
    torch.manual_seed(3)
    layer = nn.Linear(64, 4).double()
    data = torch.relu(torch.randn(24, 64, dtype=torch.float64))
    report = layer_bounds(nn.Sequential(layer), "0", data, bits=3, time_limit=1.0, **options)
    for side in (report.quantization, report.pruning):
        for name in side.methods:
            assert side.error_upper <= side.method_error(name)


def test_methods_are_candidates_whatever_the_solver_found(monkeypatch):
    def poor(problems, *_):
        return [pvq.Bounds(**vars(weak_bounds(p, "poor", "")) | worst(p)) for p in problems]

    def worst(problem):
        if isinstance(problem, pvq.IntegerLeastSquares):
            codes = np.full(problem.n, problem.qmin)
            weight, error = problem.weight_of(codes), problem.error(codes).upper
            return {"codes": codes, "weight": weight, "error_upper": error, "status": "bounded"}
        weight = np.zeros(problem.n)
        error = problem.error(weight).upper
        return {
            "support": np.zeros(0, dtype=np.int64),
            "weight": weight,
            "error_upper": error,
            "status": "bounded",
        }

    monkeypatch.setattr(bounds_module, "solve_all", poor)
    torch.manual_seed(0)
    data = torch.randn(100, 12, dtype=torch.float64)
    report = layer_bounds(nn.Sequential(nn.Linear(12, 3).double()), "0", data)
    for side in (report.quantization, report.pruning):
        best = [min(errors) for errors in zip(*side.method_errors.values(), strict=True)]
        assert [s.bounds.error_upper for s in side.slices] == best
        assert all(pvq.verify(s.problem, s.bounds) for s in side.slices)


@pytest.mark.parametrize("positions", [12, 200])
def test_a_layer_budget_is_as_good_as_the_largest_weights(positions):
    gram, _ = few_positions(24, positions, seed=1)
    weights = np.random.default_rng(2).standard_normal((5, 24)) * [[0.1], [1.0], [3.0], [0.5], [1.0]]
    problems = [pvq.SparseLeastSquares(pvq.Gram(gram), w, nnz=1) for w in weights]
    for nnz in (5, 30, 60):
        plain = layer_pruning.magnitude_supports(problems, nnz)
        assert sum(map(len, plain)) == nnz
        simple = sum(p.error(p.refit(s)).upper for p, s in zip(problems, plain, strict=True))
        _, bounds, _ = solve_layer_budget(problems, nnz, time_limit=1.0)
        assert sum(b.error_upper for b in bounds) <= simple * (1.0 + 1e-12)
    grams = layer_pruning.scaled_grams(problems)
    at_once = layer_pruning.layer_supports(problems, grams, 30, jobs=1, clock=Clock(0.0))
    assert [s.tolist() for s in at_once] == [
        s.tolist() for s in layer_pruning.magnitude_supports(problems, 30)
    ]


def test_a_method_that_spends_the_budget_of_the_layer_better_is_the_best(monkeypatch, tmp_path):
    """The solver's supports are the worst there are; what the file says of them is verified."""

    def poor(*arguments):
        allotted, bounds, error_lower = solve_together(*arguments)
        nothing = [problem.with_nnz(0) for problem in allotted]
        empty = np.zeros(0, dtype=np.int64)
        spoiled = [
            replace(b, weight=np.zeros(p.n), support=empty, error_upper=p.signal.upper, error_lower=0.0)
            for p, b in zip(nothing, bounds, strict=True)
        ]
        return nothing, spoiled, error_lower

    monkeypatch.setattr("pvqbounds.nn.side_bounds.solve_together", poor)
    torch.manual_seed(1)
    layer, data = nn.Linear(12, 4).double(), torch.randn(60, 12, dtype=torch.float64)
    report = layer_bounds(nn.Sequential(layer), "0", data, budget="layer", density=0.3)
    side = report.pruning
    assert side.error_upper == side.method_error("magnitude+refit") < side.method_error("magnitude")
    assert side.error_lower > 0.0
    assert sum(s.problem.nnz for s in side.slices) == side.shared.nnz
    write_layer(report, tmp_path / "layer.json")
    findings = list(verify_file(tmp_path / "layer.json"))
    assert [finding for finding in findings if not finding.holds] == []


def test_a_method_below_the_bound_of_the_layer_is_a_contradiction():
    gram = pvq.Gram(np.eye(3))
    problems = [pvq.SparseLeastSquares(gram, [1.0, 2.0, 3.0], nnz=k) for k in (1, 2)]
    bounds, weights = [pvq.solve(p) for p in problems], [p.refit(np.arange(p.nnz)) for p in problems]
    zeros = [replace(b, error_upper=14.0, weight=np.zeros(3), support=np.zeros(0, np.int64)) for b in bounds]
    with pytest.raises(ContradictionError):
        at_least_methods_together(problems, zeros, 25.0, problems, {"method": weights})
