"""Searches at rising thresholds: what a stage that was cut short has learned counts, and is gone on with."""

import math

import numpy as np
import pytest

from pvqbounds import CodebookLeastSquares, IntegerLeastSquares
from pvqbounds.clock import Clock
from pvqbounds.problems.formats.nf4 import NF4_LEVELS
from pvqbounds.problems.grids import mse_scale
from pvqbounds.solvers.native.quantization import rising_search
from pvqbounds.solvers.native.quantization.codes_dual import relax_in_codes
from pvqbounds.solvers.native.quantization.rising_search import NODES_A_SECOND, RisingSearch, TreeSearches
from pvqbounds.solvers.native.quantization.search_trees import minimiser_of, mixed_trees, plain_tree


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


def decibels(bound, before):
    return 10.0 * np.log10(bound / before)


def begun(case, seed=0):
    """Searches of a problem that none ends, after 1e5 nodes; the bound and the nodes by then."""
    searches = searches_of(few_positions(*case, seed))
    searches.advance(1e5, Clock(60.0))
    return searches, searches._chosen.bound, searches._chosen.nodes


@pytest.mark.parametrize("case", [(140, 128), (200, 96), (120, 80)])
def test_a_search_goes_on_as_long_as_it_gains_more_than_it_costs(case):
    bounds, spent = [], []
    for price in (1e-5, 1e-6, 1e-7):  # of a node
        searches, before, nodes = begun(case)
        searches.advance_while_worthwhile(0.0, price * NODES_A_SECOND, Clock(60.0))
        bounds.append(searches._chosen.bound)
        spent.append(searches._chosen.nodes - nodes)
        assert price * spent[-1] <= decibels(bounds[-1], before)
    assert spent == sorted(spent)
    assert bounds == sorted(bounds)
    assert decibels(bounds[2], bounds[0]) > 1.0


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_what_is_proved_otherwise_is_no_gain(known):
    """A bound that no stage reaches ends a search that goes on without it; a price of inf does, too."""
    searches, _, nodes = begun((140, 128))
    beyond = known * few_positions(140, 128).signal.upper
    searches.advance_while_worthwhile(beyond, 10.0 if known else math.inf, Clock(60.0))
    assert searches._chosen.nodes <= nodes + rising_search.TRIAL_PRICE / 1e-6


def test_a_stage_that_outlasts_its_forecast_gives_way_to_a_lower_one(monkeypatch):
    """Nodes are planted to grow with the threshold itself: one stage to the goal would be worth 1e7 nodes."""
    searches, before, _ = begun((140, 128))
    monkeypatch.setattr(searches._searches[0], "_exponent", 1.0)
    searches.advance_while_worthwhile(0.0, 1.0, Clock(60.0))
    assert decibels(searches._chosen.bound, before) > 1.0
    assert searches._chosen.nodes < 2e7


def test_the_tree_whose_stages_are_worth_most_goes_on():
    """The tree around the minimiser is tried first, and the relaxation's multipliers prove more."""
    problem = few_positions(200, 96)
    error = problem.error(problem.codes_of_nearest()).upper
    minimiser = minimiser_of(problem)
    relaxed = relax_in_codes(problem, Clock(60.0))
    mixed = mixed_trees(problem, relaxed.certificate, minimiser)
    searches = searches_of(problem)
    searches.advance(1e5, Clock(60.0))
    searches.join(mixed, error)
    searches.advance_while_worthwhile(0.0, 1.0, Clock(60.0))
    assert searches.chosen[0] in mixed
    assert searches._chosen.nodes > 1e6
    assert searches._chosen.bound == max(search.bound for search in searches._searches)


@pytest.mark.parametrize("seed", range(3))
def test_a_small_budget_ends_a_stage(seed):
    """Without one a search foretells nothing, and proves next to nothing above its root."""
    rng = np.random.default_rng(seed)
    inputs, weight = rng.standard_normal((80, 64)), rng.standard_normal(64)
    levels = np.abs(weight).max() * NF4_LEVELS
    problem = CodebookLeastSquares(inputs.T @ inputs / 80, weight, levels=levels).normalised
    relaxed = relax_in_codes(problem, Clock(60.0))
    error = problem.error(problem.codes_of_nearest()).upper
    for candidate in mixed_trees(problem, relaxed.certificate, minimiser_of(problem)):
        search = RisingSearch(candidate.tree, error)
        search.advance(2e4, Clock(60.0))
        assert search.nodes_to_go < math.inf
        assert search.bound > candidate.tree.root
