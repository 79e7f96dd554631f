"""Whether one problem allows every weight that another one allows, so that its least error is no more.

That is known of problems as they are posed, without any bound: their value sets and support rules say it.
Names of formats do not, as each finds scales of its own: 4 bits need not hold the values of 3.
"""

from __future__ import annotations

import numpy as np

from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.supports import allow_all_of

__all__ = ["contains"]


def contains(larger: Problem, smaller: Problem) -> bool:
    """Whether `larger` is known to allow every weight that `smaller` allows, and measures the same error.

    Then the least error of `larger` is at most that of `smaller`. False where it is not known.
    """
    return (
        _same_error(larger, smaller)
        and larger.values.contains(smaller.values)
        and (not larger.is_restricted or allow_all_of(larger.budgets, smaller.budgets))
    )


def _same_error(one: Problem, other: Problem) -> bool:
    """Whether both are about one Gram and the same dense weights."""
    same_gram = one.shared is other.shared or np.array_equal(one.gram, other.gram)
    return same_gram and np.array_equal(one.weight, other.weight)
