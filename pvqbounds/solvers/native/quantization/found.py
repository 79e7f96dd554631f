"""What the native engines find for codes: the codes, and what proves how far from the best they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems import LeastSquares
from pvqbounds.problems.values import ValueSet
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.results.history import Moment
from pvqbounds.solvers.base import ExactSolution
from pvqbounds.solvers.native.quantization.certificate import CodeCertificate
from pvqbounds.solvers.relaxation import Relaxed

__all__ = ["Found"]


@dataclass(frozen=True, eq=False)
class Found:
    """Codes and a certificate."""

    codes: NDArray[np.int64]
    certificate: CodeCertificate
    status: str
    """How it ended, in a few words."""
    exact: bool = False
    """Whether an exact search found both, ended or not; else they are what a relaxation and rounding give."""
    reported: float | None = None
    """The bound that the relaxation states."""
    history: tuple[Moment, ...] = ()
    """What searches stated on the way."""

    @classmethod
    def nothing_to_solve(cls, codes: NDArray[np.int64]) -> Found:
        """For inputs that are all zero: any codes have the error 0."""
        zero = np.zeros(len(codes))
        return cls(codes, DualCertificate(zero, zero), "every input is zero", reported=0.0)

    @classmethod
    def by(cls, relaxed: Relaxed, codes: NDArray[np.int64], status: str) -> Found:
        """A relaxation's certificate with these codes."""
        return cls(codes, relaxed.certificate, status)

    def spread(self, codes: NDArray[np.int64], live: NDArray[np.bool_], values: ValueSet) -> Found:
        """The same for all inputs and their values, of which it is for some: the others have these codes."""
        if live.all():
            return self
        all_codes = codes.copy()
        all_codes[live] = self.codes
        return replace(self, codes=all_codes, certificate=self.certificate.spread(live, values))

    def bound(self, problem: LeastSquares) -> float:
        """What the certificate says; it may be negative."""
        return self.certificate.stated(problem)

    @property
    def relaxation(self) -> str | None:
        """Name of the relaxation that the certificate is one of; None where it is an exact search's."""
        return None if self.exact else self.certificate.relaxation

    @property
    def solution(self) -> ExactSolution:
        """As backends give it."""
        stated = ExactSolution(
            self.codes, None, self.reported, self.certificate, self.status, self.relaxation
        )
        return replace(stated, history=self.history)
