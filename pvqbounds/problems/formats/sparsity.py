"""Densities and N:M patterns: which weights of a channel may be non-zero, and what their mask costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pvqbounds.errors import InputError, shown
from pvqbounds.problems.formats.options import whole
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.sparse import nnz_of_density
from pvqbounds.problems.supports import AtMost, Budget, Pattern, SupportRule, checked_pattern

__all__ = ["MASKS", "Density", "NofM", "Sparsity", "checked_mask", "density", "pattern"]


class Sparsity(ABC):
    """How many weights of a channel may be non-zero."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that is parsed to this."""

    @abstractmethod
    def rule(self, inputs: int, stride: int = 1) -> SupportRule:
        """The support rule of so many inputs, those of a pattern `stride` apart."""

    @property
    def density(self) -> float | None:
        """The part of the weights that it keeps by its name; None where it depends on their number."""
        return None

    @property
    def group(self) -> int | None:
        """Inputs, `stride` apart, that have a budget together, which no chunk may cut; None for all."""
        return None

    def stored_bits(self, inputs: int, stride: int = 1) -> float:
        """Bits a weight of its mask in the layout that is usual: a bitmap, as sparse checkpoints have it."""
        return 1.0

    def layer_budget(self, weights: int) -> int | None:
        """How many of so many weights all channels may keep together; None where each has its own rule."""
        return None

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Which field of a problem is not that of the rule, and why; None if it is its own."""
        own, theirs = self.rule(problem.n, problem.stride).budgets(problem.n), problem.budgets
        if _limits(own) == _limits(theirs):
            return None
        return "budgets", f"{problem.rule}, but not those of {self.name}"

    def text(self, kept: str) -> str:
        """The rule in words; `kept` says how many weights are kept, where that is one number."""
        return self.name

    def condition(self, unit: str) -> str:
        """What an interval rests on, of each channel or chunk (`unit`), beside the rule; empty if nothing."""
        return ""

    def removes_nothing(self, channels: int) -> bool:
        """Whether nothing is left to remove of so many input channels behind each output channel."""
        return False

    def note(self, channels: int) -> str:
        """What a reader must know of so many input channels behind each output channel."""
        return ""

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
    "stored": lambda sparsity, inputs, stride: sparsity.stored_bits(inputs, stride),
    "none": lambda sparsity, inputs, stride: 0.0,
}
"""Ways to count a mask: bits a weight of so many inputs, those of a pattern so far apart."""

USUAL_MASK = "stored"
"""How a mask is counted where nobody says."""


def checked_mask(mask: str | None) -> str:
    """A way to count masks, the usual one for None.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if mask is None:
        return USUAL_MASK
    if not isinstance(mask, str) or mask not in MASKS:
        raise InputError(f"A mask is counted as one of {', '.join(MASKS)}, not {shown(mask)}.")
    return mask


@dataclass(frozen=True)
class Density(Sparsity):
    """A fraction of each channel's weights, rounded down to a whole number of them."""

    fraction: float

    def __post_init__(self) -> None:
        nnz_of_density(self.fraction, 1)

    @property
    def name(self) -> str:
        """For example 12.5%."""
        return f"{Decimal(repr(float(self.fraction))).scaleb(2):f}%"  # exactly: it is read back as it was

    @property
    def density(self) -> float:
        """The fraction."""
        return self.fraction

    def kept(self, inputs: int, stride: int = 1) -> float:
        """The fraction: the budget, of a layer as of a channel, whatever rounding leaves unspent."""
        return self.fraction

    def entropy(self, inputs: int, stride: int = 1) -> float:
        """log2 of the number of ways to keep so many, for each weight."""
        return _log2_choices(inputs, nnz_of_density(self.fraction, inputs)) / inputs

    def rule(self, inputs: int, stride: int = 1) -> AtMost:
        """So many anywhere."""
        return AtMost(nnz_of_density(self.fraction, inputs))

    def layer_budget(self, weights: int) -> int:
        """The same fraction of all."""
        return nnz_of_density(self.fraction, weights)

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Whether the number kept is that of the density."""
        if problem.pattern is not None:
            return "pattern", f"the format {self.name} has none"
        allowed = nnz_of_density(self.fraction, problem.n)
        if problem.nnz != allowed:
            return "nnz", f"{problem.nnz}, but a density of {self.fraction} allows {allowed}"
        return None

    def text(self, kept: str) -> str:
        """The density, and how many weights are kept of how many."""
        return f"density {self.fraction:g}{kept}"

    def condition(self, unit: str) -> str:
        """That each spends its own."""
        return f"a pruning budget for each {unit}"


@dataclass(frozen=True)
class NofM(Sparsity):
    """N of every M inputs; a shorter last group may keep N too."""

    kept_of_group: int
    size: int

    def __post_init__(self) -> None:
        checked_pattern((self.kept_of_group, self.size))

    @property
    def name(self) -> str:
        """For example 2:4."""
        return f"{self.kept_of_group}:{self.size}"

    @property
    def density(self) -> float:
        """N / M."""
        return self.kept_of_group / self.size

    @property
    def group(self) -> int:
        """M."""
        return self.size

    def rule(self, inputs: int, stride: int = 1) -> Pattern:
        """So many of each group."""
        return Pattern(self.kept_of_group, self.size, stride)

    def stored_bits(self, inputs: int, stride: int = 1) -> float:
        """The position in its group of each kept weight, as sparse matrix units read them."""
        return (self.size - 1).bit_length() * self.kept(inputs, stride)

    def fault(self, problem: Problem) -> tuple[str, str] | None:
        """Whether the pattern is this one."""
        if problem.pattern != (self.kept_of_group, self.size):
            return "pattern", f"{problem.pattern}, but the format is {self.name}"
        return None

    def text(self, kept: str) -> str:
        """The pattern."""
        return f"pattern {self.name}"

    def removes_nothing(self, channels: int) -> bool:
        """Whether a shorter only group may keep all it has."""
        return channels <= self.kept_of_group and channels < self.size

    def note(self, channels: int) -> str:
        """That the last group is shorter."""
        short = channels % self.size
        if not short:
            return ""
        return (
            f"The last group of {self.size} input channels has only {short}, and may keep "
            f"{min(short, self.kept_of_group)} of them."
        )


def _limits(budgets: Sequence[Budget]) -> list[tuple[list[int], int]]:
    """The groups that may not be kept whole, in an order of their own."""
    return sorted((group.tolist(), most) for group, most in budgets if most < len(group))


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
        fraction = float(Decimal(text.removesuffix("%")).scaleb(-2))
    except ArithmeticError:  # no number
        fraction = math.nan
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"A density is a percentage above 0% and up to 100%, like 25%, not {shown(text)}.")
    return Density(fraction)


def pattern(text: str) -> NofM:
    """What a name like ``2:4`` asks for.

    Raises
    ------
    InputError
        If it is not N:M with N <= M.
    """
    kept, group = text.split(":")
    return NofM(*checked_pattern((whole(kept), whole(group))))
