"""The path with split inequalities on tensors: the same functions, steps and bounds as the compiled ones."""

from __future__ import annotations

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.clock import Clock
from pvqbounds.problems import Gram
from pvqbounds.relaxations.box_hull import box_hull
from pvqbounds.relaxations.slabs import Box, Slabs
from pvqbounds.solvers.native.directions.near_null import NearNull
from pvqbounds.solvers.native.directions.shifted import Shifts
from pvqbounds.solvers.native.linalg.arrays import arrays_on
from pvqbounds.solvers.native.quantization import split_kernel, split_torch
from pvqbounds.solvers.native.quantization.split_batch import relax_batch
from pvqbounds.solvers.native.quantization.split_dual import (
    BRIEF,
    QUICK,
    Stage,
    _Path,
    relax_with_splits,
)
from tests.truth import least_integer_error

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def arrays():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield arrays_on("torch")
    torch.set_num_threads(threads)


def channels_of(seed: int, n: int, count: int, **grid) -> list[pvq.IntegerLeastSquares]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(8 * n, n)) @ (np.eye(n) + 0.2 * rng.normal(size=(n, n)))
    gram = Gram(X.T @ X / (8 * n))
    box = {"scale": 0.6, "qmin": -2, "qmax": 1} | grid
    return [pvq.IntegerLeastSquares(gram, w, **box) for w in rng.normal(size=(count, n))]


def path_of(problem: pvq.IntegerLeastSquares) -> _Path:
    """A path after two stages."""
    path = _Path(box_hull(problem), np.ones(problem.n, bool))
    path.follow((Stage(1.0, 1, 4), Stage(0.4, 2, 4)), Clock(60.0), with_splits=True)
    return path


def tensors_of(paths: list[_Path], arrays):
    """Forms and rows of paths, padded."""
    from pvqbounds.solvers.native.quantization.split_batch import _Batch

    batch = _Batch(paths, arrays)
    rows, multiplier = batch._rows()
    return batch._matrices, rows, multiplier, arrays.index(np.arange(len(paths)))


def test_a_barrier_and_its_slope_are_those_of_the_kernel(arrays) -> None:
    paths = [path_of(problem) for problem in channels_of(0, 9, 3)]
    assert len({len(path.rows) for path in paths}) > 1
    mu = np.array([0.3, 0.1, 0.02])
    expected = []
    for path, own in zip(paths, mu, strict=True):
        path.mu = own
        ends = path._evaluate(own)
        expected.append((ends, path._x.copy(), path._inverse.copy(), *path._slope()))
    matrices, rows, multiplier, everyone = tensors_of(paths, arrays)
    found = split_torch.evaluate(matrices, everyone, rows, multiplier, arrays.array(mu))
    inverse = arrays.inverse(found.factor)
    slope, unit = split_torch.differentiate(rows, inverse, found.x, arrays.array(mu))
    assert found.definite.all()
    for b, (ends, x, lower, own_slope, own_unit) in enumerate(expected):
        assert ends == pytest.approx((float(found.value[b]), float(found.barrier[b])), rel=1e-12)
        assert found.x[b].numpy() == pytest.approx(x, rel=1e-10, abs=1e-12)
        assert np.tril(inverse[b].numpy()) == pytest.approx(np.tril(lower), rel=1e-10, abs=1e-12)
        m = len(own_slope)
        assert slope[b, :m].numpy() == pytest.approx(own_slope, rel=1e-9, abs=1e-11)
        assert unit[b, :m].numpy() == pytest.approx(own_unit, rel=1e-9)
        assert not slope[b, m:].any()


def test_multipliers_that_are_too_large_are_not_definite(arrays) -> None:
    paths = [path_of(problem) for problem in channels_of(1, 8, 2)]
    matrices, rows, multiplier, everyone = tensors_of(paths, arrays)
    multiplier[1] = multiplier[1] + 1e3 * (rows.weight[1] > 0.0)
    found = split_torch.evaluate(matrices, everyone, rows, multiplier, arrays.array(np.ones(2)))
    assert found.definite.tolist() == [True, False]


@pytest.mark.parametrize("at_once", [1, 2**24])
def test_violated_sums_are_those_of_the_kernel(arrays, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(split_torch, "SEPARATED", at_once)
    rng = np.random.default_rng(2)
    for n in (4, 11):
        z, factor = rng.uniform(-3.0, 3.0, n), 0.12 * rng.normal(size=(n, n))
        covariance = factor @ factor.T / np.sqrt(n)
        for most in (3, 1000):
            expected = split_kernel.separate(z, covariance, 0.01, most)
            found = split_torch.separate(arrays, arrays.array(z), arrays.array(covariance), 0.01, most)
            assert [part.dtype for part in found] == [part.dtype for part in expected]
            assert sums_of(found) == sums_of(expected)
            assert len(found[0]) == min(most, len(expected[0])) > 0


def sums_of(found) -> set[tuple]:
    """Split inequalities as a set."""
    index, sign, low = (part.tolist() for part in found)
    return {(*i, *s, k) for i, s, k in zip(index, sign, low, strict=True)}


@pytest.mark.parametrize("grid", [{}, {"scale": 0.2, "qmin": -8, "qmax": 7}])
def test_a_path_takes_the_same_steps(arrays, grid) -> None:
    """Up to where rounding tips a choice: every step multiplies what the order of sums does by ten or so."""
    problems, stages = channels_of(3, 12, 4, **grid), (Stage(1.0, 1, 4), Stage(0.4, 1, 3))
    found = relax_batch(problems, Clock(60.0), stages, arrays)
    for problem, known in zip(problems, found, strict=True):
        alone = relax_with_splits(problem, Clock(120.0), stages)
        assert known is not None
        assert known.reported == pytest.approx(alone.reported, rel=1e-9)
        assert known.certificate.lam == pytest.approx(alone.certificate.lam, rel=1e-7, abs=1e-9)
        assert known.mean == pytest.approx(alone.mean, rel=1e-7, abs=1e-9)
        assert known.covariance == pytest.approx(alone.covariance, rel=1e-7, abs=1e-9)
        assert known.status == alone.status


def test_a_whole_path_bounds_as_well_and_below_the_optimum(arrays) -> None:
    problems = channels_of(4, 6, 5)
    for problem, known in zip(problems, relax_batch(problems, Clock(60.0), QUICK, arrays), strict=True):
        assert known is not None
        assert len(known.certificate.splits) > 0
        claimed = known.certificate.claim(problem)[1]
        alone = relax_with_splits(problem, Clock(60.0), QUICK).certificate.claim(problem)[1]
        assert claimed <= least_integer_error(problem)
        assert claimed == pytest.approx(alone, rel=0.2)


def test_leaves_of_cases_are_one_batch(arrays) -> None:
    """Other Grams and other targets, of equally many inputs."""
    problems = channels_of(5, 10, 2)
    power, vectors = np.linalg.eigh(problems[0].gram)
    near = NearNull(vectors[:, :1].T.copy(), power[:1], float(power[1]))
    leaves = []
    for problem in problems:
        for rho, low in ((0.5, -0.4), (0.25, 0.2)):
            box = Box(np.array([low]), np.array([low + 0.3]))
            slabs = Slabs(near.direction, box, np.array([rho * power[1]]), np.zeros(1))
            leaves.append((Shifts(problem, near).within(slabs), slabs, problem))
    found = relax_batch([leaf.problem for leaf, _, _ in leaves], Clock(60.0), BRIEF[:1], arrays)
    for known, (leaf, slabs, problem) in zip(found, leaves, strict=True):
        assert known is not None
        alone = relax_with_splits(leaf.problem, Clock(60.0), BRIEF[:1])
        assert known.reported == pytest.approx(alone.reported, rel=1e-9)
        assert np.isfinite(leaf.certificate(known.certificate).claimed_within(problem, slabs)[1])


def test_what_has_no_path_here_is_left_to_the_cpu(arrays) -> None:
    live, other = channels_of(6, 6, 2)
    point = pvq.IntegerLeastSquares(live.shared, live.weight, scale=1.0, qmin=0, qmax=0)
    gram = live.gram.copy()
    gram[2], gram[:, 2] = 0.0, 0.0
    dead = pvq.IntegerLeastSquares(gram, live.weight, scale=0.6, qmin=-2, qmax=1)
    singular = pvq.IntegerLeastSquares(np.ones((6, 6)), live.weight, scale=0.6, qmin=-2, qmax=1)
    found = relax_batch([live, point, dead, singular, other], Clock(60.0), BRIEF, arrays)
    assert [known is not None for known in found] == [True, False, False, False, True]


def test_no_time_leaves_a_bound_above_zero(arrays) -> None:
    problems = channels_of(7, 10, 2)
    for problem, known in zip(problems, relax_batch(problems, Clock(0.0), QUICK, arrays), strict=True):
        assert known is not None
        assert "relative gap" in known.status
        assert known.certificate.claim(problem)[1] > 0.0


@pytest.mark.parametrize("relaxation", [None, "hybrid", "splits"])
def test_channels_are_solved_in_batches_of_it(arrays, relaxation, monkeypatch) -> None:
    from pvqbounds.solving import channels

    taken = []

    def counted(problems, *rest):
        taken.append(len(problems))
        return relax_batch(problems, *rest)

    monkeypatch.setattr(channels, "relax_batch", counted)
    problems = channels_of(8, 8, 3)
    found = pvq.solve_channels(
        problems, method="relax", relaxation=relaxation, device="torch", time_limit=2.0
    )
    assert taken == [3]
    for problem, bounds in zip(problems, found, strict=True):
        assert bounds.relaxation in ("hybrid", "splits")
        assert pvq.verify(problem, bounds)
