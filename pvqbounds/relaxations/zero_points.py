"""Bounds for every scale and every zero point, from bounds for every scale of some boxes of codes.

Codes whose span is free (asymmetric formats, whose zero point is a code) lie in one of few boxes: with `low`
the least of them and 0, in low..low + span. So the least of what is proved of boxes that hold all of these
bounds all codes. A box may hold those of several zero points, at the price of more codes than each has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from pvqbounds.problems.any_scale import AnyScaleLeastSquares, AnySteps
from pvqbounds.problems.least_squares import Problem
from pvqbounds.problems.units import Units, scaled_down
from pvqbounds.relaxations.certificates import Certificate, CombinedCertificate, is_number

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["MOST_BOXES", "ZeroPointsCertificate", "boxes_of"]

MOST_BOXES = 16
"""Boxes that hold the codes of all zero points: each has its own up to 4 bits, beyond they share them."""


def boxes_of(values: AnySteps) -> list[tuple[int, int]]:
    """Least and largest code of a few boxes that hold all codes, each of as many zero points."""
    boxes = values.boxes
    together = -(-len(boxes) // MOST_BOXES)
    parts = (boxes[i : i + together] for i in range(0, len(boxes), together))
    return [(part[0][0], max(high for _, high in part)) for part in parts]


@dataclass(frozen=True, eq=False)
class ZeroPointsCertificate(CombinedCertificate):
    """Bounds for every scale of boxes of codes that hold all codes."""

    kind: ClassVar[str] = "zero points"
    lows: NDArray[np.int64]
    """Least code of each box, shape (m,)."""
    highs: NDArray[np.int64]
    """Largest code of each box, shape (m,)."""
    proofs: tuple[Certificate, ...]
    """What proves the value of each."""
    value: float
    """What is stated of all."""

    def fits(self, problem: Problem) -> bool:
        """Whether its boxes hold all codes, and each has a certificate that fits."""
        if not (isinstance(problem, AnyScaleLeastSquares) and isinstance(self.proofs, tuple)):
            return False
        m, ends = len(self.proofs), (self.lows, self.highs)
        shaped = all(
            isinstance(end, np.ndarray) and end.shape == (m,) and end.dtype == np.int64 for end in ends
        )
        if not (shaped and 1 <= m <= MOST_BOXES and is_number(self.value)):
            return False
        held = all(((self.lows <= low) & (self.highs >= high)).any() for low, high in problem.values.boxes)
        inside = (self.lows >= problem.values.qmin).all() and (self.highs <= problem.values.qmax).all()
        if not (held and inside and (self.lows <= self.highs).all()):
            return False
        return all(
            isinstance(proof, Certificate)
            and not isinstance(proof, ZeroPointsCertificate)
            and proof.fits(problem.in_box(int(low), int(high)))
            for low, high, proof in zip(*ends, self.proofs, strict=True)
        )

    def in_units(self, units: Units) -> ZeroPointsCertificate:
        """The same claim about the problem in these units."""
        proofs = tuple(proof.in_units(units) for proof in self.proofs)
        return ZeroPointsCertificate(self.lows, self.highs, proofs, scaled_down(self.value, -units.error))

    def prove(self, problem: Problem, clock: Clock) -> float:
        """The least that is proved of a box, where that is no less than the value; else 0."""
        assert isinstance(problem, AnyScaleLeastSquares), "it fits the problem"
        for low, high, proof in zip(self.lows, self.highs, self.proofs, strict=True):
            if not proof.prove(problem.in_box(int(low), int(high)), clock) >= self.value or clock.expired:
                return 0.0
        return max(self.value, 0.0)
