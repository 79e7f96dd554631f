"""Densities and N:M patterns: which weights of a channel may be non-zero, and what their mask costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.formats.options import whole
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.problems.supports import AtMost, Pattern, SupportRule, checked_pattern

__all__ = ["MASKS", "Density", "NofM", "Sparsity", "density", "pattern"]


class Sparsity(ABC):
    """How many weights of a channel may be non-zero."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that is parsed to this."""

    @abstractmethod
    def rule(self, inputs: int, stride: int = 1) -> SupportRule:
        """The support rule of so many inputs, those of a pattern `stride` apart."""

    @abstractmethod
    def position_bits(self) -> int:
        """Bits of the position of a kept weight in the layout that hardware reads.

        Raises
        ------
        InputError
            If there is none.
        """

    def kept(self, inputs: int, stride: int = 1) -> float:
        """The part of the weights that may be non-zero."""
        return sum(kept for _, kept in self.rule(inputs, stride).budgets(inputs)) / inputs

    def entropy(self, inputs: int, stride: int = 1) -> float:
        """log2 of the number of masks that keep all they may, for each weight."""
        budgets = self.rule(inputs, stride).budgets(inputs)
        return math.fsum(_log2_choices(len(group), kept) for group, kept in budgets) / inputs


MASKS: dict[str, Callable[[Sparsity, int, int], float]] = {
    "bitmap": lambda sparsity, inputs, stride: 1.0,
    "entropy": lambda sparsity, inputs, stride: sparsity.entropy(inputs, stride),
    "stored": lambda sparsity, inputs, stride: sparsity.position_bits() * sparsity.kept(inputs, stride),
    "none": lambda sparsity, inputs, stride: 0.0,
}
"""Ways to count a mask: bits a weight of so many inputs, those of a pattern so far apart."""


@dataclass(frozen=True)
class Density(Sparsity):
    """A percentage of each channel's weights, rounded down to a whole number of them."""

    percent: float

    @property
    def name(self) -> str:
        """For example 12.5%."""
        return f"{np.format_float_positional(self.percent, trim='-')}%"

    def rule(self, inputs: int, stride: int = 1) -> AtMost:
        """So many anywhere."""
        return AtMost(nnz_of_density(self.percent / 100.0, inputs))

    def position_bits(self) -> int:
        """No hardware has a layout for it."""
        raise InputError(
            f"There is no stored layout of the mask of {self.name}; count it as a bitmap or by its entropy."
        )


@dataclass(frozen=True)
class NofM(Sparsity):
    """N of every M inputs; a shorter last group may keep N too."""

    kept_of_group: int
    group: int

    @property
    def name(self) -> str:
        """For example 2:4."""
        return f"{self.kept_of_group}:{self.group}"

    def rule(self, inputs: int, stride: int = 1) -> Pattern:
        """So many of each group."""
        return Pattern(self.kept_of_group, self.group, stride)

    def position_bits(self) -> int:
        """Bits of a position in the group."""
        return (self.group - 1).bit_length()


def _log2_choices(size: int, kept: int) -> float:
    logs = math.lgamma(size + 1) - math.lgamma(kept + 1) - math.lgamma(size - kept + 1)
    return max(logs / math.log(2.0), 0.0)


def density(text: str) -> Density:
    """What a name like ``12.5%`` asks for.

    Raises
    ------
    InputError
        If it is not a number in (0, 100].
    """
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0.0 < percent <= 100.0:
        raise InputError(f"A density is a percentage above 0% and up to 100%, like 25%, not {shown(text)}.")
    return Density(percent)


def pattern(text: str) -> NofM:
    """What a name like ``2:4`` asks for.

    Raises
    ------
    InputError
        If it is not N:M with N <= M.
    """
    kept, group = text.split(":")
    return NofM(*checked_pattern((whole(kept), whole(group))))
