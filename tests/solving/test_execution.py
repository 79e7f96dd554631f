"""What carries the options of a solve: checked once, passed on whole."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.solving.channels import solve_all
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.kinds import (
    ALL_KINDS,
    ANY_SCALE,
    JOINT,
    JOINT_ANY_SCALE,
    LEVELS,
    PRUNING,
    STEPS,
    kind_of,
)
from pvqbounds.solving.options import SolveOptions


def problems():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 8))
    gram = pvq.Gram(X.T @ X / 40)
    weights = rng.standard_normal((3, 8))
    return [
        *(pvq.IntegerLeastSquares(gram, w, 0.4, -4, 3) for w in weights),
        *(pvq.IntegerLeastSquares(gram, w, 0.4, -4, 3, nnz=3) for w in weights),
        *(pvq.CodebookLeastSquares(gram, w, [-1.0, 0.0, 0.3, 2.0]) for w in weights),
        *(pvq.SparseLeastSquares(gram, w, nnz=3) for w in weights),
    ]


def test_keywords_are_sugar_for_the_two_objects():
    done = []
    asked = SolveOptions(method="relax", time_limit=5.0, seed=3, relaxation="box-hull")
    execution = Execution(jobs=2, progress=done.append)
    found = solve_all(problems()[:9], asked, execution)
    same = pvq.solve_channels(problems()[:9], method="relax", time_limit=5.0, seed=3, relaxation="box-hull")
    assert done == list(range(1, 10))
    for one, other in zip(found, same, strict=True):
        assert (one.error_lower, one.error_upper) == (other.error_lower, other.error_upper)
    with pytest.raises(TypeError, match="unexpected keyword argument 'time_limt'"):
        pvq.solve(problems()[0], time_limt=3.0)


def test_kinds_of_one_gram_are_never_solved_as_one():
    """Problems of steps, under a rule too, share Gram, steps and box: only the first are batched."""
    mixed = problems()
    assert [kind_of(p) for p in mixed[::3]] == [STEPS, JOINT, LEVELS, PRUNING]
    for options in ({}, {"method": "relax"}):
        for problem, bounds in zip(mixed, pvq.solve_channels(mixed, time_limit=5.0, **options), strict=True):
            assert pvq.verify(problem, bounds)
            assert bounds.error_lower <= pvq.solve(problem).error_upper * (1.0 + 1e-9)
    coded = mixed[:9]
    for relaxation in ("shared", "box-hull"):
        found = pvq.solve_channels(coded, method="relax", relaxation=relaxation)
        for problem, bounds in zip(coded, found, strict=True):
            assert pvq.verify(problem, bounds)


def test_a_relaxation_belongs_to_kinds():
    def knowing(name):
        return {kind for kind in ALL_KINDS if kind.knows(name)}

    assert knowing("perspective") == {PRUNING}
    assert knowing("shared") == set(ALL_KINDS) - {ANY_SCALE, JOINT_ANY_SCALE}
    assert knowing("hybrid") == set(ALL_KINDS) - {PRUNING}
    with pytest.raises(
        InputError, match="no relaxation 'splits' for joint compression; use hybrid or box-hull"
    ):
        pvq.solve(problems()[3], relaxation="splits")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"jobs": 0}, "number of jobs"),
        ({"jobs": 1.5}, "number of jobs"),
        ({"device": 3}, "device is given by its name"),
    ],
)
def test_what_cannot_be_executed(options, says):
    with pytest.raises(InputError, match=says):
        Execution(**options)
    with pytest.raises(InputError, match=says):
        pvq.solve_channels(problems()[:1], **options)


def test_another_thread_cancels_many_channels():
    cancelled = threading.Event()
    cancelled.set()
    found = pvq.solve_channels(problems()[:3], cancelled=cancelled)
    assert all(bounds.error_lower <= bounds.error_upper for bounds in found)
