"""The certificate of a cover: one of its own for each leaf, and the least of their bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units, scaled_down
from pvqbounds.problems.values import ValueSet
from pvqbounds.relaxations.certificates import (
    Certificate,
    LeafCertificate,
    SeparableTerms,
    is_number,
    is_vector,
)
from pvqbounds.relaxations.slabs import Box, Cover, Slabs

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["Case", "CasesCertificate"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """The multipliers of one leaf's slabs, and what proves a bound in them."""

    chord: Array
    """rho >= 0, in units of the Gram, shape (m,)."""
    push: Array
    """alpha, or -beta, in units of Gram times weight, shape (m,)."""
    proof: LeafCertificate

    def fits(self, problem: Problem, directions: int) -> bool:
        """Whether it holds finite multipliers."""
        if not (is_vector(self.chord, directions) and is_vector(self.push, directions)):
            return False
        if not (isinstance(self.proof, LeafCertificate) and self.proof.fits(problem)):
            return False
        return bool((self.chord >= 0.0).all())

    def in_units(self, units: Units) -> Case:
        """The same for the problem in these units."""
        with np.errstate(over="ignore", under="ignore"):
            chord = np.ldexp(self.chord, -units.gram)
            push = np.ldexp(self.push, -units.gram - units.weight)
        return Case(chord, push, self.proof.in_units(units))

    def slabs(self, direction: Array, box: Box) -> Slabs:
        """Its slabs, with their multipliers."""
        return Slabs(direction, box, self.chord, self.push)


@dataclass(frozen=True, eq=False)
class CasesCertificate(Certificate):
    """A cover of t = (a_1ᵀd, ..., a_mᵀd) and, for each leaf, what proves a bound there."""

    kind: ClassVar[str] = "cases"
    cover: Cover
    cases: tuple[Case, ...]
    """One for each leaf, in the cover's order."""
    value: float
    """What is stated: none of the leaves has less."""

    @property
    def searched(self) -> bool:  # type: ignore[override]
        """Whether a leaf's proof is a search, repeated."""
        return any(case.proof.searched for case in self.cases)

    @property
    def relaxation(self) -> str:
        """Name of the relaxation that its bound is one of."""
        return "hybrid" if self.searched else "directions"

    def spread(self, live: NDArray[np.bool_], values: ValueSet) -> CasesCertificate:
        """The certificate with nothing said of inputs that were left out, with the values of all of them."""
        if live.all():
            return self
        direction = np.zeros((len(self.cover.direction), len(live)))
        direction[:, live] = self.cover.direction
        cases = tuple(replace(case, proof=case.proof.spread(live, values)) for case in self.cases)
        return replace(self, cover=replace(self.cover, direction=direction), cases=cases)

    def fits(self, problem: Problem) -> bool:
        """Whether it is a cover of the problem's inputs with a certificate that fits for each leaf."""
        if not (isinstance(self.cover, Cover) and self.cover.fits(problem) and is_number(self.value)):
            return False
        if not (isinstance(self.cases, tuple) and len(self.cases) == self.cover.leaves):
            return False
        directions = len(self.cover.direction)
        return all(isinstance(case, Case) and case.fits(problem, directions) for case in self.cases)

    def in_units(self, units: Units) -> CasesCertificate:
        """The same claim about the problem in these units."""
        cases = tuple(case.in_units(units) for case in self.cases)
        return CasesCertificate(self.cover.in_units(units), cases, scaled_down(self.value, -units.error))

    def parts(self, problem: Problem) -> list[SeparableTerms]:
        """What it proves in each leaf; in one that proves nothing E is a mean square."""
        leaves = [(case, slabs) for case, slabs in self._leaves(problem) if not slabs.box.is_empty]
        found = [case.proof.terms(problem, slabs) for case, slabs in leaves]
        return [terms or SeparableTerms.nothing(problem.n) for terms in found]

    def claim(self, problem: Problem) -> tuple[CasesCertificate, float]:
        """What any machine can prove, and the bound to state from it: the least of the leaves' claims."""
        if not self.fits(problem):
            return self, -math.inf
        if problem.units != (0, 0):
            inner, value = self.in_units(problem.units).claim(problem.normalised)
            stated = scaled_down(value, problem.units.error)
            return replace(inner.in_units(problem.units.inverse), value=stated), stated
        cases, value = [], math.inf
        for case, slabs in self._leaves(problem):
            if not slabs.box.is_empty:
                proof, claimed = case.proof.claimed_within(problem, slabs)
                case, value = replace(case, proof=proof), min(value, claimed)
            cases.append(case)
        value = value if math.isfinite(value) else 0.0
        return replace(self, cases=tuple(cases), value=value), value

    def prove(self, problem: Problem, clock: Clock) -> float:
        """The least of what the leaves prove, as far as it is stated; nothing once time is up."""
        inner = self.in_units(problem.units)
        least = math.inf
        for case, slabs in inner._leaves(problem.normalised):
            if slabs.box.is_empty:
                continue
            least = min(least, case.proof.proved_within(problem.normalised, slabs, inner.value, clock))
            if least <= 0.0 or clock.expired:
                return 0.0
        return scaled_down(least, problem.units.error) if math.isfinite(least) else 0.0

    def _leaves(self, problem: Problem) -> list[tuple[Case, Slabs]]:
        """Each case with its slabs; units near 1."""
        direction = self.cover.live_directions(problem)
        boxes = self.cover.boxes(problem)
        return [(case, case.slabs(direction, box)) for case, box in zip(self.cases, boxes, strict=True)]
