"""What a support rule adds to a search: of what is not fixed yet, the cheapest zeros that must come.

Let g_i >= 0 be what the value 0 costs level i above its least cost, and let a group of levels have at most
so many non-zeros. Once some of its levels are fixed and `used` of them are not zero, at least
(levels left) - (most - used) of the others will be zero: the sum of the least so many g_i is a toll that
is due. Fixing a level changes the toll of its group by

    zero:      toll(left without i, used) - toll(left with i, used)          >= -g_i
    non-zero:  toll(left without i, used + 1) - toll(left with i, used)      >= 0

so that the costs of a level stay non-negative when the changes are added to them, and the tolls of all
groups at the root are a part of the bound there: the budget's part of the dual bound
(:mod:`pvqbounds.relaxations.dual`).

All g_i of a group are rounded down to multiples of one power of two of which 2^52 are more than their sum:
sums and differences of tolls are exact then, so that the changes along a path add up to what they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import down, total
from pvqbounds.problems.supports import Budget

__all__ = ["Tolls", "tolls_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tolls:
    """The tolls of a tree's levels."""

    changes: Array
    """Change of the toll by the value 0 and by all others after so many non-zeros, shape (2, n, most + 1)."""
    above: NDArray[np.int64]
    """Next level of the same group that is fixed before, n where there is none, shape (n,)."""
    root: float
    """All tolls before anything is fixed, rounded down."""


def tolls_of(budgets: Sequence[Budget], order: NDArray[np.int64], extra: Array) -> Tolls:
    """The tolls of a tree.

    Parameters
    ----------
    budgets
        Disjoint groups of inputs with the non-zeros that each may have.
    order
        Input of each level, shape (n,); the last level is fixed first.
    extra
        g of each level, finite and not negative, shape (n,).
    """
    limited = [(members, most) for members, most in budgets if most < len(members)]
    group = np.full(len(order), -1)  # of each input, then of each level
    for number, (members, _) in enumerate(limited):
        group[members] = number
    group = group[order]
    most = np.array([kept for _, kept in limited], dtype=np.int64)
    size = np.array([len(members) for members, _ in limited], dtype=np.int64)
    changes, above, roots = _tolls(group, most, size, _in_units(extra, group, len(limited)))
    return Tolls(changes, above, down(total(roots.tolist())))


def _in_units(extra: Array, group: NDArray[np.int64], groups: int) -> Array:
    """g, rounded down to whole multiples of a power of two of each group."""
    held = group >= 0
    sums = np.bincount(group[held], extra[held], groups)
    unit = np.ldexp(1.0, np.maximum(np.frexp(sums)[1] - 51, -1022))
    rounded = np.zeros(len(extra))
    rounded[held] = np.floor(extra[held] / unit[group[held]]) * unit[group[held]]
    return rounded


@numba.njit(cache=True, nogil=True)
def _tolls(group, most, size, extra):  # type: ignore[no-untyped-def]
    """Changes of the tolls, the levels above, and the tolls of all groups at the root."""
    n, groups = len(group), len(most)
    changes = np.zeros((2, n, most.max() + 1))
    above, below = np.full(n, n), np.full(groups, -1)
    left = np.zeros((groups, size.max() + 1))  # g of the levels below, rising, after a 0
    count = np.zeros(groups, np.int64)
    before, after = np.zeros(most.max() + 1), np.zeros(most.max() + 1)
    for i in range(n):
        g = group[i]
        if g < 0:
            continue
        if below[g] >= 0:
            above[below[g]] = i
        below[g] = i
        _sums(left[g], count[g], most[g], after)
        count[g] += 1
        place = count[g]
        while left[g, place - 1] > extra[i] and place > 1:
            left[g, place] = left[g, place - 1]
            place -= 1
        left[g, place] = extra[i]
        _sums(left[g], count[g], most[g], before)
        for used in range(most[g] + 1):
            changes[0, i, used] = after[used] - before[used]
            changes[1, i, used] = after[used + 1] - before[used] if used < most[g] else np.inf
    roots = np.zeros(groups)
    for g in range(groups):
        _sums(left[g], count[g], most[g], before)
        roots[g] = before[0]
    return changes, above, roots


@numba.njit(cache=True, nogil=True)
def _sums(left, count, most, tolls):  # type: ignore[no-untyped-def]
    """The tolls of `count` levels whose g stand in left[1:], for every number of non-zeros used before."""
    total, taken = 0.0, 0
    for used in range(most + 1):
        due = max(0, count - (most - used))
        while taken < due:
            taken += 1
            total += left[taken]
        tolls[used] = total
