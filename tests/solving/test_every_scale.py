"""Every scale: intervals hold against all codes and all scales, and are proved again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.relaxations.blocks import BlockCertificate
from pvqbounds.relaxations.cases import CasesCertificate
from pvqbounds.relaxations.scales import ScalesCertificate
from pvqbounds.results.layer import SliceResult
from pvqbounds.solvers.base import ExactSolution, Options
from pvqbounds.solvers.kept import KeptBound, Stated
from pvqbounds.solvers.native.backend import Native
from pvqbounds.solvers.native.directions import refined
from pvqbounds.solvers.native.pruning.block_dual import block_path
from pvqbounds.solving import scale_cover
from pvqbounds.solving.every_scale import SINGULAR, at_least_kept, nothing_of
from pvqbounds.solving.one import solver_at_scales
from pvqbounds.storage.results_read import read_record
from pvqbounds.storage.results_written import write_problem
from tests.truth import least_error_at_any_scale, random_any_scale_problem


def _holds(seed: int, proved: bool) -> bool:
    """Check one random problem; whether its interval was closed."""
    problem = random_any_scale_problem(np.random.default_rng(seed))
    bounds, truth = pvq.solve(problem, time_limit=10.0), least_error_at_any_scale(problem)
    slack = 1e-12 * problem.signal.upper
    assert bounds.error_lower <= truth + slack, seed
    assert bounds.error_upper >= truth - slack, seed
    assert bounds.error_upper == max(0.0, problem.error(bounds.codes).upper)
    assert not proved or pvq.verify(problem, bounds), seed
    return bounds.status == "optimal"


def test_intervals_hold_against_all_codes_and_scales() -> None:
    closed = [_holds(seed, proved=seed % 5 == 0) for seed in range(50)]
    assert sum(closed) >= 40  # at 60 dB and more scales serve too few others


@pytest.mark.long
def test_ten_thousand_intervals_hold() -> None:
    for seed in range(10_000):
        _holds(seed, proved=seed % 20 == 0)


def _channel(n: int, bits: int, seed: int = 0) -> pvq.AnyScaleLeastSquares:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(4 * n, n))
    X[:, 1:] += 0.5 * X[:, :-1]
    half = 2 ** (bits - 1)
    return pvq.AnyScaleLeastSquares(X.T @ X / len(X), rng.normal(size=n), -half, half - 1)


@pytest.mark.parametrize("bits", [2, 3])
def test_a_channel_of_twelve_inputs_is_closed(bits: int) -> None:
    problem = _channel(12, bits)
    bounds = pvq.solve(problem)
    assert bounds.status == "optimal"
    assert bounds.lower_kind == "certified"
    assert isinstance(bounds.certificate, ScalesCertificate)
    verification = pvq.verify(problem, bounds)
    assert verification.holds, verification.reason
    assert bounds.scale == problem.scale_of(bounds.codes)
    assert bounds.weight == pytest.approx(bounds.scale * bounds.codes, rel=1e-15)


def test_no_scale_alone_does_better() -> None:
    problem = _channel(10, 3)
    bounds = pvq.solve(problem)
    for factor in (0.5, 0.8, 0.97, 1.0, 1.02, 1.3, 4.0):
        at_one = pvq.solve(problem.at(factor * bounds.scale))
        assert at_one.error_upper >= bounds.error_lower
        assert factor != 1.0 or at_one.error_upper <= bounds.error_upper * (1.0 + 1e-12)


@pytest.mark.parametrize("method", ["exact", "relax"])
@pytest.mark.parametrize("relaxation", [None, "box-hull", "splits"])
def test_methods_and_relaxations_all_hold(method: str, relaxation: str | None) -> None:
    problem = _channel(9, 2, seed=5)
    best = pvq.solve(problem)
    bounds = pvq.solve(problem, method=method, relaxation=relaxation)
    assert bounds.error_lower <= best.error_upper * (1.0 + 1e-12)
    assert bounds.error_upper >= best.error_lower * (1.0 - 1e-12)
    assert pvq.verify(problem, bounds)


def test_a_time_limit_leaves_an_interval() -> None:
    problem = _channel(40, 4)
    bounds = pvq.solve(problem, time_limit=0.05)
    assert 0.0 <= bounds.error_lower <= bounds.error_upper
    assert pvq.verify(problem, bounds)


def test_few_positions_of_many_inputs_have_no_bound_and_say_why() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(12, 24))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 12, rng.normal(size=24), -8, 7)
    bounds = pvq.solve(problem, time_limit=2.0)
    assert bounds.error_lower == 0.0
    assert "singular" in bounds.note
    assert 0.0 < bounds.error_upper < problem.signal.upper


def _hardly_definite(kind: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(40, 10))
    if kind in ("layer norm", "nearly"):
        X = (X - X.mean(axis=1, keepdims=True)) * np.exp(0.3 * rng.normal(size=10))
        X += 1e-4 * rng.normal(size=X.shape) * (kind == "nearly")
    elif kind == "copies":
        X[:, 4], X[:, 7] = X[:, 2], X[:, 3]
    else:
        X = X[:8]
    return X.T @ X / len(X)


@pytest.mark.parametrize("kind", ["layer norm", "nearly", "copies", "positions"])
@pytest.mark.parametrize("bits", [2, 3])
def test_directions_of_no_power_are_bounded_at_every_scale(kind: str, bits: int) -> None:
    half = 2 ** (bits - 1)
    weight = np.random.default_rng(6).normal(size=10)
    problem = pvq.AnyScaleLeastSquares(_hardly_definite(kind), weight, -half, half - 1)
    bounds = pvq.solve(problem)
    assert bounds.status == "optimal"
    assert isinstance(bounds.certificate, ScalesCertificate)
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("weight", [np.zeros(4), np.array([0.0, 0.0, 0.0, 1.0])])
def test_without_signal_nothing_is_left_to_lose(weight) -> None:
    problem = pvq.AnyScaleLeastSquares(np.diag([1.0, 1.0, 1.0, 0.0]), weight, -2, 1)
    bounds = pvq.solve(problem)
    assert bounds.error_lower == bounds.error_upper == 0.0
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("power", [-250, -40, 0, 40, 290])
@pytest.mark.parametrize("box", [(-2, 1), (2, 2)])
def test_without_signal_no_gram_is_too_large(box, power) -> None:
    gram = np.diag([1.0, 0.5, 0.0]) * 10.0**power
    bounds = pvq.solve(problem := pvq.AnyScaleLeastSquares(gram, np.zeros(3), *box))
    assert bounds.error_lower == 0.0
    assert bounds.error_upper < 1e-30  # as small as one likes: no best scale is left
    assert pvq.verify(problem, bounds)


@pytest.mark.parametrize("power", [-190, 0, 270])
def test_a_best_scale_next_to_zero_is_not_too_small(power) -> None:
    gram = np.array([[1.0, 1.0 - 2**-52], [1.0 - 2**-52, 1.0]]) * 10.0**power
    problem = pvq.AnyScaleLeastSquares(gram, [-(2.0**-29), 2.0**-29], -1, 0)
    for relaxation in ("splits", "park-boyd"):
        bounds = pvq.solve(problem, "auto", "relax", relaxation)
        assert pvq.verify(problem, bounds)
        assert bounds.error_upper <= problem.signal.upper


@pytest.mark.parametrize("box", [(-1, 0), (0, 1), (0, 7), (1, 3), (-1, 1), (0, 0), (3, 3)])
def test_one_sided_grids_and_single_bits(box) -> None:
    rng = np.random.default_rng(8)
    X = rng.normal(size=(30, 4))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 30, rng.normal(size=4), *box)
    bounds, truth = pvq.solve(problem), float(least_error_at_any_scale(problem))
    assert bounds.error_lower <= truth * (1.0 + 1e-12)
    assert bounds.error_upper == pytest.approx(truth, rel=1e-9)
    assert bounds.error_lower >= truth * (1.0 - 1e-5)
    assert pvq.verify(problem, bounds)


def test_a_support_rule_holds_at_every_scale() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(30, 6))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 30, rng.normal(size=6), -2, 1, nnz=3)
    bounds = pvq.solve(problem)
    assert np.count_nonzero(bounds.codes) <= 3
    assert pvq.verify(problem, bounds)
    free = pvq.solve(pvq.AnyScaleLeastSquares(problem.shared, problem.weight, -2, 1))
    assert bounds.error_upper >= free.error_lower


def test_dead_inputs_take_no_part() -> None:
    live = _channel(6, 2)
    gram, weight = np.zeros((8, 8)), np.full(8, 100.0)
    gram[:6, :6], weight[:6] = live.gram, live.weight
    dead = pvq.solve(pvq.AnyScaleLeastSquares(gram, weight, -2, 1))
    assert dead.error_lower == pytest.approx(pvq.solve(live).error_lower, rel=1e-6)


def test_another_solver_bounds_the_scales_too() -> None:
    pytest.importorskip("clarabel")
    problem = _channel(6, 2)
    bounds = pvq.solve(problem, solver="clarabel", time_limit=30.0)
    assert bounds.lower_kind == "certified"
    assert bounds.solver == "clarabel"
    assert pvq.verify(problem, bounds)


def test_an_unknown_relaxation_is_refused() -> None:
    with pytest.raises(InputError, match="at any scale"):
        pvq.solve(_channel(4, 2), relaxation="perspective")


def _two_of_four(n: int, seed: int = 1) -> pvq.AnyScaleLeastSquares:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(2 * n, n))
    return pvq.AnyScaleLeastSquares(X.T @ X / len(X), rng.normal(size=n), -8, 7, pattern=(2, 4))


def test_the_bound_of_blocks_is_found_once_for_every_scale(monkeypatch) -> None:
    calls = []

    def counted(*args, **options):
        calls.append(args)
        return block_path(*args, **options)

    monkeypatch.setattr(refined, "block_path", counted)
    problem = _two_of_four(64)
    bounds = pvq.solve(problem, method="relax")
    assert len(calls) == 1
    assert pvq.verify(problem, bounds)
    alone = block_path(problem.normalised, refined.BLOCK_TOLERANCE).certificate
    assert bounds.error_lower >= alone.claim(problem)[1]


def test_where_scales_are_left_uncovered_the_bound_of_blocks_stands(monkeypatch, tmp_path) -> None:
    """One scale covers no others, and proves nothing for all of them."""
    monkeypatch.setattr(scale_cover, "MOST", 1)
    problem = _two_of_four(64)
    bounds = pvq.solve(problem, method="relax")
    assert isinstance(bounds.certificate, BlockCertificate)
    assert bounds.relaxation == "blocks"
    assert bounds.error_lower > 0.0
    assert pvq.verify(problem, bounds)
    path = tmp_path / "found.json"
    write_problem(SliceResult(0, (0, problem.n), problem, bounds), "p.npz", path)
    assert pvq.verify(problem, read_record(path).result.bounds)


@pytest.mark.parametrize("seed", range(10))
def test_the_bound_of_blocks_holds_at_every_scale(seed) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 6)) @ (np.eye(6) + 0.5 * rng.normal(size=(6, 6)))
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 30, rng.normal(size=6), -2, 1, pattern=(1, 2))
    stated = block_path(problem, 1e-2).certificate.claim(problem)
    kept = KeptBound()
    kept.keep(problem, Stated(*stated))
    nothing = ExactSolution(problem.codes_of_nearest(), None, None, nothing_of(problem), SINGULAR)
    found = at_least_kept(problem, nothing, kept)
    assert found.certificate is stated[0]
    least = min(
        problem.error(np.array(codes)).upper
        for codes in itertools.product(range(-2, 2), repeat=6)
        if all(codes[i] == 0 or codes[i + 1] == 0 for i in (0, 2, 4))
    )
    assert 0.0 < stated[1] <= least


def test_what_is_kept_is_for_the_gram_weights_and_rule_it_was_kept_for() -> None:
    problem, kept = _two_of_four(8), KeptBound()
    kept.keep(problem.at(0.5), Stated(nothing_of(problem), 1.0))
    assert kept.of(problem.at(0.25)) is not None
    other = pvq.AnyScaleLeastSquares(problem.shared, problem.weight + 1.0, -8, 7, pattern=(2, 4))
    free = pvq.AnyScaleLeastSquares(problem.shared, problem.weight, -8, 7, pattern=(3, 4))
    apart = pvq.AnyScaleLeastSquares(problem.gram.copy(), problem.weight, -8, 7).under(problem.rule)
    assert [kept.of(own.at(0.5)) for own in (other, free, apart)] == [None, None, None]


def test_a_bound_that_is_enough_is_not_refined() -> None:
    """Cases of a direction of next to no power take seconds, also where the relaxation proves enough."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(240, 40))
    X = (X - X.mean(axis=1, keepdims=True)) * np.exp(0.3 * rng.normal(size=40))
    X += 1e-4 * rng.normal(size=X.shape)
    problem = pvq.AnyScaleLeastSquares(X.T @ X / 240, rng.normal(size=40), -2, 1)
    at_scale = problem.at(1.2 * float(problem.settled.step[0]))
    options = Options(relaxation="hybrid", search_share=0.002, time_limit=60.0)
    solve_at = solver_at_scales(Native(), "relax", options)
    found = solve_at(at_scale, 30.0, 1e-9 * problem.signal.lower, brief=False)
    refined_bounds = solve_at(at_scale, 30.0, 10.0 * found.error_lower, brief=False)
    assert not isinstance(found.certificate, CasesCertificate)
    assert isinstance(refined_bounds.certificate, CasesCertificate)
    assert refined_bounds.error_lower > found.error_lower > 0.0
    brief = solve_at(at_scale, 30.0, 1e-9 * problem.signal.lower, brief=True)
    assert 0.0 < brief.error_lower <= found.error_upper
    assert all(pvq.verify(at_scale, own) for own in (found, refined_bounds, brief))
