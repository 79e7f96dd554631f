"""Searches at rising thresholds: what a stage that was cut short has learned counts, and is gone on with."""

import numpy as np
import pytest

from pvqbounds import IntegerLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.problems.grids import mse_scale
from pvqbounds.solvers.native.quantization import rising_search
from pvqbounds.solvers.native.quantization.rising_search import RisingSearch, TreeSearches
from pvqbounds.solvers.native.quantization.search_trees import minimiser_of, plain_tree


def searches_of(problem):
    """Of the plain tree, from round to nearest."""
    plain = plain_tree(problem, minimiser_of(problem))
    return TreeSearches([plain], problem.error(problem.codes_of_nearest()).upper)


def few_positions(positions, n, seed=0):
    """Independent inputs, hardly more positions than inputs."""
    rng = np.random.default_rng(seed)
    inputs, weight = rng.standard_normal((positions, n)), rng.standard_normal(n)
    return IntegerLeastSquares(inputs.T @ inputs / positions, weight, mse_scale(weight, -8, 7), -8, 7)


def test_a_search_that_a_false_forecast_expects_to_end_is_stopped(monkeypatch):
    """Nodes are planted to grow with the threshold itself: what the stages take has to tell better."""
    searches, clock = searches_of(few_positions(140, 128)), Clock(30.0)
    searches.advance(1e5, clock)
    monkeypatch.setattr(searches._searches[0], "_exponent", 1.0)
    before = searches.chosen[1]
    assert searches.nodes_to_go < 1e8
    assert not searches.ends_stage_by_stage(clock)
    assert searches.nodes_to_go > 1e9
    after = searches.chosen[1]
    assert after.nodes < 1e7  # of 3e8 that there is time for
    assert after.threshold >= before.threshold > 0.0


@pytest.mark.parametrize("case", [(60, 48, 0), (60, 40, 2), (60, 40, 3)])
def test_a_stage_that_was_left_goes_on_where_it_was(monkeypatch, case):
    problem = few_positions(*case)
    whole, parts, clock = searches_of(problem), searches_of(problem), Clock(60.0)
    whole.advance(np.inf, clock)
    monkeypatch.setattr(rising_search, "PATIENCE", 1e-3)
    cuts = []
    stage = RisingSearch._stage

    def counted(*args):
        cuts.append(stage(*args))
        return cuts[-1]

    monkeypatch.setattr(RisingSearch, "_stage", counted)
    assert parts.ends_stage_by_stage(clock)
    assert not all(cuts)
    assert parts.chosen[1].nodes == whole.chosen[1].nodes
    assert np.array_equal(parts.chosen[1].codes, whole.chosen[1].codes)
