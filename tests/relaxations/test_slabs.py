"""Slabs: the form lies below the error wherever the weights lie in them, in exact arithmetic."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.minorant import error_minorant
from pvqbounds.relaxations.slabs import Box, Cover, Slabs, whole_box
from pvqbounds.relaxations.splits import NO_SPLITS
from tests.truth import exact_error, random_gram

STEP = 0.3


def _problem(rng, pruned: bool):
    n = int(rng.integers(1, 5))
    gram, weight = random_gram(rng, n), rng.normal(size=n)
    if pruned:
        return pvq.SparseLeastSquares(gram, weight, nnz=max(1, n - 1))
    return pvq.IntegerLeastSquares(gram, weight, scale=STEP, qmin=-2, qmax=2)


def _some_box(rng, whole: Box) -> Box:
    low = rng.normal(size=len(whole.low))
    high = low + np.abs(rng.normal(size=len(low)))
    kind = rng.integers(3)
    low, high = (low, np.full_like(high, np.inf)) if kind == 0 else (low, high)
    low, high = (np.full_like(low, -np.inf), high) if kind == 1 else (low, high)
    return Box(np.maximum(low, whole.low), np.minimum(high, whole.high))


def _allowed(rng, problem):
    """Weights as Fractions: all codes, or random points of the support rule."""
    if problem.values.is_finite:
        for codes in itertools.product(range(-2, 3), repeat=problem.n):
            yield [Fraction(STEP) * k for k in codes]
        return
    for _ in range(40):
        v = rng.normal(size=problem.n)
        v[rng.permutation(problem.n)[: problem.n - problem.nnz]] = 0.0
        yield [Fraction(float(x)) for x in v]


def _cover_of(direction, cuts) -> Cover:
    """The cover of one direction by rising cuts, as a balanced tree."""
    axis: list[int] = []
    places: list[float] = []

    def divide(some) -> None:
        if not some:
            axis.append(-1)
            places.append(0.0)
            return
        half = len(some) // 2
        axis.append(0)
        places.append(float(some[half]))
        divide(some[:half])
        divide(some[half + 1 :])

    divide(list(cuts))
    return Cover(np.atleast_2d(direction), np.array(axis, np.int64), np.array(places))


def _value(matrix, linear, constant, d):
    pull = sum(Fraction(float(p)) * x for p, x in zip(linear, d, strict=True))
    return exact_error(matrix, d) - 2 * pull + Fraction(constant)


@pytest.mark.parametrize("seed", range(60))
def test_forms_and_bounds_hold_in_slabs(seed):
    rng = np.random.default_rng(seed)
    problem = _problem(rng, pruned=seed % 3 == 0)
    m = int(rng.integers(1, 3))
    direction = np.where(problem.shared.live, rng.normal(size=(m, problem.n)), 0.0)
    whole = whole_box(problem, direction)
    box = _some_box(rng, whole)
    slabs = Slabs(direction, box, np.abs(rng.normal(size=m)), rng.normal(size=m))
    form = error_minorant(problem, NO_SPLITS, slabs)
    lam, nu = 0.1 * np.abs(rng.normal(size=problem.n)), 0.1 * rng.normal(size=problem.n)
    bound = dual_bound(problem, DualCertificate(lam, nu + slabs.pull()), slabs)
    weight = [Fraction(float(w)) for w in problem.weight]
    for v in _allowed(rng, problem):
        d = [x - w for x, w in zip(v, weight, strict=True)]
        t = [sum(Fraction(float(a)) * x for a, x in zip(row, d, strict=True)) for row in direction]
        assert all(not np.isfinite(end) or Fraction(end) <= x for end, x in zip(whole.low, t, strict=True))
        inside = all(
            (not np.isfinite(low) or x >= Fraction(low)) and (not np.isfinite(high) or x <= Fraction(high))
            for x, low, high in zip(t, box.low, box.high, strict=True)
        )
        if inside:
            error = exact_error(problem.gram, d)
            assert _value(form.matrix, form.linear, form.constant, d) <= error
            assert Fraction(bound) <= error


def test_a_push_alone_proves_what_the_direction_costs():
    gram = np.diag([1e-4, 1.0, 2.0])
    problem = pvq.SparseLeastSquares(gram, np.array([0.3, 1.0, -1.0]), nnz=2)
    slabs = Slabs(np.eye(3)[:1], Box(np.array([5.0]), np.array([np.inf])), np.zeros(1), np.array([5e-4]))
    bound = dual_bound(problem, DualCertificate(np.zeros(3), slabs.pull()), slabs)
    assert 0.999 * 25e-4 < bound <= 25e-4


def test_a_chord_costs_its_width_and_gives_curvature():
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    gram = (Q * np.array([1e-9, 1.0, 1.2, 1.5, 2.0])) @ Q.T
    problem = pvq.IntegerLeastSquares(gram, rng.normal(size=5), scale=1.0, qmin=-4, qmax=4)
    lam = np.full(5, 0.8)
    narrow, wide = (
        dual_bound(
            problem,
            DualCertificate(lam, np.zeros(5)),
            Slabs(Q[:, :1].T, Box(np.array([-h]), np.array([h])), np.ones(1), np.zeros(1)),
        )
        for h in (0.1, 0.2)
    )
    assert narrow - wide == pytest.approx(0.2**2 - 0.1**2, rel=1e-9)
    assert narrow > dual_bound(problem, DualCertificate(lam, np.zeros(5)))


def test_a_chord_of_the_least_float64_is_not_half_of_it():
    # half of 5e-324 is 0, and ends of 1e150 make of it more than all the power of the second input
    power, reach = 2.0**-79, 1e150
    problem = pvq.IntegerLeastSquares(
        np.diag([1.0, power]), np.array([0.0, 0.25]), scale=1.0, qmin=-1, qmax=1
    )
    box = Box(np.array([-1.25 * reach]), np.array([0.0]))
    slabs = Slabs(np.array([[0.0, reach]]), box, np.array([5e-324]), np.zeros(1))
    curved = power + 5e-324 * reach * reach
    lam = np.array([0.5, 0.99 * curved])
    bound = dual_bound(problem, DualCertificate(lam, np.array([0.0, -0.25 * (curved - lam[1])])), slabs)
    assert bound <= power * 0.25**2


@pytest.mark.parametrize("seed", range(200))
def test_the_rounding_of_p_is_paid_for_where_its_square_is_no_float64(seed):
    rng = np.random.default_rng(seed)
    power = 10.0 ** rng.uniform(-305.0, -200.0)
    gram, weight = np.diag([power, 1.0, power]), np.array([0.3 * rng.random(), 0.0, 0.3 * rng.random()])
    problem = pvq.IntegerLeastSquares(gram, weight, scale=1.0, qmin=-1, qmax=1)
    direction = np.array([[rng.normal(), 0.0, rng.normal()]])
    for codes in itertools.product((-1, 1), (0,), (-1, 1)):
        d = [Fraction(k) - Fraction(float(w)) for k, w in zip(codes, weight, strict=True)]
        t = sum(Fraction(float(a)) * x for a, x in zip(direction[0], d, strict=True))
        low = float(t) if Fraction(float(t)) <= t else math.nextafter(float(t), -math.inf)
        push = np.array([10.0 ** rng.uniform(-185.0, -140.0)])
        slabs = Slabs(direction, Box(np.array([low]), np.array([np.inf])), np.zeros(1), push)
        form = error_minorant(problem, NO_SPLITS, slabs)
        assert _value(form.matrix, form.linear, form.constant, d) <= exact_error(gram, d)


def test_what_overflows_is_no_bound_and_no_end():
    problem = pvq.IntegerLeastSquares(np.eye(2), np.ones(2), scale=1.0, qmin=-9, qmax=9)
    whole = whole_box(problem, np.array([[1e308, -1e308]]))
    assert whole.low.tolist() == [-np.inf]
    assert whole.high.tolist() == [np.inf]
    far = Slabs(np.eye(2), Box(np.array([1e200, -1e154]), np.array([np.inf, 1e154])), np.ones(2), np.ones(2))
    form = error_minorant(
        problem, NO_SPLITS, Slabs(far.direction, far.box, far.chord, np.array([1e120, 0.0]))
    )
    assert form.constant == -np.inf


def test_dead_inputs_do_not_move_the_ends_of_t():
    rng = np.random.default_rng(2)
    live = rng.random(300) < 0.5
    gram = np.diag(live.astype(float))
    problem = pvq.IntegerLeastSquares(gram, rng.normal(size=300), scale=0.1, qmin=-8, qmax=7)
    direction = rng.normal(size=(2, 300)) * live
    one, other = whole_box(problem, direction), whole_box(problem.among(live), direction[:, live])
    assert np.array_equal(one.low, other.low)
    assert np.array_equal(one.high, other.high)


@pytest.mark.parametrize("seed", range(20))
def test_leaves_of_a_cover_hold_every_t(seed):
    rng = np.random.default_rng(seed)
    problem = _problem(rng, pruned=seed % 2 == 0)
    cuts = np.sort(rng.normal(size=int(rng.integers(0, 7)))).tolist()
    direction = np.where(problem.shared.live, rng.normal(size=problem.n), 0.0)
    cover = _cover_of(direction, cuts)
    assert cover.fits(problem)
    assert cover.leaves == len(cuts) + 1
    boxes = cover.boxes(problem)
    weight = [Fraction(float(w)) for w in problem.weight]
    for v in _allowed(rng, problem):
        t = sum(Fraction(float(a)) * (x - w) for a, x, w in zip(direction, v, weight, strict=True))
        held = [
            (not np.isfinite(box.low[0]) or Fraction(box.low[0]) <= t)
            and (not np.isfinite(box.high[0]) or t <= Fraction(box.high[0]))
            for box in boxes
        ]
        assert any(held)


@pytest.mark.parametrize(
    "axis", [[0, -1], [-1, -1], [0, -1, -1, -1], [-1, 0, -1], [1, -1, -1], [0, 0, -1, -1], [-2], []]
)
def test_what_is_no_tree_does_not_fit(axis):
    problem = pvq.IntegerLeastSquares(np.eye(2), np.ones(2), scale=1.0, qmin=0, qmax=1)
    nodes = np.array(axis, np.int64)
    assert not Cover(np.ones((1, 2)), nodes, np.zeros(len(nodes))).fits(problem)


def test_arrays_of_other_shapes_are_no_cover():
    problem = pvq.IntegerLeastSquares(np.eye(2), np.ones(2), scale=1.0, qmin=0, qmax=1)
    leaf, nowhere = np.array([-1], np.int64), np.zeros(1)
    assert Cover(np.ones((1, 2)), leaf, nowhere).fits(problem)
    for direction in (np.array(1.0), np.ones(2), np.ones((1, 3)), np.ones((0, 2))):
        assert not Cover(direction, leaf, nowhere).fits(problem)
    assert not Cover(np.ones((1, 2)), np.array(-1), nowhere).fits(problem)
    assert not Cover(np.ones((1, 2)), leaf, np.array(0.0)).fits(problem)


def test_a_cover_of_two_directions():
    problem = pvq.IntegerLeastSquares(np.eye(2), np.zeros(2), scale=1.0, qmin=-1, qmax=1)
    cover = Cover(np.eye(2), np.array([0, -1, 1, -1, -1]), np.array([0.5, 0, -0.5, 0, 0]))
    assert cover.fits(problem)
    ends = [(box.low.round(9).tolist(), box.high.round(9).tolist()) for box in cover.boxes(problem)]
    assert ends == [([-1, -1], [0.5, 1]), ([0.5, -1], [1, -0.5]), ([0.5, -0.5], [1, 1])]


def test_what_is_no_tree_of_arrays_does_not_fit():
    problem = pvq.IntegerLeastSquares(np.eye(2), np.array([0.3, 0.7]), scale=STEP, qmin=-2, qmax=2)
    cover = _cover_of(np.array([1.0, -1.0]), [0.0, 0.5])
    assert cover.fits(problem)
    for wrong in (
        {"cut": cover.cut.tolist()},
        {"axis": cover.axis.astype(np.int32)},
        {"direction": cover.direction[0]},
        {"axis": np.where(cover.axis < 0, -1, 1)},  # cuts of a direction that is not there
        {"axis": cover.axis[:-1], "cut": cover.cut[:-1]},  # a part without its leaf
        {"cut": np.full_like(cover.cut, np.nan)},
    ):
        assert not replace(cover, **wrong).fits(problem)
