"""Which of two formats is better, and at what size: the verdict as a relation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pvqbounds.problems.formats import EQUAL_SIZE

__all__ = ["EQUAL_SIZE", "Relation", "SizeOfBetter", "size_beside"]

SizeOfBetter = Literal["smaller", "equal", "larger"]


@dataclass(frozen=True)
class Relation:
    """A pair of formats of which the first is provably better."""

    better: str
    worse: str
    size: SizeOfBetter
    """Of the better one, beside the other."""

    @property
    def dominates(self) -> bool:
        """Whether the better one is no larger, within `EQUAL_SIZE`."""
        return self.size != "larger"


def size_beside(own: float, other: float) -> SizeOfBetter:
    """How a size in bits a weight compares with another one."""
    if abs(own - other) <= EQUAL_SIZE * max(own, other):
        return "equal"
    return "smaller" if own < other else "larger"
