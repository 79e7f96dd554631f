"""Values and supports that a file says, in place of a rule that finds them from weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.problems.formats.format import Format
from pvqbounds.problems.formats.rules import LevelRule, StepRule, ValueRule
from pvqbounds.problems.formats.sparsity import NofM, Sparsity
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.supports import SupportRule
from pvqbounds.problems.values import ValueSet

__all__ = ["StoredKept", "StoredLevels", "StoredSteps", "stored_format"]

Array = NDArray[np.float64]

NO_RULE = "What a file allows is read from the file; no rule finds it from weights."


class _Stored(ValueRule):
    """What values of a file have in common, whatever found them."""

    words: str
    bits: int

    @property
    def name(self) -> str:
        """What they are, such as int4:g128."""
        return self.words

    @property
    def code_bits(self) -> int:
        """As the file says."""
        return self.bits

    def side_bits(self, shape: tuple[int, int]) -> int:
        """Unknown: the size of a file is its own."""
        raise InputError(NO_RULE)

    def rows(self, weights: Array, live: NDArray[np.bool_]) -> Iterator[ValueSet]:
        """There is no rule."""
        raise InputError(NO_RULE)

    def fault(self, values: ValueSet) -> tuple[str, str] | None:
        """Whether they are steps or levels, as the file has them."""
        if self.has_steps != (values.lattice is not None):
            return "grid", f"of another kind than {self.words}"
        return None


@dataclass(frozen=True)
class StoredSteps(_Stored, StepRule):
    """Whole multiples of the steps of a file."""

    words: str
    bits: int


@dataclass(frozen=True)
class StoredLevels(_Stored, LevelRule):
    """Levels of a file."""

    words: str
    bits: int


@dataclass(frozen=True)
class StoredKept(Sparsity):
    """As many weights of each channel as the file keeps of it, anywhere."""

    name = "kept as in the file"

    def rule(self, inputs: int, stride: int = 1) -> SupportRule:
        """There is no rule."""
        raise InputError(NO_RULE)

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Whether it is a number of weights."""
        return None if problem.nnz is not None else ("nnz", "left out, where the file keeps so many weights")

    def text(self, kept: str) -> str:
        """How many, where that is one number."""
        return f"{self.name}{kept}"

    def condition(self, unit: str) -> str:
        """That each keeps as many as the file."""
        return f"as many weights in each {unit} as the file keeps"


def stored_format(words: str, bits: int, steps: bool, pattern: tuple[int, int] | None, kept: bool) -> Format:
    """The format of a file: its values, if `words` names some, and 2:4 or as many weights as it keeps."""
    support = NofM(*pattern) if pattern is not None else StoredKept() if kept else None
    rule = StoredSteps if steps else StoredLevels
    return Format(rule(words, bits) if words else None, support)
