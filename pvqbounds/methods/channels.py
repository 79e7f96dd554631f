"""The channels of one Gram as arrays: what depends on the Gram is made once, and columns are batched."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import LeastSquares, Problem
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.supports import AtMost
from pvqbounds.problems.values import Tabulated, ValueSet

__all__ = ["Channels", "GroupBudgets", "for_each_gram", "values_next_to"]

Array = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class GroupBudgets:
    """Groups of equally many inputs, and how many of each every channel may keep."""

    inputs: NDArray[np.int64]
    """Shape (groups, size)."""
    most: NDArray[np.int64]
    """Shape (channels, groups)."""

    def largest(self, sizes: Array) -> NDArray[np.bool_]:
        """Which sizes, shape (channels, groups, size), are the largest of their group; the first on ties."""
        order = np.argsort(-sizes, axis=2, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(sizes.shape[2])[None, None], axis=2)
        return np.asarray(ranks < self.most[:, :, None])


@dataclass(frozen=True, eq=False)
class Channels:
    """Channels of one Gram whose budgets have the same groups, over inputs that are not always zero."""

    problems: Sequence[Problem]
    """In units in which the largest numbers are near 1."""

    @property
    def gram(self) -> Gram:
        """The Gram, shape (n, n)."""
        return self.problems[0].shared

    @cached_property
    def weight(self) -> Array:
        """Shape (channels, n)."""
        return np.stack([problem.weight for problem in self.problems])

    @cached_property
    def budgets(self) -> list[GroupBudgets]:
        """The groups of the support rule, those of one size together."""
        first = self.problems[0]
        differ = any(problem.rule != first.rule for problem in self.problems)
        listed = self.problems if differ else [first]
        kept = np.array([[most for _, most in problem.budgets] for problem in listed])
        kept = np.broadcast_to(kept, (len(self.problems), len(first.budgets)))
        sizes: dict[int, list[int]] = {}
        for number, (inputs, _) in enumerate(first.budgets):
            sizes.setdefault(len(inputs), []).append(number)
        return [
            GroupBudgets(np.stack([first.budgets[number][0] for number in own]), kept[:, own])
            for own in sizes.values()
        ]

    def largest(self, sizes: Array) -> NDArray[np.bool_]:
        """Mask of the largest of each group, as many as its budget; the lower index first on ties.

        Parameters
        ----------
        sizes
            Shape (channels, n).
        """
        kept = np.zeros(sizes.shape, dtype=np.bool_)
        for group in self.budgets:
            kept[:, group.inputs] = group.largest(sizes[:, group.inputs])
        return kept

    @cached_property
    def nearest(self) -> Callable[[int, Array], Array]:
        """:func:`values_next_to` the points of one input."""
        return values_next_to([problem.values for problem in self.problems])


def values_next_to(values: Sequence[ValueSet]) -> Callable[[int, Array], Array]:
    """What gives the values next to points of an input, one for each channel, shape (channels,)."""
    steps = [own.lattice for own in values if own.lattice is not None]
    if len(steps) == len(values):
        step, ends = np.stack(steps, axis=1), [own.code_ends for own in values]
        low, high = (np.stack([own[side] for own in ends], axis=1).astype(np.float64) for side in (0, 1))
        return lambda i, points: step[i] * np.rint(np.clip(points / step[i], low[i], high[i]))
    tables = [own.table for own in values if isinstance(own, Tabulated)]
    if len(tables) == len(values):
        widest = max(table.shape[1] for table in tables)
        tables = [
            table
            if table.shape[1] == widest
            else np.pad(table, ((0, 0), (0, widest - table.shape[1])), mode="edge")
            for table in tables
        ]

        def of_tables(i: int, points: Array) -> Array:
            levels = np.stack([table[i] for table in tables])
            place = np.abs(levels - points[:, None]).argmin(axis=1)
            return np.asarray(levels[np.arange(len(levels)), place], dtype=np.float64)

        return of_tables

    def one_by_one(i: int, points: Array) -> Array:
        return np.array([_nearest(own, i, point) for own, point in zip(values, points, strict=True)])

    return one_by_one


def _nearest(values: ValueSet, i: int, point: float) -> float:
    own = values.among(np.array([i]))
    code = own.nearest(np.array([point]))
    assert code is not None, "finite values have codes"
    return float(own.weight_of(code)[0])


def for_each_gram(
    problems: Sequence[Problem], prepare: Callable[[Gram], T], solve: Callable[[T, Channels], Array]
) -> list[NDArray[Any]]:
    """Proposals for problems of any Grams and rules, by what is made of the channels of one Gram.

    Parameters
    ----------
    prepare
        Makes what depends on the Gram alone, once for each.
    solve
        Gives allowed values, shape (channels, n), in the units of its channels.

    Returns
    -------
    Codes of finite values, else weights, shape (n,) each: inputs that are always zero are rounded to
    nearest, or removed under a support rule, which changes no error.
    """
    points: dict[int, NDArray[Any]] = {}
    for places in _alike(problems, lambda problem: problem.normalised.shared):
        live = problems[places[0]].normalised.shared.live
        if not live.any():
            points |= {i: _restored(problems[i], live, np.zeros(0)) for i in places}
            continue
        inner = {i: problems[i].normalised.among(live) for i in places}
        prepared = prepare(inner[places[0]].shared)
        for lot in _alike([problems[i] for i in places], _groups_of):
            own = [places[j] for j in lot]
            found = solve(prepared, Channels([inner[i] for i in own]))
            points |= {i: _restored(problems[i], live, row) for i, row in zip(own, found, strict=True)}
    return [points[i] for i in range(len(problems))]


def _alike(problems: Sequence[Problem], key: Callable[[Problem], Hashable]) -> list[list[int]]:
    """Positions of the problems of each key."""
    members: dict[Hashable, list[int]] = {}
    for i, problem in enumerate(problems):
        members.setdefault(key(problem), []).append(i)
    return list(members.values())


def _groups_of(problem: Problem) -> Hashable:
    """Equal for problems whose budgets have the same groups; the numbers of :class:`AtMost` may differ."""
    return AtMost if isinstance(problem.rule, AtMost) else problem.rule


def _restored(problem: Problem, live: NDArray[np.bool_], values: Array) -> NDArray[Any]:
    """Codes, or weights where values have none, of all inputs and in the problem's own units."""
    if not isinstance(problem, LeastSquares):
        weight = np.zeros(problem.n)
        weight[live] = np.ldexp(values, problem.units.weight)
        return weight
    codes = problem.values.zero_codes().copy() if problem.is_restricted else problem.codes_of_nearest()
    if live.any():
        own = problem.normalised.values.among(live).nearest(values)
        assert own is not None, "finite values have codes"
        codes[live] = own
    return codes
