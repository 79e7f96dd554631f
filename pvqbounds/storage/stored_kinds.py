"""What the files of a result hold of each kind of problem, by its task: values, a rule, best weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import Gram, Problem, SparseLeastSquares
from pvqbounds.results.layer import SliceResult
from pvqbounds.storage.nodes import Arrays, Document, Node, StoredArrays
from pvqbounds.storage.stored_rules import RuleLayout, read_rules, rules_of
from pvqbounds.storage.stored_values import ValueLayout, layout_of, stated_layout

__all__ = ["KINDS", "SideLayout", "Stored", "StoredKind"]

Given = Sequence[tuple[Gram, NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class Stored:
    """A problem that was read, and the best weights found for it."""

    problem: Problem
    weight: NDArray[np.float64]
    codes: NDArray[np.int64] | None = None
    support: NDArray[np.int64] | None = None
    scale: float | None = None
    """That of the codes, where it was free."""


@dataclass(frozen=True)
class SideLayout:
    """How some problems of one kind lie in files."""

    values: ValueLayout | None
    rules: RuleLayout | None

    def common(self, problem: Problem) -> Document:
        """What all entries of a side share."""
        values = {} if self.values is None else self.values.common(problem.values)
        return values | ({} if self.rules is None else self.rules.common(problem))

    def own(self, problem: Problem) -> Document:
        """What an entry has for itself, beside its arrays."""
        return {} if self.rules is None else self.rules.own(problem)

    def alone(self, problem: Problem) -> Document:
        """What is allowed, of a problem without a layer."""
        values = {} if self.values is None else self.values.alone(problem.values)
        return values | self.own(problem) | ({} if self.rules is None else self.rules.common(problem))

    def arrays(self, problems: Sequence[Problem]) -> Arrays:
        """What is allowed of problems of one Gram, one row each."""
        values = {} if self.values is None else self.values.arrays([problem.values for problem in problems])
        return values | ({} if self.rules is None else self.rules.arrays(problems))


class StoredKind(ABC):
    """How one kind of problem lies in files."""

    points: type[np.generic]
    """Type of what a simple method makes of the weights: codes, or weights."""

    @abstractmethod
    def layout(self, problems: Sequence[Problem]) -> SideLayout:
        """The layout that serves all problems of a side."""

    @abstractmethod
    def best(self, slices: Sequence[SliceResult]) -> Arrays:
        """The best weights of problems of one Gram, one row each."""

    @abstractmethod
    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[Stored]:
        """The problems of one side, each on its Gram and weight in `given`."""


class StoredCodes(StoredKind):
    """Codes of steps or levels, under a support rule or not."""

    points = np.int64

    def __init__(self, ruled: bool) -> None:
        self.ruled = ruled

    def layout(self, problems: Sequence[Problem]) -> SideLayout:
        values = layout_of([problem.values for problem in problems])
        return SideLayout(values, rules_of(problems) if self.ruled else None)

    def best(self, slices: Sequence[SliceResult]) -> Arrays:
        return {"codes": np.stack([cast(NDArray[np.int64], s.bounds.codes) for s in slices])}

    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[Stored]:
        sizes = [gram.n for gram, _ in given]
        best = arrays.rows(entries, f"{prefix}/codes", np.int64, sizes)
        problems = stated_layout(common).read(entries, common, arrays, prefix, given)
        if self.ruled:
            rules = read_rules(entries, common, arrays, prefix, sizes)
            problems = [problem.under(rule) for problem, rule in zip(problems, rules, strict=True)]
        found = []
        for problem, codes in zip(problems, best, strict=True):
            inside = np.clip(codes, *problem.values.code_ends)  # others are found out when they are verified
            weight = problem.weight_of(inside)
            support = np.flatnonzero(weight) if problem.is_restricted else None
            found.append(Stored(problem, weight, codes, support, problem.scale_of(inside)))
        return found


class StoredWeights(StoredKind):
    """Weights of which few are kept."""

    points = np.float64

    def layout(self, problems: Sequence[Problem]) -> SideLayout:
        return SideLayout(None, rules_of(problems))

    def best(self, slices: Sequence[SliceResult]) -> Arrays:
        kept = np.zeros((len(slices), slices[0].problem.n), dtype=bool)
        for row, member in zip(kept, slices, strict=True):
            row[member.bounds.support] = True
        return {"kept": kept, "weight": np.stack([s.bounds.weight for s in slices])}

    def read(
        self, entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, given: Given
    ) -> list[Stored]:
        sizes = [gram.n for gram, _ in given]
        best = arrays.rows(entries, f"{prefix}/weight", np.float64, sizes)
        kept = arrays.rows(entries, f"{prefix}/kept", np.bool_, sizes)
        rules = read_rules(entries, common, arrays, prefix, sizes)
        return [
            Stored(SparseLeastSquares(*own, nnz=0).under(rule), weight, support=np.flatnonzero(row))
            for own, rule, weight, row in zip(given, rules, best, kept, strict=True)
        ]


KINDS: Mapping[str, StoredKind] = {
    "quantization": StoredCodes(ruled=False),
    "pruning": StoredWeights(),
    "joint": StoredCodes(ruled=True),
}
