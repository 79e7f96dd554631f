"""Certificates: the few numbers that prove a lower bound, whatever solver proposed them.

A certificate says itself whether it fits a problem, what to state from it and what it proves; nothing
branches on which kind it is. There is one of multipliers (:mod:`pvqbounds.relaxations.dual`), for every
value set and support rule; those of searches live beside the searches that repeat them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import down
from pvqbounds.clock import Clock
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units, scaled_down, scaled_up
from pvqbounds.problems.values import ValueSet

if TYPE_CHECKING:
    from pvqbounds.relaxations.slabs import Slabs
    from pvqbounds.relaxations.splits import Splits

__all__ = [
    "NOTHING",
    "Certificate",
    "CombinedCertificate",
    "LeafCertificate",
    "Proof",
    "SearchedCertificate",
    "SeparableTerms",
    "is_number",
    "is_vector",
    "multipliers_in_units",
    "over_inputs",
]

CLAIM_MARGIN = 1e-11
"""Least share of a dual bound that is not claimed."""


class Proof(NamedTuple):
    """What multipliers prove."""

    value: float
    """The lower bound on E, rounded down; it may be negative."""
    blur: float
    """How much less a repetition may prove that takes its sums in another order: on another machine,
    or with another number of threads."""
    lowered: bool
    """Whether it took other multipliers than the ones given: lam lowered."""

    def in_units(self, units: Units) -> Proof:
        """The same about the problem in these units, rounded down."""
        return Proof(scaled_down(self.value, -units.error), scaled_up(self.blur, -units.error), self.lowered)

    def claimed(self, signal: float) -> float:
        """The bound to state: a hair less.

        What multipliers prove depends in the last digits on the order in which sums are taken, hence on
        the number of threads and on the machine; a proof elsewhere must still reach what is stated.

        Parameters
        ----------
        signal
            wᵀGw, or an upper bound on it.
        """
        margin = max(CLAIM_MARGIN * max(abs(self.value), 1e-6 * signal), self.blur)
        return down(self.value - margin)


NOTHING = Proof(-math.inf, 0.0, False)
"""What multipliers prove that are not finite or not about the problem's inputs."""


class SeparableTerms(NamedTuple):
    """E(v) >= constant + sum of `extra` over the inputs at which v is zero: all rounded down."""

    constant: float
    extra: NDArray[np.float64]
    """What being zero adds, never negative, shape (n,)."""
    blur: float
    """How much less a repetition may prove, in the constant."""
    lowered: bool
    """Whether lam was lowered."""
    lam: NDArray[np.float64]
    """The multipliers that it was proved at, shape (n,): a proof of them takes the same S."""
    nu: NDArray[np.float64]

    @classmethod
    def nothing(cls, n: int) -> SeparableTerms:
        """What is true of any n weights: E is a mean square."""
        zero = np.zeros(n)
        return cls(0.0, zero, 0.0, False, zero, zero)


class Certificate(ABC):
    """What proves a lower bound on E."""

    kind: ClassVar[str]
    """What files call it."""
    searched: ClassVar[bool] = False
    """Whether its proof is a search, repeated."""
    restates: ClassVar[bool] = False
    """Whether it claims what was stated of the problem that it was made for, be the problem what it may."""

    @property
    def relaxation(self) -> str | None:
        """Name of the relaxation of codes that its bound is one of; None where it is none of them."""
        return None

    @abstractmethod
    def fits(self, problem: Problem) -> bool:
        """Whether it holds finite numbers about the problem's inputs, and may be proved."""

    @abstractmethod
    def in_units(self, units: Units) -> Self:
        """The same claim about the problem in these units."""

    def parts(self, problem: Problem) -> list[SeparableTerms]:
        """What it proves before any budget is spent, for each of the cases that hold all weights.

        None at all where its proof is not of that kind.

        Parameters
        ----------
        problem
            That it :meth:`fits`, in units near 1.
        """
        return []

    @abstractmethod
    def claim(self, problem: Problem) -> tuple[Self, float]:
        """A certificate that any machine can prove, and the bound to state from it."""

    def kept_claim(self, problem: Problem) -> tuple[Self, float]:
        """The claim; where multipliers lose digits in the problem's units, no more than they prove there."""
        certificate, stated = self.claim(problem)
        if problem.units.lose_digits:
            stated = min(stated, certificate.prove(problem, Clock(math.inf)))
        return certificate, stated

    @abstractmethod
    def prove(self, problem: Problem, clock: Clock) -> float:
        """The lower bound on E that it proves, again and from the problem's data alone; never negative.

        Parameters
        ----------
        problem
            That it :meth:`fits`.
        clock
            Ends a search; what was proved by then may be nothing.
        """


class LeafCertificate(Certificate):
    """One that may also speak of the weights within slabs alone: a leaf of a cover."""

    lam: NDArray[np.float64]
    """lambda, shape (n,)."""
    nu: NDArray[np.float64]
    """nu, shape (n,)."""
    splits: Splits
    """Split inequalities with their multipliers."""

    @abstractmethod
    def spread(self, live: NDArray[np.bool_], values: ValueSet) -> Self:
        """The certificate with zero multipliers for the inputs that were left out.

        Parameters
        ----------
        values
            Those of all inputs.
        """

    def parts(self, problem: Problem) -> list[SeparableTerms]:
        """What it proves of all weights."""
        terms = self.terms(problem, None)
        return [] if terms is None else [terms]

    def terms(self, problem: Problem, within: Slabs | None) -> SeparableTerms | None:
        """What it proves in the slabs before any budget is spent; None where its proof is of another kind."""
        return None

    @abstractmethod
    def claimed_within(self, problem: Problem, within: Slabs) -> tuple[Self, float]:
        """What any machine can prove where the weights lie in the slabs, and the bound to state from it.

        Parameters
        ----------
        problem
            That it :meth:`fits`, in units near 1.
        """

    @abstractmethod
    def proved_within(self, problem: Problem, within: Slabs, enough: float, clock: Clock) -> float:
        """The lower bound on E in the slabs that it proves; may be negative, and -inf where it proves none.

        Parameters
        ----------
        problem
            That it :meth:`fits`, in units near 1.
        enough
            A bound that need not be exceeded.
        """


class SearchedCertificate(Certificate):
    """A claim whose proof is a search, repeated."""

    searched = True
    restates = True
    value: float
    """The proved bound."""
    nodes: int
    """Nodes that the search visited: what a proof will cost."""

    def claim(self, problem: Problem) -> tuple[Self, float]:
        """Itself: it was made to be repeated."""
        return self, self.value

    def prove(self, problem: Problem, clock: Clock) -> float:
        """The value where the search, repeated, meets nothing below it; else 0."""
        moved = self.in_units(problem.units)
        # what is searched for is no more than what is stated
        stated = scaled_down(moved.value, problem.units.error)
        return max(stated, 0.0) if moved.repeated(problem.normalised, clock) else 0.0

    @abstractmethod
    def repeated(self, problem: Problem, clock: Clock) -> bool:
        """Whether the search, repeated, proves the value; units near 1."""


class CombinedCertificate(Certificate):
    """A claim that follows from those of other certificates."""

    restates = True
    proofs: tuple[Certificate, ...]
    """What it follows from."""
    value: float
    """What is stated."""

    @property
    def searched(self) -> bool:  # type: ignore[override]
        """Whether a proof is a search, repeated."""
        return any(proof.searched for proof in self.proofs)

    @property
    def relaxation(self) -> str | None:
        """Name of a relaxation that stands behind the bound."""
        named = [proof.relaxation for proof in self.proofs if proof.relaxation is not None]
        return "hybrid" if self.searched else (named[0] if named else None)

    def claim(self, problem: Problem) -> tuple[Self, float]:
        """Itself: what its proofs state was claimed before they were put together."""
        return self, self.value


def over_inputs(multipliers: NDArray[np.float64], live: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Multipliers of the inputs of a mask, shape (n,), with zeros for the others."""
    all_inputs = np.zeros(len(live))
    all_inputs[live] = multipliers
    return all_inputs


def is_vector(values: object, n: int) -> bool:
    """Whether these are n finite float64 numbers."""
    return (
        isinstance(values, np.ndarray)
        and values.dtype == np.float64
        and values.shape == (n,)
        and bool(np.isfinite(values).all())
    )


def is_number(value: object) -> bool:
    """Whether this is a finite number of Python's, and no truth value.

    Numbers of fewer bits are none: arithmetic with them is done in as few, and wraps around.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


@np.errstate(over="ignore", under="ignore")  # multipliers that are not finite prove nothing
def multipliers_in_units(
    lam: NDArray[np.float64], nu: NDArray[np.float64], units: Units
) -> tuple[NDArray[Any], NDArray[Any]]:
    """lam and nu for the problem in these units; lam rounded down: S is no less definite then."""
    moved = np.ldexp(lam, -units.gram)
    if units.inverse.lose_digits:
        moved = np.where(np.ldexp(moved, units.gram) > lam, np.nextafter(moved, -np.inf), moved)
    return moved, np.ldexp(nu, -units.gram - units.weight)
