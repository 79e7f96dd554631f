"""Programs for levels and joint compression: every allowed point is theirs, with its error, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from truth import every_code, feasible, real_valued

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.problems import LeastSquares
from pvqbounds.problems.supports import Groups
from pvqbounds.problems.values import Steps, Tabulated
from pvqbounds.relaxations.dual import DualCertificate, dual_bound
from pvqbounds.relaxations.miqp import (
    indicators_of,
    integer_program,
    joint_perspective_program,
    joint_program,
    one_hot_program,
)
from pvqbounds.relaxations.miqp.binary import binary_program

BUDGETS = [{"nnz": 0}, {"nnz": 2}, {"nnz": 4}, {"pattern": (1, 2)}, {"pattern": (1, 2), "stride": 2}]
LISTS = [[-0.7, 0.0, 0.1], [0.0, 1.0], [-1.0, -0.2, 0.0, 0.4], [-2.0, 0.0]]


def steps(**budget):
    gram, weight = real_valued(1, 4)
    step = np.array([0.3, 0.5, 1.0, 0.2])
    return pvq.IntegerLeastSquares(gram, weight, step, [-2, 0, -1, -1], [1, 2, 0, 3], **budget)


def levels(lists=LISTS, **budget):
    gram, weight = real_valued(2, 4)
    return pvq.CodebookLeastSquares(gram, weight, lists, **budget)


def points(problem):
    low, high = problem.values.code_ends
    free = LeastSquares(problem.shared, problem.weight, problem.values)
    allowed = {tuple(z) for z in every_code(problem).tolist()}
    assert {tuple(z) for z in every_code(free).tolist()} >= allowed
    for z in every_code(free):
        assert ((z >= low) & (z <= high)).all()
        yield z, tuple(z.tolist()) in allowed


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("perspective", [False, True])
def test_joint_programs_hold_what_the_rule_allows(budget, perspective):
    problem = steps(**budget)
    D = 0.9 * np.linalg.eigvalsh(problem.gram)[0] * np.array([1.0, 0.0, 0.5, 1.0])
    program = joint_perspective_program(problem, D) if perspective else joint_program(problem)
    assert program.kind == ("perspective" if perspective else "big-M")
    for z, allowed in points(problem):
        kept = (z != 0).astype(float)
        squares = (z[: len(program.sizes)] / program.sizes) ** 2
        x = np.concatenate([z, kept, squares])
        assert feasible(program, x) == allowed
        assert program.objective(x) == pytest.approx(problem.error(z).middle, rel=1e-9, abs=1e-12)
        assert program.codes(x + 1e-7).tolist() == z.tolist()
        if kept.any():  # zero where it is not kept
            assert not feasible(program, np.concatenate([z, 0.0 * kept, squares]))
    if perspective:
        assert program.sizes.tolist() == [2.0, 2.0, 1.0, 4.0]
        if problem.budgets[0][1] == len(problem.budgets[0][0]):
            low = np.concatenate([[1.0, 1.0, 0.0, 1.0], np.ones(4), 0.9 / program.sizes**2])
            assert not feasible(program, low)
            low[-4:] /= 0.9
            assert feasible(program, low)


@pytest.mark.parametrize("budget", [{}, *BUDGETS])
@pytest.mark.parametrize("size", [None, 0.0, -1.0, 1.0])
def test_one_hot_programs_hold_what_the_rule_allows(budget, size):
    problem = levels(**budget)
    lam = (
        None if size is None else size * 0.9 * np.linalg.eigvalsh(problem.gram)[0] * np.array([1, 0, 1, 0.5])
    )
    power = np.array([3, 0, -2, 1])
    for scale in (np.ones(4), 2.0**power):
        program = one_hot_program(problem, lam, np.log2(scale).astype(np.int64))
        assert len(program.q) == 4 + indicators_of(problem) == 4 + 11
        for z, allowed in points(problem):
            chosen = program.indicators.of(z).astype(float)
            x = np.concatenate([scale * problem.weight_of(z), chosen])
            assert feasible(program, x) == allowed
            assert program.objective(x) == pytest.approx(problem.error(z).middle, rel=1e-9, abs=1e-12)
            assert program.codes(x - 1e-7).tolist() == z.tolist()
        x[4:7] = [1.0, 1.0, 0.0]  # two levels at a time
        assert not feasible(program, x)
        x[4:7] = 0.0  # none
        assert not feasible(program, x)
        x[0] = 0.05  # between two
        assert not feasible(program, x)


def test_the_continuous_one_hot_form_is_no_weaker_than_the_multipliers():
    """Its value is at least what the multipliers prove: weak duality, at random points between the levels."""
    problem = levels(nnz=2)
    rng = np.random.default_rng(0)
    lam = 0.5 * np.linalg.eigvalsh(problem.gram)[0] * rng.uniform(-1.0, 1.0, 4)
    program = one_hot_program(problem, lam)
    indicators = program.indicators
    inside = 0
    for _ in range(200):
        nu = 0.3 * rng.standard_normal(4)
        b = np.zeros(len(indicators.levels))
        for start, end in zip(indicators.ends[:-1], indicators.ends[1:], strict=True):
            b[start:end] = rng.dirichlet(0.3 * np.ones(end - start))
        x = np.concatenate([np.bincount(indicators.inputs, b * indicators.levels), b])
        if (program.A @ x <= program.b + 1e-9).all():
            inside += 1
            assert dual_bound(problem, DualCertificate(lam, nu)) <= program.objective(x) + 1e-9
    assert inside > 20


def test_boxes_end_where_the_error_leaves_no_more():
    gram, weight = real_valued(1, 4)
    problem = pvq.IntegerLeastSquares(gram, weight, 0.01, -(2**31), 2**31, nnz=2)
    wide, narrow = joint_program(problem), joint_program(problem, error=problem.start().upper)
    assert wide.upper[:4].tolist() == [2.0**31] * 4
    assert (narrow.upper[:4] < 1e4).all()
    assert (narrow.lower[:4] > -1e4).all()
    z = problem.codes_of_nearest().astype(float)
    for program in (wide, narrow):
        assert feasible(program, np.concatenate([z, z != 0.0]))
    # of a singular Gram some codes are free: the box stays
    singular, _ = real_valued(1, 4, positions=2)
    free = pvq.IntegerLeastSquares(singular, weight, 0.01, -(2**31), 2**31, nnz=2)
    assert joint_program(free, error=free.start().upper).upper[:4].tolist() == [2.0**31] * 4


def test_long_lists_and_lists_of_different_lengths():
    gram, weight = real_valued(3, 3)
    long = np.sort(np.concatenate([-np.geomspace(1e-3, 2, 126), [0.0], np.geomspace(1e-3, 2, 126)]))
    problem = pvq.CodebookLeastSquares(gram, weight, [long, long[::9], [0.0, 1.0]])
    program = one_hot_program(problem)
    assert np.diff(program.indicators.ends).tolist() == [253, 29, 2]
    z = problem.codes_of_nearest()
    x = np.concatenate([problem.weight_of(z), program.indicators.of(z)])
    assert feasible(program, x)
    assert program.objective(x) == pytest.approx(problem.error(z).middle)


@dataclass(frozen=True, eq=False)
class Odd(Tabulated):
    """Odd numbers whose codes begin at -1: a set of somebody's own."""

    count: int
    unit: int = 0
    first: ClassVar[int] = -1

    @property
    def table(self):
        return np.tile(np.ldexp([-1.0, 1.0, 3.0], self.unit), (self.count, 1))

    @property
    def code_ends(self):
        return np.full(self.count, self.first), np.full(self.count, self.first + 2)

    def weight_of(self, codes):
        return super().weight_of(codes - self.first)

    def among(self, inputs):
        return Odd(len(np.arange(self.count)[inputs]), self.unit)

    def times(self, power):
        return Odd(self.count, self.unit + int(np.max(power)))


def test_sets_and_rules_of_ones_own():
    gram, weight = real_valued(4, 3)
    program = one_hot_program(LeastSquares(gram, weight, Odd(3)))
    x = np.concatenate([[3.0, -1.0, 1.0], [0, 0, 1, 1, 0, 0, 0, 1, 0]])
    assert feasible(program, x)
    assert program.codes(x).tolist() == [1, -1, 0]
    rule = Groups(np.array([0, 0, -1]), np.array([1]))
    values = Steps(np.full(3, 0.5), np.full(3, -1), np.full(3, 1))
    joint = joint_program(LeastSquares(gram, weight, values, rule))
    assert feasible(joint, np.array([1.0, 0.0, -1.0, 1.0, 0.0, 1.0]))
    assert not feasible(joint, np.array([1.0, 1.0, -1.0, 1.0, 1.0, 1.0]))
    assert indicators_of(LeastSquares(gram, weight, values)) == 0
    assert indicators_of(pvq.SparseLeastSquares(gram, weight, nnz=1)) == 0


def test_what_has_no_such_program():
    gram, _ = real_valued(4, 4)
    for build in (integer_program, joint_program):
        with pytest.raises(InputError, match="one-hot"):
            build(levels())
    with pytest.raises(InputError, match="semidefinite"):
        one_hot_program(levels(), np.full(4, np.trace(gram)))
    with pytest.raises(InputError, match="negative"):
        joint_perspective_program(steps(nnz=2), np.full(4, -1.0))
    with pytest.raises(InputError, match="fix the scale"):
        binary_program(pvq.AnyScaleLeastSquares(gram, np.ones(4), -2, 1))
    with pytest.raises(InputError, match="semidefinite"):
        joint_perspective_program(steps(nnz=2), np.full(4, np.trace(gram)))
