"""A search at rising thresholds: whatever the budget, it ends with a proved bound.

A depth-first search cut short proves little, since the first levels of its last path are open
still. A search for codes below a lower threshold that ends is a proof by itself. What it costs
grows about as a power of its threshold, so that each stage tells where the next one has to stop,
and all the stages before the last cost little beside it.

The same stages tell which of several trees (:mod:`.search_trees`) promises most, and whether an end is in
reach. So does a stage that outlasts what it was expected to take: it needs at least the nodes that it had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import TINY
from pvqbounds.clock import Clock
from pvqbounds.results.history import Moment
from pvqbounds.solvers.native.quantization.integer_search import (
    Outcome,
    SearchRun,
    goal_of,
)
from pvqbounds.solvers.native.quantization.integer_tree import SearchTree, expected_nodes
from pvqbounds.solvers.native.quantization.search_trees import MultipliedTree

__all__ = ["NODES_A_SECOND", "RisingSearch", "TreeSearches", "search_best"]

NODES_A_SECOND = 1e7
"""Speed of the search before it is measured."""

NODES_A_LOOK = 200_000
"""Nodes between two looks at the clock (about 20 ms)."""

FIRST = 3e3
"""Nodes that the first stage is expected to take, by the volume heuristic."""

FIRST_LIMIT = 30.0
"""The volume heuristic may be wrong by so much; then a lower threshold is tried."""

EXPONENT = 8.0
"""Power by which nodes grow with the threshold before it is measured (7 to 12 on trained layers)."""

FIRST_SHARE = 0.3
"""And such a share of the budget: a search is of no use before a stage has ended."""

GROWTH = 12.0
"""Most that a stage may be expected to cost, as a multiple of the one before."""

LAST = 0.6
"""Share of the budget left that a stage may be expected to take: forecasts are not exact."""

WORTHWHILE = 1.3
"""A stage that may not be expected to cost so many times what the last one did is not begun."""

TRIAL, TRIAL_NODES = 0.05, 300_000
"""Each of several trees is tried with such a share of the budget, and at most so many nodes."""


TRIED, DOUBT = 1e6, 30.0
"""Nodes after which a search that is not expected to end must say otherwise; its forecast may be wrong by so
much then."""

TRIED_SHARE, EXPECTED_SHARE = 0.15, 0.5
"""Share of the time after which the stages of a search must foretell its end, and the same where its end was
foretold already."""

PATIENCE = 3.0
"""A stage that has taken so many times what it was expected to must be foretold again before it goes on."""

TRIAL_PRICE = 0.0025
"""Each of several trees is tried with the nodes that cost so many decibels, `TRIAL_NODES` at most, before
stages are weighed against what they cost."""

SIZES = 1.5 ** np.arange(24)
"""Sizes of the stages that are weighed, over the least that is worthwhile."""

LEAST_PROVED = 1e-3
"""Share of the incumbent's error that gains are counted from where less is proved."""


class RisingSearch:
    """The search of one tree for codes with less error than an incumbent, at rising thresholds.

    Parameters
    ----------
    tree
        What is searched.
    incumbent_error
        Error of feasible codes.
    """

    def __init__(self, tree: SearchTree, incumbent_error: float) -> None:
        self._tree = tree
        self._goal = goal_of(tree, incumbent_error)
        self._next = self._first_threshold()
        self._limit = FIRST_LIMIT * FIRST
        self._exponent = EXPONENT
        self._ended: tuple[float, int] | None = None
        self._open: tuple[float, SearchRun] | None = None
        self._unended: tuple[float, int] | None = None
        self._codes: NDArray[np.int64] | None = None
        self._proved = 0.0
        self._history: list[Moment] = []
        self.nodes = 0
        """Nodes visited so far."""
        self.rate = NODES_A_SECOND
        """Nodes a second."""
        self.exhausted = False
        """Whether the best codes are proved to be the best."""

    @property
    def outcome(self) -> Outcome:
        """What was found and proved so far."""
        return Outcome(self._codes, self._proved, self.nodes, self.exhausted, tuple(self._history))

    @property
    def bound(self) -> float:
        """Bound on E that is proved so far."""
        return self._tree.bound_at(self._proved)

    def advance(self, nodes: float, clock: Clock, patience: float = math.inf) -> None:
        """Run stages until about `nodes` more nodes are visited or the clock runs out.

        A stage that was left open is gone on with where it does for the nodes that there are now.

        Parameters
        ----------
        patience
            If told, one stage is all, and that ends when it took so many times what it was expected to.
        """
        end = self.nodes + nodes
        while not self.exhausted:
            left = min(end - self.nodes, self.rate * clock.remaining)
            run, limit = self._next_stage(left, patience)
            if run is None or limit < 1.0:
                return
            ended = self._stage(*run, limit, clock)
            if self._ended is None:
                self._next, self._limit = 0.5 * self._next, 2.0 * self._limit
            elif not ended or patience < math.inf:
                return

    def _next_stage(self, left: float, patience: float) -> tuple[tuple[float, SearchRun] | None, float]:
        """The threshold of the next stage and its search, None if it is not worthwhile, and nodes for it."""
        if self._ended is None:
            return (self._next, SearchRun(self._tree, self._next)), min(FIRST_SHARE * left, self._limit)
        cost = self._ended[1]
        target = min(GROWTH * cost + FIRST, LAST * left)
        if target < WORTHWHILE * cost:
            return None, 0.0
        threshold = self._threshold_of(target)
        if self._open is not None and min(self._open[0], self._goal) <= threshold:
            spent = self._open[1].nodes
            return self._open, min(left, max(patience * target - spent, spent))
        return (threshold, SearchRun(self._tree, threshold)), min(left, patience * target)

    def promise(self, nodes: float) -> tuple[float, float]:
        """Bound on E that so many nodes more are expected to prove, and minus the nodes to the goal."""
        if self._ended is None:
            return self._tree.bound_at(self._proved), -math.inf
        threshold, cost = self._ended
        reached = max(self._proved, self._threshold_of(max(cost, LAST * nodes)))
        to_goal = 0.0 if self.exhausted else cost * (self._goal / threshold) ** (self._exponent + 1.0)
        # all goals stand for one error: trees that are expected to reach theirs differ in cost alone
        return self._tree.bound_at(reached * (1.0 - 1e-6)), -to_goal

    def worthwhile(self, known: float, price: float, left: float) -> tuple[float, float]:
        """What the stage is worth that is worth most, and its nodes; (0, 0) where none is worth its nodes.

        A stage is worth the decibels by which it is foretold to raise a bound, less those of its nodes. One
        that was left open is given up.

        Parameters
        ----------
        known
            The bound on E so far.
        price
            Decibels by which a node has to raise it.
        left
            Nodes that there is time for.
        """
        nothing = 0.0, 0.0
        if self.exhausted or self._ended is None:
            return nothing
        sizes = WORTHWHILE * self._ended[1] * SIZES
        sizes, known = sizes[sizes < LAST * left], max(known, LEAST_PROVED * self._tree.bound_at(self._goal))
        if not (known > 0.0 and len(sizes)):
            return nothing
        self._open = None
        reached = np.array([self._tree.bound_at(self._threshold_of(nodes)) for nodes in sizes])
        worth = 10.0 * np.log10(np.maximum(reached / known, TINY)) - price * sizes
        best = int(np.argmax(worth))
        return (float(worth[best]), float(sizes[best])) if worth[best] > 0.0 else nothing

    @property
    def nodes_to_go(self) -> float:
        """Nodes that the search is expected to take until its codes are proved to be the best.

        As its last stage that ended foretells; one that did not end at a higher threshold is expected to take
        as many nodes again as it has.
        """
        to_goal, beyond = -self.promise(0.0)[1], self._unended_beyond
        if self.exhausted or beyond is None:
            return to_goal
        (threshold, spent), power = beyond, self._power_to(beyond)
        further = 2.0 * spent * math.pow(max(self._goal / threshold, 1.0), power + 1.0)
        return max(to_goal, further - (spent if self._open is not None else 0))

    @property
    def _unended_beyond(self) -> tuple[float, int] | None:
        """The last stage that did not end, and its nodes, if none has ended at its threshold since."""
        ended, unended = self._ended, self._unended
        return None if ended is None or unended is None or unended[0] <= ended[0] else unended

    def _power_to(self, unended: tuple[float, int]) -> float:
        """The power by which nodes grow if a stage that did not end takes as many nodes again as it has."""
        assert self._ended is not None
        threshold, spent = unended
        return max(self._exponent, self._power_between(self._ended, (threshold, 2 * spent)))

    def _threshold_of(self, nodes: float) -> float:
        """Threshold that costs about so many nodes, at most the goal; the power itself grows slowly."""
        assert self._ended is not None
        (threshold, cost), beyond = self._ended, self._unended_beyond
        growth = nodes / cost
        given_up = beyond is not None and self._open is None
        power = self._power_to(beyond) if beyond is not None and given_up else self._exponent
        power += 0.5 * (1.0 + math.log10(max(1.0, growth)))
        return float(min(threshold * growth ** (1.0 / power), self._goal))

    def _stage(self, threshold: float, run: SearchRun, nodes: float, clock: Clock) -> bool:
        """One search below `threshold`, begun or gone on with; False where the budget ended it."""
        before, started, ended = run.nodes, time.perf_counter(), False
        end = before + nodes
        while not ended and run.nodes < end and not clock.expired:
            ended = run.advance(int(min(NODES_A_LOOK, end - run.nodes + 1)))
        visited = run.nodes - before
        self.nodes += visited
        if visited >= NODES_A_LOOK:
            self.rate = visited / max(time.perf_counter() - started, 1e-9)
        if run.codes is not None:
            self._codes, self._goal = run.codes, run.best
        self._proved = max(self._proved, min(run.open_threshold, self._goal))
        self._record()
        self._open = None if ended else (threshold, run)
        if not ended:
            self._unended = threshold, run.nodes
            return False
        self.exhausted = run.codes is not None or threshold >= self._goal
        self._learn(threshold, max(run.nodes, 1))
        return True

    def _record(self) -> None:
        """Take down what is known now: stages are few, each costs many times what the one before did."""
        lower, upper = self._tree.bound_at(self._proved), self._tree.root + self._goal
        self._history.append(Moment(time.perf_counter(), self.nodes, lower, upper))

    def _learn(self, threshold: float, cost: int) -> None:
        """Fit the power by which nodes grow with the threshold to the last two stages."""
        if self._ended is not None:
            self._exponent = self._power_between(self._ended, (threshold, cost))
        self._ended = threshold, cost

    def _power_between(self, known: tuple[float, int], further: tuple[float, int]) -> float:
        """The power by which nodes grow from a threshold to another, or as before where few nodes tell."""
        (threshold, cost), (at, nodes) = known, further
        if not nodes > cost > 100:
            return self._exponent
        power = math.log(nodes / cost) / math.log(at / threshold)
        return min(max(power, 1.0), 0.5 * self._tree.n + 1.0)

    def _first_threshold(self) -> float:
        """Where the volume heuristic expects `FIRST` nodes, by bisection; at most the goal."""
        low, high = 1e-6 * self._goal, self._goal
        if expected_nodes(self._tree, self._tree.root + high) <= FIRST:
            return high
        for _ in range(30):
            middle = math.sqrt(low * high)
            if expected_nodes(self._tree, self._tree.root + middle) <= FIRST:
                low = middle
            else:
                high = middle
        return max(low, TINY)


class TreeSearches:
    """The searches of several trees of one problem: each is tried, the most promising one goes on.

    Parameters
    ----------
    trees
        At least one.
    incumbent_error
        Error of feasible codes.
    """

    def __init__(self, trees: Sequence[MultipliedTree], incumbent_error: float) -> None:
        self.trees = trees
        self._searches = [RisingSearch(candidate.tree, incumbent_error) for candidate in trees]
        self._best: int | None = None
        root = max(candidate.tree.root for candidate in trees)
        self._begun = Moment(time.perf_counter(), 0, root, incumbent_error)

    def advance(self, nodes: float, clock: Clock, patience: float = math.inf) -> None:
        """Visit about so many nodes more, inf for all of the time; one stage where `patience` is told."""
        budget = min(nodes, NODES_A_SECOND * clock.remaining)
        before = sum(search.nodes for search in self._searches)
        if self._best is None:
            self._best = self._tried(budget, clock)
        tried = sum(search.nodes for search in self._searches) - before
        self._searches[self._best].advance(nodes - tried, clock, patience)

    def _tried(self, budget: float, clock: Clock) -> int:
        """The most promising search, once each has had a small share of the budget."""
        searches = self._searches
        if len(searches) > 1:
            for search in searches:
                search.advance(min(TRIAL * budget, TRIAL_NODES), clock)
                if search.exhausted:
                    break
        return max(range(len(searches)), key=lambda i: (searches[i].exhausted, *searches[i].promise(budget)))

    @property
    def chosen(self) -> tuple[MultipliedTree, Outcome]:
        """The tree that goes on, and what its search found and proved so far."""
        best = self._best or 0
        return self.trees[best], replace(self._searches[best].outcome, history=self._history)

    @property
    def _history(self) -> tuple[Moment, ...]:
        """What all searches recorded, one after the other, with the nodes of all."""
        recorded = [
            (moment, i) for i, search in enumerate(self._searches) for moment in search.outcome.history
        ]
        nodes = [0] * len(self._searches)
        history = [self._begun]
        for moment, i in sorted(recorded, key=lambda pair: pair[0].seconds):
            nodes[i] = moment.nodes
            history.append(replace(moment, nodes=sum(nodes)))
        return tuple(history)

    def join(self, trees: Sequence[MultipliedTree], incumbent_error: float) -> None:
        """Try other trees of the same problem, too, before the most promising one goes on."""
        self.trees = [*self.trees, *trees]
        self._searches += [RisingSearch(candidate.tree, incumbent_error) for candidate in trees]
        self._best = None

    def ends_within(self, clock: Clock, expected: float) -> bool:
        """Search as long as it is expected to end in time; whether it did.

        The forecast is that of the stages that ended. At first a search has a share of the time to make
        one, and where the volume heuristic expects too many nodes some nodes to show that it is wrong.

        Parameters
        ----------
        expected
            Nodes that the volume heuristic expects.
        """
        share = EXPECTED_SHARE
        if expected > NODES_A_SECOND * clock.remaining:
            share = TRIED_SHARE
            if not self.may_end(TRIED, clock):
                return False
        while not self.chosen[1].exhausted:
            before = self.chosen[1].nodes
            self.advance(math.inf, clock.part(share))
            stuck = self.chosen[1].nodes == before
            if stuck or self.nodes_to_go > NODES_A_SECOND * clock.remaining:
                break
            share = EXPECTED_SHARE
        return self.chosen[1].exhausted

    def may_end(self, nodes: float, clock: Clock) -> bool:
        """Whether an end in time is in reach, with a margin for doubt, after so many nodes."""
        self.advance(nodes, clock)
        return self.nodes_to_go <= DOUBT * NODES_A_SECOND * clock.remaining

    def ends_stage_by_stage(self, clock: Clock) -> bool:
        """Search as long as what each stage took foretells an end in time, also if it did not end itself."""
        while not self._chosen.exhausted:
            before = self._chosen.nodes
            self.advance(math.inf, clock, PATIENCE)
            stuck = self._chosen.nodes == before
            if stuck or self.nodes_to_go > self._chosen.rate * clock.remaining:
                break
        return self._chosen.exhausted

    def advance_while_worthwhile(self, known: float, price: float, clock: Clock) -> None:
        """Go on with the stages that are foretold to raise a bound by more than their nodes cost.

        Of several trees it is each time the one whose next stage is worth most; what proves most is chosen.

        Parameters
        ----------
        known
            A bound on E that is proved otherwise.
        price
            Decibels by which a second, that is `NODES_A_SECOND` nodes on any machine, has to raise what is
            proved; nothing is done where that is inf.
        """
        searches, price = self._searches, price / NODES_A_SECOND
        if price == math.inf:
            return
        for search in searches:
            search.advance(min(TRIAL_NODES, TRIAL_PRICE / max(price, TINY)) - search.nodes, clock)
        while not clock.expired:
            known = max(known, *(search.bound for search in searches))
            worth = [search.worthwhile(known, price, search.rate * clock.remaining) for search in searches]
            best = max(range(len(searches)), key=lambda i: worth[i])
            before, nodes = searches[best].nodes, worth[best][1]
            if nodes > 0.0:
                searches[best].advance(nodes / LAST, clock, PATIENCE)
            if searches[best].nodes == before:
                break
        self._best = max(range(len(searches)), key=lambda i: (searches[i].exhausted, searches[i].bound))

    @property
    def _chosen(self) -> RisingSearch:
        """The search that goes on."""
        return self._searches[self._best or 0]

    @property
    def nodes_to_go(self) -> float:
        """Nodes that the search is expected to visit until its codes are proved to be the best."""
        return self._chosen.nodes_to_go


def search_best(
    trees: Sequence[MultipliedTree], incumbent_error: float, nodes: float, clock: Clock
) -> tuple[MultipliedTree, Outcome]:
    """Try each tree with a small share of the budget, then search the most promising one.

    Parameters
    ----------
    nodes
        Nodes in all; inf where the clock alone ends the search.
    clock
        Its time limit and `nodes` both hold.
    """
    searches = TreeSearches(trees, incumbent_error)
    searches.advance(nodes, clock)
    return searches.chosen
