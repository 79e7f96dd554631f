"""The result of every budget of one channel: error against the number of non-zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pvqbounds.problems import Problem
from pvqbounds.problems.supports import AtMost
from pvqbounds.results.bounds import Bounds
from pvqbounds.results.layer import SliceResult

__all__ = ["BudgetCurve"]


@dataclass(frozen=True, eq=False)
class BudgetCurve:
    """The bounds of one channel with at most 0, 1, ..., n non-zeros."""

    entries: tuple[SliceResult, ...]
    """One for each budget, in their order, n + 1 in all."""

    def __repr__(self) -> str:
        return f"<BudgetCurve of {len(self.entries) - 1} inputs>"

    @classmethod
    def of(cls, problem: Problem, curve: Sequence[Bounds]) -> BudgetCurve:
        """The curve of a problem, as :func:`pvqbounds.budget_curve` gives it."""
        return cls(
            tuple(
                SliceResult(0, (0, problem.n), problem.under(AtMost(nnz)), bounds)
                for nnz, bounds in enumerate(curve)
            )
        )
