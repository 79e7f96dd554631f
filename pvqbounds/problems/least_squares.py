"""The one problem: the least error over values of a value set on an allowed support.

Minimise E(v) = (v - w)ᵀ G (v - w) over v_i in V_i, where a support rule says which v_i may be non-zero.
Quantization is uniform steps or levels with every support allowed, pruning is ℝ under a rule, and joint
compression is steps or levels under a rule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pvqbounds.arithmetic.enclosures import Enclosure, difference, quadratic_form
from pvqbounds.errors import InputError, shown
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.supports import (
    ALL,
    AtMost,
    Budget,
    Pattern,
    SupportRule,
    checked_budgets,
    largest_kept,
)
from pvqbounds.problems.units import Units, enclosure_scaled, exponent_of, scaled_exactly
from pvqbounds.problems.validation import as_real_array
from pvqbounds.problems.values import ValueSet

__all__ = [
    "LeastSquares",
    "Point",
    "Problem",
    "Task",
    "all_of",
    "check_magnitude",
    "checked_pair",
    "checked_problem",
    "common_units",
    "moved",
    "scaled_weights",
]

Task = Literal["quantization", "pruning", "joint"]
"""Kind of a problem, as the sides of a layer are told apart by it."""

LARGEST_EXPONENT, SMALLEST_EXPONENT = 280.0, -250.0
"""Decimal exponents between which errors must lie: float64 ends at 308 and -308."""


class Point(NamedTuple):
    """Weights that a problem allows, and their error."""

    weight: NDArray[np.float64]
    """v, shape (n,)."""
    codes: NDArray[np.int64] | None
    """Codes of the values, shape (n,); None where values have none."""
    support: NDArray[np.int64] | None
    """Inputs that may be non-zero, rising; None where no rule restricts them."""
    error: Enclosure
    """Enclosure of E(v)."""
    scale: float | None = None
    """The scale of the codes, where it was free."""

    @property
    def upper(self) -> float:
        """Upper end of E(v), which is a mean square: never below 0."""
        return max(self.error.upper, 0.0)


@dataclass(frozen=True, eq=False, repr=False)
class Problem(ABC):
    """Minimise E(v) = (v - w)ᵀ G (v - w) over v_i in V_i with an allowed support."""

    shared: Gram
    """The Gram, which the channels of a layer have in common."""
    gram: NDArray[np.float64]
    """Its matrix."""
    weight: NDArray[np.float64]
    """w, shape (n,)."""
    values: ValueSet
    """V, one set for each input."""
    rule: SupportRule
    """Which weights may be non-zero."""

    def __init__(
        self, gram: Gram | ArrayLike, weight: ArrayLike, values: ValueSet, rule: SupportRule
    ) -> None:
        shared, vector = checked_pair(gram, weight)
        parts = {"shared": shared, "gram": shared.matrix, "weight": vector, "values": values, "rule": rule}
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        if values.n != len(vector):
            raise InputError(f"There are values for {values.n} inputs, but {len(vector)} weights.")
        check_magnitude(shared.matrix, values.largest)
        self._refuse_missing_zeros()
        self.in_units(self.units)  # refuses numbers that lie too far apart

    def __repr__(self) -> str:
        rule = f", {self.rule}" if self.is_restricted else ""
        return f"<{type(self).__name__} of {self.n} inputs: {self.values}{rule}>"

    def _refuse_missing_zeros(self) -> None:
        if not self.is_restricted:
            return
        without = np.flatnonzero(~self.values.has_zero())
        if len(without):
            raise InputError(
                f"A support rule sets weights to 0, but 0 is not among the values of input {without[0]}; "
                "give it one, or leave out nnz and pattern."
            )

    @property
    def n(self) -> int:
        """Fan-in."""
        return len(self.weight)

    @property
    def task(self) -> Task:
        """Kind of the problem."""
        if not self.values.is_finite:
            return "pruning"
        return "joint" if self.is_restricted else "quantization"

    @property
    def nnz(self) -> int | None:
        """Non-zeros in all, where that is the rule."""
        return self.rule.nnz if isinstance(self.rule, AtMost) else None

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(N, M), where that is the rule."""
        return (self.rule.kept, self.rule.size) if isinstance(self.rule, Pattern) else None

    @property
    def stride(self) -> int:
        """How far apart the weights of a group of `pattern` lie."""
        return self.rule.stride if isinstance(self.rule, Pattern) else 1

    @cached_property
    def budgets(self) -> list[Budget]:
        """Groups of inputs, each input in one of them, and how many of each may be non-zero."""
        return checked_budgets(self.rule, self.n)

    @cached_property
    def is_restricted(self) -> bool:
        """Whether some weights have to be zero."""
        return any(most < len(group) for group, most in self.budgets)

    @cached_property
    def units(self) -> Units:
        """Units in which the largest numbers are near 1."""
        largest = max(float(np.abs(self.weight).max()), self.values.largest)
        return Units(self.shared.exponent, exponent_of(largest))

    @cached_property
    def normalised(self: P) -> P:
        """The same problem in :attr:`units`: what solvers and proofs work on."""
        return self.in_units(self.units)

    def in_units(self: P, units: Units) -> P:
        """The problem with its Gram over ``2**units.gram``, weights and values over ``2**units.weight``.

        Raises
        ------
        InputError
            If a number is lost by underflow or overflows.
        """
        if units == (0, 0):
            return self
        scaled_weights(self.values.numbers, -units.weight)
        return moved(
            self,
            shared=self.shared.in_units(units.gram),
            weight=scaled_weights(self.weight, -units.weight),
            values=self.values.times(-units.weight),
        )

    def under(self: P, rule: SupportRule) -> P:
        """The same channel, of the same Gram, under another support rule.

        Raises
        ------
        InputError
            If it is no rule, or one that needs a 0 that is not among the values.
        """
        if not isinstance(rule, SupportRule):
            raise InputError(f"The rule must be a SupportRule, not {shown(rule)}.")
        other = moved(self, rule=rule)
        other._refuse_missing_zeros()
        return other

    def among(self: P, inputs: NDArray[np.bool_]) -> P:
        """The problem over the inputs of a mask, shape (n,), alone: those left out spend no budget."""
        if inputs.all():
            return self
        return moved(
            self,
            shared=self.shared.among(inputs),
            weight=self.weight[inputs],
            values=self.values.among(inputs),
            rule=self.rule.among(inputs),
        )

    @cached_property
    def signal(self) -> Enclosure:
        """Enclosure of wᵀGw."""
        form = quadratic_form(self.normalised.gram, self.normalised.weight)
        return enclosure_scaled(form, self.units.error)

    def error_of(self, weight: ArrayLike) -> Enclosure:
        """Enclosure of E(v) of any weights v, shape (n,), whether the problem allows them or not.

        Raises
        ------
        InputError
            If they are not n numbers.
        """
        array = as_real_array(weight, "The weight", ndim=1)
        if len(array) != self.n:
            raise InputError(f"The error is that of {self.n} weights, not of {len(array)}.")
        inner = self.normalised
        scaled = scaled_weights(array, -self.units.weight)
        form = quadratic_form(inner.gram, *difference(scaled, inner.weight))
        return enclosure_scaled(form, self.units.error)

    def checked_support(self, support: ArrayLike) -> NDArray[np.int64]:
        """`support` as sorted int64 indices.

        Raises
        ------
        InputError
            If an index is repeated, out of range, or the budget is exceeded.
        """
        try:
            array = np.asarray(support)
        except ValueError as error:
            raise InputError("The support must be a list of input indices.") from error
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InputError("The support must be a list of input indices.")
        indices = np.unique(array.astype(np.int64)) if array.size else np.zeros(0, dtype=np.int64)
        if len(indices) != array.size:
            raise InputError("The support names an input twice.")
        if len(indices) and (indices[0] < 0 or indices[-1] >= self.n):
            raise InputError(f"The support names an input outside 0..{self.n - 1}.")
        for group, kept in self.budgets:
            found = int(np.isin(indices, group).sum())
            if found > kept:
                apart = f" ({self.stride} apart)" if self.stride > 1 else ""
                raise InputError(
                    f"The support keeps {found} of inputs {group[0]}..{group[-1]}{apart}, "
                    f"where {kept} are allowed."
                )
        return indices

    @property
    def settled(self) -> Problem:
        """The problem with what is free beside codes or weights chosen without a solver; else itself."""
        return self

    @abstractmethod
    def checked(self, values: Any) -> NDArray[Any]:
        """Codes, or weights where values have no codes, as the array that they have to be.

        Raises
        ------
        InputError
            If the problem does not allow them.
        """

    @abstractmethod
    def error(self, values: NDArray[Any]) -> Enclosure:
        """Enclosure of E of codes, or of weights where values have no codes, whatever the support."""

    @abstractmethod
    def point(self, values: NDArray[Any]) -> Point:
        """The weights of codes, or weights where values have no codes, checked and evaluated.

        Raises
        ------
        InputError
            If the problem does not allow them.
        """

    @abstractmethod
    def start(self) -> Point:
        """Weights that need no solver: round to nearest, magnitude pruning, or both."""


P = TypeVar("P", bound=Problem)


def checked_problem(problem: object) -> Problem:
    """`problem`, if it is one.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not isinstance(problem, Problem):
        raise InputError(
            "A problem is an IntegerLeastSquares, a CodebookLeastSquares or a SparseLeastSquares, "
            f"not {shown(problem)}."
        )
    return problem


def all_of(kind: type[P], problems: Iterable[Problem]) -> list[P]:
    """The problems, as ones of this kind.

    Raises
    ------
    TypeError
        If one is of another kind: none is left out without a word.
    """
    found = []
    for problem in problems:
        if not isinstance(problem, kind):
            raise TypeError(f"{type(problem).__name__} among problems that are all {kind.__name__}.")
        found.append(problem)
    return found


@dataclass(frozen=True, eq=False, repr=False)
class LeastSquares(Problem):
    """Minimise E(v) over finite value sets of any kind, under any support rule.

    :class:`~pvqbounds.IntegerLeastSquares` and :class:`~pvqbounds.CodebookLeastSquares` make such problems
    from plain numbers; this is the door for a value set or a support rule of one's own. Steps are best given
    to ``IntegerLeastSquares.of_steps``: split inequalities and batches are for its class.

    Parameters
    ----------
    gram
        G = XᵀX/N, shape (n, n), or a :class:`~pvqbounds.Gram`.
    weight
        w, shape (n,).
    values
        A :class:`~pvqbounds.problems.values.ValueSet` of n finite sets.
    rule
        A :class:`~pvqbounds.problems.supports.SupportRule`; all weights may be non-zero if left out.

    Raises
    ------
    InputError
        If numbers are not finite, sizes disagree, the Gram is asymmetric or indefinite, or 0 is not among
        the values where a rule needs it.
    """

    def __init__(
        self,
        gram: Gram | ArrayLike,
        weight: ArrayLike,
        values: ValueSet,
        rule: SupportRule = ALL,
    ) -> None:
        if not (isinstance(values, ValueSet) and values.is_finite and isinstance(rule, SupportRule)):
            raise InputError(
                "The values must be a ValueSet of finite sets and the rule a SupportRule; for weights that "
                "are re-fitted freely take a SparseLeastSquares."
            )
        values.check()
        super().__init__(gram, weight, values.held(), rule)

    def codes_of_nearest(self) -> NDArray[np.int64]:
        """Round to nearest, shape (n,); under a rule of the largest weights, all others are zero."""
        codes = self.values.nearest(self.weight)
        if not self.is_restricted:
            return codes
        kept = largest_kept(np.abs(self.weight)[None], self.budgets)[0]
        return np.where(kept, codes, self.values.zero_codes())

    def checked_codes(self, codes: ArrayLike) -> NDArray[np.int64]:
        """`codes` as int64, shape (n,).

        Raises
        ------
        InputError
            If they are not integers, not n of them, out of range, or non-zero where the rule forbids it.
        """
        array = as_real_array(codes, "The codes", ndim=1)
        if len(array) != self.n or (array != np.rint(array)).any():
            raise InputError(f"The codes must be {self.n} integers.")
        low, high = self.values.code_ends
        outside = np.flatnonzero((array < low) | (array > high))
        if len(outside):
            i = outside[0]
            raise InputError(
                f"A code lies outside the grid [{low[i]}, {high[i]}]: it is {array[i]:.0f}, of input {i}."
            )
        whole: NDArray[np.int64] = array.astype(np.int64)
        if self.is_restricted:
            self.checked_support(np.flatnonzero(self.weight_of(whole)))
        return whole

    def checked(self, values: Any) -> NDArray[np.int64]:
        """:meth:`checked_codes`."""
        return self.checked_codes(values)

    def scale_of(self, codes: NDArray[np.int64]) -> float | None:
        """The best scale of codes where it is free; None where it is given."""
        return None

    def weight_of(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values of codes, shape (n,), rounded to float64."""
        return self.values.weight_of(codes)

    def error(self, values: NDArray[Any]) -> Enclosure:
        """Enclosure of E(v), the mean squared output error of the exact values of codes (not rounded).

        Raises
        ------
        InputError
            If they are not n integers: weights v are no codes.
        """
        codes = np.asarray(values)
        if codes.shape != (self.n,) or (codes.dtype.kind not in "iu" and (codes != np.rint(codes)).any()):
            raise InputError(f"The error is that of {self.n} whole codes z; give z, not the weights s z.")
        inner = self.normalised
        form = quadratic_form(inner.gram, *inner.values.displacement(codes, inner.weight))
        return enclosure_scaled(form, self.units.error)

    def point(self, values: NDArray[Any]) -> Point:
        """The weights of codes, checked and evaluated."""
        return self._point(self.checked_codes(values))

    def start(self) -> Point:
        """Round to nearest."""
        return self._point(self.codes_of_nearest())

    def _point(self, codes: NDArray[np.int64]) -> Point:
        weight = self.weight_of(codes)
        support = np.flatnonzero(weight) if self.is_restricted else None
        return Point(weight, codes, support, self.error(codes), self.scale_of(codes))


def moved(problem: P, **parts: Any) -> P:
    """The problem with other parts that need no check: the same in other units, or of some inputs."""
    other = copy(problem)
    for name in list(vars(other)):
        if isinstance(getattr(type(other), name, None), cached_property):
            del other.__dict__[name]
    if "shared" in parts:
        parts["gram"] = parts["shared"].matrix
    for name, value in parts.items():
        object.__setattr__(other, name, value)
    return other


def common_units(problems: Sequence[P]) -> Units:
    """Units in which the largest numbers of all these problems are near 1, so that errors add up."""
    gram = exponent_of(max(float(np.abs(problem.gram).max()) for problem in problems))
    return Units(gram, exponent_of(max(float(np.abs(problem.weight).max()) for problem in problems)))


def checked_pair(gram: Gram | ArrayLike, weight: ArrayLike) -> tuple[Gram, NDArray[np.float64]]:
    """Gram and weight vector, validated and of one size."""
    shared = gram if isinstance(gram, Gram) else Gram(gram)
    vector = as_real_array(weight, "The weight", ndim=1)
    if len(vector) != shared.n:
        raise InputError(f"The Gram matrix has {shared.n} inputs, but the weight has {len(vector)}.")
    check_magnitude(shared.matrix, float(np.abs(vector).max()))
    return shared, vector


def scaled_weights(weight: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """``weight * 2**exponent``.

    Raises
    ------
    InputError
        If a number is lost by underflow or overflows.
    """
    scaled = scaled_exactly(weight, exponent)
    if scaled is None:
        raise InputError(
            "The weights and the scale lie further apart than float64 can hold in one unit; "
            "rescale them or round the smallest to zero."
        )
    return scaled


def check_magnitude(gram: NDArray[np.float64], *sizes: float) -> None:
    """Refuse problems whose errors, for weights of these sizes, come near to overflow or underflow.

    Raises
    ------
    InputError
        If G times a size squared is above 1e280 or, where it is not zero, below 1e-250.
    """
    largest = float(np.abs(gram).max())
    for size in sizes:
        if size == 0.0 or largest == 0.0:
            continue
        exponent = math.log10(largest) + 2.0 * math.log10(size * len(gram))
        if exponent > LARGEST_EXPONENT:
            raise InputError("The numbers are so large that errors would overflow; rescale the inputs.")
        if exponent < SMALLEST_EXPONENT:
            raise InputError("The numbers are so small that errors would underflow; rescale the inputs.")
