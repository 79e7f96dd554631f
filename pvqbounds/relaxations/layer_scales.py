"""One scale for all channels of a layer: what bounds of the channels prove of their summed error.

The codes of all channels are those of one problem, whose Gram has the Grams of the channels along its
diagonal. So everything of :mod:`pvqbounds.relaxations.scales` holds with sums: of the signals, of the bounds
at one scale, and of zᵀGz, which is at most the sum of what it may be, and at least the least of what it must
be of a channel whose codes are not all zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pvqbounds.arithmetic.enclosures import Enclosure, down, up
from pvqbounds.errors import InputError
from pvqbounds.problems.any_scale import AnyScaleLeastSquares
from pvqbounds.relaxations.certificates import Certificate, is_number, is_vector
from pvqbounds.relaxations.scales import MOST_SCALES, ScaleRange, claimed_value, first_gap, range_of

if TYPE_CHECKING:
    from pvqbounds.clock import Clock

__all__ = ["LayerScales", "range_of_layer", "summed"]

Array = NDArray[np.float64]


def range_of_layer(problems: Sequence[AnyScaleLeastSquares]) -> ScaleRange:
    """What is proved of the common scales of channels, in their own units, which all must share."""
    ranges = [range_of(problem) for problem in problems]
    signal = Enclosure(
        down(math.fsum(own.signal.lower for own in ranges)), up(math.fsum(own.signal.upper for own in ranges))
    )
    counting = [own.smallest for own in ranges if own.largest > 0.0]
    return ScaleRange(signal, up(math.fsum(own.largest for own in ranges)), min(counting, default=0.0))


def summed(bounds: Array) -> Array:
    """Sums over channels, rounded down: of shape (m, channels), to shape (m,)."""
    return np.array([down(math.fsum(row)) for row in bounds.tolist()])


@dataclass(frozen=True, eq=False)
class LayerScales:
    """Bounds of all channels at some scales, which bound their summed error at every common scale."""

    scales: Array
    """Ascending, shape (m,)."""
    bounds: Array
    """What is stated of each channel at each of them, shape (m, channels)."""
    proofs: tuple[tuple[Certificate, ...], ...]
    """What proves it."""
    value: float
    """What is stated of the sum for every scale."""

    @classmethod
    def of(
        cls,
        problems: Sequence[AnyScaleLeastSquares],
        stated: Sequence[tuple[float, Array, tuple[Certificate, ...]]],
    ) -> LayerScales:
        """What bounds at some scales state for every scale, of those that are needed for it.

        Parameters
        ----------
        problems
            In common units.
        stated
            Scales, bounds of all channels that were claimed there, and what proves them.
        """
        kept = sorted(stated, key=lambda part: part[0])
        scales, bounds = np.array([part[0] for part in kept]), np.stack([part[1] for part in kept])
        value, needed = claimed_value(scales, summed(bounds), range_of_layer(problems))
        proofs = tuple(part[2] for part, used in zip(kept, needed, strict=True) if used)
        return cls(scales[needed], bounds[needed], proofs, value)

    def fits(self, problems: Sequence[AnyScaleLeastSquares]) -> bool:
        """Whether it holds a certificate that fits for each channel at each of some rising scales."""
        m = len(self.proofs)
        if not (is_vector(self.scales, m) and is_number(self.value) and 1 <= m <= MOST_SCALES):
            return False
        shaped = np.shape(self.bounds) == (m, len(problems)) and bool(np.isfinite(self.bounds).all())
        rising = (self.scales > 0.0).all() and (np.diff(self.scales) > 0.0).all()
        if not (shaped and rising and all(len(proofs) == len(problems) for proofs in self.proofs)):
            return False
        try:
            return all(
                proof.fits(problem.at(float(scale)))
                for scale, proofs in zip(self.scales, self.proofs, strict=True)
                for problem, proof in zip(problems, proofs, strict=True)
            )
        except InputError:
            return False

    def prove(self, problems: Sequence[AnyScaleLeastSquares], clock: Clock) -> float:
        """The value, where all that is stated is proved, and proves it for every common scale; else 0."""
        if not self.fits(problems):
            return 0.0
        for scale, bounds, proofs in zip(self.scales, self.bounds, self.proofs, strict=True):
            for problem, bound, proof in zip(problems, bounds, proofs, strict=True):
                if not proof.prove(problem.at(float(scale)), clock) >= bound or clock.expired:
                    return 0.0
        gap = first_gap(self.scales, summed(self.bounds), range_of_layer(problems), self.value)
        return max(self.value, 0.0) if gap is None else 0.0
