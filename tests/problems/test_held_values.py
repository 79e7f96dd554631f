"""What a problem is made of cannot be changed under the proofs that are kept of it."""

import numpy as np
import pytest
from truth import least_error_of_any

import pvqbounds as pvq
from pvqbounds.problems.supports import Groups
from pvqbounds.problems.values import Levels, Steps

GRAM = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.5]])
WEIGHT = np.array([0.3, -0.9, 0.5])


@pytest.mark.parametrize("pose", [pvq.CodebookLeastSquares.of_levels, pvq.LeastSquares])
def test_a_table_that_is_scaled_in_place_makes_another_problem(pose) -> None:
    table = np.tile([-1.0, -0.3, 0.0, 0.4, 1.0], (3, 1))
    values = Levels(table)
    first = pose(GRAM, WEIGHT, values)
    before = pvq.solve(first)
    table *= 1.7
    second = pose(GRAM, WEIGHT, values)
    after = pvq.solve(second)
    for problem, bounds in ((first, before), (second, after)):
        least = float(least_error_of_any(problem))
        assert bounds.error_lower <= least <= bounds.error_upper == pytest.approx(least)
        assert pvq.verify(problem, bounds)
    assert before.error_lower != after.error_lower


def test_steps_and_groups_are_the_problems_own() -> None:
    step, low, high = np.full(3, 0.3), np.full(3, -2), np.full(3, 1)
    problem = pvq.LeastSquares(GRAM, WEIGHT, Steps(step, low, high))
    step *= 2.0
    high += 1
    assert (problem.values.arrays["step"] == 0.3).all()
    assert (problem.values.arrays["qmax"] == 1).all()
    group, most = np.zeros(3, dtype=np.int64), np.array([1])
    rule = Groups(group, most)
    most[0] = 3
    assert rule.most.tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        problem.values.arrays["step"][0] = 1.0


def test_rows_that_share_memory_go_on_sharing_it() -> None:
    row = np.linspace(-1.0, 1.0, 16)
    shared = np.broadcast_to(row, (3, 16))
    held = pvq.CodebookLeastSquares.of_levels(GRAM, WEIGHT, Levels(shared)).values
    row *= 2.0
    assert held.table.strides[0] == 0
    assert held.table.max() == 1.0
    assert held.held() is held
