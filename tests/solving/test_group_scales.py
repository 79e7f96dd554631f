"""Steps and boxes of their own for each input: groups and zero points, against brute force and P = DGD."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from truth import exact_error, random_gram, random_weight

import pvqbounds as pvq
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.splits import Splits
from pvqbounds.solving.channels import solve_channels

COUNTS = [150, pytest.param(10_000, marks=pytest.mark.long)]

WAYS = [
    {},
    {"method": "exact"},
    {"method": "relax", "relaxation": "box-hull"},
    {"method": "relax", "relaxation": "park-boyd"},
    {"method": "relax", "relaxation": "splits"},
    {"method": "relax", "relaxation": "hybrid"},
]


def random_problem(rng):
    n = int(rng.integers(1, 5))
    scale = 10.0 ** rng.uniform(-1.5, 0.5, n)
    if rng.random() < 0.3:
        scale[:] = scale[rng.integers(n)]
    qmin = rng.integers(-3, 2, n)
    qmax = qmin + rng.integers(0, 4, n)
    return pvq.IntegerLeastSquares(random_gram(rng, n), random_weight(rng, n), scale, qmin, qmax)


def least_error(problem):
    """The minimum over all codes, in rational arithmetic."""
    step = [Fraction(s) for s in problem.step.tolist()]
    w = [Fraction(x) for x in problem.weight.tolist()]
    boxes = [range(int(a), int(b) + 1) for a, b in zip(problem.low, problem.high, strict=True)]
    return min(
        exact_error(problem.gram, [s * k - x for s, k, x in zip(step, codes, w, strict=True)])
        for codes in itertools.product(*boxes)
    )


@pytest.mark.parametrize("count", COUNTS)
def test_both_ends_hold(count):
    rng = np.random.default_rng(21)
    closed = []
    for number in range(count):
        problem = random_problem(rng)
        truth = max(least_error(problem), Fraction(0))
        way = WAYS[number % len(WAYS)]
        bounds = pvq.solve(problem, **way)
        assert bounds.lower_kind == "certified"
        assert Fraction(bounds.error_lower) <= truth <= Fraction(bounds.error_upper)
        assert (bounds.codes >= problem.low).all()
        assert (bounds.codes <= problem.high).all()
        assert np.array_equal(bounds.weight, problem.step * bounds.codes)
        outcome = pvq.verify(problem, bounds)
        assert outcome, outcome.reason
        if way in ({}, {"method": "exact"}):
            closed.append(bounds.status == "optimal")
    assert np.mean(closed) > 0.99


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.long)])
def test_any_multipliers_prove_true_bounds(count):
    rng = np.random.default_rng(22)
    for _ in range(count):
        problem = random_problem(rng)
        n, m = problem.n, int(rng.integers(0, 4))
        truth = max(least_error(problem), Fraction(0))
        size = float(np.trace(problem.gram)) / n
        index = np.array([np.resize(rng.permutation(n), 3) for _ in range(m)], np.int32).reshape(m, 3)
        sign = rng.integers(-1, 2, (m, 3)).astype(np.int8)
        low = rng.integers(-4, 4, m)
        splits = Splits.of_codes(index, sign, low, 0.3 * size * rng.random(m))
        lam, nu = 0.3 * size * rng.standard_normal((2, n))
        value = dual_bound(problem, DualCertificate(lam, nu * problem.step, splits))
        assert value <= truth


def test_one_step_for_all_is_the_same_problem():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 24))
    gram, weight = pvq.Gram(X.T @ X / 60), rng.standard_normal(24)
    plain = pvq.IntegerLeastSquares(gram, weight, 0.3, -4, 3)
    spelled = pvq.IntegerLeastSquares(gram, weight, np.full(24, 0.3), np.full(24, -4), np.full(24, 3))
    for way in WAYS:
        one, other = pvq.solve(plain, **way), pvq.solve(spelled, **way)
        assert one.error_lower == pytest.approx(other.error_lower, rel=1e-9)
        assert one.error_upper == pytest.approx(other.error_upper, rel=1e-12)


@pytest.mark.parametrize("bits", [2, 4])
def test_groups_are_the_problem_on_dgd(bits):
    """With D = diag(s) the error is that of unit steps on DGD: nothing else is new."""
    rng = np.random.default_rng(bits)
    n, half = 48, 2 ** (bits - 1)
    X = np.maximum(rng.standard_normal((4 * n, n)) @ rng.standard_normal((n, n)), 0.0)
    gram, weight = X.T @ X / len(X), rng.standard_normal(n)
    scale = np.repeat(2.0 ** rng.integers(-3, 2, 4), 12) / half  # powers of two: DGD is exact
    groups = pvq.IntegerLeastSquares(gram, weight, scale, -half, half - 1)
    plain = pvq.IntegerLeastSquares(gram * np.outer(scale, scale), weight / scale, 1.0, -half, half - 1)
    for way in WAYS:
        one, other = pvq.solve(groups, **way), pvq.solve(plain, **way)
        assert one.error_lower == pytest.approx(other.error_lower, rel=1e-7)
        assert one.error_upper == pytest.approx(other.error_upper, rel=1e-12)
        assert pvq.verify(groups, one)


def test_zero_points_move_the_box():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((20, 4))
    zero = np.array([0, 3, 7, 15])
    problem = pvq.IntegerLeastSquares(X.T @ X / 20, rng.standard_normal(4), 0.2, -zero, 15 - zero)
    bounds = pvq.solve(problem)
    stored = bounds.codes + zero
    assert ((stored >= 0) & (stored <= 15)).all()
    assert bounds.status == "optimal"


def test_channels_of_one_gram_with_steps_of_their_own():
    rng = np.random.default_rng(6)
    X = rng.standard_normal((80, 20))
    gram = pvq.Gram(X.T @ X / 80)
    problems = [
        pvq.IntegerLeastSquares(gram, rng.standard_normal(20), rng.uniform(0.1, 0.5, 20), -4, 3)
        for _ in range(4)
    ]
    problems += [pvq.IntegerLeastSquares(gram, rng.standard_normal(20), 0.3, -4, 3) for _ in range(2)]
    for relaxation in (None, "box-hull", "shared", "splits"):
        found = solve_channels(problems, method="relax", relaxation=relaxation, jobs=2)
        for problem, bounds in zip(problems, found, strict=True):
            assert 0.0 < bounds.error_lower <= bounds.error_upper
            assert pvq.verify(problem, bounds)


def test_other_solvers_take_steps_of_their_own():
    rng = np.random.default_rng(7)
    X = rng.standard_normal((40, 8))
    problem = pvq.IntegerLeastSquares(
        X.T @ X / 40,
        rng.standard_normal(8),
        rng.uniform(0.2, 0.6, 8),
        rng.integers(-3, 0, 8),
        rng.integers(0, 4, 8),
    )
    truth = pvq.solve(problem)
    assert truth.status == "optimal"
    solvers = {"gurobi": "exact", "clarabel": "relax", "scs": "relax"}
    for solver, method in ((name, solvers[name]) for name in solvers.keys() & pvq.available_solvers()):
        bounds = pvq.solve(problem, solver, method)
        assert bounds.error_lower <= truth.error_upper * (1.0 + 1e-9)
        assert bounds.error_upper >= truth.error_lower
        if method == "exact":
            assert bounds.error_upper == pytest.approx(truth.error_upper, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": [0.1, 0.2]}, "one scale for each of the 3 inputs, not 2"),
        ({"scale": [0.1, 0.0, 0.2]}, "scale of input 1 must be positive"),
        ({"scale": [[0.1, 0.2, 0.3]]}, "axes"),
        ({"qmin": [-1, 0]}, "one qmin for each"),
        ({"qmin": [-1, 0.5, 0]}, "whole number"),
        ({"qmin": [0, 5, 0]}, "qmin = 5 is larger than qmax = 3 at input 1"),
    ],
)
def test_wrong_arrays_are_one_sentence(changes, message):
    arguments = {"gram": np.eye(3), "weight": [1.0, 2.0, 3.0], "scale": 0.1, "qmin": -4, "qmax": 3}
    with pytest.raises(pvq.InputError, match=message):
        pvq.IntegerLeastSquares(**{**arguments, **changes})


def test_formats_of_groups_bound_a_layer_and_lie_in_files(tmp_path):
    """From names to problems, tables, files and their proofs."""
    from pvqbounds.solving.verified_files import verify_file
    from pvqbounds.storage.results_read import read_record
    from pvqbounds.storage.results_written import write_layer

    digits = pvq.nn.load_model("digits")
    names = ["int4", "int4:g12", "int3:g12:asym", "q8_0"]
    report = pvq.nn.layer_bounds(digits, "block2.0", formats=names, out_channels=2, time_limit=5.0)
    assert [side.format for side in report.sides] == names
    uniform, groups, asymmetric, eight = report.sides
    assert groups.bits_per_weight == pytest.approx(4 + 16 / 12)
    assert not groups.slices[0].problem.is_uniform
    assert asymmetric.slices[0].problem.qmin.min() < 0
    assert eight.sqnr_interval[0] > groups.sqnr_interval[1] > uniform.sqnr_interval[0]
    weight = pvq.nn.find_layer(digits.module, "block2.0").weight
    decoded = pvq.formats.parse("int4:g12").round_to_nearest(weight)
    for number, result in enumerate(groups.slices):  # plain rounding is one of the allowed choices
        difference = decoded[number] - weight[number]
        error = float(difference @ result.problem.gram @ difference)
        assert result.bounds.error_lower <= error * (1.0 + 1e-9)
        assert error == pytest.approx(groups.method_errors["rtn"][number], rel=1e-9)
    assert "int4:g12" in str(report)
    path = tmp_path / "r.json"
    write_layer(report, path)
    assert [fault for fault in verify_file(path) if not fault.holds] == []
    again = read_record(path).result.sides[1].slices[0].problem
    assert np.array_equal(again.step, groups.slices[0].problem.step)


def test_problem_files_hold_steps_of_their_own(tmp_path):
    from pvqbounds.storage.problem_files import load_problem, write_npz

    problem = pvq.IntegerLeastSquares(np.eye(3), [0.1, 0.2, 0.3], [0.1, 0.2, 0.05], [-1, 0, -4], 3)
    write_npz(problem, tmp_path / "p.npz")
    again = load_problem(tmp_path / "p.npz")
    for name in ("step", "low", "high", "weight"):
        assert np.array_equal(getattr(again, name), getattr(problem, name))


@pytest.mark.parametrize("apart", [1e-7, 1e-8, 1e-10, 1e-30, 1e-60])
@pytest.mark.parametrize("of", ["steps", "features"])
def test_reaches_far_apart(apart, of):
    """Inputs that change next to nothing take no bound from the others; hybrid is as strong as its parts."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        size = np.array([1.0, 1.0, 1.0, apart, apart])
        features = rng.standard_normal((30, 5)) * (size if of == "features" else 1.0)
        scale = 0.4 * (size if of == "steps" else np.ones(5))
        weight = rng.standard_normal(5)
        problem = pvq.IntegerLeastSquares(features.T @ features / 30, weight, scale, -2, 1)
        truth = least_error(problem)
        lower = {}
        for way in WAYS:
            bounds = pvq.solve(problem, **way)
            assert Fraction(bounds.error_lower) <= truth <= Fraction(bounds.error_upper)
            assert pvq.verify(problem, bounds)
            lower[way.get("relaxation", way.get("method"))] = bounds.error_lower
        exact = float(truth) * (1 - 1e-6)
        assert min(lower.pop("exact"), lower.pop(None)) >= exact
        assert min(lower["box-hull"], lower["splits"]) >= 0.8 * exact
        assert lower["hybrid"] >= (1 - 1e-6) * max(lower.values())
