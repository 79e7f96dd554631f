"""The multiple-choice knapsack against enumeration."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvqbounds.network.knapsack import Item, best_choice

ITEMS = st.builds(Item, st.integers(1, 30), st.integers(0, 1000))
CLASSES = st.lists(st.lists(ITEMS, min_size=1, max_size=4), min_size=1, max_size=5)


def least_cost(classes, capacity):
    """By enumeration."""
    return min(
        sum(item.cost for item in items)
        for items in itertools.product(*classes)
        if sum(item.size for item in items) <= capacity
    )


def capacities(classes):
    sizes = [[item.size for item in items] for items in classes]
    return st.integers(sum(map(min, sizes)), sum(map(max, sizes)) + 1)


def check(classes, capacity, solution):
    chosen = [items[number] for items, number in zip(classes, solution.choice, strict=True)]
    assert sum(item.size for item in chosen) <= capacity
    assert sum(item.cost for item in chosen) == solution.cost


@given(st.data(), CLASSES)
def test_the_cheapest_choice_is_found_and_proved(data, classes):
    capacity = data.draw(capacities(classes))
    solution = best_choice(classes, capacity)
    check(classes, capacity, solution)
    assert solution.cost == solution.lower == least_cost(classes, capacity)


@given(st.data(), CLASSES, st.integers(0, 2))
def test_what_is_cut_short_keeps_a_bound(data, classes, most):
    capacity = data.draw(capacities(classes))
    solution = best_choice(classes, capacity, most_states=most)
    check(classes, capacity, solution)
    assert solution.lower <= least_cost(classes, capacity) <= solution.cost


@given(st.data(), CLASSES)
def test_a_known_choice_is_not_trusted(data, classes):
    capacity = data.draw(capacities(classes))
    known = [data.draw(st.integers(0, len(items) - 1)) for items in classes]
    solution = best_choice(classes, capacity, known)
    check(classes, capacity, solution)
    assert solution.cost == solution.lower == least_cost(classes, capacity)


@pytest.mark.parametrize("seed", range(3))
def test_many_classes_are_closed(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1000, 1_000_000, 60)
    classes = [
        [Item(int(n * bits), int(1e30 * rng.uniform(0.5, 2.0) * 4.0**-bits)) for bits in (2, 3, 4, 6, 8)]
        for n in sizes
    ]
    solution = best_choice(classes, int(sizes.sum() * 4))
    assert solution.lower == solution.cost


def test_the_bound_of_the_relaxation_by_hand():
    # half of the way from (1, 10) to (3, 2): 6, and the best whole choice costs 10
    solution = best_choice([[Item(1, 10), Item(3, 2)]], 2, most_states=0)
    assert solution.lower == Fraction(6)
    assert solution.cost == 10
