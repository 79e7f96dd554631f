"""Which weights may be non-zero: the support rules, as groups of inputs with a budget each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.validation import whole_number

__all__ = [
    "ALL",
    "All",
    "AtMost",
    "Budget",
    "Groups",
    "Pattern",
    "SupportRule",
    "allow_all_of",
    "checked_budgets",
    "checked_pattern",
    "largest_kept",
    "rule_of",
]

Budget = tuple[NDArray[np.int64], int]
"""Inputs, and how many of them may be non-zero."""


MOST_KEPT = 2**31


class SupportRule(ABC):
    """Which of n weights may be non-zero: so many of each of some groups."""

    @abstractmethod
    def budgets(self, n: int) -> list[Budget]:
        """Disjoint groups of the n inputs with the number of non-zeros that each may have.

        Inputs that are in no group have no limit.
        """

    @abstractmethod
    def __str__(self) -> str:
        """The rule in a few words."""

    def among(self, inputs: NDArray[np.bool_]) -> SupportRule:
        """The rule for the inputs of a mask, shape (n,), where those left out spend nothing."""
        groups = Groups.of(self, len(inputs))
        return Groups(groups.group[inputs], groups.most)


@dataclass(frozen=True)
class All(SupportRule):
    """All weights may be non-zero."""

    def __str__(self) -> str:
        return "keep all"

    def among(self, inputs: NDArray[np.bool_]) -> All:
        """Themselves."""
        return self

    def budgets(self, n: int) -> list[Budget]:
        """One group without a limit."""
        return [(np.arange(n), n)]


@dataclass(frozen=True)
class AtMost(SupportRule):
    """At most so many non-zeros in all."""

    nnz: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "nnz", whole_number(self.nnz, "nnz", 0, MOST_KEPT))

    def __str__(self) -> str:
        return f"keep {self.nnz}"

    def budgets(self, n: int) -> list[Budget]:
        """One group."""
        return [(np.arange(n), min(self.nnz, n))]


@dataclass(frozen=True)
class Pattern(SupportRule):
    """At most `kept` of every `size` weights `stride` apart; a shorter last group may keep as many."""

    kept: int
    size: int
    stride: int = 1

    def __post_init__(self) -> None:
        kept, size = checked_pattern((self.kept, self.size))
        stride = whole_number(self.stride, "The stride of a pattern", 1, MOST_KEPT)
        for name, value in (("kept", kept), ("size", size), ("stride", stride)):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"pattern {self.kept}:{self.size}"

    def budgets(self, n: int) -> list[Budget]:
        """One group for every `size` inputs."""
        inputs = np.arange(n)
        rows = [inputs[position :: self.stride] for position in range(self.stride)]
        groups = [row[i : i + self.size] for row in rows for i in range(0, len(row), self.size)]
        return [(group, min(self.kept, len(group))) for group in groups]


@dataclass(frozen=True, eq=False)
class Groups(SupportRule):
    """Any disjoint groups with a budget each: what a rule of another kind comes down to."""

    group: NDArray[np.int64]
    """Number of the group of each input, -1 for those without a limit, shape (n,)."""
    most: NDArray[np.int64]
    """Non-zeros that each group may have."""

    def __post_init__(self) -> None:
        for name in ("group", "most"):
            own = np.array(_whole_numbers(getattr(self, name)))
            own.flags.writeable = False
            object.__setattr__(self, name, own)
        if (self.group < -1).any() or (self.group >= len(self.most)).any() or (self.most < 0).any():
            raise InputError(
                f"Groups are numbered from 0 to {len(self.most) - 1}, or -1 for no limit, each with a budget "
                "that is not negative."
            )

    @classmethod
    def of(cls, rule: SupportRule, n: int) -> Groups:
        """What a rule comes down to for n inputs."""
        group = np.full(n, -1)
        most: list[int] = []
        for members, budget in rule.budgets(n):
            if len(members):  # groups without members would be more than there are inputs
                group[members] = len(most)
                most.append(budget)
        return cls(group, np.array(most, dtype=np.int64))

    def __str__(self) -> str:
        return f"{len(self.most)} groups with budgets of their own"

    def budgets(self, n: int) -> list[Budget]:
        """One group for each number, and the inputs without a limit."""
        members = [np.flatnonzero(self.group == number) for number in range(len(self.most))]
        limited = [(own, min(int(most), len(own))) for own, most in zip(members, self.most, strict=True)]
        free = np.flatnonzero(self.group < 0)
        return [*limited, (free, len(free))] if len(free) else limited


ALL = All()


def _whole_numbers(given: object) -> NDArray[np.int64]:
    """A list of whole numbers as int64."""
    array = np.asarray(given)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"Groups and their budgets are lists of whole numbers, not {shown(given)}.")
    return array.astype(np.int64, copy=False)


def checked_budgets(rule: SupportRule, n: int) -> list[Budget]:
    """What a rule, of somebody's own perhaps, allows n inputs: groups that hold each of them once.

    Inputs that the rule leaves out are a group of their own that may keep all.

    Raises
    ------
    InputError
        If groups overlap or name other inputs, or a budget is negative or not whole.
    """
    try:
        groups = [
            (_whole_numbers(group), whole_number(most, "A budget", 0, MOST_KEPT))
            for group, most in rule.budgets(n)
        ]
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The rule {shown(rule)} gives no budgets for {n} inputs ({error}).") from error
    named = np.concatenate([np.zeros(0, dtype=np.int64), *(group for group, _ in groups)])
    if len(named) and (named.min() < 0 or named.max() >= n):
        raise InputError(f"The rule {shown(rule)} names an input outside 0..{n - 1}.")
    times = np.bincount(named, minlength=n)
    if (times > 1).any():
        raise InputError(f"The rule {shown(rule)} has input {int(times.argmax())} in more than one group.")
    budgets = [(group, min(most, len(group))) for group, most in groups]
    rest = np.flatnonzero(times == 0)
    return [*budgets, (rest, len(rest))] if len(rest) else budgets


def allow_all_of(larger: Sequence[Budget], smaller: Sequence[Budget]) -> bool:
    """Whether every support within budgets of some inputs is one within other budgets of the same inputs.

    Of a group the smaller budgets keep at most what each group of theirs may keep of the inputs that both
    have: exactly so many, as their groups are disjoint.

    Parameters
    ----------
    larger, smaller
        Groups that hold each input once, as :func:`checked_budgets` gives them.
    """
    theirs, room = _numbered(larger)
    own, most = _numbered(smaller)
    pairs, shared = np.unique(own * len(room) + theirs, return_counts=True)
    kept = np.minimum(shared, most[pairs // len(room)])
    spent = np.bincount(pairs % len(room), weights=kept, minlength=len(room))
    return bool((spent <= room).all())


def _numbered(budgets: Sequence[Budget]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of the group of each input, and the budget of each group."""
    members = np.concatenate([inputs for inputs, _ in budgets])
    group = np.empty(len(members), dtype=np.int64)
    group[members] = np.repeat(np.arange(len(budgets)), [len(inputs) for inputs, _ in budgets])
    return group, np.array([most for _, most in budgets], dtype=np.int64)


def rule_of(n: int, nnz: int | None, pattern: tuple[int, int] | None, stride: int = 1) -> SupportRule:
    """The rule that the arguments of a problem of n inputs ask for.

    Raises
    ------
    InputError
        If both `nnz` and `pattern` are given, or one is out of range, or the stride does not divide n.
    """
    if nnz is None and pattern is None and stride == 1:
        return ALL
    if nnz is not None and pattern is not None:
        raise InputError("Give either nnz or pattern, not both.")
    stride = whole_number(stride, "The stride of a pattern", 1, max(1, n))
    if n % stride or (pattern is None and stride != 1):
        raise InputError(
            f"A stride of {stride} needs an N:M pattern and a number of weights that it divides, "
            f"not {n} weights."
        )
    if pattern is not None:
        return Pattern(*checked_pattern(pattern), stride)
    return AtMost(whole_number(nnz, "nnz", 0, n))


def checked_pattern(pattern: tuple[int, int]) -> tuple[int, int]:
    """(N, M) as whole numbers with 0 <= N <= M and M >= 1.

    Raises
    ------
    InputError
        If they are anything else.
    """
    try:
        first, second = pattern
    except (TypeError, ValueError) as error:
        raise InputError(f"The pattern must be two whole numbers N, M, not {shown(pattern)}.") from error
    size = whole_number(second, "M of the pattern N:M", 1, 2**31)
    return whole_number(first, "N of the pattern N:M", 0, size), size


def largest_kept(sizes: NDArray[np.float64], budgets: Sequence[Budget]) -> NDArray[np.bool_]:
    """Mask of the largest of each group in each row, as many as its budget; the lower index first on ties.

    Parameters
    ----------
    sizes
        Magnitudes, shape (rows, n).
    budgets
        Disjoint groups of the n inputs, the same for all rows.
    """
    kept = np.zeros(sizes.shape, dtype=np.bool_)
    alike: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    for inputs, most in budgets:
        alike.setdefault((len(inputs), most), []).append(inputs)
    for (_, most), members in alike.items():
        groups = np.array(members)
        places = np.argsort(-sizes[:, groups], axis=2, kind="stable")[:, :, :most]
        chosen = np.take_along_axis(groups[None], places, axis=2)
        np.put_along_axis(kept, chosen.reshape(len(sizes), -1), True, axis=1)
    return kept
