"""Which weights may be non-zero: the support rules, as groups of inputs with a budget each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["All", "AtMost", "Budget", "Pattern", "SupportRule", "largest_kept"]

Budget = tuple[NDArray[np.int64], int]
"""Inputs, and how many of them may be non-zero."""


class SupportRule(ABC):
    """Which of n weights may be non-zero: so many of each of some groups."""

    @abstractmethod
    def budgets(self, n: int) -> list[Budget]:
        """Disjoint groups of the n inputs with the number of non-zeros that each may have."""


@dataclass(frozen=True)
class All(SupportRule):
    """All weights may be non-zero."""

    def budgets(self, n: int) -> list[Budget]:
        """One group without a limit."""
        return [(np.arange(n), n)]


@dataclass(frozen=True)
class AtMost(SupportRule):
    """At most so many non-zeros in all."""

    nnz: int

    def budgets(self, n: int) -> list[Budget]:
        """One group."""
        return [(np.arange(n), min(self.nnz, n))]


@dataclass(frozen=True)
class Pattern(SupportRule):
    """At most `kept` of every `size` weights `stride` apart; a shorter last group may keep as many."""

    kept: int
    size: int
    stride: int = 1

    def budgets(self, n: int) -> list[Budget]:
        """One group for every `size` inputs."""
        inputs = np.arange(n)
        rows = [inputs[position :: self.stride] for position in range(self.stride)]
        groups = [row[i : i + self.size] for row in rows for i in range(0, len(row), self.size)]
        return [(group, min(self.kept, len(group))) for group in groups]


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
