"""Many channels of one Gram: batches, a shared lam, devices, failures that lose nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from truth import least_integer_error, random_gram, random_weight

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.errors import InputError, SolverFailedError
from pvqbounds.relaxations.box_hull import box_hull, dual_value, park_boyd
from pvqbounds.relaxations.dual import dual_bound
from pvqbounds.relaxations.expected import expected_error, log_mean_pivot
from pvqbounds.solvers.native.linalg import arrays
from pvqbounds.solvers.native.quantization import box_hull_engine
from pvqbounds.solvers.native.quantization.box_hull_dual import solve_box_hull, solve_box_hulls
from pvqbounds.solvers.native.quantization.box_hull_iterates import VALUE_FLOOR
from pvqbounds.solvers.native.quantization.shared import fitted, relax_shared
from pvqbounds.solving import channels


def relu_gram(rng: np.random.Generator, n: int) -> pvq.Gram:
    inputs = np.maximum(rng.standard_normal((6 * n, n)) @ rng.standard_normal((n, n)), 0.0)
    return pvq.Gram(inputs.T @ inputs / len(inputs))


def layer(n: int, count: int, bits: int = 4, seed: int = 0) -> list[pvq.IntegerLeastSquares]:
    rng = np.random.default_rng(seed)
    gram, half = relu_gram(rng, n), 2 ** (bits - 1)
    return [
        pvq.IntegerLeastSquares(gram, rng.standard_normal(n), 2.5 / half, -half, half - 1)
        for _ in range(count)
    ]


# ------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_a_batch_gives_what_each_channel_gives_alone(bits: int) -> None:
    sdps = [box_hull(problem) for problem in layer(12, 5, bits)]
    for sdp, found in zip(sdps, solve_box_hulls(sdps), strict=True):
        alone = solve_box_hull(sdp)
        assert found.status == alone.status == "solved"
        assert found.value == pytest.approx(alone.value, rel=1e-6)
        assert dual_value(sdp, found.lam, found.nu) == pytest.approx(found.value, rel=1e-6)


def test_park_boyd_in_batches_with_an_input_in_the_null_space() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((40, 6))
    inputs[:, 5] = inputs[:, 4]
    gram = pvq.Gram(inputs.T @ inputs / 40)
    sdps = [park_boyd(pvq.IntegerLeastSquares(gram, rng.standard_normal(6), 0.4, -8, 7)) for _ in range(4)]
    for sdp, found in zip(sdps, solve_box_hulls(sdps), strict=True):
        assert found.value == pytest.approx(solve_box_hull(sdp).value, rel=1e-5, abs=1e-9)


def test_channels_that_end_at_different_times_do_not_disturb_one_another() -> None:
    rng = np.random.default_rng(3)
    gram = relu_gram(rng, 10)
    weights = [rng.standard_normal(10) * size for size in (1e-3, 1.0, 50.0)] + [np.zeros(10)]
    problems = [pvq.IntegerLeastSquares(gram, weight, 0.3, -4, 3) for weight in weights]
    together = pvq.solve_channels(problems, method="relax")
    for problem, bounds in zip(problems, together, strict=True):
        alone = pvq.solve(problem, method="relax")
        assert bounds.error_lower == pytest.approx(alone.error_lower, rel=1e-5, abs=1e-12)
        assert pvq.verify(problem, bounds)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", [5, 13])
def test_an_iterate_that_overflows_costs_no_other_channel_and_warns_nobody(seed: int) -> None:
    """A Gram of rank 1 and weights at the ends of their boxes: a batch meets numbers that are not finite."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((1, 11))
    gram = pvq.Gram(features.T @ features)
    problems = []
    for _ in range(30):
        weight = rng.standard_normal(11) * 10.0 ** rng.uniform(-3, 3) * (rng.random(11) < 0.8)
        scale, qmax = 0.3 * 10.0 ** rng.uniform(-3, 3), int(rng.choice([-1, 0, 1]))
        problems.append(pvq.IntegerLeastSquares(gram, weight, scale, -2, qmax))
    together = pvq.solve_channels(problems, method="relax", relaxation="box-hull")
    for problem, bounds in zip(problems, together, strict=True):
        assert pvq.verify(problem, bounds)
        assert "failed" not in bounds.note
        alone = pvq.solve(problem, method="relax", relaxation="box-hull")
        assert bounds.error_lower == pytest.approx(alone.error_lower, rel=1e-4, abs=1e-9 * bounds.signal)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["box-hull", "park-boyd", "shared"]))
def test_bounds_of_batches_hold(seed: int, relaxation: str) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    gram = pvq.Gram(random_gram(rng, n))
    problems = [
        pvq.IntegerLeastSquares(gram, random_weight(rng, n), float(rng.uniform(0.1, 1.0)), -2, 1)
        for _ in range(3)
    ]
    for problem, bounds in zip(
        problems, pvq.solve_channels(problems, method="relax", relaxation=relaxation), strict=True
    ):
        best = float(least_integer_error(problem))
        slack = 1e-12 * max(problem.signal.upper, 1e-300)  # where a stored Gram is not quite definite
        assert bounds.error_lower <= best + slack
        assert best <= bounds.error_upper + slack
        assert bounds.lower_kind == "certified"
        assert pvq.verify(problem, bounds)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def small_memory(sdps, clock, on=arrays.NUMPY, **options):
        sizes.append(len(sdps))
        if len(sdps) > 2:
            raise MemoryError
        return box_hull_engine.solve_sdps(sdps, clock, on, **options)

    monkeypatch.setattr(channels, "solve_sdps", small_memory)
    problems = layer(8, 7)
    found = pvq.solve_channels(problems, method="relax", relaxation="box-hull")
    assert max(sizes) == 7
    assert all(pvq.verify(problem, bounds) for problem, bounds in zip(problems, found, strict=True))


def test_a_channel_that_fails_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = layer(6, 4)
    solve = channels.solve_one

    def faulty(problem, *args, **kwargs):
        if problem is problems[2]:
            raise SolverFailedError("it broke")
        return solve(problem, *args, **kwargs)

    monkeypatch.setattr(channels, "solve_one", faulty)
    for jobs in (1, 2):
        found = pvq.solve_channels(problems, jobs=jobs)
        assert [bounds.status for bounds in found] == ["optimal", "optimal", "bounded", "optimal"]
        assert "it broke" in found[2].note
        assert found[2].error_lower == 0.0
        assert all(pvq.verify(problem, bounds) for problem, bounds in zip(problems, found, strict=True))


def test_every_channel_failing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args, **kwargs):
        raise SolverFailedError("it broke")

    monkeypatch.setattr(channels, "solve_one", broken)
    with pytest.raises(SolverFailedError, match="it broke"):
        pvq.solve_channels(layer(4, 3))


def test_channels_keep_their_order() -> None:
    first, second = layer(5, 2, seed=1), layer(5, 2, seed=2)
    mixed = [first[0], second[0], pvq.SparseLeastSquares(first[0].gram, first[0].weight, nnz=2), first[1]]
    found = pvq.solve_channels(mixed, jobs=2, method="relax")
    for problem, bounds in zip(mixed, found, strict=True):
        assert pvq.verify(problem, bounds)


# -------------------------------------------------------------------------- PyTorch arrays


def test_the_same_engine_on_tensors() -> None:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for build in (box_hull, park_boyd):
            sdps = [build(problem) for problem in layer(9, 3)]
            ours, theirs = solve_box_hulls(sdps), solve_box_hulls(sdps, arrays=arrays.arrays_on("torch"))
            for a, b in zip(ours, theirs, strict=True):
                assert b.value == pytest.approx(a.value, rel=1e-6)
                assert np.allclose(a.mean, b.mean, atol=1e-3)
        problems = layer(9, 3)
        found = pvq.solve_channels(problems, method="relax", device="torch")
        assert all(pvq.verify(problem, bounds) for problem, bounds in zip(problems, found, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="use --device cpu"):
        pvq.solve_channels(layer(4, 2), device="cuda")


def test_a_device_is_for_the_native_solver() -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError, match="native"):
        pvq.solve_channels(layer(4, 2), solver="clarabel", device="torch")


# ------------------------------------------------------------------------------ shared lam


def test_a_shared_lam_is_weaker_and_true() -> None:
    problems = layer(16, 8)
    own = pvq.solve_channels(problems, method="relax", relaxation="box-hull")
    shared = pvq.solve_channels(problems, relaxation="shared")
    for problem, strong, weak in zip(problems, own, shared, strict=True):
        assert 0.0 < weak.error_lower <= strong.error_lower * (1.0 + 1e-5)
        assert weak.lower_kind == "certified"
        assert pvq.verify(problem, weak)
    lams = {relaxed.certificate.lam.tobytes() for relaxed in relax_shared(problems, solve_box_hulls)}
    assert len({np.frombuffer(lam).round(12).tobytes() for lam in lams}) == 1


def test_channels_share_a_lam_whatever_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    problems = [
        pvq.IntegerLeastSquares(p.shared, p.weight, np.repeat(rng.uniform(0.2, 0.5, 4), 4), -8, 7)
        for p in layer(16, 12)
    ]
    own = pvq.solve_channels(problems, method="relax", relaxation="box-hull")
    lams = [relaxed.certificate.lam for relaxed in relax_shared(problems, solve_box_hulls)]
    assert all(np.allclose(lam, lams[0], rtol=1e-9) for lam in lams)
    monkeypatch.setattr(channels, "SHARED_AT_A_TIME", 5)  # several batches
    shared = pvq.solve_channels(problems, relaxation="shared")
    for problem, strong, weak in zip(problems, own, shared, strict=True):
        assert 0.0 < weak.error_lower <= strong.error_lower * (1.0 + 1e-5)
        assert pvq.verify(problem, weak)


@pytest.mark.parametrize("rule", [{"nnz": 3}, {"pattern": (2, 4)}])
def test_channels_that_are_pruned_share_a_diagonal(rule: dict[str, object]) -> None:
    rng = np.random.default_rng(4)
    gram = relu_gram(rng, 12)
    problems = [pvq.SparseLeastSquares(gram, rng.standard_normal(12), **rule) for _ in range(6)]
    exact = pvq.solve_channels(problems, method="exact")
    shared = pvq.solve_channels(problems, relaxation="shared")
    assert len({found.certificate.lam.tobytes() for found in shared}) == 1
    for problem, best, weak in zip(problems, exact, shared, strict=True):
        assert best.status == "optimal"
        assert 0.0 < weak.error_lower <= best.error_upper <= weak.error_upper * (1.0 + 1e-12)
        assert (weak.method, weak.relaxation) == ("relax", "perspective")
        assert pvq.verify(problem, weak)


@pytest.mark.parametrize("options", [{"solver": "scs"}, {"method": "exact"}])
def test_a_shared_lam_is_the_native_relaxation(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="shared"):
        pvq.solve_channels(layer(4, 2), relaxation="shared", **options)


def test_split_inequalities_are_not_lost_on_another_device() -> None:
    pytest.importorskip("torch")
    problems = layer(12, 3)
    found = pvq.solve_channels(problems, method="relax", relaxation="splits", device="torch")
    for problem, bounds in zip(problems, found, strict=True):
        assert bounds.relaxation == "splits"
        assert len(bounds.certificate.splits) > 0
        assert pvq.verify(problem, bounds)


# ------------------------------------------------------------------------ which engine


def test_the_engine_goes_by_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_hull_engine, "BRIEF", 0.0)
    sdp = box_hull(layer(24, 1)[0])
    assert box_hull_engine.solve_sdp(sdp, Clock(60.0)).status == "solved"
    found = box_hull_engine.solve_sdp(sdp, Clock(1e-9))
    assert "relative gap" in found.status
    assert 0.0 < found.value <= solve_box_hull(sdp).value


def test_fitted_nu_is_the_best_for_its_lam() -> None:
    sdp = box_hull(layer(10, 1)[0])
    lam = 0.7 * solve_box_hull(sdp).lam
    _, nu = fitted(sdp, lam, sdp.centre, 400)
    value = dual_value(sdp, lam, nu)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert dual_value(sdp, lam, nu + 1e-3 * rng.standard_normal(10)) <= value + 1e-9


# ------------------------------------------------------------------------------- claims


def test_a_claim_leaves_room_for_other_roundings() -> None:
    for problem in layer(20, 3):
        bounds = pvq.solve(problem, method="relax", relaxation="box-hull")
        assert bounds.error_lower < dual_bound(problem, bounds.certificate)
        assert bounds.error_lower == pytest.approx(dual_bound(problem, bounds.certificate), rel=1e-9)


@pytest.mark.parametrize("side", ["directions", "perspective", "quantization"])
def test_a_claim_is_proved_with_any_number_of_threads(side: str) -> None:
    """An ill-conditioned Gram: what is proved moves by 1e-10 with the order of sums."""
    rng = np.random.default_rng(1)
    n = 160 if side == "quantization" else 384
    X = rng.standard_normal((1000, n)) * np.logspace(0, -4, n)
    X = X @ np.linalg.qr(rng.standard_normal((n, n)))[0]
    gram, weight = X.T @ X / 1000, rng.standard_normal(n)
    if side == "quantization":
        problem = pvq.IntegerLeastSquares(gram, weight, 0.3, -8, 7)
        bounds = pvq.solve(problem, method="relax", relaxation="box-hull")
    else:
        problem = pvq.SparseLeastSquares(gram, weight, pattern=(2, 4))
        bounds = pvq.solve(problem, method="relax", relaxation=side)
        assert (bounds.certificate.kind == "blocks") == (side == "directions")
    assert bounds.error_lower > 0.0
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            assert bounds.certificate.prove(problem, Clock(math.inf)) >= bounds.error_lower
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("kind", ["outlier", "stiff"])
def test_transformer_like_grams_converge(kind: str) -> None:
    """Conditions of 1e6 to 1e9 and outlier inputs a hundred times the median."""
    rng = np.random.default_rng(5)
    n = 48
    inputs = rng.standard_normal((4 * n, n // 2)) @ rng.standard_normal((n // 2, n))
    inputs = inputs + 1e-3 * rng.standard_normal(inputs.shape)  # half the directions are faint
    if kind == "outlier":
        inputs *= np.exp(rng.standard_normal(n))
        inputs[:, rng.choice(n, 2, replace=False)] *= 100.0
    gram = inputs.T @ inputs / len(inputs)
    assert np.linalg.cond(gram) > 1e6
    problem = pvq.IntegerLeastSquares(gram, rng.standard_normal(n), 0.4, -8, 7)
    sdp = box_hull(problem)
    found = solve_box_hull(sdp)
    assert found.status == "solved"
    bounds = pvq.solve(problem, method="relax", relaxation="box-hull")
    # the solver's tolerance, relative to a share of the trace where the value is smaller still
    slack = 2e-6 * max(found.value, VALUE_FLOOR * n) * sdp.unit
    assert bounds.error_lower == pytest.approx(found.value * sdp.unit, rel=0.0, abs=slack)


# ----------------------------------------------------------------------------- expected case


def test_the_expected_error_of_independent_inputs_is_below_the_mean_of_rounding() -> None:
    """For a diagonal Gram the exact mean is s² trace / 12; the ball bound lies below, by 1.53 dB at most."""
    scale = 0.1
    for n in (1, 2, 8, 64):
        mean = n * scale**2 / 12.0
        found = expected_error(n, scale, log_mean_pivot(np.eye(n)))
        assert mean / 1.4233 <= found <= mean * (1.0 + 1e-12)
    assert expected_error(1, scale, 0.0) == pytest.approx(scale**2 / 12.0)


def test_the_expected_error_against_the_exact_mean_on_a_fine_grid() -> None:
    rng = np.random.default_rng(2)
    gram = relu_gram(rng, 6)
    problems = [pvq.IntegerLeastSquares(gram, rng.uniform(-1, 1, 6), 0.02, -128, 127) for _ in range(200)]
    mean = np.mean([pvq.solve(problem, method="exact").error_upper for problem in problems])
    ball = expected_error(6, 0.02, log_mean_pivot(gram.matrix))
    assert ball <= mean <= 1.3 * ball


def test_no_expected_error_where_the_gram_is_singular() -> None:
    assert expected_error(2, 0.1, log_mean_pivot(np.ones((2, 2)))) == 0.0
    assert expected_error(0, 0.1, log_mean_pivot(np.zeros((2, 2)))) == 0.0
