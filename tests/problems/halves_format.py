"""A support rule of somebody else's: at most k non-zeros in each half of a channel's inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pvqbounds import formats
from pvqbounds.problems.supports import Budget, SupportRule


@dataclass(frozen=True)
class EachHalf(SupportRule):
    """At most `most` non-zeros among the first half of the inputs, and among the rest."""

    most: int

    def __str__(self) -> str:
        return f"keep {self.most} of each half"

    def budgets(self, n: int) -> list[Budget]:
        """Two groups."""
        return [(half, min(self.most, len(half))) for half in np.split(np.arange(n), [n // 2]) if len(half)]


@dataclass(frozen=True)
class Halves(formats.Sparsity):
    """halves:k4, alone or joined with values: halves:k4+int4."""

    most: int

    @property
    def name(self) -> str:
        """For example halves:k4."""
        return f"halves:k{self.most}"

    def rule(self, inputs: int, stride: int = 1) -> EachHalf:
        """The same for any number of inputs."""
        return EachHalf(self.most)


def halves(options: formats.Options) -> Halves:
    """The rule of ``halves`` and its options."""
    return Halves(options.number("k") or 1)
