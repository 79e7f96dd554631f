"""One item of each class, the cheapest ones that fit: proved in whole numbers.

The multiple-choice knapsack problem: min Σₗ cost(l, fₗ) where Σₗ size(l, fₗ) ≤ capacity. For every θ ≥ 0

    Σₗ min_f (cost(l, f) + θ size(l, f)) − θ capacity

is a bound, the best of which lies at a slope of the classes' lower convex hulls (Sinha and Zoltners, "The
multiple-choice knapsack problem", Operations Research 27, 1979). What it leaves is closed by listing the
choices of ever more classes, without those that another one beats in both size and cost (Nemhauser and
Ullmann, "Discrete dynamic programming and capital allocation", Management Science 15, 1969) or that the
bound shows to be no better than a choice that is known. All of it is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from typing import Any, NamedTuple

__all__ = ["Class", "Item", "Solution", "best_choice"]

MOST_STATES = 4000
"""Partial choices that are kept; where more are needed the gap stays open."""


class Item(NamedTuple):
    """What one member of a class takes and costs, neither below zero."""

    size: int
    cost: int


Class = Sequence[Item]


@dataclass(frozen=True)
class Solution:
    """A choice that fits, and a bound on all that do."""

    choice: tuple[int, ...]
    """Number of the item of each class."""
    cost: int
    lower: Fraction
    """No choice that fits costs less."""


class _State(NamedTuple):
    """A choice from the first few classes."""

    size: int
    cost: int
    chosen: Any
    """(the chain before, number of the last item), None at its beginning."""


class _Total(NamedTuple):
    """A choice from all classes."""

    size: int
    cost: int
    choice: tuple[int, ...]


def best_choice(
    classes: Sequence[Class], capacity: int, known: Sequence[int] = (), most_states: int = MOST_STATES
) -> Solution:
    """The cheapest choice that fits, or a good one with a bound where that takes too many steps.

    Parameters
    ----------
    classes
        Each has at least one item; the smallest ones fit together.
    known
        A choice that may be good; it is looked at only where it fits.
    most_states
        Partial choices that are kept at most.
    """
    theta, best = _greedy_choice(classes, capacity)
    if known and _total(classes, known).size <= capacity and _total(classes, known).cost < best.cost:
        best = _total(classes, known)
    # costs and θ over one denominator, so that all that follows is whole numbers
    denominator, slope = theta.denominator, theta.numerator
    dual = [min(denominator * item.cost + slope * item.size for item in items) for items in classes]
    rest = _sums_from(dual)
    room = [capacity - size for size in _sums_from([min(i.size for i in items) for items in classes])]
    states = [_State(0, 0, None)]
    for done, items in enumerate(classes, start=1):
        # what every completion of a state costs at least is this plus the state's own two terms
        base, limit = rest[done] - slope * capacity, denominator * best.cost
        grown = [
            _State(size, cost, (state.chosen, number))
            for state in states
            for number, item in enumerate(items)
            if (size := state.size + item.size) <= room[done]
            and denominator * (cost := state.cost + item.cost) + slope * size + base < limit
        ]
        states = _undominated(grown)
        if len(states) > most_states:
            # every choice that is cheaper than the best one known goes on from one of them
            lower = min(limit, *(denominator * own.cost + slope * own.size + base for own in states))
            return Solution(best.choice, best.cost, Fraction(lower, denominator))
    found = min(states, key=lambda state: state.cost, default=None)
    if found is not None and found.cost < best.cost:
        best = _total(classes, _unlinked(found.chosen))
    return Solution(best.choice, best.cost, Fraction(best.cost))


def _sums_from(values: Sequence[int]) -> list[int]:
    """Sums of all values from each place on, and 0 behind the last."""
    return list(itertools.accumulate(reversed(values), initial=0))[::-1]


def _undominated(states: list[_State]) -> list[_State]:
    """Those that none which is as small is as cheap as, by size."""
    kept: list[_State] = []
    for state in sorted(states, key=itemgetter(0, 1)):
        if not kept or state.cost < kept[-1].cost:
            kept.append(state)
    return kept


def _unlinked(chosen: Any) -> list[int]:
    """The numbers of a chain, the first one first."""
    numbers = []
    while chosen is not None:
        chosen, number = chosen
        numbers.append(number)
    return numbers[::-1]


def _greedy_choice(classes: Sequence[Class], capacity: int) -> tuple[Fraction, _Total]:
    """The multiplier θ of the best dual bound, and a choice that fits.

    The choice starts with the cheapest of the smallest items and takes the steps of the classes' hulls that
    gain most for their size as long as they fit; θ is what the first one gains that does not.
    """
    hulls = [_hull(items) for items in classes]
    steps = [
        (Fraction(items[a].cost - items[b].cost, items[b].size - items[a].size), number, b)
        for number, (items, hull) in enumerate(zip(classes, hulls, strict=True))
        for a, b in itertools.pairwise(hull)
    ]
    steps.sort(key=lambda step: (-step[0], step[1]))  # a class's own steps gain ever less: they stay in order
    choice = [hull[0] for hull in hulls]
    size = _total(classes, choice).size
    theta, stopped = Fraction(0), set()
    for gain, number, item in steps:
        grown = size + classes[number][item].size - classes[number][choice[number]].size
        if grown > capacity:
            theta = theta or gain
            stopped.add(number)
        elif number not in stopped:
            choice[number], size = item, grown
    return theta, _total(classes, choice)


def _hull(items: Class) -> list[int]:
    """Numbers of the items on the lower convex hull, from the smallest to the cheapest."""
    hull: list[int] = []
    for number in sorted(range(len(items)), key=lambda i: items[i]):
        size, cost = items[number]
        if hull and cost >= items[hull[-1]].cost:
            continue
        while len(hull) > 1:
            a, b = items[hull[-2]], items[hull[-1]]
            if (a.cost - b.cost) * (size - b.size) > (b.cost - cost) * (b.size - a.size):
                break
            hull.pop()
        hull.append(number)
    return hull


def _total(classes: Sequence[Class], choice: Sequence[int]) -> _Total:
    items = [items[number] for items, number in zip(classes, choice, strict=True)]
    return _Total(sum(i.size for i in items), sum(i.cost for i in items), tuple(choice))
