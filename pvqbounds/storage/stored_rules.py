"""How the support rules of problems lie in the files of a result: a number, a pattern, or any groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pvqbounds.errors import InputError
from pvqbounds.problems import Problem
from pvqbounds.problems.supports import Groups, SupportRule, rule_of
from pvqbounds.storage.nodes import Arrays, Document, Node, StoredArrays

__all__ = ["RuleLayout", "read_rules", "rules_of"]

GROUPS = "groups"


@dataclass(frozen=True)
class RuleLayout:
    """Fields and arrays of the support rules of some problems."""

    named: bool
    """Whether each is a number of non-zeros or an N:M pattern; else all are written as groups."""

    def common(self, problem: Problem) -> Document:
        """What all entries share, by one of them."""
        if not self.named:
            return {"pattern": None, "rule": GROUPS}
        stride = {} if problem.stride == 1 else {"pattern_stride": problem.stride}
        return {"pattern": None if problem.pattern is None else list(problem.pattern)} | stride

    def own(self, problem: Problem) -> Document:
        """What an entry has for itself."""
        return {"nnz": problem.nnz if self.named else None}

    def arrays(self, problems: Sequence[Problem]) -> Arrays:
        """The number of each input's group, and the budget of each group, of entries of one Gram."""
        if self.named:
            return {}
        groups = [Groups.of(problem.rule, problem.n) for problem in problems]
        most = np.zeros((len(groups), max(1, *(len(own.most) for own in groups))), dtype=np.int64)
        for row, own in zip(most, groups, strict=True):
            row[: len(own.most)] = own.most
        return {"group": np.stack([own.group for own in groups]), "group_nnz": most}


def rules_of(problems: Sequence[Problem]) -> RuleLayout:
    """The layout that serves the rules of all of these problems."""
    named = [problem.nnz is not None or problem.pattern is not None for problem in problems]
    return RuleLayout(all(named))


def read_rules(
    entries: Sequence[Node], common: Node, arrays: StoredArrays, prefix: str, sizes: Sequence[int]
) -> list[SupportRule]:
    """The rule of each entry about so many inputs.

    Raises
    ------
    InputError
        If one is missing, given twice or cannot be.
    """
    if common.optional("rule", lambda name: common.text(name, (GROUPS,))) is not None:
        return _groups(entries, arrays, prefix, sizes)
    pattern = common.optional("pattern", common.pair)
    stride = common.optional("pattern_stride", common.whole) or 1
    rules = []
    for entry, n in zip(entries, sizes, strict=True):
        nnz = entry.optional("nnz", entry.count)
        if (nnz is None) == (pattern is None):
            raise InputError(f"{arrays.path} must give either nnz or a pattern for each entry, not both.")
        rules.append(rule_of(n, nnz, pattern, stride))
    return rules


def _groups(
    entries: Sequence[Node], arrays: StoredArrays, prefix: str, sizes: Sequence[int]
) -> list[SupportRule]:
    numbers = arrays.rows(entries, f"{prefix}/group", np.int64, sizes)
    rules: list[SupportRule] = []
    taken: dict[int, int] = {}
    for entry, number in zip(entries, numbers, strict=True):
        g = entry.count("gram")
        name = f"{prefix}/group_nnz/{g}"
        budgets = arrays.take(name, np.int64)
        place = taken[g] = taken.get(g, -1) + 1
        members = sum(other.count("gram") == g for other in entries)
        fits = budgets.ndim == 2 and len(budgets) == members and 1 <= budgets.shape[1] <= len(number)
        if not fits or budgets.min() < 0:
            raise InputError(
                f"{name} in the arrays of {arrays.path} must hold one row for each of {members} entries, of "
                f"at most {len(number)} numbers that are not negative."
            )
        if number.min() < -1 or number.max() >= budgets.shape[1]:
            raise InputError(
                f"{prefix}/group/{g} in the arrays of {arrays.path} names a group that {name} does not have."
            )
        rules.append(Groups(number, budgets[place]))
    return rules
