"""The default is never weaker than its parts, and spends its time where that helps."""

from __future__ import annotations

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds.problems.grids import mse_scale

PARTS = (
    {"method": "relax", "relaxation": "box-hull"},
    {"method": "relax", "relaxation": "splits"},
    {"method": "relax", "relaxation": "hybrid"},
    {"method": "exact"},
)
LIMIT = 2.0


def few_positions(positions: int, n: int, seed: int) -> pvq.IntegerLeastSquares:
    rng = np.random.default_rng(seed)
    inputs, weight = rng.standard_normal((positions, n)), rng.standard_normal(n)
    return pvq.IntegerLeastSquares(inputs.T @ inputs / positions, weight, mse_scale(weight, -8, 7), -8, 7)


def nearly_dead(n: int, quiet: int, power: float) -> pvq.IntegerLeastSquares:
    rng = np.random.default_rng(1)
    inputs, weight = rng.standard_normal((400, n)), rng.standard_normal(n)
    inputs[:, :quiet] *= power**0.5
    return pvq.IntegerLeastSquares(inputs.T @ inputs / 400, weight, mse_scale(weight, -8, 7), -8, 7)


@pytest.mark.parametrize("case", [(6, 12, 0), (6, 12, 2), (9, 12, 3)])
def test_codes_of_singular_grams_are_as_good_as_every_part(case: tuple[int, int, int]) -> None:
    problem = few_positions(*case)
    auto = pvq.solve(problem, time_limit=LIMIT)
    assert pvq.verify(problem, auto)
    for part in PARTS[:2]:  # a search by name has more of the same limit
        assert auto.error_upper <= pvq.solve(problem, time_limit=LIMIT, **part).error_upper


@pytest.mark.parametrize("case", [(20, 4, 1e-6), (20, 10, 1e-8), (36, 9, 1e-6)])
def test_inputs_that_are_nearly_dead_leave_no_gap(case: tuple[int, int, float]) -> None:
    """The volume heuristic expects no end of some of these searches, which take tenths of a second."""
    problem = nearly_dead(*case)
    auto = pvq.solve(problem)
    assert auto.status == "optimal"
    assert pvq.verify(problem, auto)
    for part in PARTS[:2]:
        other = pvq.solve(problem, **part)
        assert other.error_lower <= auto.error_lower * (1.0 + 1e-6)


def test_a_search_that_cannot_end_leaves_the_time_to_others() -> None:
    rng = np.random.default_rng(0)
    inputs, weight = rng.standard_normal((140, 128)), rng.standard_normal(128)
    problem = pvq.IntegerLeastSquares(inputs.T @ inputs / 140, weight, mse_scale(weight, -8, 7), -8, 7)
    auto = pvq.solve(problem, time_limit=LIMIT)
    assert auto.method == "relax"
    plain = pvq.solve(problem, method="relax", relaxation="box-hull")
    assert auto.error_lower >= plain.error_lower
    assert pvq.verify(problem, auto)
