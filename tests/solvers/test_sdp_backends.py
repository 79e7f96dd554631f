"""Clarabel and SCS against the project's own method on the quantization SDPs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import SolverError, SolverFailedError
from pvqbounds.problems import CodebookLeastSquares, IntegerLeastSquares, SparseLeastSquares
from pvqbounds.relaxations.box_hull import box_hull, dual_value, park_boyd
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.solvers.base import Backend, Capability, Options, error_unit
from pvqbounds.solvers.cone.clarabel_ import Clarabel
from pvqbounds.solvers.cone.conic import Triangle, conic_dual
from pvqbounds.solvers.cone.scs_ import SCS
from pvqbounds.solvers.native.pruning.perspective_dual import maximise_perspective
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull
from pvqbounds.solvers.native.quantization.codes_dual import relax_finite

BACKENDS = [pytest.param(backend, backend.accuracy, id=backend.name) for backend in (Clarabel(), SCS())]


def problem_of(bits: int, n: int = 10, rank: int | None = None) -> IntegerLeastSquares:
    rng = np.random.default_rng(bits)
    inputs = np.maximum(rng.standard_normal((200, n)) @ rng.standard_normal((n, n)) + 0.5, 0.0)
    if rank is not None:
        inputs = inputs[:rank]
    weight = rng.standard_normal(n)
    scale = 0.8 * np.abs(weight).max() / 2 ** (bits - 1)
    gram = inputs.T @ inputs / len(inputs)
    return IntegerLeastSquares(gram, weight, scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize(("backend", "tolerance"), BACKENDS)
@pytest.mark.parametrize("build", [box_hull, park_boyd])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_agrees_with_the_native_method(backend: Backend, tolerance: float, build, bits: int) -> None:  # type: ignore[no-untyped-def]
    sdp = build(problem_of(bits))
    own, theirs = solve_box_hull(sdp), backend.solve_sdp(sdp, Options())
    assert own.status == "solved"
    assert theirs.value == pytest.approx(own.value, rel=tolerance)
    # the multipliers are the proof: signs and units are right, and nothing is above the optimum
    value = dual_value(sdp, theirs.lam, theirs.nu)
    assert value == pytest.approx(own.value, rel=10 * tolerance)
    assert value <= own.value * (1.0 + 2e-6)
    np.testing.assert_allclose(theirs.mean, own.mean, atol=0.05)
    np.testing.assert_allclose(theirs.covariance, own.covariance, atol=0.05)


@pytest.mark.parametrize(("backend", "tolerance"), BACKENDS)
def test_singular_zero_and_single_code_problems(backend: Backend, tolerance: float) -> None:
    singular = problem_of(2, rank=6)
    zero = IntegerLeastSquares(np.zeros((3, 3)), [0.1, 0.2, 0.3], 1.0, -2, 1)
    one_code = IntegerLeastSquares(singular.gram, singular.weight, 0.5, 1, 1)
    one_input = IntegerLeastSquares([[2.0]], [0.4], 1.0, -2, 1)
    for problem in (singular, zero, one_code, one_input):
        sdp = box_hull(problem)
        own, theirs = solve_box_hull(sdp), backend.solve_sdp(sdp, Options())
        assert theirs.value == pytest.approx(own.value, rel=tolerance, abs=1e-4)
        assert dual_value(sdp, theirs.lam, theirs.nu) <= own.value + 1e-6


@pytest.mark.parametrize(("backend", "tolerance"), BACKENDS)
@pytest.mark.parametrize("budget", [{"nnz": 3}, {"pattern": (2, 4)}, {"nnz": 8}])
@pytest.mark.parametrize("dead", [False, True])
def test_the_pruning_relaxation_agrees_with_the_native_one(
    backend: Backend, tolerance: float, budget: dict[str, Any], dead: bool
) -> None:
    quantization = problem_of(4)
    gram = 1e-5 * quantization.gram
    if dead:
        gram[4] = gram[:, 4] = 0.0
    problem = SparseLeastSquares(gram, quantization.weight, **budget)
    own = dual_bound(problem, maximise_perspective(problem, tolerance=1e-7))
    theirs = backend.relax_sparse(problem, Options())
    assert theirs.bound == pytest.approx(own, rel=10 * tolerance, abs=tolerance * problem.signal.middle)
    value = dual_bound(problem, theirs.certificate)
    assert own - tolerance * error_unit(own, problem.signal.middle) <= value <= own * (1.0 + 1e-6)
    assert problem.checked_support(theirs.support) is not None


@pytest.mark.parametrize(("backend", "tolerance"), BACKENDS)
def test_prunings_without_a_relaxation(backend: Backend, tolerance: float) -> None:
    gram = problem_of(2, rank=6).gram
    for problem in (
        SparseLeastSquares(gram, np.ones(10), nnz=3),
        SparseLeastSquares(gram + np.eye(10), np.ones(10), nnz=10),
        SparseLeastSquares(np.zeros((3, 3)), np.ones(3), nnz=1),
    ):
        solution = backend.relax_sparse(problem, Options())
        assert dual_bound(problem, solution.certificate) <= 0.0
        assert solution.bound is None


@pytest.mark.parametrize(("backend", "tolerance"), BACKENDS)
def test_unknown_options_and_capabilities_are_refused(backend: Backend, tolerance: float) -> None:
    sdp = box_hull(problem_of(2))
    with pytest.raises(SolverError, match="no_such_option"):
        backend.solve_sdp(sdp, Options(extra={"no_such_option": 1}))
    assert backend.capabilities == {Capability.BOX_HULL, Capability.PERSPECTIVE}
    with pytest.raises(SolverError, match="exact quantization"):
        backend.solve_integer(problem_of(2), Options())


@pytest.mark.parametrize(
    ("backend", "extra"), [(Clarabel(), {"max_iter": 3}), (SCS(), {"max_iters": 25})], ids=["clarabel", "scs"]
)
def test_a_solver_stopped_short_still_gives_a_true_bound(backend: Backend, extra: dict[str, int]) -> None:
    sdp = box_hull(problem_of(3))
    optimum = solve_box_hull(sdp).value
    solution = backend.solve_sdp(sdp, Options(extra=extra))
    assert solution.status.lower() != "solved"
    assert dual_value(sdp, solution.lam, solution.nu) <= optimum * (1.0 + 2e-6)


def test_results_that_are_not_numbers_are_refused() -> None:
    data = conic_dual(box_hull(problem_of(2)), Triangle.UPPER)
    with pytest.raises(SolverFailedError, match="no usable multipliers"):
        data.solution(
            np.full(len(data.cost), np.nan), np.zeros(len(data.offset)), "NumericalError", "Clarabel"
        )


def test_triangles_are_stacked_column_by_column() -> None:
    rows, columns = Triangle.UPPER.indices(3)
    assert list(zip(rows, columns, strict=True)) == [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    rows, columns = Triangle.LOWER.indices(3)
    assert list(zip(rows, columns, strict=True)) == [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2)]


@pytest.mark.parametrize(("backend", "tolerance"), BACKENDS)
@pytest.mark.parametrize("count", [4, 16, 40])
def test_levels_are_bounded_like_codes(backend: Backend, tolerance: float, count: int) -> None:
    base = problem_of(4)
    rng = np.random.default_rng(count)
    levels = np.sort(np.append(rng.standard_normal(count - 1), 0.0))
    problem = CodebookLeastSquares(base.gram, base.weight, levels)
    own = relax_finite(problem, Clock(60.0), 1e-6)
    theirs = backend.relax_codes(problem, Options())
    assert theirs.certificate is not None
    bound = dual_bound(problem, theirs.certificate)
    expected = dual_bound(problem, own.certificate)
    assert bound == pytest.approx(expected, rel=10 * tolerance)
    assert bound <= expected * (1.0 + 2e-6)
    assert theirs.codes is not None
    assert problem.point(theirs.codes).upper <= problem.start().upper


@pytest.mark.parametrize(("backend", "tolerance"), BACKENDS)
def test_joint_problems_are_refused_in_a_sentence(backend: Backend, tolerance: float) -> None:
    base = problem_of(4)
    problem = IntegerLeastSquares(base.gram, base.weight, base.scale, -8, 7, nnz=4)
    with pytest.raises(SolverError, match="joint"):
        backend.relax_codes(problem, Options())
    with pytest.raises(SolverError, match="use --solver native"):
        pvq.solve(problem, backend.name, method="relax")
