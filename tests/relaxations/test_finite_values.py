"""The relaxation of finite values of any kind, under any support rule."""

from __future__ import annotations

import itertools
import threading
from fractions import Fraction

import numpy as np
import pytest
from conic_reference import conic_value
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import exact_error, random_gram, random_weight, real_valued

from pvqbounds import CodebookLeastSquares, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.values import Steps
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective
from pvqbounds.solvers.native.quantization import codes_dual, finite_values
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite
from pvqbounds.solvers.native.quantization.finite_barrier import Multipliers, Newton, Task, point_at
from pvqbounds.solvers.relaxation import Relaxed, relax

FOREVER = 1e6

NF4 = np.array(
    [-1.0, -0.7, -0.53, -0.39, -0.28, -0.18, -0.09, 0.0, 0.08, 0.16, 0.25, 0.34, 0.44, 0.56, 0.72, 1.0]
)

RULES = ["all", "nnz", "pattern"]


def random_problem(seed: int, values: str, rule: str) -> LeastSquares:
    """A small problem, its Gram often singular, ill scaled or with dead inputs."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    gram, weight = random_gram(rng, n), random_weight(rng, n)
    limits: dict[str, object] = {}
    if rule == "nnz":
        limits["nnz"] = int(rng.integers(0, n + 1))
    elif rule == "pattern":
        limits["pattern"] = (int(rng.integers(0, 2)), 2)
    if values == "steps":
        low, high = -rng.integers(0, 4, n), rng.integers(0, 4, n)
        return IntegerLeastSquares(gram, weight, rng.uniform(0.1, 1.0, n), low, high, **limits)  # type: ignore[arg-type]
    levels = [np.unique(np.append(rng.standard_normal(rng.integers(1, 5)), 0.0)) for _ in range(n)]
    if rng.random() < 0.3:  # weights that are levels
        weight = np.array([rng.choice(row) for row in levels])
    return CodebookLeastSquares(gram, weight, levels, **limits)  # type: ignore[arg-type]


def exact_optimum(problem: LeastSquares) -> Fraction:
    """The least error in rational arithmetic, over all codes that the rule allows."""
    ends = zip(*problem.values.code_ends, strict=True)
    least: Fraction | None = None
    for codes in itertools.product(*(range(a, b + 1) for a, b in ends)):
        array = np.array(codes)
        weight = problem.weight_of(array)
        if any(np.count_nonzero(weight[group]) > most for group, most in problem.budgets):
            continue
        if isinstance(problem.values, Steps):
            exact = [Fraction(s) * int(k) for s, k in zip(problem.values.step, codes, strict=True)]
        else:
            exact = [Fraction(v) for v in weight]
        difference = [v - Fraction(w) for v, w in zip(exact, problem.weight, strict=True)]
        error = exact_error(problem.gram, difference)
        least = error if least is None else min(least, error)
    assert least is not None
    return least


def relaxed(problem: LeastSquares, tolerance: float = 1e-6) -> Relaxed:
    return relax_finite(problem, Clock(FOREVER), tolerance)


def layer_like(n: int, seed: int = 0, **limits: object) -> IntegerLeastSquares:
    gram, weight = real_valued(seed, n)
    return IntegerLeastSquares(gram, weight, 0.3, -8, 7, **limits)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    values=st.sampled_from(["steps", "levels"]),
    rule=st.sampled_from(RULES),
    seconds=st.sampled_from([FOREVER, 0.0]),
)
def test_bound_is_below_the_optimum_whenever_the_path_ends(
    seed: int, values: str, rule: str, seconds: float
) -> None:
    problem = random_problem(seed, values, rule).normalised
    found = relax_finite(problem, Clock(seconds))
    bound = dual_bound(problem, found.certificate)
    optimum = exact_optimum(problem)
    assert Fraction(bound) <= max(optimum, 0)
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.covariance).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("values", ["steps", "levels"])
def test_bound_is_the_value_of_the_conic_program(values: str, rule: str) -> None:
    pytest.importorskip("clarabel")
    rng = np.random.default_rng(7)
    for seed in range(12):
        n = int(rng.integers(2, 6))
        gram, weight = real_valued(seed, n)
        limits: dict[str, object] = {"nnz": n // 2} if rule == "nnz" else {}
        if rule == "pattern":
            limits = {"pattern": (1, 2)}
        if values == "steps":
            problem: LeastSquares = IntegerLeastSquares(
                gram,
                weight,
                rng.uniform(0.3, 1.0, n),
                -rng.integers(1, 4, n),
                rng.integers(1, 4, n),
                **limits,
            )  # type: ignore[arg-type]
        else:
            levels = [np.unique(np.append(rng.standard_normal(5), 0.0)) for _ in range(n)]
            problem = CodebookLeastSquares(gram, weight, levels, **limits)  # type: ignore[arg-type]
        found = relaxed(problem)
        assert found.status == "solved"
        expected = conic_value(problem)
        assert dual_bound(problem, found.certificate) == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert found.reported == pytest.approx(expected, rel=1e-5, abs=1e-6)


def small_task() -> Task:
    rng = np.random.default_rng(3)
    n, m = 6, 5
    inputs = rng.standard_normal((20, n))
    return Task(
        form=np.asfortranarray(inputs.T @ inputs / 20),
        pull=rng.standard_normal(n),
        constant=0.7,
        offset=rng.standard_normal((n, m)),
        present=rng.random((n, m)) < 0.8,
        nonzero=(rng.random((n, m)) < 0.7).astype(np.float64),
        group=np.array([0, 0, 1, 1, 2, 1]),
        most=np.array([1.0, 2.0]),
    )


def test_gradient_drift_and_step_are_those_of_the_barrier() -> None:
    task, mu = small_task(), 0.3
    rng = np.random.default_rng(1)
    at = Multipliers(rng.uniform(-2.0, -0.1, 6), rng.standard_normal(6), rng.uniform(0.2, 1.0, 2))
    point = point_at(task, at, mu)
    assert point is not None
    newton = Newton(task, point, mu)

    def barrier(step: Multipliers, length: float) -> float:
        # in the coordinates of a step the second derivatives of S⁻¹ nu are those at the point
        found = point_at(task, at.plus(length, step, point.x), mu)
        assert found is not None
        return found.barrier

    for _ in range(5):
        step = Multipliers(rng.standard_normal(6), rng.standard_normal(6), rng.standard_normal(2))
        h = 1e-5
        slope = (barrier(step, h) - barrier(step, -h)) / (2.0 * h)
        assert slope == pytest.approx(newton.gradient.dot(step), rel=1e-6)
        # right = -H s  <=>  step(right) = s; so sᵀ(-H)s is known once right is
        bend = -(barrier(step, 1e-3) - 2.0 * point.barrier + barrier(step, -1e-3)) / 1e-6
        right = _times_minus_hessian(newton, step)
        assert bend == pytest.approx(right.dot(step), rel=1e-4)
    warmer = point.barrier_at(task, mu + 1e-6)
    again = point_at(task, at, mu + 1e-6)
    assert again is not None
    assert warmer == pytest.approx(again.barrier, rel=1e-13)
    drift = Newton(task, again, mu + 1e-6).gradient.combined(-1.0, newton.gradient)
    for one, two in zip(drift, newton.drift, strict=True):
        np.testing.assert_allclose(one / 1e-6, two, rtol=1e-4, atol=1e-4)


def _times_minus_hessian(newton: Newton, step: Multipliers) -> Multipliers:
    """The vector that `step` is the Newton step of: by solving with each unit vector."""
    parts = [len(part) for part in step]
    size = sum(parts)
    splits = np.cumsum(parts)[:-1]
    columns = [np.concatenate(newton.step(Multipliers(*np.split(unit, splits)))) for unit in np.eye(size)]
    vector = np.linalg.solve(np.array(columns).T, np.concatenate(step))
    return Multipliers(*np.split(vector, splits))


def test_steps_given_as_levels_have_the_bound_of_steps() -> None:
    gram, weight = real_valued(4, 24)
    steps = IntegerLeastSquares(gram, weight, 0.3, -4, 3)
    levels = CodebookLeastSquares(gram, weight, 0.3 * np.arange(-4, 4))
    expected = relax(steps, "box-hull", solve_box_hull)
    bound = dual_bound(steps, expected.certificate)
    for problem in (steps, levels):
        found = relaxed(problem)
        assert dual_bound(problem, found.certificate) == pytest.approx(bound, rel=3e-6)
    np.testing.assert_allclose(found.mean, 0.3 * expected.mean, atol=0.02)
    np.testing.assert_allclose(found.covariance, 0.09 * expected.covariance, atol=0.02)


def test_a_budget_that_removes_nothing_is_no_rule() -> None:
    free = relaxed(layer_like(12))
    budget = relaxed(layer_like(12, nnz=12))
    assert budget.reported == pytest.approx(free.reported, rel=1e-12)


def test_the_bound_falls_as_the_budget_grows() -> None:
    values = [relaxed(layer_like(16, nnz=nnz)).reported for nnz in (0, 2, 4, 8, 12, 16)]
    assert all(more <= fewer * (1.0 + 1e-6) for fewer, more in itertools.pairwise(values))
    nothing = layer_like(16, nnz=0)
    assert values[0] == pytest.approx(nothing.signal.middle, rel=1e-9)
    pattern = relaxed(layer_like(16, pattern=(2, 4))).reported
    assert pattern >= relaxed(layer_like(16, nnz=8)).reported * (1.0 - 1e-6)  # which allows more
    assert pattern >= relaxed(layer_like(16)).reported * (1.0 - 1e-6)


@pytest.mark.parametrize("limits", [{"nnz": 5}, {"pattern": (1, 2)}])
def test_wide_boxes_of_fine_steps_approach_the_perspective_bound(limits: dict[str, object]) -> None:
    gram, weight = real_valued(2, 12)
    free = SparseLeastSquares(gram, weight, **limits)  # type: ignore[arg-type]
    perspective = dual_bound(free, maximise_perspective(free))
    fine = IntegerLeastSquares(gram, weight, 1e-3, -10_000, 10_000, **limits)  # type: ignore[arg-type]
    found = relaxed(fine, 1e-4)
    assert found.reported == pytest.approx(perspective, rel=5e-3)
    assert dual_bound(fine, found.certificate) == pytest.approx(found.reported, rel=1e-6)


@pytest.mark.parametrize("limits", [{}, {"pattern": (2, 4)}])
def test_long_lists_find_the_values_they_need(
    limits: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    gram, weight = real_valued(6, 12)
    levels = np.sort(np.append(rng.standard_normal(600) ** 3, 0.0))
    problem = CodebookLeastSquares(gram, weight, levels, **limits)  # type: ignore[arg-type]
    some = relaxed(problem, 1e-4)
    monkeypatch.setattr(finite_values, "MOST", 1000)
    whole = relaxed(problem, 1e-4)
    assert some.reported == pytest.approx(whole.reported, rel=1e-3)
    assert dual_bound(problem, some.certificate) == pytest.approx(some.reported, rel=1e-6)


def test_inputs_of_one_value_cost_nothing() -> None:
    gram, weight = real_valued(8, 6)
    low, high = np.array([-2, 1, -2, 0, -2, -2]), np.array([1, 1, 1, 0, 1, 1])
    problem = IntegerLeastSquares(gram, weight, 0.5, low, high)
    found = relaxed(problem)
    assert found.reported == pytest.approx(conic_value(problem), rel=1e-5)
    assert dual_bound(problem, found.certificate) == pytest.approx(found.reported, rel=1e-6)
    np.testing.assert_allclose(found.mean[[1, 3]], [0.5, 0.0])
    point = IntegerLeastSquares(gram, weight, 0.5, 1, 1)
    error = point.error(np.ones(6, dtype=np.int64)).middle
    assert dual_bound(point, relaxed(point).certificate) == pytest.approx(error, rel=1e-9)


def test_a_relaxation_worth_nothing_proves_nothing_and_loses_nothing() -> None:
    # two directions of power for five inputs, one of which has one value only
    rng = np.random.default_rng(20922)
    inputs = rng.standard_normal((2, 5))
    low, high = np.array([-3, 0, -2, -2, -3]), np.array([0, 0, 3, 1, 3])
    weight = rng.uniform(low, high)
    problem = IntegerLeastSquares(inputs.T @ inputs, weight, 1.0, low, high)
    found = relaxed(problem)
    assert dual_bound(problem, found.certificate) == pytest.approx(found.reported, abs=1e-6)


@pytest.mark.parametrize("limits", [{}, {"nnz": 3}, {"pattern": (1, 2)}])
def test_dead_inputs_spend_no_budget_and_change_nothing(limits: dict[str, object]) -> None:
    gram, weight = real_valued(9, 6)
    dead = np.zeros((8, 8))
    live = np.array([0, 1, 2, 3, 5, 7])
    dead[np.ix_(live, live)] = gram
    padded = np.full(8, 9.0)
    padded[live] = weight
    without = CodebookLeastSquares(gram, weight, NF4, **({"nnz": 3} if limits else {}))  # type: ignore[arg-type]
    with_dead = CodebookLeastSquares(dead, padded, NF4, **({"nnz": 3} if limits else {}))  # type: ignore[arg-type]
    assert relaxed(with_dead).reported == pytest.approx(relaxed(without).reported, rel=1e-9)
    zero = CodebookLeastSquares(np.zeros((4, 4)), weight[:4], NF4, **limits)  # type: ignore[arg-type]
    assert relaxed(zero).reported == 0.0


@pytest.mark.parametrize("limits", [{}, {"nnz": 4}, {"pattern": (2, 4)}])
def test_the_bound_follows_units_and_order(limits: dict[str, object]) -> None:
    gram, weight = real_valued(11, 8)
    problem = CodebookLeastSquares(gram, weight, 2.0 * NF4, **limits)  # type: ignore[arg-type]
    expected = relaxed(problem).reported
    sizes = 10.0 ** np.linspace(-4.0, 4.0, 8)  # each input in a unit of its own
    scaled = CodebookLeastSquares(
        gram * np.outer(sizes, sizes),
        weight / sizes,
        [2.0 * NF4 / size for size in sizes],
        **limits,  # type: ignore[arg-type]
    )
    assert relaxed(scaled).reported == pytest.approx(expected, rel=1e-5)
    assert dual_bound(scaled, relaxed(scaled).certificate) == pytest.approx(expected, rel=1e-5)


def test_an_early_end_still_proves_something() -> None:
    for limits in ({}, {"nnz": 6}, {"pattern": (2, 4)}):
        problem = layer_like(24, **limits)
        whole = relaxed(problem).reported
        cancelled = threading.Event()
        cancelled.set()
        for clock in (Clock(0.0), Clock(FOREVER, cancelled)):
            found = relax_finite(problem, clock)
            assert 0.0 < dual_bound(problem, found.certificate) <= whole
            assert "stopped" in found.status


def test_first_order_steps_stand_in_where_time_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = CodebookLeastSquares(*real_valued(12, 24), 2.0 * NF4)
    whole = relaxed(problem).reported
    monkeypatch.setattr(codes_dual, "PATH", 1e30)
    found = relaxed(problem)
    assert "first-order" in found.status
    assert 0.8 * whole < dual_bound(problem, found.certificate) <= whole * (1.0 + 1e-6)
    np.testing.assert_allclose(np.clip(found.mean, -2.0, 2.0), found.mean, atol=0.2)


def test_a_wrong_price_of_non_zeros_loses_the_bound() -> None:
    """What the budgets' prices are for: multipliers of the problem without its rule prove less."""
    problem = layer_like(16, pattern=(2, 4))
    without = relaxed(layer_like(16))
    right = dual_bound(problem, relaxed(problem).certificate)
    assert dual_bound(problem, without.certificate) < 0.8 * right


def test_weights_far_from_all_values_have_a_bound():
    levels = [-0.01593087232759075, -0.0012957296303657776, 0.0, 0.0010369877346561752, 0.0010369877346580614]
    problem = CodebookLeastSquares([[2.0]], [470891558.7392475], levels)
    relaxed = relax_finite(problem, Clock(5.0))
    upper = problem.start().upper
    assert 0.9 * upper <= dual_bound(problem, relaxed.certificate) <= upper
